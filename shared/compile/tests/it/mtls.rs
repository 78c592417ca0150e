//! Mutual TLS as real Envoys do it, from compiled snapshots and certificates that the test itself serves over SDS.
//!
//! *Invariant:* what a case asserts is what the backend received, and what came back.

mod authority;
mod authorization;
pub(crate) mod backends;
pub(crate) mod envoys;
mod refusals;
mod traffic;

use std::sync::atomic::{AtomicU8, Ordering};

use compile::{Compiler, ProxyId, Settings};
use model::Revision;

use crate::support;
use authority::Authority;
use backends::{Http, Tcp};
use envoys::Envoy;

const TRUST_DOMAIN: &str = "mesh.test";
/// Where each sidecar listens for TCP; every sidecar has an address of its own.
const TCP_OUT: u16 = 15306;
/// The HTTP proxy port of a sidecar.
const HTTP_OUT: u16 = 15080;

/// An address of loopback that no other test has.
pub(crate) fn address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [a, b] = (std::process::id() as u16).to_be_bytes();
    let own = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.{b}.{own}", 64 + a % 64)
}

/// One service `shop` on a server with three backends (HTTP/1.1, HTTP/2 and a TCP protocol whose server speaks first), and a
/// client of the account `client`.
struct World {
    http: Http,
    http2: Http,
    tcp: Tcp,
    server: String,
    client: String,
    compiler: Compiler,
    proxies: [ProxyId; 2],
}

impl World {
    /// With these PeerAuthentications (YAML), as if the server's proxy had acknowledged them.
    fn new(policies: &str) -> Self {
        let (http, http2, tcp) = (Http::start(), Http::start(), Tcp::start());
        let (server, client) = (address(), address());
        let mesh = format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 80, name: http, protocol: HTTP, targetPort: {http}}}
  - {{number: 81, name: grpc, protocol: GRPC, targetPort: {http2}}}
  - {{number: {TCP_OUT}, name: tcp, protocol: TCP, targetPort: {tcp}}}
  workloadSelector: {{labels: {{app: shop}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: server}}
spec: {{address: {server}, labels: {{app: shop}}, serviceAccount: server}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: client}}
spec: {{address: {client}, labels: {{app: client}}, serviceAccount: client}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - {{port: {{number: {TCP_OUT}, protocol: TCP, name: tcp}}, bind: {client}, hosts: ['*/shop.default.svc.cluster.local']}}
  - {{hosts: ['*/*']}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: shop}}
spec:
  host: shop
  subsets:
  - {{name: any, trafficPolicy: {{connectionPool: {{http: {{useClientProtocol: true}}}}}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop]
  http:
  - match: [{{uri: {{prefix: /any}}}}]
    route: [{{destination: {{host: shop, subset: any, port: {{number: 80}}}}}}]
  - match: [{{uri: {{prefix: /grpc}}}}]
    route: [{{destination: {{host: shop, port: {{number: 81}}}}}}]
  - route: [{{destination: {{host: shop, port: {{number: 80}}}}}}]
",
            http = http.port,
            http2 = http2.port,
            tcp = tcp.port,
        );
        let policies = policies
            .replace("$HTTP2", &http2.port.to_string())
            .replace("$HTTP", &http.port.to_string())
            .replace("$TCP", &tcp.port.to_string());
        let mut compiler = Compiler::new(Settings {
            identities: Some(support::identities(TRUST_DOMAIN)),
            ..Settings::default()
        });
        compiler.apply(Revision(1), support::puts(&format!("{mesh}---{policies}")));
        let proxies = ["sidecar~default~server", "sidecar~default~client"]
            .map(|id| compiler.connect(support::proxy(id)));
        let taken = compiler.mtls(proxies[0]);
        let taken = taken
            .iter()
            .filter(|(_, decision)| decision.mode != model::mtls::Mode::Disable);
        let change = compile::Change::Mtls {
            namespace: "default".into(),
            name: "server".into(),
            ports: taken.map(|(port, _)| *port).collect(),
        };
        compiler.apply(Revision(2), [change]);
        Self {
            http,
            http2,
            tcp,
            server,
            client,
            compiler,
            proxies,
        }
    }

    /// The two Envoys, the server's with the certificate of an account.
    fn start(&self, binary: &str, authority: &Authority, account: &str) -> [Envoy; 2] {
        let [server, client] = self.proxies.map(|id| self.compiler.snapshot(id).unwrap());
        [
            Envoy::start(binary, &server, authority.secrets(TRUST_DOMAIN, account)),
            Envoy::start(binary, &client, authority.secrets(TRUST_DOMAIN, "client")),
        ]
    }

    /// The addresses of the server's sidecar.
    fn http_at(&self) -> String {
        format!("{}:{}", self.server, self.http.port)
    }

    fn http2_at(&self) -> String {
        format!("{}:{}", self.server, self.http2.port)
    }

    fn tcp_at(&self) -> String {
        format!("{}:{}", self.server, self.tcp.port)
    }

    /// What the client's application gets for a path through its sidecar.
    fn ask(&self, path: &str) -> String {
        let request = format!(
            "GET http://shop.default.svc.cluster.local{path} HTTP/1.1\r\nhost: shop.default.svc.cluster.local\r\n\
             connection: close\r\n{FORGED}\r\n"
        );
        backends::exchange(&format!("{}:{HTTP_OUT}", self.client), &request)
    }

    /// What the client's application hears from the TCP service, without having said anything, and then as an echo.
    fn talk(&self) -> String {
        backends::talk(&format!("{}:{TCP_OUT}", self.client))
    }
}

/// What a client says of itself and must not be believed.
const FORGED: &str = "x-forwarded-client-cert: URI=spiffe://mesh.test/ns/default/sa/admin\r\n";
/// What the backend hears of the client.
const CLIENT: &str = "URI=spiffe://mesh.test/ns/default/sa/client";
const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";
const PERMISSIVE: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: PERMISSIVE}}
";
pub(crate) const ENVOYS: [&str; 2] = ["envoy-1.40.0", "envoy-1.36.4"];
