//! etcd over TLS, where clients must show a certificate.
//!
//! *Invariant:* see [`super`].

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use futures::StreamExt;

use super::access::create;
use super::*;
use crate::etcd::{EtcdFlags, TlsSource};
use crate::testing::Authority;
use crate::{Error, Event, Scope};

/// Certificates in files, as an operator has them.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self, name: &str, authority: &Authority) -> String {
        let path = self.path(name);
        fs::write(&path, authority.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes `<name>.pem` and `<name>.key`.
    fn pair(&self, name: &str, (certificate, key): (String, String)) -> [String; 2] {
        let paths = [format!("{name}.pem"), format!("{name}.key")].map(|name| self.path(&name));
        fs::write(&paths[0], certificate).unwrap();
        fs::write(&paths[1], key).unwrap();
        paths.map(|path| path.to_str().unwrap().to_owned())
    }

    /// An etcd whose certificate `servers` signed, for those with certificates that `clients` signed.
    async fn etcd(&self, servers: &Authority, clients: &Authority) -> Etcd {
        let [certificate, key] = self.pair("server", servers.issue(&["127.0.0.1"]));
        let ca = self.ca("servers.pem", servers);
        let [shown, shown_key] = self.pair("weft", clients.issue(&["weft.test"]));
        let tls = tls(&[
            "--etcd-ca-file",
            &ca,
            "--etcd-cert-file",
            &shown,
            "--etcd-key-file",
            &shown_key,
        ]);
        let trusted = self.ca("clients.pem", clients);
        let options = ["--cert-file", &certificate, "--key-file", &key];
        let demands = ["--client-cert-auth", "--trusted-ca-file", &trusted];
        Etcd::start_tls(&[&options[..], &demands[..]].concat(), tls).await
    }
}

/// What flags make of themselves.
fn tls(args: &[&str]) -> TlsSource {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        etcd: EtcdFlags,
    }
    let args = [
        &["service", "--etcd-endpoints", "https://127.0.0.1:1"],
        args,
    ]
    .concat();
    let flags = Flags::try_parse_from(args).unwrap().etcd;
    flags.config(None).unwrap().tls.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_serves_who_shows_a_certificate_and_is_believed_by_its_own() {
    let (files, ours, foreign) = (
        Files::new(),
        Authority::new("ours"),
        Authority::new("foreign"),
    );
    let etcd = files.etcd(&ours, &ours).await;
    create(&etcd.store(), "a").await.unwrap();

    let ca = files.path("servers.pem").to_str().unwrap().to_owned();
    let with = |name: &str, pair| {
        let [certificate, key] = files.pair(name, pair);
        tls(&[
            "--etcd-ca-file",
            &ca,
            "--etcd-cert-file",
            &certificate,
            "--etcd-key-file",
            &key,
        ])
    };
    let foreign_ca = files.ca("foreign.pem", &foreign);
    for (case, wrong, why) in [
        (
            "nothing shown",
            tls(&["--etcd-ca-file", &ca]),
            "received fatal alert",
        ),
        (
            "a foreign one",
            with("foreign", foreign.issue(&["weft.test"])),
            "received fatal alert",
        ),
        (
            "an expired one",
            with("expired", ours.issue_expired(&["weft.test"])),
            "received fatal alert",
        ),
        (
            "another server",
            tls(&["--etcd-ca-file", &foreign_ca]),
            "UnknownIssuer",
        ),
    ] {
        let store = EtcdStore::new(EtcdConfig {
            tls: Some(wrong),
            patience: Duration::from_millis(500),
            ..etcd.config()
        });
        match create(&store, "b").await {
            Err(Error::Unavailable(said)) => assert!(said.contains(why), "{case}: {said}"),
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_files_are_taken_at_the_next_connection() {
    let (files, servers) = (Files::new(), Authority::new("servers"));
    let (old, new) = (Authority::new("old clients"), Authority::new("new clients"));
    let mut etcd = files.etcd(&servers, &old).await;
    let store = etcd.store();
    create(&store, "a").await.unwrap();
    let mut seen = store.watch(Scope::default(), None, true).await.unwrap();

    // Nothing of what is in the files is valid for the connection there is, which goes on.
    files.pair("weft", new.issue(&["weft.test"]));
    create(&store, "b").await.unwrap();
    // etcd is restarted, and believes the new authority alone.
    etcd.kill();
    files.ca("clients.pem", &new);
    etcd.restart().await;
    let last = create(&store, "c").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = tokio::time::timeout(left, seen.next()).await.unwrap();
        if matches!(event.unwrap(), Event::Changes { revision, .. } if revision == last) {
            break;
        }
    }
}
