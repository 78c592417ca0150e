//! kubectl, curl and Kubernetes' Python client with credentials, over HTTPS.

use config_api::AccessConfig;
use tokio::process::Command;

use crate::clients::{Kubectl, MANIFEST, python};
use crate::fixture::{Api, VS};
use crate::keyring::{Keyring, text, token_of};

async fn start(keys: &Keyring) -> Api {
    let grants: &[(&str, &str, &[&str])] = &[
        ("alice", "editor", &["default"]),
        ("bob", "viewer", &["default"]),
        ("cert:carol", "viewer", &["*"]),
    ];
    let access = AccessConfig {
        client_ca_file: Some(keys.path("ca.pem")),
        ..keys.with_tls(keys.by_token(grants))
    };
    let mut api = Api::with(|c| c.access = access).await;
    api.http = keys.client(None);
    api
}

fn kubectl(api: &Api, keys: &Keyring, credentials: &[String]) -> Option<Kubectl> {
    let authority = format!("--certificate-authority={}", text(&keys.path("ca.pem")));
    let k = Kubectl::new(api)?.with(authority);
    Some(
        credentials
            .iter()
            .fold(k, |k, argument| k.with(argument.clone())),
    )
}

#[tokio::test]
async fn kubectl_proves_who_it_is() {
    let keys = Keyring::new();
    let api = start(&keys).await;
    let by = |who: &str| kubectl(&api, &keys, &[format!("--token={}", token_of(who))]);
    let (Some(alice), Some(bob)) = (by("alice"), by("bob")) else {
        return;
    };
    let manifest = alice.file("manifest.yaml", MANIFEST);
    let out = alice.ok(&["apply", "-f", &manifest]).await;
    assert!(out.contains("reviews created"), "{out}");
    assert!(
        bob.ok(&["get", "vs", "reviews", "-o", "yaml"])
            .await
            .contains("host: reviews")
    );
    let (ok, _, err) = bob.run(&["delete", "vs", "reviews"]).await;
    assert!(
        !ok && err.contains("Forbidden") && err.contains("role editor"),
        "{err}"
    );
    let (ok, _, err) = bob.run(&["get", "vs", "-A"]).await;
    assert!(!ok && err.contains("in all namespaces"), "{err}");
    assert_eq!(
        alice.ok(&["auth", "can-i", "create", "vs"]).await.trim(),
        "yes"
    );
    let (_, out, _) = bob.run(&["auth", "can-i", "create", "vs"]).await;
    assert!(out.starts_with("no"), "{out}");
    let (ok, out, err) = bob.run(&["auth", "whoami"]).await;
    // kubectl before 1.28 has no such command.
    assert!(
        out.contains("bob") || (!ok && err.contains("unknown command")),
        "{out}{err}"
    );

    let (certificate, key) = keys.authority().person("carol");
    let files = [
        format!(
            "--client-certificate={}",
            text(&keys.write("carol.pem", &certificate))
        ),
        format!("--client-key={}", text(&keys.write("carol.key", &key))),
    ];
    let carol = kubectl(&api, &keys, &files).unwrap();
    assert!(carol.ok(&["get", "vs", "-A"]).await.contains("reviews"));
    let stranger = kubectl(&api, &keys, &["--token=wrong".into()]).unwrap();
    let (ok, _, err) = stranger.run(&["get", "vs"]).await;
    assert!(
        !ok && (err.contains("nauthorized") || err.contains("logged in")),
        "{err}"
    );
}

#[tokio::test]
async fn curl_proves_who_it_is() {
    if Command::new("curl")
        .arg("--version")
        .output()
        .await
        .is_err()
    {
        crate::skip::skip("curl is not installed");
        return;
    }
    let keys = Keyring::new();
    let api = start(&keys).await;
    let (certificate, key) = keys.authority().person("carol");
    let (certificate, key) = (keys.write("c.pem", &certificate), keys.write("c.key", &key));
    let authority = keys.path("ca.pem");
    let url = format!("{}{VS}", api.url);
    let bearer = format!("authorization: Bearer {}", token_of("alice"));
    let certificate = ["--cert", text(&certificate), "--key", text(&key)];
    let default = url.replace("/shop/", "/default/");
    for (credentials, url, code) in [
        (vec![], &url, "401 2"),
        (vec!["-H", bearer.as_str()], &url, "403 2"),
        (vec!["-H", bearer.as_str()], &default, "200 2"),
        (
            vec!["-H", bearer.as_str(), "--http1.1"],
            &default,
            "200 1.1",
        ),
        (certificate.to_vec(), &url, "200 2"),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--noproxy", "*", "--cacert", text(&authority)]);
        curl.args([
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{http_version}",
        ]);
        let output = curl.args(&credentials).arg(url).output().await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            code,
            "{credentials:?} {output:?}"
        );
    }
}

const SCRIPT: &str = r#"
import sys
from kubernetes import client
configuration = client.Configuration(host=sys.argv[1])
configuration.ssl_ca_cert = sys.argv[2]
configuration.api_key = {"authorization": "Bearer " + sys.argv[3]}
api = client.CustomObjectsApi(client.ApiClient(configuration))
group, version, plural = "networking.istio.io", "v1", "virtualservices"
print(len(api.list_namespaced_custom_object(group, version, "default", plural)["items"]))
try:
    api.list_namespaced_custom_object(group, version, "shop", plural)
    raise SystemExit("it must be refused")
except client.ApiException as e:
    assert e.status == 403, e
"#;

#[tokio::test]
async fn the_python_client_proves_who_it_is() {
    let keys = Keyring::new();
    let api = start(&keys).await;
    let python = python();
    let authority = keys.path("ca.pem");
    let output = Command::new(python)
        .args(["-c", SCRIPT, &api.url, text(&authority), &token_of("alice")])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
}
