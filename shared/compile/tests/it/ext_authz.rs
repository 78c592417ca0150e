//! `CUSTOM` policies: real services that decide, asked by real Envoys, over HTTP and gRPC; and what holds while they cannot be.
//!
//! *Invariant:* what a case asserts is what the backend received, and what came back.

mod deciders;

use std::sync::Arc;

use compile::{Compiler, Settings};
use model::Revision;
use xds::Snapshot;

use crate::mtls::backends::{Http, Tcp, exchange, talk};
use crate::mtls::envoys::{Envoy, until};
use crate::mtls::{ENVOYS, address};
use crate::support;
use deciders::{OverGrpc, OverHttp};

/// Workloads of one service, each with a policy that asks another provider, and their addresses.
struct World {
    http: Http,
    tcp: Tcp,
    compiler: Compiler,
}

/// The workloads: which provider their policies name.
const PROVIDERS: [&str; 4] = ["over-http", "over-grpc", "open", "unknown"];

impl World {
    fn new(over_http: u16, over_grpc: u16, addresses: &[String]) -> Self {
        let (http, tcp) = (Http::start(), Tcp::start());
        let mut mesh = format!(
            "
apiVersion: weft.mesh/v1
kind: MeshConfig
metadata: {{name: default, namespace: istio-system}}
spec:
  extensionProviders:
  - name: over-http
    envoyExtAuthzHttp:
      service: decider.default.svc.cluster.local
      port: 8000
      pathPrefix: /check
      includeRequestHeadersInCheck: [x-ok]
      includeAdditionalHeadersInCheck: {{x-from: mesh}}
      headersToUpstreamOnAllow: [x-user]
      headersToDownstreamOnDeny: [x-why]
  - {{name: over-grpc, envoyExtAuthzGrpc: {{service: default/decider.default.svc.cluster.local, port: 9000, statusOnError: '503'}}}}
  - {{name: open, envoyExtAuthzGrpc: {{service: decider.default.svc.cluster.local, port: 9000, failOpen: true}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: decider}}
spec:
  hosts: [decider.default.svc.cluster.local]
  ports:
  - {{number: 8000, name: http, protocol: HTTP, targetPort: {over_http}}}
  - {{number: 9000, name: grpc, protocol: GRPC, targetPort: {over_grpc}}}
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 80, name: http, protocol: HTTP, targetPort: {http}}}
  - {{number: 81, name: tcp, protocol: TCP, targetPort: {tcp}}}
  workloadSelector: {{labels: {{tier: shop}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: never}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: [/asked/never], ports: ['{http}']}}}}]}}]}}
