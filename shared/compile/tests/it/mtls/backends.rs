//! What runs behind the server's sidecar, and raw clients.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::authority::Credential;

/// Longer than anything here takes on a loaded machine; only a connection that hangs takes so long.
const LONG: Duration = Duration::from_secs(60);

pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

/// A server of HTTP/1.1 and HTTP/2 that answers with its protocol and the headers it was sent.
pub(crate) struct Http {
    pub(crate) port: u16,
    pub(crate) seen: Seen,
}

impl Http {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let heard = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let echo = move |request: Request| {
                    let heard = heard.clone();
                    async move {
                        let headers = request.headers().iter();
                        let headers: String = headers
                            .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
                            .collect();
                        let text = format!(
                            "{:?} {}\n{headers}",
                            request.version(),
                            request.uri().path()
                        );
                        heard.lock().unwrap().push(text.clone());
                        text
                    }
                };
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, Router::new().fallback(echo))
                    .await
                    .unwrap();
            });
        });
        Self { port, seen }
    }
}

/// A server that speaks first, `hello`, and then echoes. It notes what it hears.
pub(crate) struct Tcp {
    pub(crate) port: u16,
    pub(crate) seen: Arc<Mutex<Vec<u8>>>,
}

impl Tcp {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heard = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let heard = heard.clone();
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    // The client may be gone already.
                    let _ = stream.write_all(b"hello\n");
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        heard.lock().unwrap().extend(&buffer[..count]);
                        let _ = stream.write_all(&buffer[..count]);
                    }
                });
            }
        });
        Self { port, seen }
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Whether this is an answer of HTTP/1.1 that says its length, to its end: Envoy takes a second to close after it.
fn is_whole(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}

/// Everything that comes back; what comes before a reset counts.
fn read_all(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&answer) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it hangs");
                break;
            }
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request as it is, and reads to the end.
pub(crate) fn exchange(address: &str, request: &str) -> String {
    let mut stream = connect(address);
    // A server that refuses may have closed the connection.
    let _ = stream.write_all(request.as_bytes());
    read_all(&mut stream)
}

/// Listens first, then says something, then reads to the end.
fn listen_then_talk(stream: &mut (impl Read + Write)) -> String {
    let mut first = [0; 6];
    if stream.read_exact(&mut first).is_err() {
        return String::new();
    }
    let _ = stream.write_all(b"and you\n");
    let mut second = [0; 8];
    let _ = stream.read_exact(&mut second);
    format!(
        "{}{}",
        String::from_utf8_lossy(&first),
        String::from_utf8_lossy(&second)
    )
}

pub(crate) fn talk(address: &str) -> String {
    listen_then_talk(&mut connect(address))
}

/// A client of TLS that shows a credential, or none, and believes every server.
pub(super) fn tls(
    address: &str,
    credential: Option<&Credential>,
    alpn: &[&str],
) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match credential {
        None => builder.with_no_client_auth(),
        Some(credential) => {
            let chain = CertificateDer::pem_slice_iter(credential.chain.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key)
                .unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("shop").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, connect(address))
}

/// What a request over TLS gets.
pub(super) fn tls_exchange(
    address: &str,
    credential: Option<&Credential>,
    request: &str,
) -> String {
    let mut stream = tls(address, credential, &["istio", "http/1.1"]);
    let _ = stream.write_all(request.as_bytes());
    read_all(&mut stream)
}

pub(super) fn tls_talk(address: &str, credential: Option<&Credential>) -> String {
    listen_then_talk(&mut tls(address, credential, &["istio"]))
}

/// Believes every server: whom servers believe is what is asked.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
