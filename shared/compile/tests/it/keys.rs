//! Where real Envoys fetch the keys of tokens, and where they do not: names that lead to loopback are asked nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use compile::{Compiler, Settings};
use model::Revision;
use prost::{Message, Name};
use serde_json::json;
use xds::pb::envoy::config::cluster::v3::Cluster;
use xds::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use xds::pb::google::protobuf::Any;
use xds::{Resource, ResourceType, Snapshot, make};

use crate::mtls::backends::{Http, exchange};
use crate::mtls::envoys::{Envoy, until};
use crate::mtls::{ENVOYS, address};
use crate::support;

#[path = "../../src/translate/behaviour/authz/jwt.rs"]
#[allow(dead_code, reason = "what is wrong with tokens is another test's")]
mod jwt;

/// How often somebody was asked.
type Asked = Arc<AtomicU32>;

/// A server of keys on loopback.
fn key_server(keys: String) -> (u16, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Asked::default();
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|it| !it.is_empty()))
            {}
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{keys}",
                keys.len()
            );
        }
    });
    (port, asked)
}

/// A DNS server that leads every name to 127.0.0.1 (RFC 1035, 4.1).
fn name_server() -> (u16, Asked) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let asked = Asked::default();
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let name = buffer[12..length]
                .iter()
                .position(|byte| *byte == 0)
                .unwrap();
            let question = &buffer[12..12 + name + 5];
            let of_v4 = question[question.len() - 3] == 1;
            let mut answer = buffer[..2].to_vec();
            // A response without error to one question, with one answer or none.
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(of_v4), 0, 0, 0, 0]);
            answer.extend(question);
            if of_v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    (port, asked)
}

/// The snapshot, whose clusters of names ask this DNS server.
fn asking(snapshot: &Snapshot, port: u16) -> Snapshot {
    let resolver = CaresDnsResolverConfig {
        resolvers: vec![make::address("127.0.0.1", port)],
        ..Default::default()
    };
    let resolver = TypedExtensionConfig {
        name: "envoy.network.dns_resolver.cares".into(),
        typed_config: Some(Any {
            type_url: CaresDnsResolverConfig::type_url(),
            value: resolver.encode_to_vec(),
        }),
    };
    let all = ResourceType::ALL
        .into_iter()
        .flat_map(|ty| snapshot.iter(ty));
    let resources = all.map(|resource| {
        if !resource.name().starts_with("jwks|") {
            return resource.clone();
        }
        let cluster: Cluster = resource.decode().unwrap();
        Resource::new(&Cluster {
            typed_dns_resolver_config: Some(resolver.clone()),
            ..cluster
        })
    });
    Snapshot::of(1, resources.collect::<Vec<_>>())
}

fn mesh(address: &str, backend: u16, uri: &str, config: &str) -> String {
    format!(
        "
apiVersion: weft.mesh/v1
kind: MeshConfig
metadata: {{name: default, namespace: istio-system}}
spec: {{{config}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {backend}}}]
  workloadSelector: {{labels: {{app: shop}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: shop}}
spec: {{address: {address}, labels: {{app: shop}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: keys}}
spec:
  hosts: [keys.mesh.example]
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: named-keys}}
spec:
  hosts: [named.mesh.example]
  resolution: DNS
  ports: [{{number: 80, name: http, protocol: HTTP}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: shop}}
spec: {{jwtRules: [{{issuer: '{issuer}', jwksUri: '{uri}'}}]}}
",
        issuer = jwt::ISSUER,
    )
}

#[test]
fn a_name_that_leads_to_loopback_is_asked_nothing() {
    let issuer = jwt::Issuer::new("k");
    let (keys, asked) = key_server(json!({"keys": [issuer.jwk()]}).to_string());
    let uri = format!("http://keys.elsewhere.example:{keys}/keys");
    let token = issuer.token(&json!({}));
    for binary in ENVOYS {
        for (config, allowed) in [
            ("allowedJwksHosts: ['*.elsewhere.example']", true),
            ("", false),
        ] {
            let (http, at) = (Http::start(), address());
            let (dns, resolved) = name_server();
            let mut compiler = Compiler::new(Settings::default());
            let mesh = mesh(&at, http.port, &uri, config);
            compiler.apply(Revision(1), support::puts(&mesh));
            let id = compiler.connect(support::proxy("sidecar~default~shop"));
            let snapshot = asking(&compiler.snapshot(id).unwrap(), dns);
            asked.store(0, Ordering::SeqCst);
            let _envoy = Envoy::start(binary, &snapshot, Snapshot::default());
            let ask = || {
                let request = format!(
                    "GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
                );
                let answer = exchange(&format!("{at}:{}", http.port), &request);
                answer.split(' ').nth(1).unwrap_or_default().to_owned()
            };
            if allowed {
                until("the keys", || ask() == "200");
                assert!(resolved.load(Ordering::SeqCst) > 0, "{binary}");
                continue;
            }
            for _ in 0..5 {
                assert_eq!(ask(), "401", "{binary}");
            }
            assert_eq!(asked.load(Ordering::SeqCst), 0, "{binary}: connections");
            assert_eq!(resolved.load(Ordering::SeqCst), 0, "{binary}: names");
            assert!(http.seen.lock().unwrap().is_empty(), "{binary}");
        }
    }
}

#[test]
fn what_is_not_fetched_is_told() {
    const ANYWHERE: &str = "allowLocalJwksUri: true";
    const NAMES: &str = "allowedJwksHosts: [keys.elsewhere.example, '*.mesh.example']";
    let rows = [
        (
            "http://127.0.0.1/keys",
            "",
            "127.0.0.1 is of the proxy's own machine",
        ),
        (
            "http://127.0.0.1/keys",
            NAMES,
            "127.0.0.1 is of the proxy's own machine",
        ),
        ("http://127.0.0.1/keys", ANYWHERE, ""),
        (
            "http://localhost/keys",
            "",
            "localhost is of the proxy's own machine",
        ),
        (
            "http://[::ffff:169.254.169.254]/",
            "",
            "own machine or link",
        ),
        ("http://192.0.2.1/keys", "", ""),
        (
            "http://keys.mesh.example/keys",
            "",
            "keys.mesh.example has an endpoint on 127.0.0.1",
        ),
        ("http://keys.mesh.example/keys", NAMES, ""),
        ("http://keys.mesh.example/keys", ANYWHERE, ""),
        (
            "https://keys.elsewhere.example/keys",
            "",
            "none of MeshConfig's allowedJwksHosts",
        ),
        ("https://Keys.Elsewhere.Example./keys", NAMES, ""),
        (
            "https://more.keys.elsewhere.example/keys",
            NAMES,
            "none of MeshConfig's allowedJwksHosts",
        ),
        ("https://keys.elsewhere.example/keys", ANYWHERE, ""),
        (
            "http://named.mesh.example/keys",
            "",
            "none of MeshConfig's allowedJwksHosts",
        ),
        ("http://named.mesh.example/keys", NAMES, ""),
    ];
    for (uri, config, expected) in rows {
        let mut compiler = Compiler::new(Settings::default());
        compiler.apply(
            Revision(1),
            support::puts(&mesh("127.0.9.1", 1, uri, config)),
        );
        compiler.connect(support::proxy("sidecar~default~shop"));
        let said = format!("{:?}", compiler.statuses());
        assert!(said.contains(expected), "{uri} {config}: {said}");
        assert_eq!(
            said.contains("jwksUri"),
            !expected.is_empty(),
            "{uri} {config}: {said}"
        );
    }
}