",
            http = http.port,
            tcp = tcp.port,
        );
        for (provider, address) in PROVIDERS.iter().zip(addresses) {
            mesh += &format!(
                "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {provider}}}
spec: {{address: {address}, labels: {{tier: shop, app: {provider}}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {provider}}}
spec:
  selector: {{matchLabels: {{app: {provider}}}}}
  action: CUSTOM
  provider: {{name: {provider}}}
  rules: [{{to: [{{operation: {{paths: ['/asked*']}}}}]}}]
"
            );
        }
        let mut compiler = Compiler::new(Settings::default());
        compiler.apply(Revision(1), support::puts(&mesh));
        Self {
            http,
            tcp,
            compiler,
        }
    }

    fn snapshot(&mut self, workload: &str) -> Arc<Snapshot> {
        let id = format!("sidecar~default~{workload}");
        let id = self.compiler.connect(support::proxy(&id));
        self.compiler.snapshot(id).unwrap()
    }

    /// What a request gets, and what of it the backend received.
    fn ask(&self, address: &str, path: &str, headers: &str) -> (String, String) {
        self.http.seen.lock().unwrap().clear();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n");
        let answer = exchange(&format!("{address}:{}", self.http.port), &request);
        (answer, self.http.seen.lock().unwrap().concat())
    }

    /// Whether the TCP backend got what a connection says.
    fn connects(&self, address: &str) -> bool {
        self.tcp.seen.lock().unwrap().clear();
        let echoed = talk(&format!("{address}:{}", self.tcp.port)) == "hello\nand you\n";
        assert_eq!(echoed, !self.tcp.seen.lock().unwrap().is_empty());
        echoed
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn who_is_named_decides_and_nobody_else() {
    for binary in ENVOYS {
        let (over_http, over_grpc) = (OverHttp::start(), OverGrpc::start());
        let addresses: Vec<String> = PROVIDERS.iter().map(|_| address()).collect();
        let mut world = World::new(over_http.port, over_grpc.port, &addresses);
        let _envoys = PROVIDERS
            .map(|provider| Envoy::start(binary, &world.snapshot(provider), Snapshot::default()));
        let [at_http, at_grpc, at_open, at_unknown] = [0, 1, 2, 3].map(|at| addresses[at].as_str());
        let ok = "x-ok: yes\r\nx-user: root\r\n";
        for (address, seen) in [(at_http, &over_http.seen), (at_grpc, &over_grpc.seen)] {
            let (answer, received) = world.ask(address, "/asked/1?q=1", "x-ok: no\r\n");
            assert_eq!(status(&answer), "403", "{binary}: {answer}");
            assert!(answer.contains("x-why: because"), "{binary}: {answer}");
            assert_eq!(received, "", "{binary}");
            let (answer, received) = world.ask(address, "/asked/2", ok);
            assert_eq!(status(&answer), "200", "{binary}: {answer}");
            assert!(received.contains("x-user: alice"), "{binary}: {received}");
            assert!(!received.contains("root"), "{binary}: {received}");
            // What it allows, a DENY policy still denies.
            let (answer, received) = world.ask(address, "/asked/never", ok);
            assert_eq!((status(&answer), &*received), ("403", ""), "{binary}");
            let asked = seen.lock().unwrap().len();
            assert_eq!(asked, 3, "{binary}: {:?}", seen.lock().unwrap());
            let (answer, _) = world.ask(address, "/free", "");
            assert_eq!(status(&answer), "200", "{binary}: {answer}");
            assert_eq!(
                seen.lock().unwrap().len(),
                asked,
                "{binary}: nobody is asked"
            );
        }
        let first = over_http.seen.lock().unwrap()[0].clone();
        assert!(
            first.starts_with("GET /check/asked/1?q=1"),
            "{binary}: {first}"
        );
        assert!(first.contains("x-from: mesh"), "{binary}: {first}");
        // The policy asks about paths, which connections do not have: all of them are meant.
        over_grpc.connections(true);
        assert!(world.connects(at_grpc), "{binary}");
        over_grpc.connections(false);
        assert!(!world.connects(at_grpc), "{binary}");
        assert!(
            !world.connects(at_http),
            "{binary}: over HTTP nobody can be asked about connections"
        );
        // A provider that is none.
        let (answer, received) = world.ask(at_unknown, "/asked", ok);
        assert_eq!((status(&answer), &*received), ("403", ""), "{binary}");
        assert_eq!(
            status(&world.ask(at_unknown, "/free", "").0),
            "200",
            "{binary}"
        );
        assert!(!world.connects(at_unknown), "{binary}");
        // Nobody answers any more.
        drop((over_http, over_grpc));
        for (address, expected) in [(at_http, "403"), (at_grpc, "503")] {
            let (answer, received) = world.ask(address, "/asked", ok);
            assert_eq!(
                (status(&answer), &*received),
                (expected, ""),
                "{binary}: {answer}"
            );
            assert_eq!(
                status(&world.ask(address, "/free", "").0),
                "200",
                "{binary}"
            );
            assert!(!world.connects(address), "{binary}");
        }
        // Who may fail open does.
        until("the gateway", || {
            status(&world.ask(at_open, "/asked", ok).0) == "200"
        });
        assert!(world.connects(at_open), "{binary}");
    }
}
