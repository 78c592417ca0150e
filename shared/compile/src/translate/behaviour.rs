//! What real Envoys do with what was translated: requests through them, and what the backend saw. In tests only.
//!
//! *Invariant:* nothing waits for time to pass, except for what is itself a matter of time.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::spec::{HttpRoute, TrafficPolicy};
use prost::Message;

use super::cluster::tests::DEFAULTS;
use super::cluster::{Caller, Discovery, Input, Protocol};
use super::endpoint::{Address, Endpoint};
use super::locality::Place;
use super::policy::{Upstream, consistent_hash};
use super::{cluster, names, pb, route, validate};

/// How long what is sure to come may take: what a loaded machine needs, many times over.
const PATIENCE: Duration = Duration::from_secs(90);

/// A server that says who it is and what it was asked. `/slow` is never answered; `/flaky` fails every other time.
struct Backend {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, flaky) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicU32::new(0)),
        );
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, flaky) = (seen.clone(), flaky.clone());
                std::thread::spawn(move || serve(name, stream.unwrap(), &seen, &flaky));
            }
        });
        Self { port, requests }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: Address::new("127.0.0.1", self.port),
            ..Default::default()
        }
    }
}

fn serve(name: &str, mut stream: TcpStream, seen: &Mutex<Vec<String>>, flaky: &AtomicU32) {
    let head = read_head(&mut BufReader::new(&stream));
    if head.is_empty() {
        return;
    }
    seen.lock().unwrap().push(head.clone());
    if head.contains(" /slow") {
        // Until the caller gives up.
        let _ = stream.read(&mut [0]);
        return;
    }
    let fails = head.contains(" /flaky") && flaky.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
    let status = if fails {
        "503 Service Unavailable"
    } else {
        "200 OK"
    };
    let body = format!("backend {name}\n{head}");
    // The client may have given up: that is what some tests are about.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nconnection: close\r\nx-secret: s\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn read_head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return String::new();
        }
    }
    head
}

/// A running Envoy; gone when dropped.
pub(super) struct Proxy {
    child: Child,
    /// Of the first listener.
    address: String,
    /// Every listener's, by name.
    listeners: BTreeMap<String, String>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Proxy {
    fn start(envoy: &Path, config: validate::Config) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::SeqCst)
        );
        let (file, admin) = ["pb", "admin"]
            .map(|it| std::env::temp_dir().join(format!("weft-run-{id}.{it}")))
            .into();
        std::fs::write(&file, validate::bootstrap(config).encode_to_vec()).unwrap();
        let mut child = Command::new(envoy)
            .args([
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
                "--disable-hot-restart",
                "-c",
            ])
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let started = log.any(|line| line.unwrap().contains("starting main dispatch loop"));
        assert!(started, "{} does not start", envoy.display());
        std::thread::spawn(move || log.for_each(drop));
        let admin_address = std::fs::read_to_string(&admin).unwrap();
        // Its main loop runs before its workers accept: they wait for first health checks and resolutions.
        let deadline = Instant::now() + PATIENCE;
        while !ask(&admin_address, "/stats?filter=workers_started").contains("workers_started: 1") {
            assert!(
                Instant::now() < deadline,
                "{} starts no worker",
                envoy.display()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let listeners = ask(&admin_address, "/listeners");
        let listeners: BTreeMap<String, String> = listeners
            .lines()
            .filter_map(|line| line.split_once("::"))
            .map(|(name, address)| (name.to_owned(), address.trim().to_owned()))
            .collect();
        let address = listeners.values().next().unwrap().clone();
        for file in [file, admin] {
            std::fs::remove_file(file).unwrap();
        }
        Self {
            child,
            address,
            listeners,
        }
    }

    /// The whole answer to a request without a body. `headers` are lines such as `x: y`.
    fn send(&self, method: &str, host: &str, path: &str, headers: &[&str]) -> String {
        let headers: String = headers.iter().map(|it| format!("{it}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n"
        );
        exchange(&self.address, &request)
    }

    fn get(&self, path: &str, headers: &[&str]) -> String {
        self.send("GET", "shop.io", path, headers)
    }
}

fn ask(admin: &str, path: &str) -> String {
    exchange(
        admin,
        &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    )
}

fn exchange(address: &str, request: &str) -> String {
    try_exchange(address, request).unwrap()
}

fn try_exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address.trim())?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A cluster `outbound|80||<name>` with these backends.
fn cluster(name: &str, policy: &str, backends: &[&Backend]) -> pb::Cluster {
    let endpoints: Vec<_> = backends.iter().map(|it| it.endpoint()).collect();
    cluster_of(name, policy, &endpoints)
}

