//! How to reach etcd.
//!
//! *Invariant:* no secret is shown by `Debug`.

use std::fmt;
use std::time::Duration;

use etcd_client::ConnectOptions;

use super::tls::TlsSource;
use crate::kv::Limits;

/// How often a connection with calls under way is pinged, and how long an answer may take.
pub(super) const KEEP_ALIVE: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(5));

/// How to reach etcd and how to deal with it.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// The servers, such as `http://127.0.0.1:2379`; `https://` with `tls`.
    pub endpoints: Vec<String>,
    /// The prefix of every key. Default `/weft/v1`.
    pub root: String,
    /// TLS towards the servers; every connection asks for it.
    pub tls: Option<TlsSource>,
    /// User and password, where etcd has authentication switched on.
    pub credentials: Option<Credentials>,
    /// What one transaction may hold; raise these together with etcd's own flags.
    pub limits: Limits,
    /// How long one request may take. Default 3 s.
    pub request_timeout: Duration,
    /// How long a call is tried, over several requests, before it fails as unavailable. Default 8 s.
    pub patience: Duration,
    /// How long a watch may be silent, although etcd is asked for a sign of life, before it is rebuilt. Default 15 s.
    pub silence: Duration,
}

impl EtcdConfig {
    /// These servers, and the defaults.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            root: "/weft/v1".into(),
            tls: None,
            credentials: None,
            limits: Limits::default(),
            request_timeout: Duration::from_secs(3),
            patience: Duration::from_secs(8),
            silence: Duration::from_secs(15),
        }
    }

    pub(super) fn options(&self) -> ConnectOptions {
        // etcd closes connections that are pinged more often than every 5 s, or without a call under way.
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(self.request_timeout);
        if let Some(credentials) = &self.credentials {
            options = options
                .with_user(&credentials.user, &credentials.password)
                .with_auto_token_refresh(true);
        }
        options
    }
}

/// Who we are to etcd.
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
