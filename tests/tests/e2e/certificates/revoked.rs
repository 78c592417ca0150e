//! Clients whose certificates were revoked, by lists that openssl makes, at gateways that verify clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use reqwest::Method;
use serde_json::Value;
use weft_tests::wait;

use super::clients::{Authority, Client, Pair};
use super::{backend, https, put, secret, servers, start};

const MUTUAL: &str = "mutual.example";

/// An authority as openssl keeps it.
struct Registry {
    dir: PathBuf,
}

impl Registry {
    fn of(authority: &Authority, dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let settings = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\ncrlnumber = number\nunique_subject = no\n\
             default_md = sha256\ndefault_crl_days = 30\n";
        for (name, text) in [
            ("ca.pem", authority.pem().as_str()),
            ("ca.key", &authority.key()),
            ("settings", settings),
            ("index", ""),
            ("number", "01\n"),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        Self { dir: dir.into() }
    }

    fn openssl(&self, args: &[&str]) {
        let ran = Command::new("openssl")
            .args([
                "ca", "-config", "settings", "-cert", "ca.pem", "-keyfile", "ca.key",
            ])
            .args(args)
            .current_dir(&self.dir)
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }

    /// The list of these and of nobody else.
    fn list(&self, revoked: &[&Pair]) -> String {
        std::fs::write(self.dir.join("index"), "").unwrap();
        for pair in revoked {
            std::fs::write(self.dir.join("revoked.pem"), &pair.chain).unwrap();
            self.openssl(&["-revoke", "revoked.pem"]);
        }
        self.openssl(&["-gencrl", "-out", "list.pem"]);
        std::fs::read_to_string(self.dir.join("list.pem")).unwrap()
    }
}

/// Waits until new connections fare so many times in a row: workers hear of it one by one.
async fn until(client: &Client, taken: bool) {
    wait::until("the list to be in force", wait::PATIENCE, async || {
        for _ in 0..10 {
            ensure!(client.get().await.is_ok() == taken, "not on every worker");
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_client_is_refused_until_another_list_takes_its_place() {
    let edge = start("revoked").await;
    let (ours, partners) = (Authority::new("ours"), Authority::new("partners"));
    let plain = backend(&edge, 30, None).await;
    let shown = ours.pair(&[MUTUAL]);
    let clients = [&["one.example"], &["other.example"]].map(|names| partners.pair(names));
    let with = |list: Option<&str>| -> Value {
        let mut secret = secret("web", Some(&shown), Some(&partners.pem()));
        if let Some(list) = list {
            secret["spec"]["caCrl"] = list.into();
        }
        secret
    };
    put(&edge, &with(None)).await;
    let list = [("mutual", "mode: MUTUAL, credentialName: web".to_owned())];
    let document = servers(&list, &plain, plain.address());
    edge.mesh.apply(&document).await.unwrap();
    let callers = |of: usize| {
        let each = edge.gateways.iter();
        let each = each.map(|it| Client::new(https(it), MUTUAL, &ours.pem(), Some(&clients[of])));
        each.collect::<Vec<_>>()
    };
    let fare = async |taken: [bool; 2]| {
        for (of, taken) in taken.into_iter().enumerate() {
            for client in callers(of) {
                until(&client, taken).await;
            }
        }
    };
    fare([true, true]).await;

    let registry = Registry::of(&partners, &edge.mesh.run.path("partners"));
    put(&edge, &with(Some(&registry.list(&[&clients[0]])))).await;
    fare([false, true]).await;
    let got = plain.count();
    for client in callers(0) {
        assert!(client.get().await.is_err());
    }
    assert_eq!(plain.count(), got, "nothing came through");
    put(&edge, &with(Some(&registry.list(&[&clients[1]])))).await;
    fare([true, false]).await;

    // A stranger's list is none, and changes nothing.
    let strangers = Registry::of(
        &Authority::new("strangers"),
        &edge.mesh.run.path("strangers"),
    );
    let wrong = with(Some(&strangers.list(&[])));
    let path = "/apis/weft.mesh/v1/namespaces/istio-system/tlssecrets/web";
    let answer = edge
        .mesh
        .call(Method::PUT, path, Some(&wrong))
        .await
        .unwrap();
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("spec.caCrl"), "{}", answer.body);
    fare([true, false]).await;
    put(&edge, &with(None)).await;
    fare([true, true]).await;
    edge.finish().await;
}
