//! The control plane on an etcd that is spoken to over TLS, by who shows a certificate: from files, and the services' own.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use store::testing::Authority;
use weft_tests::envoy::Version;
use weft_tests::mesh::{Options, Variant};
use weft_tests::stack::{Access, Pusher, Store, Trust};
use weft_tests::{http, stack, wait};

use crate::edge::{Edge, routes};

/// What etcd shows, and what is shown to it at first.
fn certificates(directory: &Path, etcd: IpAddr) -> Result<()> {
    let servers = Authority::new("etcd's servers");
    fs::write(directory.join("servers.pem"), servers.pem())?;
    pair(directory, "server", servers.issue(&[&etcd.to_string()]))?;
    renew(directory)
}

/// Another authority of etcd's clients, and a client's certificate by it; those before are nothing any more.
fn renew(directory: &Path) -> Result<()> {
    let clients = Authority::new("etcd's clients");
    fs::write(directory.join("clients.pem"), clients.pem())?;
    pair(directory, "client", clients.issue(&["weft"]))
}

fn pair(directory: &Path, name: &str, (certificate, key): (String, String)) -> Result<()> {
    fs::write(directory.join(format!("{name}.pem")), certificate)?;
    Ok(fs::write(directory.join(format!("{name}.key")), key)?)
}

/// A policy goes all the way to every Envoy.
async fn obeyed(edge: &Edge, word: &str) -> Result<()> {
    let direct = format!("- directResponse: {{ status: 200, body: {{ string: {word} }} }}");
    let policy = routes("all", &direct);
    wait::until("the policy to be taken", wait::PATIENCE, async || {
        edge.mesh.apply(&policy).await
    })
    .await?;
    edge.all_answer("/", |answer| answer.status == 200 && answer.body == word)
        .await
}

/// etcd starts again, so that every connection is made anew.
async fn restart_etcd(edge: &mut Edge) -> Result<()> {
    edge.mesh.etcd.kill();
    edge.mesh.restart_etcd().await
}

/// When the certificate ends that the pusher has of its own.
async fn expiry(edge: &Edge) -> Result<u64> {
    let url = format!("http://{}/metrics", edge.mesh.net.at(1, 18001));
    let metrics = http::get(url).await?.body;
    let name = "weft_certificate_expiry_timestamp_seconds{certificate=\"own\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.context("it has none")?.parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_knows_the_services_by_files_that_are_replaced_and_by_their_own_certificates() {
    let kinds = [
        (Variant::Sotw, Version::ALL[0]),
        (Variant::Delta, Version::ALL[1]),
    ];
    let options = Options {
        issuer: Some(&["--svid-ttl=30s"]),
        etcd_tls: Some(certificates),
        ..Options::default()
    };
    let mut edge = Edge::start_with("etcd-tls", &kinds, options).await.unwrap();
    let directory = edge.mesh.etcd_tls.clone().unwrap();
    obeyed(&edge, "one").await.unwrap();

    // Nobody needs a restart but etcd, which reads its authorities only then.
    renew(&directory).unwrap();
    restart_etcd(&mut edge).await.unwrap();
    obeyed(&edge, "two").await.unwrap();

    // etcd takes certificates of the mesh as well; config-api and the pusher show theirs and have no files.
    let (issuer, issuer_admin) = (edge.mesh.net.at(1, 18010), edge.mesh.net.at(1, 18011));
    let bundle = http::get(format!("http://{issuer_admin}/bundle.pem"));
    let roots = bundle.await.unwrap().ok().unwrap().body.clone();
    let roots_file = edge.mesh.run.path("roots.pem");
    fs::write(&roots_file, &roots).unwrap();
    let clients = fs::read_to_string(directory.join("clients.pem")).unwrap();
    fs::write(directory.join("clients.pem"), clients + &roots).unwrap();
    restart_etcd(&mut edge).await.unwrap();
    edge.mesh.api.stop().await;
    edge.mesh.pusher.stop().await;
    let (issuer, roots_file) = (issuer.to_string(), roots_file.display().to_string());
    let flags = [
        "--etcd-own-certificate",
        "--issuers",
        &issuer,
        "--roots-file",
        &roots_file,
    ];
    let credentials = edge.mesh.run.path("credentials");
    let (api, pusher) = {
        let store = Store {
            access: Access::Own(&directory),
            ..edge.mesh.store()
        };
        let (net, run) = (&edge.mesh.net, &edge.mesh.run);
        let (at, trust) = (net.at(1, 8080), Trust::Identities(&credentials));
        let api = stack::config_api_with(run, "config-api", at, store, trust, &flags);
        let pusher = Pusher {
            name: "xds-pusher",
            listen: net.at(1, 18000),
            admin: net.at(1, 18001),
            store,
            trust,
            flags: &flags,
        };
        tokio::join!(api, stack::pusher(run, pusher))
    };
    (edge.mesh.api, edge.mesh.pusher) = (api.unwrap(), pusher.unwrap());
    edge.mesh.ready().await.unwrap();
    obeyed(&edge, "three").await.unwrap();

    // By now the first certificate is nothing any more, and etcd is shown the one that followed.
    let first = expiry(&edge).await.unwrap();
    wait::until("the first certificate to end", wait::PATIENCE, async || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        ensure!(now > first, "it does not yet");
        ensure!(expiry(&edge).await? > first, "there is no other yet");
        Ok(())
    })
    .await
    .unwrap();
    restart_etcd(&mut edge).await.unwrap();
    obeyed(&edge, "four").await.unwrap();
    edge.finish().await;
}
