//! Mutual TLS by the whole stack: who is let in, and that nothing is lost while modes, certificates and roots change.
//!
//! `openssl s_client` is the stranger; what a case asserts is what came back, or what the application received.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use weft_tests::envoy::{self, Envoy};
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::process::Process;
use weft_tests::{binaries, http, wait};

use crate::sidecars::{Server, Sidecars};

/// What a client's application sees of itself at the server's.
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/default";

fn policy(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{ name: shop, namespace: shop }}\nspec: {{ mtls: {{ mode: {mode} }} }}\n"
    )
}

impl Server {
    fn at(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port())
    }

    /// Whether it answers plaintext.
    async fn plaintext(&self) -> bool {
        let answer = http::get(format!("http://{}/", self.at())).await;
        answer.is_ok_and(|answer| answer.status == 200)
    }

    async fn takes_plaintext(&self, takes: bool) -> Result<()> {
        let what = format!("{} to take plaintext: {takes}", self.name);
        wait::until(&what, envoy::PATIENCE, async || {
            match self.plaintext().await == takes {
                true => Ok(()),
                false => bail!("it does not"),
            }
        })
        .await
    }
}

/// A certificate and its key in files, as `openssl s_client` wants them.
pub(crate) struct Identity {
    dir: PathBuf,
}

impl Identity {
    /// One that the issuer signs for a workload.
    pub(crate) async fn signed(mesh: &Mesh, workload: &str) -> Result<Self> {
        let (chain, key) = Self::sign(mesh, workload).await?;
        let name = format!("signed-{}", rand::random::<u32>());
        Self::files(mesh, &name, &chain, &key)
    }

    /// The certificates, in PEM, and the key.
    pub(crate) async fn sign(mesh: &Mesh, workload: &str) -> Result<(String, rcgen::KeyPair)> {
        let bootstrap = mesh.bootstrap("shop", workload, Variant::Delta).await?;
        let secret = &bootstrap["static_resources"]["secrets"][0];
        let bearer = secret["generic_secret"]["secret"]["inline_string"].as_str();
        let bearer = bearer.context("the bootstrap has no credential")?;
        let key = rcgen::KeyPair::generate()?;
        let request = rcgen::CertificateParams::default().serialize_request(&key)?;
        let bundle = http::get(format!("http://{}/bundle.pem", mesh.net.at(1, 18011))).await?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(
                bundle.body.as_bytes(),
            )?)
            .resolve("cert-issuer", mesh.net.at(1, 18010))
            .build()?;
        let request = request.pem()?;
        // It follows the credentials in the store; this one is a moment old.
        let what = "the issuer to know the credential";
        let signed = wait::until(what, envoy::PATIENCE, async || {
            let sign = client
                .post("https://cert-issuer:18010/v1/x509-svid")
                .header("authorization", bearer)
                .body(request.clone());
            http::send(sign).await?.ok()?.json()
        })
        .await?;
        let chain = signed["chain"].as_str().context("there is no chain")?;
        Ok((chain.to_owned(), key))
    }

    /// One that names the same workload and that nobody of this mesh signed.
    fn forged(mesh: &Mesh) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(CLIENT.try_into()?)];
        let certificate = params.self_signed(&key)?;
        Self::files(mesh, "forged", &certificate.pem(), &key)
    }

    fn files(mesh: &Mesh, name: &str, chain: &str, key: &rcgen::KeyPair) -> Result<Self> {
        let dir = mesh.run.path(name);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("chain.pem"), chain)?;
        std::fs::write(dir.join("key.pem"), key.serialize_pem())?;
        Ok(Self { dir })
    }

    /// A file of it: `chain.pem` or `key.pem`.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let chain = self.path("chain.pem");
        let flags = [
            "-cert",
            &chain,
            "-cert_chain",
            &chain,
            "-key",
            &self.path("key.pem"),
        ];
        flags.map(ToOwned::to_owned).into()
    }
}

/// What comes back over TLS for a request; the error holds what `openssl` said.
pub(crate) async fn over_tls(server: &Server, flags: &[String]) -> Result<String> {
    let request = b"GET / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n";
    let text = openssl(server, flags, request).await?;
    ensure!(text.contains("HTTP/1.1 200"), "no answer:\n{text}");
    Ok(text)
}

/// That the server ends the handshake with an alert. Nothing is sent: a server that closes with bytes unread resets the
/// connection, and the alert may be lost with it.
pub(crate) async fn refused(server: &Server, flags: &[String]) -> Result<()> {
    let text = openssl(server, flags, b"").await?;
    ensure!(text.contains("alert"), "no alert:\n{text}");
    Ok(())
}