fn cluster_of(name: &str, policy: &str, endpoints: &[Endpoint]) -> pb::Cluster {
    let policy: TrafficPolicy = serde_saphyr::from_str(policy).unwrap();
    let name = names::outbound(80, "", name);
    let cluster = cluster::outbound(&Input {
        name: &name,
        discovery: Discovery::Static(endpoints),
        protocol: Protocol::Http1,
        policy: &policy,
        subject_alt_names: &[],
        peers: None,
        uploaded: None,
        health_check: None,
        rule: None,
        defaults: DEFAULTS,
        caller: Caller {
            place: &Place::default(),
            labels: &BTreeMap::new(),
        },
    });
    let tls = policy.tls.iter();
    let files = tls.flat_map(|tls| cluster::tls::files(tls, &name, DEFAULTS.system_ca));
    without_sds(cluster, &files.collect::<Vec<_>>())
}

/// The cluster with its secrets inside, for an Envoy that nobody sends any.
fn without_sds(mut cluster: pb::Cluster, files: &[pb::tls::Secret]) -> pb::Cluster {
    use pb::tls::common_tls_context::ValidationContextType::{
        CombinedValidationContext, ValidationContext,
    };
    use pb::tls::secret::Type;
    let Some(pb::transport_socket::ConfigType::TypedConfig(any)) =
        (cluster.transport_socket.as_mut()).and_then(|it| it.config_type.as_mut())
    else {
        return cluster;
    };
    let mut context = pb::tls::UpstreamTlsContext::decode(any.value.as_slice()).unwrap();
    let common = context.common_tls_context.as_mut().unwrap();
    let secret = |name: &str| {
        files
            .iter()
            .find(|it| it.name == name)
            .unwrap()
            .r#type
            .clone()
    };
    for config in std::mem::take(&mut common.tls_certificate_sds_secret_configs) {
        let Some(Type::TlsCertificate(mut certificate)) = secret(&config.name) else {
            panic!("{}", config.name)
        };
        certificate.watched_directory = None;
        common.tls_certificates.push(certificate);
    }
    if let Some(CombinedValidationContext(combined)) = &common.validation_context_type {
        let named = combined
            .validation_context_sds_secret_config
            .as_ref()
            .unwrap();
        let Some(Type::ValidationContext(authorities)) = secret(&named.name) else {
            panic!("{}", named.name)
        };
        let rules = combined.default_validation_context.clone().unwrap();
        common.validation_context_type =
            Some(ValidationContext(pb::tls::CertificateValidationContext {
                trusted_ca: authorities.trusted_ca,
                crl: authorities.crl,
                ..rules
            }));
    }
    any.value = context.encode_to_vec();
    cluster
}

/// The virtual host `shop.io` of these rules; destination `hashed` hashes by the header `x-user`.
fn shop(rules: &str) -> pb::VirtualHost {
    let rules: Vec<HttpRoute> = serde_saphyr::from_str(rules).unwrap();
    let hashed: TrafficPolicy = serde_saphyr::from_str(HASHED).unwrap();
    let labels = BTreeMap::new();
    let scope = route::Scope {
        name: "shop",
        namespace: "shop",
        port: 80,
        tls: false,
        gateways: &["mesh".to_owned()],
        proxy_labels: &labels,
        proxy_namespace: "shop",
        default_retry: None,
        resolve: &|to| Upstream {
            host: to.host.clone(),
            ports: vec![80],
            hash: consistent_hash(&hashed)
                .filter(|_| to.host == "hashed")
                .cloned(),
        },
    };
    let routes = route::routes(&rules, &scope);
    route::virtual_host("shop.io", 80, vec!["shop.io".into()], routes)
}

const HASHED: &str = "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}";

/// Runs a test against every installed Envoy.
fn on_every_envoy(
    clusters: &[pb::Cluster],
    virtual_hosts: &[pb::VirtualHost],
    test: impl Fn(&Proxy),
) {
    let envoys = validate::envoys();
    assert!(
        !envoys.is_empty(),
        "no Envoy under .tools/: run `make tools` first"
    );
    for envoy in envoys {
        let config = validate::Config {
            clusters: clusters.to_vec(),
            virtual_hosts: virtual_hosts.to_vec(),
            ..Default::default()
        };
        test(&Proxy::start(&envoy, config));
    }
}

pub(super) mod authz;
#[cfg(test)]
mod endpoints;
mod site;
mod tests;
