//! What is refused, and by whom.

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
