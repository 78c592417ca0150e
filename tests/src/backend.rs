//! The demo backend: an HTTP/1.1, HTTP/2 (TLS or not) server that answers with what it received, as JSON, and
//! misbehaves on request (see [`plan`]). The same server stands behind `weft-demo-backend` and inside tests.
//!
//! *Invariant:* it never answers something it did not receive or was not told to.

pub mod plan;
mod serve;
pub mod tcp;
pub mod tls;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Who a backend says it is, and what it does on every request.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The service's name, echoed.
    pub service: String,
    /// The service's version, echoed.
    pub version: String,
    /// Serve TLS with this identity.
    pub tls: Option<tls::Identity>,
    /// Calls made for every request, in order: a name for the answer and a URL.
    pub calls: Vec<(String, String)>,
    /// The HTTP proxy those calls go through, such as the sidecar's `http://127.0.1.1:15080`.
    pub proxy: Option<String>,
}

/// One request as the backend saw it; also the body of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The backend's service.
    pub service: String,
    /// The backend's version.
    pub version: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `:authority` or `Host`.
    pub authority: String,
    /// `http` or `https`: what HTTP/2 said, else whether the connection was TLS.
    pub scheme: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The server name the TLS client asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sni: Option<String>,
    /// Headers, names in lower case; several values joined with a comma.
    pub headers: std::collections::BTreeMap<String, String>,
    /// The body, as text.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub body: String,
    /// The address of the connection's other end.
    pub peer: String,
    /// How many requests this backend has seen, this one included.
    pub count: u64,
    /// What the calls made for this request answered.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty", default)]
    pub calls: serde_json::Map<String, serde_json::Value>,
}

/// What lives as long as a backend does.
struct Shared {
    settings: Settings,
    count: AtomicU64,
    healthy: AtomicBool,
    /// Answered to every request but health checks, unless 0.
    status: AtomicU16,
    /// Failures answered so far, by the key of the request's plan.
    failed: Mutex<HashMap<String, u32>>,
    /// The keys whose streams may end.
    released: watch::Sender<BTreeSet<String>>,
    /// The last requests, oldest first.
    seen: Mutex<std::collections::VecDeque<Seen>>,
}

/// How many requests a backend remembers.
const REMEMBERED: usize = 10_000;

/// A running backend. Stops, connections included, when dropped.
pub struct Backend {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Backend {
    /// Binds an address and serves.
    ///
    /// # Errors
    /// If the address cannot be bound or the TLS identity is unusable.
    pub async fn start(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let acceptor = settings
            .tls
            .as_ref()
            .map(tls::Identity::acceptor)
            .transpose()?;
        let shared = Arc::new(Shared {
            settings,
            count: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            status: AtomicU16::new(0),
            failed: Mutex::default(),
            released: watch::Sender::default(),
            seen: Mutex::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(serve::accept(
            listener,
            acceptor,
            Arc::clone(&shared),
            stop.clone(),
        ));
        Ok(Self {
            shared,
            address,
            stop,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has seen, health checks excluded.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// The requests it has seen, oldest first, at most the last 10,000.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().iter().cloned().collect()
    }

    /// Sets what `/healthz` answers: 200 or 503.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Makes every answer have this status, health checks apart; `None` ends it.
    pub fn set_status(&self, status: Option<u16>) {
        self.shared
            .status
            .store(status.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Serves until the process ends.
    pub async fn forever(self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, std::collections::VecDeque<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, seen: &Seen) {
        let mut all = self.seen();
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back(seen.clone());
    }

    /// Whether the request with this key still has to fail, of `times` in all.
    fn must_fail(&self, key: &str, times: u32) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let so_far = failed.entry(key.to_owned()).or_default();
        *so_far += 1;
        *so_far <= times
    }
}