/// What `openssl` says of a connection until the server closes it.
pub(crate) async fn openssl(server: &Server, flags: &[String], request: &[u8]) -> Result<String> {
    let mut openssl = Command::new("openssl")
        .args([
            "s_client",
            "-ign_eof",
            "-alpn",
            "istio,http/1.1",
            "-connect",
        ])
        .arg(server.at().to_string())
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting openssl")?;
    let mut stdin = openssl.stdin.take().context("it has no input")?;
    // A server that refuses may be gone already.
    drop(stdin.write_all(request).await);
    let ended = tokio::time::timeout(envoy::PATIENCE, openssl.wait_with_output()).await??;
    drop(stdin);
    let text = [ended.stdout, ended.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_lets_in_identities_of_the_mesh_and_nobody_else() {
    let of = Sidecars::secure("strict", &[]).await.unwrap();
    of.all_reach_all().await.unwrap();
    // PERMISSIVE by default: sidecars speak mutual TLS as soon as the server's proxy acknowledged it, others plaintext.
    for client in &of.clients {
        let seen = client.answers("http://orders/", |answer| {
            answer.body.contains("x-forwarded-client-cert") && answer.body.contains(CLIENT)
        });
        seen.await.unwrap();
    }
    for server in &of.servers {
        let forged = http::client()
            .get(format!("http://{}/", server.at()))
            .header("x-forwarded-client-cert", format!("URI={CLIENT}"));
        let answer = http::send(forged).await.unwrap().ok().unwrap();
        assert!(
            !answer.body.contains("x-forwarded-client-cert"),
            "{}",
            answer.body
        );
    }

    of.mesh.apply(&policy("STRICT")).await.unwrap();
    let signed = Identity::signed(&of.mesh, &of.clients[0].name)
        .await
        .unwrap();
    let forged = Identity::forged(&of.mesh).unwrap();
    for server in &of.servers {
        server.takes_plaintext(false).await.unwrap();
        let answer = over_tls(server, &signed.flags()).await.unwrap();
        assert!(answer.contains(CLIENT), "{answer}");
        for (who, flags) in [("nobody", Vec::new()), ("a forger", forged.flags())] {
            refused(server, &flags).await.context(who).unwrap();
            over_tls(server, &flags).await.expect_err(who);
        }
    }
    of.all_reach_all().await.unwrap();

    // One port of one server is open again.
    let (open, others) = of.servers.split_first().unwrap();
    let exception = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "open", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"server": open.name}},
            "portLevelMtls": {open.port().to_string(): {"mode": "DISABLE"}},
        },
    });
    of.mesh.apply(&exception.to_string()).await.unwrap();
    open.takes_plaintext(true).await.unwrap();
    for server in others {
        assert!(!server.plaintext().await, "{}", server.name);
    }
    of.all_reach_all().await.unwrap();
    of.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorization_goes_by_the_identity_of_the_connection() {
    let of = Sidecars::secure("authorization", &[]).await.unwrap();
    let rule = |name: &str, action: &str, rule: serde_json::Value| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "selector": {"matchLabels": {"app": "orders"}}, "action": action, "rules": [rule],
            },
        })
        .to_string()
    };
    let principal = CLIENT.trim_start_matches("spiffe://");
    let policies = [
        rule(
            "mesh",
            "ALLOW",
            json!({"from": [{"source": {"principals": [principal]}}]}),
        ),
        rule(
            "secret",
            "DENY",
            json!({"to": [{"operation": {"paths": ["/secret*"]}}]}),
        ),
    ];
    of.mesh.apply(&policies.join("\n---\n")).await.unwrap();
    for server in &of.servers {
        // Who is nobody may not even ask.
        let url = format!("http://{}/", server.at());
        wait::until(
            "plaintext to be forbidden",
            envoy::PATIENCE,
            async || match http::get(&url).await?.status {
                403 => Ok(()),
                status => bail!("{status}"),
            },
        )
        .await
        .unwrap();
    }
    // Only now: connections of before would live by the policies of before until they are drained.
    of.all_reach_all().await.unwrap();
    let before: Vec<u64> = of
        .servers
        .iter()
        .map(|server| server.backend.count())
        .collect();
    for client in &of.clients {
        // An escaped slash is sent back to where it leads.
        let answer = client.get("http://orders/%2Fsecret/1").await.unwrap();
        assert_eq!(answer.status, 307, "{}", answer.body);
        assert_eq!(answer.header("location"), Some("/secret/1"));
        let answer = client.get("http://orders/secret/1").await.unwrap();
        assert_eq!(answer.status, 403, "{}", answer.body);
    }
    let after: Vec<u64> = of
        .servers
        .iter()
        .map(|server| server.backend.count())
        .collect();
    assert_eq!(before, after, "the application heard of it");
    of.finish().await;
}

