//! `meshctl` as people run it: the real binary against the real services.

mod proxies;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use weft_tests::net::Block;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::stack::Trust;
use weft_tests::{binaries, stack};

const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.9}]
";

/// The route of reviews, with a timeout.
fn route(timeout: &str) -> String {
    format!(
        "# The route.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  labels: {{app: reviews}}
spec:
  hosts: [reviews]
  http:
  - timeout: {timeout}
    route:
    - destination: {{host: reviews}}
"
    )
}

/// A config-api on an etcd, and a folder of manifests.
struct Ctl {
    server: String,
    run: Run,
    _net: Block,
    _parts: [Process; 2],
}

/// A command line for the server, in namespace `shop`.
pub(crate) fn meshctl(server: &str, line: &str) -> Command {
    let mut command = Command::new(binaries::built("meshctl").unwrap());
    command.args(line.split_whitespace()).env_clear();
    command
        .env("WEFT_SERVER", server)
        .env("WEFT_NAMESPACE", "shop");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a command came to.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ctl {
    async fn start(name: &str) -> Self {
        let (net, run) = (Block::claim().unwrap(), Run::temporary(name).unwrap());
        let etcd = stack::etcd(&run, "etcd", net.at(1, 2379), &run.path("etcd"))
            .await
            .unwrap();
        let store = stack::Store {
            etcd: net.at(1, 2379),
            more: &[],
            prefix: "/weft/v1",
            access: stack::Access::Plaintext,
        };
        let address = net.at(1, 8080);
        let api = stack::config_api(&run, "config-api", address, store, Trust::Plaintext);
        let parts = [etcd, api.await.unwrap()];
        fs::create_dir_all(run.path("shop/routes")).unwrap();
        let ctl = Self {
            server: format!("http://{}", net.at(1, 8080)),
            run,
            _net: net,
            _parts: parts,
        };
        ctl.write("shop/service.yaml", SERVICE);
        ctl.write("shop/routes/reviews.yaml", &route("2s"));
        ctl
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.run.path(name), text).unwrap();
    }

    /// A command line; `@` stands for the folder of manifests.
    fn command(&self, line: &str) -> Command {
        let folder: PathBuf = self.run.path("shop");
        meshctl(
            &self.server,
            &line.replace('@', &folder.display().to_string()),
        )
    }

    async fn run(&self, line: &str) -> Ran {
        let output = self.command(line).output().await.unwrap();
        let text = |bytes| {
            String::from_utf8(bytes)
                .unwrap()
                .replace(&self.run.path("").display().to_string(), "")
        };
        Ran {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// The output of a command that succeeds and has nothing to remark.
    async fn ok(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}: {ran:?}");
        ran.out
    }

    /// A command that keeps running, and its lines.
    fn follow(&self, line: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut child = self.command(line).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }
}

#[tokio::test]
async fn a_folder_is_applied_compared_rolled_back_and_deleted() {
    let ctl = Ctl::start("ctl-policy").await;

    let dry = ctl.ok("apply -f @ --dry-run").await;
    assert!(
        dry.contains("VirtualService shop/reviews created (dry run)"),
        "{dry}"
    );
    let none = ctl.run("get vs").await;
    assert_eq!(
        (none.out.as_str(), none.err.as_str()),
        ("", "No resources found in namespace shop.\n")
    );
    assert_eq!(ctl.run("diff -f @").await.code, 1);

    let applied = ctl.ok("apply -f @").await;
    let lines: Vec<&str> = applied.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "VirtualService shop/reviews created",
            "ServiceEntry shop/reviews created"
        ]
    );
    let revision: i64 = lines[2].strip_prefix("revision ").unwrap().parse().unwrap();
    let again = ctl.ok("apply -f @").await;
    assert!(
        again.ends_with(&format!("nothing to change at revision {revision}\n")),
        "{again}"
    );
    assert_eq!(ctl.ok("diff -f @").await, "");

    ctl.write("shop/routes/reviews.yaml", &route("5s"));
    let diff = ctl.run("diff -f @").await;
    assert_eq!(diff.code, 1);
    assert!(
        diff.out.contains("\n-  - timeout: 2s\n") || diff.out.contains("\n-    timeout: 2s\n"),
        "{}",
        diff.out
    );
    assert!(
        diff.out.contains("timeout: 5s\n") && !diff.out.contains("ServiceEntry"),
        "{}",
        diff.out
    );
    assert!(
        ctl.ok("apply -f @")
            .await
            .contains("VirtualService shop/reviews configured\n")
    );
    assert!(
        ctl.ok("get vs/reviews -o yaml")
            .await
            .contains("timeout: 5s")
    );
    assert_eq!(
        ctl.ok("get vs,se -o name -l app=reviews").await,
        "virtualservice.networking.istio.io/reviews\n"
    );
    assert!(
        ctl.ok("get virtualservices -A")
            .await
            .starts_with("NAMESPACE   NAME ")
    );

    let history = ctl.ok("history vs/reviews").await;
    let changes: Vec<Vec<&str>> = history
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        changes.iter().map(|c| c[4]).collect::<Vec<_>>(),
        ["configured", "created"],
        "{history}"
    );
    assert!(
        ctl.ok("describe vs reviews")
            .await
            .contains("\nHistory:\n  REVISION")
    );

    assert!(
        ctl.ok("rollback vs/reviews --dry-run")
            .await
            .contains("configured (dry run)")
    );
    assert!(
        ctl.ok("rollback")
            .await
            .starts_with("VirtualService shop/reviews configured\nrevision ")
    );
    assert!(
        ctl.ok("get vs/reviews -o json")
            .await
            .contains("\"timeout\": \"2s\"")
    );
    assert!(
        ctl.ok("rollback vs/reviews --to-generation 2")
            .await
            .contains("configured")
    );
    assert!(
        ctl.ok("get vs/reviews -o json")
            .await
            .contains("\"timeout\": \"5s\"")
    );
    assert!(
        ctl.ok(&format!("rollback --to {revision}"))
            .await
            .contains("configured")
    );
    assert!(
        ctl.ok("get vs/reviews -o json")
            .await
            .contains("\"timeout\": \"2s\"")
    );

    let deleted = ctl.ok("delete -f @").await;
    assert_eq!(
        deleted,
        "ServiceEntry shop/reviews deleted\nVirtualService shop/reviews deleted\n"
    );
    let gone = ctl.run("delete vs reviews").await;
    assert_eq!((gone.code, gone.out.as_str()), (1, ""));
    assert_eq!(ctl.ok("delete vs reviews --ignore-not-found").await, "");
}

