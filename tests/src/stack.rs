//! The control plane's processes: etcd, cert-issuer, config-api, xds-pusher.
//!
//! *Invariant:* a function returns when what it started is listening; readiness beyond that is its caller's question.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;

use crate::mesh::Variant;
use crate::process::Process;
use crate::run::Run;
pub use crate::wait::PATIENCE;
use crate::{binaries, envoy, http, wait};

/// Starts etcd with its data in `data`; it stays alone, its peer port is the client port's successor.
///
/// # Errors
/// If it does not listen in time; the message holds the end of its log.
pub async fn etcd(run: &Run, name: &str, client: SocketAddr, data: &Path) -> Result<Process> {
    let process = etcd_member(run, name, client, data, &[client], None)?;
    process.listens(client, PATIENCE).await?;
    Ok(process)
}

/// The same over TLS with the files of a directory: `server.pem` and `server.key` are what it shows, `clients.pem` the
/// authorities of whom it serves.
///
/// # Errors
/// As [`etcd`].
pub async fn etcd_over_tls(
    run: &Run,
    client: SocketAddr,
    data: &Path,
    directory: &Path,
) -> Result<Process> {
    let process = etcd_member(run, "etcd", client, data, &[client], Some(directory))?;
    process.listens(client, PATIENCE).await?;
    Ok(process)
}

/// Starts an etcd of several members, whose clients connect at these addresses; each one's peer port is its client port's
/// successor. They are called `etcd-0`, `etcd-1`… and keep their data in the directory of their run.
///
/// # Errors
/// As [`etcd`].
pub async fn etcd_cluster(runs: &[Run], clients: &[SocketAddr]) -> Result<Vec<Process>> {
    let members = runs
        .iter()
        .zip(clients)
        .enumerate()
        .map(|(n, (run, client))| {
            let name = format!("etcd-{n}");
            etcd_member(run, &name, *client, &run.path(&name), clients, None)
        });
    let members: Vec<Process> = members.collect::<Result<_>>()?;
    for (member, client) in members.iter().zip(clients) {
        member.listens(*client, PATIENCE).await?;
    }
    Ok(members)
}

/// Where the other members reach the one whose clients connect here.
pub fn peer_url(client: SocketAddr) -> String {
    let peer = SocketAddr::new(client.ip(), client.port() + 1);
    format!("http://{peer}")
}

/// Starts one member of an etcd, known to the others by its address.
fn etcd_member(
    run: &Run,
    name: &str,
    client: SocketAddr,
    data: &Path,
    all: &[SocketAddr],
    tls: Option<&Path>,
) -> Result<Process> {
    let scheme = scheme(tls.is_some());
    let members = all.iter().map(|at| format!("{at}={}", peer_url(*at)));
    let members: Vec<String> = members.collect();
    let data = data
        .to_str()
        .context("the data directory's path is not UTF-8")?;
    let mut args = flags(&[
        ("--name", client.to_string()),
        ("--data-dir", data.to_owned()),
        ("--listen-client-urls", format!("{scheme}://{client}")),
        ("--advertise-client-urls", format!("{scheme}://{client}")),
        ("--listen-peer-urls", peer_url(client)),
        ("--initial-advertise-peer-urls", peer_url(client)),
        ("--initial-cluster", members.join(",")),
        ("--logger", "zap".to_owned()),
    ]);
    if let Some(directory) = tls {
        args.extend(files(
            directory,
            &[
                ("--cert-file", "server.pem"),
                ("--key-file", "server.key"),
                ("--trusted-ca-file", "clients.pem"),
            ],
        ));
        args.push("--client-cert-auth".to_owned());
    }
    let log = run.path(&format!("{name}.log"));
    let (program, args) = run.command(&binaries::tool("etcd")?, &args)?;
    Process::start(name, &program, &args, &log)
}