/// How often an Envoy got a new certificate.
async fn renewed(envoy: &Envoy) -> Result<u64> {
    envoy.stat("sds.default.update_success").await
}

/// Runs a command of the issuer for operators.
async fn operate(of: &Sidecars, command: &str) -> Result<()> {
    let mesh = &of.mesh;
    let endpoints = format!("http://{}", mesh.net.at(1, 2379));
    let keys = mesh.run.path("credentials/key-encryption-keys");
    let keys = keys.display().to_string();
    let args = [
        "--etcd-endpoints",
        &endpoints,
        command,
        "--key-encryption-keys-file",
        &keys,
    ];
    let args: Vec<String> = args
        .into_iter()
        .chain(ISSUER)
        .map(ToOwned::to_owned)
        .collect();
    let log = mesh.run.path(&format!("{command}.log"));
    let process = Process::start(command, &binaries::built("cert-issuer")?, &args, &log)?;
    process.succeeds(envoy::PATIENCE).await
}

/// Certificates are renewed every eight seconds, and a root takes over two seconds after everybody has seen it.
const ISSUER: [&str; 5] = [
    "--svid-ttl=16s",
    "--root-overlap=2s",
    "--root-patience=12h",
    "--issuing-ttl=240h",
    "--root-ttl=4800h",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modes_certificates_and_roots_change_without_a_failed_request() {
    let of = Sidecars::secure("rotation", &ISSUER).await.unwrap();
    of.all_reach_all().await.unwrap();
    let loads = of.load(40);
    let mut before = Vec::new();
    for envoy in of.envoys() {
        before.push((envoy, renewed(envoy).await.unwrap()));
    }
    operate(&of, "rotate-issuing").await.unwrap();

    let bundle = async || {
        let url = format!("http://{}/bundle.pem", of.mesh.net.at(1, 18011));
        Ok::<_, anyhow::Error>(http::get(url).await?.ok()?.body)
    };
    let old_root = bundle().await.unwrap();
    of.mesh.apply(&policy("STRICT")).await.unwrap();
    for server in &of.servers {
        server.takes_plaintext(false).await.unwrap();
    }
    operate(&of, "rotate-root").await.unwrap();

    let mut strict = false;
    let mut modes = 0;
    loop {
        let mut least = u64::MAX;
        for (envoy, start) in &before {
            least = least.min(renewed(envoy).await.unwrap() - start);
        }
        if least >= 20 {
            break;
        }
        of.mesh
            .apply(&policy(if strict { "STRICT" } else { "PERMISSIVE" }))
            .await
            .unwrap();
        for server in &of.servers {
            server.takes_plaintext(!strict).await.unwrap();
        }
        strict = !strict;
        modes += 1;
    }
    assert!(modes >= 4, "the modes changed only {modes} times");
    assert_ne!(bundle().await.unwrap(), old_root);

    for (client, load) in of.clients.iter().zip(loads) {
        let report = load.stop().await.flawless();
        let report = report
            .with_context(|| format!("from {}", client.name))
            .unwrap();
        assert!(report.sent > 500, "{report:?}");
    }
    of.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_root_is_refused_and_no_session_outlives_it() {
    // By the time a root is retired, what it signed has expired; unless certificates lasted longer once.
    let mut of = Sidecars::secure("retired", &["--svid-ttl=1h"])
        .await
        .unwrap();
    of.mesh.apply(&policy("STRICT")).await.unwrap();
    of.servers[0].takes_plaintext(false).await.unwrap();
    let old = Identity::signed(&of.mesh, &of.clients[0].name)
        .await
        .unwrap();
    let session = old.path("session");
    let mut flags = old.flags();
    flags.extend(["-sess_out", &session].map(ToOwned::to_owned));
    over_tls(&of.servers[0], &flags).await.unwrap();
    // There is none to resume: every connection shows its certificate.
    assert!(!std::path::Path::new(&session).exists());
    of.mesh.restart_issuer(&ISSUER).await.unwrap();
    let server = &of.servers[0];
    over_tls(server, &old.flags()).await.unwrap();
    operate(&of, "rotate-root").await.unwrap();
    wait::until(
        "the old root to be refused",
        envoy::PATIENCE,
        async || match over_tls(server, &old.flags()).await {
            Ok(_) => bail!("it is taken"),
            Err(_) => Ok(()),
        },
    )
    .await
    .unwrap();
    let new = Identity::signed(&of.mesh, &of.clients[0].name)
        .await
        .unwrap();
    over_tls(server, &new.flags()).await.unwrap();
    of.finish().await;
}
