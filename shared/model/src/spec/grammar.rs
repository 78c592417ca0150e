//! Values with a grammar of their own, shared by the kinds.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Labels, by name.
pub type Labels = BTreeMap<String, String>;

/// A duration as Istio writes it: `5s`, `1.5s`, `10ms`, `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

impl std::ops::Deref for Duration {
    type Target = std::time::Duration;
    fn deref(&self) -> &std::time::Duration {
        &self.0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a duration; write numbers with units, such as \"5s\", \"1.5s\", \"10ms\" or \"1h30m\""
            )
        };
        let mut rest = text;
        let mut seconds = 0.0_f64;
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() || rest.len() > 40 {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(wrong)?;
            let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
            rest = &rest[end..];
            let units = [
                ("ns", 1e-9),
                ("us", 1e-6),
                ("µs", 1e-6),
                ("ms", 1e-3),
                ("s", 1.0),
                ("m", 60.0),
                ("h", 3600.0),
            ];
            let (unit, scale) = units
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))
                .ok_or_else(wrong)?;
            rest = &rest[unit.len()..];
            seconds += number * scale;
        }
        // The longest protobuf duration.
        if seconds > 315_576_000_000.0 {
            return Err(format!(
                "{text:?} is longer than the longest duration, 10000 years"
            ));
        }
        let nanos = (seconds * 1e9).round();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be in range"
        )]
        Ok(Self(std::time::Duration::new(
            (nanos / 1e9).floor() as u64,
            (nanos % 1e9) as u32,
        )))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "duration"})
    }
}

/// A percentage from 0.0 to 100.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Percent {
    /// From 0.0 to 100.0, in steps of 0.0001.
    #[serde(default)]
    pub value: f64,
}

/// An IP address, or an address with the length of a prefix: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet(ipnet::IpNet);

impl Subnet {
    /// The address, and how many of its first bits count.
    pub fn parts(self) -> (std::net::IpAddr, u8) {
        (self.0.addr(), self.0.prefix_len())
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let prefix = text.parse().map(Self);
        prefix
            .or_else(|_| {
                text.parse::<std::net::IpAddr>()
                    .map(|address| Self(address.into()))
            })
            .map_err(|_| "must be an IP address or a prefix, such as 10.0.0.0/8".into())
    }
}

/// How a string is matched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum StringMatch {
    /// The whole string.
    Exact(String),
    /// A plain prefix: `/foo` matches `/foobar`.
    Prefix(String),
    /// The whole string, by an RE2 regular expression.
    Regex(String),
}

/// How a header is matched; an empty object asks only that it is present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderMatch {
    /// The whole value.
    pub exact: Option<String>,
    /// A plain prefix of the value.
    pub prefix: Option<String>,
    /// The whole value, by an RE2 regular expression.
    pub regex: Option<String>,
}

impl HeaderMatch {
    /// The string match, `None` for mere presence.
    pub fn string_match(&self) -> Option<StringMatch> {
        let Self {
            exact,
            prefix,
            regex,
        } = self;
        None.or_else(|| exact.clone().map(StringMatch::Exact))
            .or_else(|| prefix.clone().map(StringMatch::Prefix))
            .or_else(|| regex.clone().map(StringMatch::Regex))
    }
}

/// A port and its protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The port number.
    pub number: u16,
    /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS; of a name like `http-web` the part before the dash is enough.
    #[serde(default)]
    pub protocol: String,
    /// The name of the port.
    #[serde(default)]
    pub name: String,
    /// The port of the endpoints, if it differs (ServiceEntry only).
    pub target_port: Option<u16>,
}

/// Which workloads, by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadSelector {
    /// Every one of these must be on the workload.
    #[serde(alias = "matchLabels")]
    pub labels: Labels,
}

#[cfg(test)]
mod tests;
