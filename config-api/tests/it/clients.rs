//! Clients that nobody here wrote: kubectl, skipped visibly where it is not installed, and Kubernetes' Python client,
//! which `tests/install-tools` puts in place.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::fixture::{Api, PATIENCE};

pub(crate) const MANIFEST: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default, labels: {app: reviews}}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec: {host: reviews}
";

pub(crate) struct Kubectl {
    home: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Kubectl {
    pub(crate) fn new(api: &Api) -> Option<Self> {
        let found =
            std::env::split_paths(&std::env::var_os("PATH")?).any(|d| d.join("kubectl").exists());
        if !found {
            crate::skip::skip("kubectl is not installed");
            return None;
        }
        Some(Self {
            home: tempfile::tempdir().unwrap(),
            arguments: vec![format!("--server={}", api.url)],
        })
    }

    /// With one more argument in front of each command.
    pub(crate) fn with(mut self, argument: String) -> Self {
        self.arguments.push(argument);
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(&self.arguments)
            .args(args)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", "/dev/null");
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) async fn run(&self, args: &[&str]) -> (bool, String, String) {
        let output = tokio::time::timeout(PATIENCE, self.command(args).output()).await;
        let output = output.expect("kubectl ends in time").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.success(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        let (ok, out, err) = self.run(args).await;
        assert!(ok, "kubectl {args:?}\n{out}\n{err}");
        out
    }
}

#[tokio::test]
async fn kubectl_does_its_everyday_work() {
    let api = Api::start().await;
    let Some(k) = Kubectl::new(&api) else { return };
    let manifest = k.file("manifest.yaml", MANIFEST);
    let out = k.ok(&["apply", "-f", &manifest]).await;
    assert!(
        out.contains("virtualservice.networking.istio.io/reviews created"),
        "{out}"
    );
    assert!(
        out.contains("destinationrule.networking.istio.io/reviews created"),
        "{out}"
    );
    assert!(
        k.ok(&["apply", "-f", &manifest])
            .await
            .contains("reviews unchanged")
    );
    assert_eq!(
        k.ok(&["diff", "-f", &manifest]).await,
        "",
        "nothing differs"
    );

    let table = k.ok(&["get", "vs"]).await;
    assert!(
        table.starts_with("NAME") && table.contains("HOSTS") && table.contains("AGE"),
        "{table}"
    );
    assert!(
        k.ok(&["get", "vs", "-A", "-o", "wide"])
            .await
            .contains("NAMESPACE")
    );
    assert!(
        k.ok(&["get", "vs", "-l", "app=reviews", "-o", "name"])
            .await
            .contains("reviews")
    );
    assert_eq!(
        k.ok(&["get", "vs", "-l", "app=other", "-o", "name"]).await,
        ""
    );
    assert!(
        k.ok(&["get", "virtualservice", "reviews", "-o", "yaml"])
            .await
            .contains("host: reviews")
    );
    assert!(
        k.ok(&["get", "istio-io", "-A"])
            .await
            .contains("destinationrule")
    );

    k.ok(&["label", "vs", "reviews", "x=y"]).await;
    k.ok(&["annotate", "vs", "reviews", "note=hi"]).await;
    k.ok(&[
        "patch",
        "vs",
        "reviews",
        "--type=merge",
        "-p",
        r#"{"spec":{"hosts":["b"]}}"#,
    ])
    .await;
    k.ok(&[
        "patch",
        "vs",
        "reviews",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/spec/hosts/0","value":"c"}]"#,
    ])
    .await;
    let (same, diff, _) = k.run(&["diff", "-f", &manifest]).await;
    assert!(
        !same && diff.contains("-  - c") && diff.contains("+  - reviews"),
        "{diff}"
    );
    let describe = k.ok(&["describe", "vs", "reviews"]).await;
    assert!(
        describe.contains("Labels:") && describe.contains("x=y") && describe.contains("Events:"),
        "{describe}"
    );

    let editor = k.file("editor.sh", "#!/bin/sh\nsed -i 's/- c$/- edited/' \"$1\"\n");
    let mut edit = k.command(&["edit", "vs", "reviews"]);
    let edited = edit
        .env("KUBE_EDITOR", format!("sh {editor}"))
        .output()
        .await
        .unwrap();
    assert!(edited.status.success(), "{edited:?}");
    assert!(k.ok(&["get", "vs", "reviews"]).await.contains("edited"));

    assert!(k.ok(&["get", "ns"]).await.contains("istio-system"));
    let (ok, _, err) = k.run(&["get", "events", "-A"]).await;
    assert!(ok && err.contains("No resources found"), "{err}");
    assert!(k.ok(&["api-resources"]).await.contains("virtualservices"));
    assert!(
        k.ok(&["api-versions"])
            .await
            .contains("networking.istio.io/v1alpha3")
    );
    assert!(k.ok(&["version"]).await.contains("Server Version"));

    let explain = k.ok(&["explain", "vs.spec.http.route"]).await;
    assert!(
        explain.contains("weight") && explain.contains("destination"),
        "{explain}"
    );

    let create = k.file(
        "create.yaml",
        &MANIFEST.replace("name: reviews, namespace: default", "generateName: r-"),
    );
    let (ok, out, err) = k.run(&["create", "-f", &create]).await;
    assert!(
        ok && out.contains("virtualservice.networking.istio.io/r-"),
        "{out}{err}"
    );
    assert!(k.ok(&["delete", "vs", "reviews"]).await.contains("deleted"));
    assert!(
        k.ok(&["delete", "vs,dr", "--all", "-n", "default"])
            .await
            .contains("deleted")
    );
    assert_eq!(api.everything().await.len(), 0);
}

#[tokio::test]
async fn kubectl_is_told_what_is_wrong() {
    let api = Api::start().await;
    let Some(k) = Kubectl::new(&api) else { return };
    let bad = k.file(
        "bad.yaml",
        &MANIFEST.replace("hosts: [reviews]", "hosts: [reviews]\n  hots: [a]"),
    );
    let (ok, _, err) = k.run(&["apply", "-f", &bad]).await;
    assert!(
        !ok && err.contains("unknown field") && err.contains("spec.hots"),
        "{err}"
    );
    let (ok, _, err) = k.run(&["apply", "--validate=warn", "-f", &bad]).await;
    assert!(
        ok && err.contains("Warning") && err.contains("spec.hots"),
        "{err}"
    );
    let (ok, _, err) = k.run(&["apply", "--server-side", "-f", &bad]).await;
    assert!(!ok && err.contains("client-side apply"), "{err}");
    let (ok, _, err) = k.run(&["get", "vs", "nonsense"]).await;
    assert!(!ok && err.contains("NotFound"), "{err}");
}

#[tokio::test]
async fn kubectl_watches() {
    let api = Api::start().await;
    let Some(k) = Kubectl::new(&api) else { return };
    let manifest = k.file("manifest.yaml", MANIFEST);
    k.ok(&["apply", "-f", &manifest]).await;
    let mut child = k
        .command(&["get", "vs", "reviews", "-w"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let next = async |lines: &mut tokio::io::Lines<_>| {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        line.expect("a line in time").unwrap().unwrap()
    };
    assert!(next(&mut lines).await.starts_with("NAME"));
    assert!(next(&mut lines).await.starts_with("reviews"));
    k.ok(&[
        "patch",
        "vs",
        "reviews",
        "--type=merge",
        "-p",
        r#"{"spec":{"hosts":["changed"]}}"#,
    ])
    .await;
    assert!(next(&mut lines).await.contains("changed"));
    child.kill().await.unwrap();
}

/// Python with Kubernetes' client: the tests end here if `tests/install-tools` has not put it in place.
pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run tests/install-tools",
        python.display()
    );
    python
}

const SCRIPT: &str = r#"
import sys
from kubernetes import client, watch
configuration = client.Configuration(host=sys.argv[1])
api = client.CustomObjectsApi(client.ApiClient(configuration))
group, version, ns, plural = "networking.istio.io", "v1", "shop", "virtualservices"
def body(name):
    return {"apiVersion": f"{group}/{version}", "kind": "VirtualService", "metadata": {"name": name},
            "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": name}}]}]}}
