//! Credentials and their files, made for one test.

use std::path::{Path, PathBuf};

use config_api::AccessConfig;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use reqwest::{Certificate, Client, Identity};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// A directory with an authority and what it issued.
pub(crate) struct Keyring {
    directory: tempfile::TempDir,
    authority: Authority,
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate and its key, both PEM.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::default();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate for a server on 127.0.0.1.
    pub(crate) fn server(&self) -> (String, String) {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        self.issue(|p| p.subject_alt_names.push(SanType::IpAddress(address)))
    }

    /// A certificate of a common name.
    pub(crate) fn person(&self, name: &str) -> (String, String) {
        self.issue(|p| p.distinguished_name.push(DnType::CommonName, name))
    }

    /// A certificate of a SPIFFE ID.
    pub(crate) fn workload(&self, id: &str) -> (String, String) {
        self.issue(|p| {
            p.subject_alt_names
                .push(SanType::URI(id.try_into().unwrap()))
        })
    }
}

impl Keyring {
    pub(crate) fn new() -> Self {
        let own = Self {
            directory: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
        };
        let (certificate, key) = own.authority.server();
        own.write("server.pem", &certificate);
        own.write("server.key", &key);
        own.write("ca.pem", &own.authority.pem);
        own
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file as an operator's tools do: whole, in one step.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, draft) = (self.path(name), self.path(&format!("{name}.new")));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &path).unwrap();
        path
    }

    /// The file of these tokens: owner, groups, token.
    pub(crate) fn tokens(&self, tokens: &[(&str, &[&str], &str)]) -> PathBuf {
        let entry = |(name, groups, token): &(&str, &[&str], &str)| json!({"name": name, "groups": groups, "hash": hash(token)});
        let file = json!({"tokens": tokens.iter().map(entry).collect::<Vec<_>>()});
        self.write("tokens.yaml", &file.to_string())
    }

    /// The file of these grants: subject, role, namespaces.
    pub(crate) fn grants(&self, grants: &[(&str, &str, &[&str])]) -> PathBuf {
        let entry = |(subject, role, namespaces): &(&str, &str, &[&str])| json!({"subjects": [subject], "role": role, "namespaces": namespaces});
        let file = json!({"grants": grants.iter().map(entry).collect::<Vec<Value>>()});
        self.write("access.yaml", &file.to_string())
    }

    /// Files of grants and of tokens: everybody's token is their name, reversed.
    pub(crate) fn by_token(&self, grants: &[(&str, &str, &[&str])]) -> AccessConfig {
        let owners = grants.iter().map(|(name, ..)| *name);
        // Others prove themselves by certificates.
        let mut names: Vec<&str> = owners.filter(|name| !name.contains(':')).collect();
        names.dedup();
        let tokens: Vec<String> = names.iter().map(|n| token_of(n)).collect();
        let none: &[&str] = &[];
        let entries: Vec<_> = names
            .iter()
            .zip(&tokens)
            .map(|(n, t)| (*n, none, t.as_str()))
            .collect();
        AccessConfig {
            token_hashes_file: Some(self.tokens(&entries)),
            access_file: Some(self.grants(grants)),
            ..AccessConfig::default()
        }
    }

    /// The same over TLS.
    pub(crate) fn with_tls(&self, config: AccessConfig) -> AccessConfig {
        AccessConfig {
            tls_certificate_file: Some(self.path("server.pem")),
            tls_key_file: Some(self.path("server.key")),
            peer_ca_file: Some(self.path("ca.pem")),
            ..config
        }
    }

    /// A client that trusts the authority, with a certificate of its own or none.
    pub(crate) fn client(&self, identity: Option<&(String, String)>) -> Client {
        let trusted = Certificate::from_pem(self.authority.pem.as_bytes()).unwrap();
        let mut client = Client::builder().no_proxy().tls_certs_only([trusted]);
        if let Some((certificate, key)) = identity {
            let pem = format!("{certificate}{key}");
            client = client.identity(Identity::from_pem(pem.as_bytes()).unwrap());
        }
        client.build().unwrap()
    }
}

pub(crate) fn token_of(name: &str) -> String {
    name.chars().rev().collect()
}

fn hash(token: &str) -> String {
    let hash = digest(&SHA256, token.as_bytes());
    let hex: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// A path as text, for command lines.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
