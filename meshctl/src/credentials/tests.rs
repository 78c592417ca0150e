#![allow(clippy::unwrap_used)]

use super::*;

fn with_token(token: &str) -> Result<Credentials, Error> {
    Credentials::read(&Flags {
        token: Some(token.into()),
        ..Flags::default()
    })
}

#[test]
fn a_token_never_crosses_a_network_in_the_clear() {
    let credentials = with_token("s3cret").unwrap();
    for (server, sent) in [
        ("https://api.example", true),
        ("http://api.example", false),
        ("http://10.0.0.1:8080", false),
        ("http://127.0.0.1.example", false),
        ("http://127.0.0.1:8080", true),
        ("http://[::1]:8080", true),
        ("http://localhost:8080", true),
    ] {
        let token = credentials.token_for(&server.parse().unwrap());
        assert_eq!(
            token.as_ref().is_ok_and(|t| *t == Some("s3cret")),
            sent,
            "{server}"
        );
        assert_eq!(token.is_err(), !sent, "{server}");
    }
    let none = Credentials::default();
    assert_eq!(
        none.token_for(&"http://api.example".parse().unwrap())
            .unwrap(),
        None
    );
}

#[test]
fn what_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, " s3cret\n").unwrap();
    let from = |change: fn(&mut Flags, PathBuf)| {
        let mut flags = Flags::default();
        change(&mut flags, path.clone());
        Credentials::read(&flags)
    };
    let read = from(|f, path| f.token_file = Some(path)).unwrap();
    assert_eq!(read.token.as_deref(), Some("s3cret"));
    let message = |read: Result<Credentials, Error>| read.err().unwrap().to_string();
    for (error, part) in [
        (message(with_token("")), "the token"),
        (message(with_token("two words")), "the token"),
        (
            message(from(|f, p| f.token_file = Some(p.join("x")))),
            "--token-file",
        ),
        (
            message(from(|f, p| f.certificate_authority = Some(p))),
            "--certificate-authority",
        ),
        (
            message(from(|f, p| f.client_certificate = Some(p))),
            "needs --client-key",
        ),
        (
            message(from(|f, p| f.client_key = Some(p))),
            "needs --client-certificate",
        ),
        (
            message(from(|f, p| {
                f.client_certificate = Some(p.clone());
                f.client_key = Some(p);
            })),
            "--client-certificate",
        ),
    ] {
        assert!(error.contains(part) && !error.contains("s3cret"), "{error}");
    }
    assert!(
        !format!(
            "{:?}",
            Flags {
                token: Some("s3cret".into()),
                ..Flags::default()
            }
        )
        .contains("s3cret")
    );
}
