//! What the issuer signs and serves, as Python's `spiffe` reads and verifies it.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use store::testing::Etcd;

use crate::fixture::{Issuer, credential, json, until};

const SCRIPT: &str = r#"
import sys
from spiffe import JwtBundle, JwtSvid, TrustDomain, X509Bundle, X509Svid

read = lambda name: open(name, "rb").read()
svid = X509Svid.parse(read("chain"), read("key"))
print(svid.spiffe_id, len(svid.cert_chain))
roots = X509Bundle.parse(TrustDomain("td"), read("roots"))
print(len(roots.x509_authorities))
keys = JwtBundle.parse(TrustDomain("td"), read("keys"))
token = read("token").decode()
print(JwtSvid.parse_and_validate(token, keys, {"db"}).spiffe_id)


def refused(what, check):
    try:
        check()
    except Exception as error:
        print("refused:", what, type(error).__name__)


refused("another audience", lambda: JwtSvid.parse_and_validate(token, keys, {"mail"}))
refused("a changed token", lambda: JwtSvid.parse_and_validate(token[:-8] + "AAAAAAAA", keys, {"db"}))
others = JwtBundle.parse(TrustDomain("other"), read("keys"))
refused("another trust domain", lambda: JwtSvid.parse_and_validate(token, others, {"db"}))
refused("a root as a workload", lambda: X509Svid.parse(read("roots"), read("key")))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_spiffe_takes_what_the_issuer_gives() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let Ok(python) = tools.join("python-spiffe/bin/python").canonicalize() else {
        crate::skip::skip(
            "Python's spiffe is not installed; tests/install-tools could not, or was not run",
        );
        return;
    };
    let etcd = Etcd::start().await;
    let issuer = Issuer::start(&etcd, &[]).await;
    let token = credential(&etcd.store(), "spiffe://td/ns/shop/sa/orders", "orders-v1").await;
    let client = issuer.client().await;
    let ask = async |path: &str, body: String| {
        let request = client.post(issuer.url(path)).body(body);
        let answer = request.bearer_auth(token.expose()).send().await.unwrap();
        let fine = answer.status().is_success();
        fine.then_some(answer)
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default();
    let csr = csr.serialize_request(&key).unwrap().pem().unwrap();
    let mut svid = None;
    until("a certificate", async || {
        svid = ask("/v1/x509-svid", csr.clone()).await;
        svid.is_some()
    })
    .await;
    let svid = json(&svid.unwrap().text().await.unwrap());
    let jwt = ask("/v1/jwt-svid", json!({"audience": ["db"]}).to_string()).await;
    let jwt = json(&jwt.unwrap().text().await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("chain", svid["chain"].as_str().unwrap().to_owned()),
        ("key", key.serialize_pem()),
        ("roots", issuer.bundle().await),
        ("keys", issuer.admin("/keys").await.unwrap()),
        ("token", jwt["token"].as_str().unwrap().to_owned()),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let mut script = Command::new(python);
    script.current_dir(dir.path()).args(["-c", SCRIPT]);
    let ran = tokio::task::spawn_blocking(move || script.output().unwrap());
    let ran = ran.await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let why = String::from_utf8_lossy(&ran.stderr);
    let id = "spiffe://td/ns/shop/sa/orders";
    assert_eq!(lines.first(), Some(&&*format!("{id} 2")), "{said}{why}");
    assert_eq!(lines.get(1..3), Some(&["1", id][..]), "{said}{why}");
    for (line, what) in lines[3..].iter().zip([
        "another audience",
        "a changed token",
        "another trust domain",
        "a root as a workload",
    ]) {
        assert!(line.starts_with(&format!("refused: {what}")), "{said}{why}");
    }
    assert_eq!(lines.len(), 7, "{said}{why}");
    issuer.stop().await;
}