api.create_namespaced_custom_object(group, version, ns, plural, body("a"))
listed = api.list_cluster_custom_object(group, version, plural)
assert [i["metadata"]["name"] for i in listed["items"]] == ["a"], listed
seen = []
w = watch.Watch()
for event in w.stream(api.list_namespaced_custom_object, group, version, ns, plural,
                      resource_version=listed["metadata"]["resourceVersion"], timeout_seconds=90):
    seen.append((event["type"], event["object"]["metadata"]["name"]))
    if len(seen) == 1:
        api.delete_namespaced_custom_object(group, version, ns, plural, "a")
    if len(seen) == 2:
        w.stop()
    if not seen:
        break
print(seen)
assert [n.metadata.name for n in client.CoreV1Api(client.ApiClient(configuration)).list_namespace().items]
try:
    api.get_namespaced_custom_object(group, version, ns, plural, "missing")
    raise SystemExit("it is not there")
except client.ApiException as e:
    assert e.status == 404, e
"#;

#[tokio::test]
async fn the_python_client_lists_and_watches() {
    let api = Api::start().await;
    let mut child = Command::new(python())
        .args(["-c", SCRIPT, &api.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Once the script has made its first resource, make the change that its watch must see.
    while api.everything().await.is_empty() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{:?}",
            child.wait_with_output().await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut changed = 0;
    let output = child.wait_with_output();
    tokio::pin!(output);
    let output = loop {
        tokio::select! {
            output = &mut output => break output.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                changed += 1;
                let labels = serde_json::json!({"metadata": {"labels": {"n": changed.to_string()}}});
                let path = format!("{}/a", crate::fixture::VS);
                api.patch(&path, "application/merge-patch+json", &labels).await;
            }
        }
    };
    assert!(output.status.success(), "{output:?}");
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("('MODIFIED', 'a')"), "{out}");
}
