//! The control plane's processes: etcd, config-api, xds-pusher.
//!
//! *Invariant:* a function returns when what it started is listening; readiness beyond that is its caller's question.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

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
    let client_url = format!("http://{client}");
    let peer_url = format!("http://{}", SocketAddr::new(client.ip(), client.port() + 1));
    let data = data
        .to_str()
        .context("the data directory's path is not UTF-8")?;
    let args = flags(&[
        ("--name", "weft".to_owned()),
        ("--data-dir", data.to_owned()),
        ("--listen-client-urls", client_url.clone()),
        ("--advertise-client-urls", client_url),
        ("--listen-peer-urls", peer_url.clone()),
        ("--initial-advertise-peer-urls", peer_url.clone()),
        ("--initial-cluster", format!("weft={peer_url}")),
        ("--logger", "zap".to_owned()),
    ]);
    let log = run.path(&format!("{name}.log"));
    let process = Process::start(name, &binaries::tool("etcd")?, &args, &log)?;
    process.listens(client, PATIENCE).await?;
    Ok(process)
}

/// Starts a config-api.
///
/// # Errors
/// As [`etcd`].
pub async fn config_api(
    run: &Run,
    name: &str,
    listen: SocketAddr,
    etcd: SocketAddr,
    prefix: &str,
) -> Result<Process> {
    let mut args = flags(&[
        ("--listen", listen.to_string()),
        ("--etcd-endpoints", format!("http://{etcd}")),
        ("--etcd-prefix", prefix.to_owned()),
        ("--pusher-deadline", "10s".to_owned()),
    ]);
    args.push("--insecure-plaintext-xds".to_owned());
    service(run, "config-api", name, &args, listen).await
}

/// How to start an xds-pusher.
#[derive(Clone, Copy, Debug)]
pub struct Pusher<'a> {
    /// Its name, also of its log.
    pub name: &'a str,
    /// Where it serves xDS.
    pub listen: SocketAddr,
    /// Where it serves health, metrics and its own API.
    pub admin: SocketAddr,
    /// etcd's client address.
    pub etcd: SocketAddr,
    /// The root of its keys.
    pub prefix: &'a str,
    /// Further flags.
    pub flags: &'a [&'a str],
}

/// Starts an xds-pusher, in plaintext on loopback.
///
/// # Errors
/// As [`etcd`].
pub async fn pusher(run: &Run, pusher: Pusher<'_>) -> Result<Process> {
    let mut args = flags(&[
        ("--listen", pusher.listen.to_string()),
        ("--admin-listen", pusher.admin.to_string()),
        ("--etcd-endpoints", format!("http://{}", pusher.etcd)),
        ("--etcd-prefix", pusher.prefix.to_owned()),
    ]);
    args.push("--insecure-plaintext-xds".to_owned());
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
    const PUSHER: &str =
        "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
    let path = format!("/v1/namespaces/{namespace}/workloads/{workload}/bootstrap");
    let url = format!("http://{api}{path}?variant={}", variant.name());
    let expected = envoy::socket_address(xds);
    wait::until(
        &format!("the bootstrap of {workload} to name the pusher"),
        PATIENCE,
        async || {
            let bootstrap = http::get(&url).await?.ok()?.json()?;
            match bootstrap.pointer(PUSHER) {
                Some(address) if *address == expected => Ok(bootstrap),
                other => bail!("it names {other:?}"),
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
    let process = Process::start(name, &binaries::built(program)?, args, &log)?;
    process.listens(listens, PATIENCE).await?;
    Ok(process)
}

fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()])
        .collect()
}
