//! Clients nobody here wrote: `kubectl`, skipped visibly where it is not installed, and Python's Kubernetes client, which
//! `tests/install-tools` puts in place.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use weft_tests::mesh::PREFIX;
use weft_tests::net::Block;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::skip::skip;
use weft_tests::stack::Trust;
use weft_tests::wait::PATIENCE;
use weft_tests::{binaries, stack};

/// etcd and config-api.
struct Api {
    address: SocketAddr,
    run: Run,
    _net: Block,
    _processes: [Process; 2],
}

impl Api {
    async fn start(name: &str) -> Self {
        let (net, run) = (Block::claim().unwrap(), Run::temporary(name).unwrap());
        let etcd = stack::etcd(&run, "etcd", net.at(1, 2379), &run.path("data"))
            .await
            .unwrap();
        let address = net.at(1, 8080);
        let (etcd_at, prefix) = (net.at(1, 2379), PREFIX);
        let store = stack::Store {
            etcd: etcd_at,
            more: &[],
            prefix,
            access: stack::Access::Plaintext,
        };
        let api = stack::config_api(&run, "config-api", address, store, Trust::Plaintext)
            .await
            .unwrap();
        Self {
            address,
            run,
            _net: net,
            _processes: [etcd, api],
        }
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("KUBECONFIG", "/dev/null")
            .arg(format!("--server=http://{}", self.address));
        command
            .arg(format!("--cache-dir={}", self.run.path("cache").display()))
            .args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs kubectl; its exit code and both outputs.
    async fn run(&self, args: &[&str]) -> (i32, String) {
        output(&mut self.kubectl(args)).await
    }

    /// Runs kubectl, which must succeed.
    async fn ok(&self, args: &[&str]) -> String {
        let (code, text) = self.run(args).await;
        assert_eq!(code, 0, "kubectl {args:?}: {text}");
        text
    }
}

async fn output(command: &mut Command) -> (i32, String) {
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

fn holds(text: &str, fragments: &[&str]) {
    for fragment in fragments {
        assert!(text.contains(fragment), "{fragment:?} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_feels_at_home() {
    if Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .await
        .is_err()
    {
        skip("kubectl is not installed");
        return;
    }
    let api = Api::start("kubectl").await;
    let shop = binaries::repository().join("demo/shop.yaml");
    let shop = shop.to_str().unwrap();
    holds(
        &api.ok(&["api-resources"]).await,
        &[
            "virtualservices",
            "vs",
            "networking.istio.io/v1",
            "VirtualService",
        ],
    );
    holds(
        &api.ok(&["apply", "-f", shop]).await,
        &["virtualservice.networking.istio.io/shop created"],
    );
    let again = api.ok(&["apply", "-f", shop]).await;
    assert!(
        again.lines().all(|line| line.ends_with("unchanged")),
        "{again}"
    );
    holds(
        &api.ok(&["-n", "shop", "get", "vs"]).await,
        &["NAME", "GATEWAYS", "HOSTS", "AGE", "shop", "orders"],
    );
    holds(
        &api.ok(&["get", "dr", "-A"]).await,
        &["NAMESPACE", "shop", "orders"],
    );
    holds(&api.ok(&["get", "ns"]).await, &["shop"]);
    holds(
        &api.ok(&["-n", "shop", "get", "vs", "orders", "-o", "yaml"])
            .await,
        &["exact: tester", "resourceVersion:", "generation: 1"],
    );
    holds(
        &api.ok(&["explain", "virtualservice"]).await,
        &["KIND:       VirtualService", "spec"],
    );
    holds(
        &api.ok(&["-n", "shop", "describe", "vs", "orders"]).await,
        &["tester", "Events:"],
    );

    let mut watch = api
        .kubectl(&["-n", "shop", "get", "vs", "orders", "-w", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines();
    let next = async |seen: &mut tokio::io::Lines<_>| {
        tokio::time::timeout(PATIENCE, seen.next_line())
            .await
            .expect("an event")
            .unwrap()
    };
    assert_eq!(
        next(&mut seen).await.as_deref(),
        Some("virtualservice.networking.istio.io/orders")
    );
    let patch =
        r#"{"spec":{"http":[{"timeout":"3s","route":[{"destination":{"host":"orders"}}]}]}}"#;
    holds(
        &api.ok(&[
            "-n",
            "shop",
            "patch",
            "vs",
            "orders",
            "--type=merge",
            "-p",
            patch,
        ])
        .await,
        &["patched"],
    );
    assert_eq!(
        next(&mut seen).await.as_deref(),
        Some("virtualservice.networking.istio.io/orders")
    );
    drop(watch);
    holds(
        &api.ok(&["-n", "shop", "get", "vs", "orders", "-o", "yaml"])
            .await,
        &["timeout: 3s", "generation: 2"],
    );
    let json = r#"[{"op":"replace","path":"/spec/http/0/timeout","value":"4s"}]"#;
    api.ok(&[
        "-n",
        "shop",
        "patch",
        "vs",
        "orders",
        "--type=json",
        "-p",
        json,
    ])
    .await;
    holds(
        &api.ok(&["-n", "shop", "label", "vs", "orders", "team=a"])
            .await,
        &["labeled"],
    );
    holds(
        &api.ok(&["-n", "shop", "get", "vs", "-l", "team=a", "-o", "name"])
            .await,
        &["virtualservice.networking.istio.io/orders"],
    );
    let mut edit = api.kubectl(&["-n", "shop", "edit", "vs", "orders"]);
    let (code, text) = output(edit.env("KUBE_EDITOR", "sed -i 's/timeout: 4s/timeout: 5s/'")).await;
    assert_eq!(
        (code, text.trim()),
        (0, "virtualservice.networking.istio.io/orders edited")
    );
    let (code, text) = api.run(&["diff", "-f", shop]).await;
    assert_eq!(code, 1, "{text}");
    holds(&text, &["timeout: 5s"]);

    let bad = api.run.path("bad.yaml");
    let shop_text = std::fs::read_to_string(shop).unwrap();
    std::fs::write(&bad, shop_text.replace("subset: v2", "subst: v2")).unwrap();
    let (code, text) = api.run(&["apply", "-f", bad.to_str().unwrap()]).await;
    assert_eq!(code, 1, "{text}");
    holds(&text, &["spec.http[0].route[0].destination.subst"]);
    holds(
        &api.ok(&["-n", "shop", "get", "vs", "orders", "-o", "yaml"])
            .await,
        &["timeout: 5s"],
    );
    let stale = r#"{"metadata":{"resourceVersion":"1"},"spec":{"hosts":["orders"]}}"#;
    let (code, text) = api
        .run(&[
            "-n",
            "shop",
            "patch",
            "vs",
            "orders",
            "--type=merge",
            "-p",
            stale,
        ])
        .await;
    assert_eq!(code, 1, "{text}");
    holds(&text, &["Conflict"]);
    let (code, text) = api.run(&["-n", "shop", "create", "-f", shop]).await;
    assert_eq!(code, 1, "{text}");
    holds(&text, &["AlreadyExists"]);
    holds(
        &api.ok(&["delete", "-f", shop]).await,
        &["virtualservice.networking.istio.io \"orders\" deleted"],
    );
    holds(
        &api.ok(&["get", "vs,dr,se", "-A"]).await,
        &["No resources found"],
    );
}

const PYTHON: &str = r#"
import sys
from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

settings = client.Configuration()
settings.host = sys.argv[1]
api = client.CustomObjectsApi(client.ApiClient(settings))
at = ("networking.istio.io", "v1", "shop", "virtualservices")

def document(name, timeout):
    route = {"timeout": timeout, "route": [{"destination": {"host": "orders"}}]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name}, "spec": {"hosts": [name], "http": [route]}}

for n in range(5):
    api.create_namespaced_custom_object(*at, document(f"v{n}", "1s"))
first = api.list_namespaced_custom_object(*at, limit=2)
assert len(first["items"]) == 2, first
rest = api.list_namespaced_custom_object(*at, limit=10, _continue=first["metadata"]["continue"])
assert len(rest["items"]) == 3, rest
everything = api.list_cluster_custom_object(at[0], at[1], at[3])
start = everything["metadata"]["resourceVersion"]

def patch():
    api.patch_namespaced_custom_object(*at, "v1", {"metadata": {"labels": {"a": "b"}}})
def replace():
    api.replace_namespaced_custom_object(*at, "v2", document("v2", "9s") | {"metadata": {
        "name": "v2", "resourceVersion": api.get_namespaced_custom_object(*at, "v2")["metadata"]["resourceVersion"]}})
def delete():
    api.delete_namespaced_custom_object(*at, "v3")
patch()
then = [replace, delete]
seen = []
for event in watch.Watch().stream(api.list_namespaced_custom_object, *at, resource_version=start, timeout_seconds=90):
    seen.append((event["type"], event["object"]["metadata"]["name"]))
    if len(seen) == 3:
        break
    then.pop(0)()
assert seen == [("MODIFIED", "v1"), ("MODIFIED", "v2"), ("DELETED", "v3")], seen

try:
    api.create_namespaced_custom_object(*at, document("bad", "soon"))
    raise SystemExit("a bad duration was accepted")
except ApiException as refused:
    assert refused.status == 422 and "spec.http[0].timeout" in refused.body, (refused.status, refused.body)
print("done")
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_lists_and_watches() {
    let api = Api::start("python").await;
    let script = api.run.path("client.py");
    std::fs::write(&script, PYTHON).unwrap();
    let python: &Path = &binaries::tool("python/bin/python").unwrap();
    let mut command = Command::new(python);
    command
        .arg(&script)
        .arg(format!("http://{}", api.address))
        .stdin(Stdio::null());
    let (code, text) = output(&mut command).await;
    assert_eq!((code, text.trim()), (0, "done"), "{text}");
}