/// How the parts of a control plane speak to etcd. The files are in a directory: `servers.pem`, the authority of etcd's own
/// certificate, and `client.pem` and `client.key`, what is shown to it.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// In the clear.
    Plaintext,
    /// Over TLS, with the certificate in the directory.
    Files(&'a Path),
    /// Over TLS, with a certificate that flags of the service name.
    Own(&'a Path),
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

fn files(directory: &Path, named: &[(&str, &str)]) -> Vec<String> {
    let named = named.iter();
    let named = named.map(|(flag, name)| (*flag, directory.join(name).display().to_string()));
    flags(&named.collect::<Vec<_>>())
}

/// Where the parts of one control plane keep what they share.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// etcd's client address.
    pub etcd: SocketAddr,
    /// Those of its further members, if it has several.
    pub more: &'a [SocketAddr],
    /// The root of the keys.
    pub prefix: &'a str,
    /// How it is spoken to.
    pub access: Access<'a>,
}

impl Store<'_> {
    fn flags(self) -> Vec<String> {
        let members = std::iter::once(&self.etcd).chain(self.more);
        let scheme = scheme(!matches!(self.access, Access::Plaintext));
        let endpoints: Vec<String> = members.map(|at| format!("{scheme}://{at}")).collect();
        let mut args = flags(&[
            ("--etcd-endpoints", endpoints.join(",")),
            ("--etcd-prefix", self.prefix.to_owned()),
        ]);
        let authority = ("--etcd-ca-file", "servers.pem");
        args.extend(match self.access {
            Access::Plaintext => Vec::new(),
            Access::Own(directory) => files(directory, &[authority]),
            Access::Files(directory) => {
                let shown = [
                    ("--etcd-cert-file", "client.pem"),
                    ("--etcd-key-file", "client.key"),
                ];
                files(directory, &[authority, shown[0], shown[1]])
            }
        });
        args
    }
}

/// Whether the parts have identities.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// No: xDS in plaintext on loopback.
    Plaintext,
    /// Yes: the directory holds their credentials.
    Identities(&'a Path),
}

impl Trust<'_> {
    /// The flags of a service.
    fn flags(self, service: &str) -> Vec<String> {
        match self {
            Self::Plaintext => vec!["--insecure-plaintext-xds".to_owned()],
            Self::Identities(directory) => {
                let file = directory.join(service).display().to_string();
                flags(&[("--credential-file", file)])
            }
        }
    }
}

/// Makes the credentials of the control plane's services in a directory, and the issuer's key-encryption key beside them, if
/// they are not there.
///
/// # Errors
/// If a file cannot be written, or the command that makes them fails.
pub async fn credentials(run: &Run, directory: &Path, store: Store<'_>) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    let keys = directory.join(KEYS);
    if !keys.exists() {
        let key: [u8; 32] = rand::random();
        let text = format!(
            "first:{}\n",
            base64::engine::general_purpose::STANDARD.encode(key)
        );
        std::fs::write(&keys, text).with_context(|| format!("writing {}", keys.display()))?;
    }
    for service in ["config-api", "xds-pusher"] {
        let mut args = store.flags();
        args.extend(["credential".to_owned(), service.to_owned()]);
        let file = directory.join(service).display().to_string();
        args.extend(flags(&[("--file", file)]));
        let name = format!("credential-{service}");
        let log = run.path(&format!("{name}.log"));
        let program = binaries::built("cert-issuer")?;
        let process = Process::start_in(&name, &program, &args, &run.environment, &log)?;
        process.succeeds(PATIENCE).await?;
    }
    Ok(())
}

/// The file with the key-encryption keys among the credentials.
const KEYS: &str = "key-encryption-keys";

/// How to start a cert-issuer.
#[derive(Clone, Copy, Debug)]
pub struct Issuer<'a> {
    /// Its name, also of its log.
    pub name: &'a str,
    /// Where it serves identities.
    pub listen: SocketAddr,
    /// Where it serves health, metrics and the trust bundle.
    pub admin: SocketAddr,
    /// Its store.
    pub store: Store<'a>,
    /// The directory that [`credentials`] made.
    pub credentials: &'a Path,
    /// Further flags.
    pub flags: &'a [&'a str],
}

/// Starts a cert-issuer.
///
/// # Errors
/// As [`etcd`].
pub async fn issuer(run: &Run, issuer: Issuer<'_>) -> Result<Process> {
    let mut args = issuer.store.flags();
    args.push("serve".to_owned());
    let keys = issuer.credentials.join(KEYS).display().to_string();
    args.extend(flags(&[
        ("--listen", issuer.listen.to_string()),
        ("--admin-listen", issuer.admin.to_string()),
        ("--key-encryption-keys-file", keys),
    ]));
    args.extend(issuer.flags.iter().map(|flag| (*flag).to_owned()));
    service(run, "cert-issuer", issuer.name, &args, issuer.admin).await
}