#[tokio::test]
async fn what_is_wrong_is_told_by_file_and_line_and_nothing_is_changed() {
    let ctl = Ctl::start("ctl-errors").await;
    let bad = SERVICE.replace("STATIC", "STATICK") + "---\n" + &route("soon");
    ctl.write("shop/service.yaml", &bad);
    let refused = ctl.run("apply -f @").await;
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
    for told in [
        "  shop/service.yaml:8: ServiceEntry shop/reviews: spec.resolution",
        "  shop/service.yaml:21: VirtualService shop/reviews: spec.http[0].timeout",
    ] {
        assert!(refused.err.contains(told), "{told}\n{}", refused.err);
    }
    assert_eq!(ctl.run("diff -f @").await.code, 2);
    assert_eq!(ctl.ok("get vs,se -o name").await, "");

    ctl.write("shop/service.yaml", "spec: {\n");
    let broken = ctl.run("apply -f @").await;
    assert_eq!(broken.code, 2);
    assert!(
        broken.err.starts_with("Error: shop/service.yaml:"),
        "{}",
        broken.err
    );
    ctl.write("shop/service.yaml", SERVICE);
    ctl.ok("apply -f @").await;

    let misspelt = ctl.run("get vs reveiws").await;
    assert_eq!(misspelt.code, 1);
    assert!(
        misspelt.err.contains("did you mean \"reviews\"?"),
        "{}",
        misspelt.err
    );
    let elsewhere = ctl.run("describe vs reviews -n blue").await;
    assert!(
        elsewhere
            .err
            .contains("there is one in namespace shop (-n shop)"),
        "{}",
        elsewhere.err
    );
    assert_eq!(ctl.run("get pods").await.code, 2);
    assert_eq!(ctl.run("get vs --server http://127.0.0.1:9").await.code, 3);
}

#[tokio::test]
async fn a_watch_shows_changes_as_they_happen_and_a_closed_pipe_is_no_error() {
    let ctl = Ctl::start("ctl-watch").await;
    ctl.ok("apply -f @").await;
    let (mut watch, mut lines) = ctl.follow("get vs -w --no-headers");
    let mut next = async || lines.next_line().await.unwrap().unwrap();
    assert!(next().await.starts_with("ADDED      reviews "));
    ctl.write("shop/routes/reviews.yaml", &route("3s"));
    ctl.ok("apply -f @").await;
    assert!(next().await.starts_with("MODIFIED   reviews "));
    ctl.ok("delete vs/reviews").await;
    assert!(next().await.starts_with("DELETED    reviews "));
    // Once nobody reads any more, the next change ends the watch without a complaint.
    drop(lines);
    ctl.ok("apply -f @").await;
    let stderr = watch.stderr.take().unwrap();
    assert!(watch.wait().await.unwrap().success());
    assert_eq!(
        BufReader::new(stderr).lines().next_line().await.unwrap(),
        None
    );
}
