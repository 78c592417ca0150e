//! The examples, as a reader would run them, with both Envoys and both variants.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::envoy::{Envoy, Process, VERSIONS, by_ads, free_port, until};

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        path.exists(),
        "{}: cargo builds examples together with tests",
        path.display()
    );
    path
}

fn run(name: &str, env: &[(&str, String)]) -> Process {
    let mut command = Command::new(example(name));
    command
        .env("LISTENER_HOST", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    command.envs(env.iter().map(|(key, value)| (*key, value)));
    Process(command.spawn().unwrap())
}

async fn two_services(version: &str, api_type: &str) {
    let [xds, listener, a, b] = [(); 4].map(|()| free_port());
    let env = [
        ("XDS_PORT", xds),
        ("LISTENER_PORT", listener),
        ("SERVICE_A_PORT", a),
        ("SERVICE_B_PORT", b),
    ];
    let mut server = run(
        "two_services",
        &env.map(|(key, port)| (key, port.to_string())),
    );
    let envoy = Envoy::start(version, &by_ads("test-id", api_type, xds));
    let from_a =
        |path: &str| format!("Hello from Service A on port {a}! You requested path: {path}");
    let from_b =
        |path: &str| format!("Hello from Service B on port {b}! You requested path: {path}");
    until(
        listener,
        "/service-a/path1",
        200,
        &from_a("/service-a/path1"),
        &envoy,
    )
    .await;
    until(
        listener,
        "/service-b/path2",
        200,
        &from_b("/service-b/path2"),
        &envoy,
    )
    .await;
    until(listener, "/unknown", 404, "Not Found", &envoy).await;
    server.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    until(listener, "/unknown", 404, "Not Found (v2)", &envoy).await;
    until(
        listener,
        "/service-a/path1",
        200,
        &from_b("/service-a/path1"),
        &envoy,
    )
    .await;
    until(
        listener,
        "/service-b/path2",
        200,
        &from_a("/service-b/path2"),
        &envoy,
    )
    .await;
    envoy.content();
}

#[tokio::test]
async fn two_services_by_path_and_their_swap_in_state_of_the_world() {
    for version in VERSIONS {
        two_services(version, "GRPC").await;
    }
}

#[tokio::test]
async fn two_services_by_path_and_their_swap_in_delta() {
    for version in VERSIONS {
        two_services(version, "DELTA_GRPC").await;
    }
}

/// Stands in for the site: answers each request with the server name and the host it was asked for.
async fn site(certificate: rustls::pki_types::CertificateDer<'static>, key: Vec<u8>) -> u16 {
    let key = rustls::pki_types::PrivateKeyDer::try_from(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else {
                    return;
                };
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read_buf(&mut request).await {
                        Ok(1..) => {}
                        _ => return,
                    }
                }
                let request = String::from_utf8(request).unwrap().to_lowercase();
                let host = request
                    .lines()
                    .find_map(|line| line.strip_prefix("host: "))
                    .unwrap_or_default();
                let body = format!(
                    "{} {host}",
                    stream.get_ref().1.server_name().unwrap_or_default()
                );
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                drop(stream.write_all((head + &body).as_bytes()).await);
                drop(stream.shutdown().await);
            });
        }
    });
    port
}

async fn https_site(version: &str, api_type: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["www.envoyproxy.io".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let port = site(made.cert.der().clone(), made.signing_key.serialize_der()).await;
    let [xds, listener] = [(); 2].map(|()| free_port());
    let _server = run(
        "https_site",
        &[
            ("XDS_PORT", xds.to_string()),
            ("LISTENER_PORT", listener.to_string()),
            ("SITE_HOST", "localhost".to_owned()),
            ("SITE_PORT", port.to_string()),
            ("SITE_CA", ca.display().to_string()),
        ],
    );
    let envoy = Envoy::start(version, &by_ads("xds-node-id", api_type, xds));
    until(
        listener,
        "/",
        200,
        "www.envoyproxy.io www.envoyproxy.io",
        &envoy,
    )
    .await;
    envoy.content();
}

#[tokio::test]
async fn https_site_by_dns_with_server_name_and_host() {
    for version in VERSIONS {
        for api_type in ["GRPC", "DELTA_GRPC"] {
            https_site(version, api_type).await;
        }
    }
}
