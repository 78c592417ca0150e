//! The flags by which a service finds etcd.
//!
//! *Invariant:* every flag has an environment variable and an effect.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::tls::{self, EtcdTls, Identity, TlsSource};
use super::{EtcdConfig, Limits};

/// The flags that say where the store is.
#[derive(Args, Clone, Debug)]
pub struct EtcdFlags {
    /// The etcd servers; https:// with --etcd-ca-file
    #[arg(
        long,
        env = "WEFT_ETCD_ENDPOINTS",
        default_value = "http://127.0.0.1:2379",
        value_delimiter = ','
    )]
    pub etcd_endpoints: Vec<String>,
    /// The authorities (PEM) that sign the certificates of etcd's servers. This file and the two below are read for every
    /// connection, so what was renewed is in force at the next one
    #[arg(long, env = "WEFT_ETCD_CA_FILE", value_name = "FILE")]
    pub etcd_ca_file: Option<PathBuf>,
    /// The certificate (PEM) that is shown to etcd, where etcd demands one
    #[arg(long, env = "WEFT_ETCD_CERT_FILE", value_name = "FILE")]
    pub etcd_cert_file: Option<PathBuf>,
    /// The private key (PEM) of --etcd-cert-file
    #[arg(long, env = "WEFT_ETCD_KEY_FILE", value_name = "FILE")]
    pub etcd_key_file: Option<PathBuf>,
    /// The prefix of every key in etcd
    #[arg(long, env = "WEFT_ETCD_PREFIX", default_value = "/weft/v1")]
    pub etcd_prefix: String,
    /// The most operations of one transaction: etcd's --max-txn-ops
    #[arg(long, env = "WEFT_ETCD_MAX_TXN_OPS", default_value_t = Limits::default().operations)]
    pub etcd_max_txn_ops: usize,
    /// The most bytes of one transaction: etcd's --max-request-bytes
    #[arg(long, env = "WEFT_ETCD_MAX_REQUEST_BYTES", default_value_t = Limits::default().bytes)]
    pub etcd_max_request_bytes: usize,
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdFlagsError {
    /// One half of a certificate and its key.
    #[error(
        "{given} {} is set without {missing}: a certificate is shown to etcd together with its private key; set {missing} too, or drop {given}",
        path.display()
    )]
    Half {
        /// The flag that is set.
        given: &'static str,
        /// Its value.
        path: PathBuf,
        /// The flag that is not.
        missing: &'static str,
    },
    /// TLS is asked for, and the endpoint is spoken to in the clear.
    #[error(
        "--etcd-endpoints {endpoint} is not https://, and {flag} is for TLS alone; name the endpoint by https://, or drop {flag}"
    )]
    Plaintext {
        /// The endpoint.
        endpoint: String,
        /// The flag.
        flag: &'static str,
    },
    /// Nobody says whom to trust.
    #[error(
        "--etcd-endpoints {endpoint} needs --etcd-ca-file: nobody else says which authorities sign etcd's certificates; name their file"
    )]
    NoAuthority {
        /// The endpoint.
        endpoint: String,
    },
    /// Two certificates to show.
    #[error(
        "--etcd-cert-file {} and --etcd-own-certificate exclude each other, because one certificate is shown to etcd; drop one",
        .0.display()
    )]
    TwoCertificates(PathBuf),
    /// The files cannot be used.
    #[error(
        "--etcd-ca-file, --etcd-cert-file and --etcd-key-file must be PEM that this process may read: {0}; correct the file, or name another"
    )]
    Files(String),
}

/// Where a service gets the certificate of its own that it shows to etcd; the reason while it has none.
pub type OwnIdentity = Arc<dyn Fn() -> Result<Identity, String> + Send + Sync>;

impl EtcdFlags {
    /// The store's own configuration; `own` is what `--etcd-own-certificate` stands for, if it is set.
    ///
    /// # Errors
    /// If the flags contradict each other, or a file cannot be used.
    pub fn config(&self, own: Option<OwnIdentity>) -> Result<EtcdConfig, EtcdFlagsError> {
        Ok(EtcdConfig {
            root: self.etcd_prefix.clone(),
            limits: Limits {
                operations: self.etcd_max_txn_ops,
                bytes: self.etcd_max_request_bytes,
            },
            tls: self.tls(own)?,
            ..EtcdConfig::new(self.etcd_endpoints.iter().cloned())
        })
    }

    fn tls(&self, own: Option<OwnIdentity>) -> Result<Option<TlsSource>, EtcdFlagsError> {
        let half = |given, path: &PathBuf, missing| EtcdFlagsError::Half {
            given,
            path: path.clone(),
            missing,
        };
        let files = match (&self.etcd_cert_file, &self.etcd_key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (Some(path), None) => return Err(half("--etcd-cert-file", path, "--etcd-key-file")),
            (None, Some(path)) => return Err(half("--etcd-key-file", path, "--etcd-cert-file")),
            (None, None) => None,
        };
        if let (Some((certificate, _)), Some(_)) = (&files, &own) {
            return Err(EtcdFlagsError::TwoCertificates(certificate.clone()));
        }
        let secure = |endpoint: &&String| endpoint.starts_with("https://");
        let asked = [
            ("--etcd-ca-file", self.etcd_ca_file.is_some()),
            ("--etcd-cert-file", files.is_some()),
            ("--etcd-own-certificate", own.is_some()),
        ];
        let plain = self.etcd_endpoints.iter().find(|it| !secure(it));
        if let (Some(endpoint), Some((flag, _))) = (plain, asked.iter().find(|(_, set)| *set)) {
            let endpoint = endpoint.clone();
            return Err(EtcdFlagsError::Plaintext { endpoint, flag });
        }
        let Some(ca) = self.etcd_ca_file.clone() else {
            return match self.etcd_endpoints.iter().find(secure) {
                Some(endpoint) => Err(EtcdFlagsError::NoAuthority {
                    endpoint: endpoint.clone(),
                }),
                None => Ok(None),
            };
        };
        let read = move |own: Option<&OwnIdentity>| {
            let shown = match (own, &files) {
                (Some(own), _) => Some(own()?),
                (None, Some(files)) => Some(tls::identity(files)?),
                (None, None) => None,
            };
            Ok(EtcdTls {
                roots: tls::roots(&ca)?,
                identity: shown,
                server_name: None,
            })
        };
        // A certificate of its own is not there yet.
        let source = TlsSource::new({
            let read = read.clone();
            move || read(None)
        });
        source.check().map_err(EtcdFlagsError::Files)?;
        Ok(Some(match own {
            Some(own) => TlsSource::new(move || read(Some(&own))),
            None => source,
        }))
    }
}

#[cfg(test)]
mod tests;
