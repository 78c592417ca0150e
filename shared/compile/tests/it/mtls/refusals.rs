//! What is refused, and by whom.

use compile::Interception;
use xds::pb::envoy::config::listener::v3::Listener;
use xds::{Resource, ResourceType, Snapshot, make};

use super::*;
use authority::{Credential, self_signed};

/// A request as a client sends it to the server's sidecar itself.
fn request() -> String {
    format!("GET /raw HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{FORGED}\r\n")
}

#[test]
fn strict_refuses_whoever_proves_no_identity_of_the_mesh() {
    let (ours, other) = (Authority::new(), Authority::new());
    let refused: [(&str, Option<Credential>); 5] = [
        ("no certificate", None),
        (
            "a foreign trust domain",
            Some(ours.issue("other.test", "client")),
        ),
        (
            "an expired certificate",
            Some(ours.expired(TRUST_DOMAIN, "client")),
        ),
        (
            "a self-signed certificate",
            Some(self_signed(TRUST_DOMAIN, "client")),
        ),
        (
            "another authority",
            Some(other.issue(TRUST_DOMAIN, "client")),
        ),
    ];
    for binary in ENVOYS {
        let world = World::new(STRICT);
        let _envoys = world.start(binary, &ours, "server");
        for address in [world.http_at(), world.http2_at()] {
            assert_eq!(
                backends::exchange(&address, &request()),
                "",
                "{binary}: plaintext"
            );
        }
        assert_eq!(
            backends::talk(&world.tcp_at()),
            "",
            "{binary}: plaintext TCP"
        );
        for (what, credential) in &refused {
            let credential = credential.as_ref();
            for address in [world.http_at(), world.http2_at()] {
                let answer = backends::tls_exchange(&address, credential, &request());
                assert_eq!(answer, "", "{binary}: {what}");
            }
            assert_eq!(
                backends::tls_talk(&world.tcp_at(), credential),
                "",
                "{binary}: {what}"
            );
        }
        for backend in [&world.http, &world.http2] {
            assert_eq!(*backend.seen.lock().unwrap(), [""; 0], "{binary}");
        }
        assert_eq!(*world.tcp.seen.lock().unwrap(), b"", "{binary}");
        // The same client with what it should have.
        let good = ours.issue(TRUST_DOMAIN, "client");
        let answer = backends::tls_exchange(&world.http_at(), Some(&good), &request());
        assert!(answer.contains(CLIENT), "{binary}: {answer}");
        assert!(!answer.contains("sa/admin"), "{binary}: {answer}");
        let heard = backends::tls_talk(&world.tcp_at(), Some(&good));
        assert_eq!(heard, "hello\nand you\n", "{binary}");
    }
}

#[test]
fn a_client_refuses_a_server_of_another_account() {
    let authority = Authority::new();
    for binary in ENVOYS {
        let world = World::new(STRICT);
        let _envoys = world.start(binary, &authority, "impostor");
        for path in ["/", "/grpc"] {
            let answer = world.ask(path);
            assert!(answer.starts_with("HTTP/1.1 503"), "{binary}: {answer}");
        }
        assert_eq!(world.talk(), "", "{binary}");
        assert_eq!(*world.http.seen.lock().unwrap(), [""; 0], "{binary}");
    }
}

#[test]
fn a_port_of_its_own_mode_is_not_its_neighbours() {
    let authority = Authority::new();
    let policy = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: server}
spec:
  selector: {matchLabels: {weft.mesh/service-account: server}}
  mtls: {mode: STRICT}
  portLevelMtls: {\"$HTTP2\": {mode: DISABLE}, \"$TCP\": {mode: PERMISSIVE}}
";
    for binary in ENVOYS {
        let world = World::new(policy);
        let _envoys = world.start(binary, &authority, "server");
        let plain = |address: &str| backends::exchange(address, &request());
        assert_eq!(plain(&world.http_at()), "", "{binary}: STRICT");
        let answer = plain(&world.http2_at());
        assert!(answer.starts_with("HTTP/1.1 200"), "{binary}: {answer}");
        assert!(!answer.contains("sa/admin"), "{binary}: {answer}");
        assert_eq!(
            backends::talk(&world.tcp_at()),
            "hello\nand you\n",
            "{binary}"
        );
        // Clients follow: mutual TLS where it is taken, plaintext where it is not.
        assert!(world.ask("/").contains(CLIENT), "{binary}");
        let answer = world.ask("/grpc");
        assert!(answer.contains("HTTP/2.0 /grpc"), "{binary}: {answer}");
        assert!(!answer.contains(CLIENT), "{binary}: {answer}");
        assert_eq!(world.talk(), "hello\nand you\n", "{binary}");
    }
}

/// A snapshot whose only listener is the one for intercepted connections, where connections can be made to it: without a
/// redirection their original destination is the listener's own address.
fn intercepting(snapshot: &Snapshot, address: &str, port: u16) -> Snapshot {
    let all = ResourceType::ALL
        .into_iter()
        .flat_map(|ty| snapshot.iter(ty));
    let mut resources: Vec<Resource> = all
        .filter(|it| it.ty() != ResourceType::Listener)
        .cloned()
        .collect();
    let inbound = snapshot.get(ResourceType::Listener, "virtualInbound");
    let inbound: Listener = inbound.unwrap().decode().unwrap();
    resources.push(Resource::new(&Listener {
        address: Some(make::address(address, port)),
        ..inbound
    }));
    Snapshot::of(1, resources)
}

#[test]
fn with_transparent_interception_strict_leaves_no_port_open() {
    let authority = Authority::new();
    for binary in ENVOYS {
        let mut world = World::new(STRICT);
        let mut proxy = support::proxy("sidecar~default~server");
        proxy.interception = Some(Interception::Transparent);
        let id = world.compiler.connect(proxy);
        let snapshot = world.compiler.snapshot(id).unwrap();
        // A port of a service, and one that nobody names.
        for port in [world.http.port, 9999] {
            let snapshot = intercepting(&snapshot, &world.server, port);
            let secrets = authority.secrets(TRUST_DOMAIN, "server");
            let _envoy = Envoy::start(binary, &snapshot, secrets);
            let address = format!("{}:{port}", world.server);
            assert_eq!(backends::exchange(&address, &request()), "", "{binary}");
            let answer = backends::tls_exchange(&address, None, &request());
            assert_eq!(answer, "", "{binary}: no certificate");
            if port == world.http.port {
                let good = authority.issue(TRUST_DOMAIN, "client");
                let answer = backends::tls_exchange(&address, Some(&good), &request());
                assert!(answer.contains(CLIENT), "{binary}: {answer}");
            }
        }
        assert_eq!(world.http.seen.lock().unwrap().len(), 1, "{binary}");
    }
}
