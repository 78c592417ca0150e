//! What goes through, by every protocol.

use super::*;

/// Everything that the client's application can ask for, in mutual TLS.
fn everything_arrives(world: &World, binary: &str) {
    let rows = [
        ("/", "HTTP/1.1 /"),
        ("/any", "HTTP/1.1 /any"),
        ("/grpc", "HTTP/2.0 /grpc"),
    ];
    for (path, line) in rows {
        let answer = world.ask(path);
        assert!(answer.contains(line), "{binary} {path}: {answer}");
        let told = answer
            .lines()
            .filter(|line| line.starts_with("x-forwarded-client-cert: "))
            .collect::<Vec<_>>();
        assert_eq!(told.len(), 1, "{binary} {path}: {answer}");
        assert_eq!(told[0].matches("URI=").count(), 1, "{binary}: {answer}");
        assert!(told[0].ends_with(CLIENT), "{binary} {path}: {answer}");
    }
    assert_eq!(world.talk(), "hello\nand you\n", "{binary}");
}

#[test]
fn strict_takes_the_meshs_own_clients() {
    let authority = Authority::new();
    for binary in ENVOYS {
        let world = World::new(STRICT);
        let _envoys = world.start(binary, &authority, "server");
        everything_arrives(&world, binary);
    }
}

#[test]
fn permissive_takes_both_and_the_workloads_own_tls() {
    let authority = Authority::new();
    for binary in ENVOYS {
        let world = World::new(PERMISSIVE);
        let _envoys = world.start(binary, &authority, "server");
        everything_arrives(&world, binary);
        let request =
            format!("GET /raw HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{FORGED}\r\n");
        for address in [world.http_at(), world.http2_at()] {
            let answer = backends::exchange(&address, &request);
            assert!(answer.starts_with("HTTP/1.1 200"), "{binary}: {answer}");
            assert!(answer.contains(" /raw"), "{binary}: {answer}");
            assert!(
                !answer.contains("forwarded-client-cert"),
                "{binary}: {answer}"
            );
        }
        // The server speaks first: nothing tells the sidecar that it will be plaintext.
        assert_eq!(
            backends::talk(&world.tcp_at()),
            "hello\nand you\n",
            "{binary}"
        );
        // TLS that is not the mesh's goes to the workload as it is.
        world.tcp.seen.lock().unwrap().clear();
        let mut own = backends::tls(&world.tcp_at(), None, &[]);
        let _ = std::io::Write::write_all(&mut own, b"x");
        let heard = || world.tcp.seen.lock().unwrap().first().copied();
        envoys::until("the workload", || heard().is_some());
        assert_eq!(heard(), Some(0x16), "{binary}: a TLS handshake");
    }
}

#[test]
fn disable_takes_plaintext_only() {
    let authority = Authority::new();
    let policy = STRICT.replace("STRICT", "NONE");
    for binary in ENVOYS {
        let world = World::new(&policy);
        let _envoys = world.start(binary, &authority, "server");
        for (path, line) in [("/", "HTTP/1.1 /"), ("/grpc", "HTTP/2.0 /grpc")] {
            let answer = world.ask(path);
            assert!(answer.contains(line), "{binary} {path}: {answer}");
            assert!(
                !answer.contains("forwarded-client-cert"),
                "{binary}: {answer}"
            );
        }
        assert_eq!(world.talk(), "hello\nand you\n", "{binary}");
        let good = authority.issue(TRUST_DOMAIN, "client");
        let answer =
            backends::tls_exchange(&world.http_at(), Some(&good), "GET / HTTP/1.1\r\n\r\n");
        assert_eq!(answer, "", "{binary}");
    }
}
