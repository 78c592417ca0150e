//! A real Envoy, watched through its admin interface.
//!
//! *Invariant:* nothing here changes an Envoy's configuration after its start; only its control plane does.

mod complaints;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

pub use self::complaints::unexplained;
use crate::http::{self, Answer};
use crate::process::Process;
use crate::run::Run;
use crate::{binaries, wait};

pub use crate::wait::PATIENCE;

/// The Envoys that `tests/install-tools` installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The newest supported.
    Newest,
    /// The oldest packaged one that is supported.
    Oldest,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Newest, Self::Oldest];

    /// As Envoy reports it.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Newest => "1.40.0",
            Self::Oldest => "1.36.4",
        }
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The process, to signal it and read its log.
    pub process: Process,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts an Envoy and waits until its admin interface, put at `admin`, answers; not until it is configured, see
    /// [`Envoy::ready`]. It lets old connections live for as long as its node's metadata `DRAIN_TIME_S` says.
    ///
    /// # Errors
    /// If it cannot be started, or ends; the message holds the end of its log.
    pub async fn start(
        run: &Run,
        name: &str,
        version: Version,
        mut bootstrap: Value,
        admin: SocketAddr,
    ) -> Result<Self> {
        bootstrap["admin"]["address"] = socket_address(admin);
        let file = run.path(&format!("{name}.bootstrap.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(&bootstrap)?)?;
        let program = binaries::tool(&format!("envoy-{}", version.number()))?;
        let file = file
            .to_str()
            .context("the run directory's path is not UTF-8")?;
        let args = [
            "-c",
            file,
            "--disable-hot-restart",
            "--concurrency",
            "2",
            "--log-level",
            "info",
        ];
        let drain = bootstrap["node"]["metadata"]["DRAIN_TIME_S"].as_u64();
        let drain = drain.map(|seconds| ["--drain-time-s".to_owned(), seconds.to_string()]);
        let args = args.into_iter().map(str::to_owned);
        let args: Vec<String> = args.chain(drain.into_iter().flatten()).collect();
        let (program, args) = run.command(&program, &args)?;
        let log = run.path(&format!("{name}.log"));
        let process = Process::start(name, &program, &args, &log)?;
        process.listens(admin, PATIENCE).await?;
        Ok(Self { process, admin })
    }

    /// Its admin address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin interface.
    ///
    /// # Errors
    /// If it does not answer with a 2xx.
    pub async fn ask(&self, path: &str) -> Result<Answer> {
        http::get(format!("http://{}{path}", self.admin))
            .await?
            .ok()
    }

    /// Waits until it is LIVE: its first clusters and listeners have arrived.
    ///
    /// # Errors
    /// If it does not become so in time.
    pub async fn ready(&self) -> Result<()> {
        self.process
            .until("Envoy to be LIVE", PATIENCE, async || {
                match self.ask("/ready").await?.body.trim() {
                    "LIVE" => Ok(()),
                    state => bail!("/ready says {state}"),
                }
            })
            .await
    }

    /// Counters and gauges whose name matches a regular expression.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let url = reqwest::Url::parse_with_params(
            &format!("http://{}/stats", self.admin),
            [("filter", filter), ("format", "json"), ("type", "All")],
        )?;
        let json = http::get(url).await?.ok()?.json()?;
        let all = json["stats"].as_array().cloned().unwrap_or_default();
        Ok(all
            .iter()
            .filter_map(|s| Some((s["name"].as_str()?.to_owned(), s["value"].as_u64()?)))
            .collect())
    }

    /// One counter or gauge; 0 if it does not exist.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let filter = format!("^{}$", name.replace('.', "\\.").replace('|', "\\|"));
        Ok(self
            .stats(&filter)
            .await?
            .get(name)
            .copied()
            .unwrap_or_default())
    }

    /// The configuration in effect, endpoints included.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn config_dump(&self) -> Result<Value> {
        self.ask("/config_dump?include_eds").await?.json()
    }

    /// The endpoints of a cluster as the load balancer has them: address to health (`HEALTHY`, or flags that say
    /// why it is not).
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn endpoints(&self, cluster: &str) -> Result<BTreeMap<String, String>> {
        let json = self.ask("/clusters?format=json").await?.json()?;
        let clusters = json["cluster_statuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let Some(found) = clusters.iter().find(|c| c["name"] == cluster) else {
            bail!("there is no cluster {cluster}");
        };
        let hosts = found["host_statuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(hosts.iter().map(host).collect())
    }

    /// Waits until the endpoints of a cluster are exactly these, all healthy.
    ///
    /// # Errors
    /// If they do not become so in time.
    pub async fn has_endpoints(
        &self,
        cluster: &str,
        expected: &[SocketAddr],
        limit: Duration,
    ) -> Result<()> {
        let expected: BTreeMap<String, String> = expected
            .iter()
            .map(|a| (a.to_string(), "HEALTHY".to_owned()))
            .collect();
        wait::until(
            &format!("{cluster} to have {expected:?}"),
            limit,
            async || {
                let present = self.endpoints(cluster).await?;
                if present == expected {
                    Ok(())
                } else {
                    bail!("it has {present:?}")
                }
            },
        )
        .await
    }

    /// Lines of its log at level warning or above that no entry of the list of explained ones covers.
    pub fn complaints(&self) -> Vec<String> {
        unexplained(&std::fs::read_to_string(self.process.log()).unwrap_or_default())
    }
}

fn host(host: &Value) -> (String, String) {
    let address = &host["address"]["socket_address"];
    let address = format!(
        "{}:{}",
        address["address"].as_str().unwrap_or("?"),
        address["port_value"]
    );
    let health = host["health_status"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let flags: Vec<String> = health
        .iter()
        .filter(|(name, value)| *name != "eds_health_status" && **value != Value::Bool(false))
        .map(|(name, _)| name.clone())
        .collect();
    let eds = health
        .get("eds_health_status")
        .and_then(Value::as_str)
        .unwrap_or("HEALTHY");
    let state = if flags.is_empty() {
        eds.to_owned()
    } else {
        flags.join(",")
    };
    (address, state)
}

/// An Envoy `Address` as JSON.
pub fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
