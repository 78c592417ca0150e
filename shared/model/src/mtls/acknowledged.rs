//! Which modes a proxy was seen to acknowledge, and what that says of the traffic it takes.
//!
//! *Invariant:* [`Running::Strict`] is said only when no connection that was accepted before can still speak plaintext.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Mode;

/// How long an Envoy lets old connections live after a listener changed, unless its node says otherwise: the default of
/// its flag `--drain-time-s`.
pub const DRAIN: Duration = Duration::from_secs(600);

/// How much later than acknowledged a listener may begin to let old connections go: an Envoy acknowledges before its new
/// listener has its secrets, for which it waits five seconds at most, and before all of its threads have it.
pub const SETTLE: Duration = Duration::from_secs(6);

/// A mode, and when it was first seen acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Since {
    /// The mode.
    pub mode: Mode,
    /// Since when.
    pub since: Timestamp,
}

/// What the proxy of a workload acknowledged: the mode on each port of the workload itself. Pushers store it when it turns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acknowledged {
    /// By port.
    pub ports: BTreeMap<u16, Since>,
    /// How long the proxy lets old connections live, in seconds.
    pub drain_seconds: u64,
    /// W3C trace context of what led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What a proxy takes on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Plaintext only.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only, but for connections that were accepted before; until then.
    Draining(Timestamp),
    /// Mutual TLS only.
    Strict,
}

impl Acknowledged {
    /// What is to be stored after a proxy acknowledged these modes: those that did not turn keep their time.
    #[must_use]
    pub fn turned(&self, modes: &BTreeMap<u16, Mode>, drain: Duration, now: Timestamp) -> Self {
        let since = |(port, mode): (&u16, &Mode)| {
            let before = self.ports.get(port).filter(|before| before.mode == *mode);
            let since = before.map_or(now, |before| before.since);
            (*port, Since { mode: *mode, since })
        };
        Self {
            ports: modes.iter().map(since).collect(),
            drain_seconds: drain.as_secs(),
            traceparent: self.traceparent.clone(),
        }
    }

    /// What is to be stored before these modes are sent to a proxy: where it is to leave `STRICT` it may take plaintext before
    /// it says so.
    #[must_use]
    pub fn sent(&self, modes: &BTreeMap<u16, Mode>, now: Timestamp) -> Self {
        let leaves = |(port, since): (&u16, &Since)| match (since.mode, modes.get(port)) {
            (Mode::Strict, Some(Mode::Strict)) => (*port, Mode::Strict),
            (Mode::Strict, _) => (*port, Mode::Permissive),
            (mode, _) => (*port, mode),
        };
        let present = self.ports.iter().map(leaves).collect();
        self.turned(&present, Duration::from_secs(self.drain_seconds), now)
    }

    /// The ports on which the proxy takes mutual TLS.
    pub fn mtls(&self) -> BTreeSet<u16> {
        let takes = self
            .ports
            .iter()
            .filter(|(_, since)| since.mode != Mode::Disable);
        takes.map(|(port, _)| *port).collect()
    }

    /// What the proxy takes on a port; `None` if it never acknowledged anything for it.
    pub fn running(&self, port: u16, now: Timestamp) -> Option<Running> {
        let Since { mode, since } = *self.ports.get(&port)?;
        let drained = since + SETTLE + Duration::from_secs(self.drain_seconds);
        Some(match mode {
            Mode::Disable => Running::Disable,
            Mode::Permissive => Running::Permissive,
            Mode::Strict if now < drained => Running::Draining(drained),
            Mode::Strict => Running::Strict,
        })
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and names always serialize")
    }

    /// What was stored.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn strict_is_said_once_the_connections_of_before_are_gone() {
        let (start, second) = (Timestamp::UNIX_EPOCH, Duration::from_secs(1));
        let drain = Duration::from_secs(10);
        let modes = |mode| BTreeMap::from([(80, mode), (81, Mode::Disable)]);
        let first = Acknowledged::default().turned(&modes(Mode::Permissive), drain, start);
        assert_eq!(first.running(80, start), Some(Running::Permissive));
        assert_eq!(first.running(81, start), Some(Running::Disable));
        assert_eq!(first.running(82, start), None);
        assert_eq!(first.mtls(), BTreeSet::from([80]));
        let then = start + second * 5;
        let strict = first.turned(&modes(Mode::Strict), drain, then);
        assert_eq!(strict.ports[&81].since, start, "it did not turn");
        let end = then + SETTLE + drain;
        assert_eq!(strict.running(80, then), Some(Running::Draining(end)));
        assert_eq!(
            strict.running(80, end - second),
            Some(Running::Draining(end))
        );
        assert_eq!(strict.running(80, end), Some(Running::Strict));
        assert_eq!(strict.turned(&modes(Mode::Strict), drain, end), strict);
        assert_eq!(strict.sent(&modes(Mode::Strict), end), strict);
        for weaker in [Mode::Permissive, Mode::Disable] {
            let sent = strict.sent(&modes(weaker), end);
            assert_eq!(sent.running(80, end), Some(Running::Permissive));
            assert_eq!(sent.ports[&81], strict.ports[&81]);
        }
        assert_eq!(first.sent(&modes(Mode::Strict), end), first);
        let text = String::from_utf8(strict.to_bytes()).unwrap();
        assert_eq!(
            text,
            r#"{"ports":{"80":{"mode":"STRICT","since":"1970-01-01T00:00:05Z"},"81":{"mode":"DISABLE","since":"1970-01-01T00:00:00Z"}},"drainSeconds":10}"#
        );
        assert_eq!(Acknowledged::from_bytes(text.as_bytes()).unwrap(), strict);
    }
}