/// Starts a config-api.
///
/// # Errors
/// As [`etcd`].
pub async fn config_api(
    run: &Run,
    name: &str,
    listen: SocketAddr,
    store: Store<'_>,
    trust: Trust<'_>,
) -> Result<Process> {
    let patient = &["--pusher-deadline", "10s"];
    config_api_with(run, name, listen, store, trust, patient).await
}

/// The same with further flags, and without patience for pushers.
///
/// # Errors
/// As [`etcd`].
pub async fn config_api_with(
    run: &Run,
    name: &str,
    listen: SocketAddr,
    store: Store<'_>,
    trust: Trust<'_>,
    more: &[&str],
) -> Result<Process> {
    let mut args = store.flags();
    args.extend(flags(&[("--listen", listen.to_string())]));
    args.extend(trust.flags("config-api"));
    args.extend(more.iter().map(|flag| (*flag).to_owned()));
    service(run, "config-api", name, &args, listen).await
}

/// How to start an xds-pusher.
#[derive(Clone, Copy, Debug)]
pub struct Pusher<'a> {
    /// Its name, also of its log.
    pub name: &'a str,
    /// Where it serves xDS.
    pub listen: SocketAddr,
    /// Where it serves health and metrics.
    pub admin: SocketAddr,
    /// Its store.
    pub store: Store<'a>,
    /// Whether it has an identity.
    pub trust: Trust<'a>,
    /// Further flags.
    pub flags: &'a [&'a str],
}

/// Starts an xds-pusher.
///
/// # Errors
/// As [`etcd`].
pub async fn pusher(run: &Run, pusher: Pusher<'_>) -> Result<Process> {
    let mut args = pusher.store.flags();
    args.extend(flags(&[
        ("--listen", pusher.listen.to_string()),
        ("--admin-listen", pusher.admin.to_string()),
    ]));
    args.extend(pusher.trust.flags("xds-pusher"));
    args.extend(pusher.flags.iter().map(|flag| (*flag).to_owned()));
    service(run, "xds-pusher", pusher.name, &args, pusher.admin).await
}

/// The bootstrap that config-api gives out for a workload's Envoy, as soon as it names the pusher at `xds`.
///
/// # Errors
/// If there is none, or the pusher does not register in time.
pub async fn bootstrap(
    api: SocketAddr,
    (namespace, workload): (&str, &str),
    variant: Variant,
    xds: SocketAddr,
) -> Result<serde_json::Value> {
    let path = format!("/v1/namespaces/{namespace}/workloads/{workload}/bootstrap");
    let url = format!("http://{api}{path}?variant={}", variant.name());
    let expected = envoy::socket_address(xds);
    wait::until(
        &format!("the bootstrap of {workload} to name the pusher"),
        PATIENCE,
        async || {
            let answer = http::send(http::client().post(&url)).await?;
            let bootstrap = answer.ok()?.json()?;
            let clusters = bootstrap["static_resources"]["clusters"].as_array();
            let pusher = clusters
                .into_iter()
                .flatten()
                .find(|c| c["name"] == "weft-xds");
            let address = pusher.and_then(|cluster| {
                let endpoints = cluster["load_assignment"]["endpoints"].as_array();
                let mut addresses = endpoints
                    .into_iter()
                    .flatten()
                    .map(|endpoint| endpoint.pointer("/lb_endpoints/0/endpoint/address"));
                addresses.find(|address| *address == Some(&expected))
            });
            match address {
                Some(_) => Ok(bootstrap),
                None => bail!("it names {pusher:?}"),
            }
        },
    )
    .await
}

async fn service(
    run: &Run,
    program: &str,
    name: &str,
    args: &[String],
    listens: SocketAddr,
) -> Result<Process> {
    let log = run.path(&format!("{name}.log"));
    let args = [args, &run.log_flags()].concat();
    let (program, args) = run.command(&binaries::built(program)?, &args)?;
    let process = Process::start_in(name, &program, &args, &run.environment, &log)?;
    process.listens(listens, PATIENCE).await?;
    Ok(process)
}

fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()])
        .collect()
}
