//! Simulated Envoys with identities: workloads of one service account, each with a credential, that show certificates.
//!
//! *Invariant:* whom they call must be a pusher.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use model::SpiffeId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tonic::transport::Channel;
use weft_tests::http;
use weft_tests::mesh::{Mesh, Variant};

use super::fleet::{self, Fleet};
use crate::mtls::Identity;

/// Documents in one transaction.
const BATCH: usize = 100;
/// How many credentials and certificates are asked for at a time.
const AT_ONCE: usize = 16;

/// What connections of simulated Envoys are made with, a certificate for each.
pub(super) struct Callers(Vec<Arc<ClientConfig>>);

impl Callers {
    /// For so many nodes, of which so many share a connection: declares them, and has them all known to the pushers.
    pub(super) async fn of(mesh: &Mesh, count: usize, shared: usize) -> Self {
        Self::made(mesh, count, shared).await.unwrap()
    }

    async fn made(mesh: &Mesh, count: usize, shared: usize) -> Result<Self> {
        let names: Vec<String> = (0..count).map(Fleet::workload).collect();
        for batch in names.chunks(BATCH) {
            let entries: Vec<String> = batch.iter().map(|name| entry(mesh, name)).collect();
            mesh.apply(&entries.join("---\n")).await?;
        }
        // A bootstrap is given out with a credential, without which a workload is nobody.
        let bootstraps = names
            .iter()
            .map(|name| async move { mesh.bootstrap("shop", name, Variant::Delta).await });
        let bootstraps = stream::iter(bootstraps).buffer_unordered(AT_ONCE);
        bootstraps.try_for_each(async |_| Ok(())).await?;
        let bundle = http::get(format!("http://{}/bundle.pem", mesh.net.at(1, 18011))).await?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle.body.as_bytes()) {
            roots.add(root?)?;
        }
        let roots = Arc::new(roots);
        let configs = names.iter().step_by(shared).map(|name| {
            let roots = roots.clone();
            async move { config(mesh, name, roots).await }
        });
        let configs = stream::iter(configs).buffered(AT_ONCE);
        Ok(Self(configs.try_collect().await?))
    }

    /// A channel of one of them to a pusher.
    pub(super) fn channel(&self, n: usize, pusher: SocketAddr) -> Channel {
        mtls::channel_to(&fleet::endpoint(pusher), self.0[n].clone())
    }
}

fn entry(mesh: &Mesh, name: &str) -> String {
    let address = mesh.net.ip(60);
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ address: {address}, serviceAccount: sim }}\n"
    )
}

/// What a connection with a workload's certificate is made with.
async fn config(
    mesh: &Mesh,
    workload: &str,
    roots: Arc<RootCertStore>,
) -> Result<Arc<ClientConfig>> {
    let (chain, key) = Identity::sign(mesh, workload).await?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let pusher: SpiffeId = "spiffe://cluster.local/ns/weft-system/sa/xds-pusher".parse()?;
    let mut config = mtls::anonymous(roots, pusher)?;
    let key = config.crypto_provider().key_provider.load_private_key(key);
    let own = CertifiedKey::new(chain, key.context("the key")?);
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
    Ok(Arc::new(config))
}
