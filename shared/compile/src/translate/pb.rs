//! Envoy's messages under short names, and the wrappings protobuf asks for everywhere: `Any`, durations, fractions.
//!
//! *Invariant:* no function here knows a policy; it only spells protobuf.

use std::time::Duration as StdDuration;

use xds::pb::envoy::config::core::v3 as core;
pub(crate) use xds::pb::envoy::config::{
    cluster::v3::*, core::v3::*, endpoint::v3::*, route::v3::*,
};
// Named like a message of the core package: the one of routes is meant.
pub(crate) use xds::pb::envoy::config::route::v3::{RetryPolicy, retry_policy};
pub(crate) use xds::pb::envoy::extensions::{
    clusters::dynamic_forward_proxy::v3 as dynamic_forward_proxy,
    common::dynamic_forward_proxy::v3 as dns_cache,
    filters::{
        common::fault::v3 as common_fault,
        http::{cors::v3 as cors, fault::v3 as fault},
        network::tcp_proxy::v3 as tcp_proxy,
    },
    retry::{
        host::previous_hosts::v3 as previous_hosts,
        priority::previous_priorities::v3 as previous_priorities,
    },
    transport_sockets::{
        proxy_protocol::v3 as proxy_protocol, raw_buffer::v3 as raw_buffer, tls::v3 as tls,
    },
    upstreams::http::v3 as http_upstream,
};
pub(crate) use xds::pb::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher,
};
pub(crate) use xds::pb::envoy::r#type::v3::{
    FractionalPercent, HashPolicy, Int64Range, Percent, fractional_percent::DenominatorType,
    hash_policy,
};
pub(crate) use xds::pb::google::protobuf::{
    Any, BoolValue, Duration, Struct, UInt32Value, UInt64Value, Value, value,
};

use prost::{Message, Name};

/// A message packed with its type URL.
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// A protobuf duration.
pub(crate) fn duration(duration: StdDuration) -> Duration {
    Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("below a billion"),
    }
}

/// An optional unsigned number.
pub(crate) fn u32_value(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// An optional boolean.
pub(crate) fn bool_value(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A share of requests. Istio keeps four decimals of a percentage: Envoy counts in millionths.
pub(crate) fn fraction(percent: f64) -> FractionalPercent {
    FractionalPercent {
        numerator: (percent * 10_000.0).round() as u32,
        denominator: DenominatorType::Million.into(),
    }
}

/// A share of requests where Envoy allows a runtime override; none is named.
pub(crate) fn runtime_fraction(percent: f64) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(fraction(percent)),
        runtime_key: String::new(),
    }
}

/// A protobuf `Value` holding a string.
pub(crate) fn string(text: impl Into<String>) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(text.into())),
    }
}

/// Metadata under one filter name with one key.
pub(crate) fn metadata(filter: &str, key: &str, value: Value) -> Metadata {
    Metadata {
        filter_metadata: [(
            filter.into(),
            Struct {
                fields: [(key.into(), value)].into(),
            },
        )]
        .into(),
        ..Default::default()
    }
}

/// A regular expression in RE2's grammar.
pub(crate) fn regex(regex: impl Into<String>) -> RegexMatcher {
    RegexMatcher {
        regex: regex.into(),
        ..Default::default()
    }
}

/// A transport socket.
pub(crate) fn transport_socket<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(config))),
    }
}

/// The transport socket of plaintext.
pub(crate) fn plaintext() -> TransportSocket {
    transport_socket(
        "envoy.transport_sockets.raw_buffer",
        &raw_buffer::RawBuffer {},
    )
}

/// How a stream of configuration is tried again.
pub(crate) fn core_retry_policy(base: Duration, most: Duration) -> core::RetryPolicy {
    core::RetryPolicy {
        retry_back_off: Some(BackoffStrategy {
            base_interval: Some(base),
            max_interval: Some(most),
        }),
        ..Default::default()
    }
}

/// A configuration source: the aggregated stream, given up for this start after `timeout`.
pub(crate) fn ads(timeout: StdDuration) -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
            AggregatedConfigSource {},
        )),
        resource_api_version: ApiVersion::V3.into(),
        initial_fetch_timeout: Some(duration(timeout)),
        ..Default::default()
    }
}
