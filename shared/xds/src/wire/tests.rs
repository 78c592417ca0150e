//! Any bytes are read without a panic; valid messages are read as prost reads them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    ConfigSource, Metadata, PathConfigSource, config_source,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, WeightedCluster,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use envoy_types::util::pack_any;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;

use super::*;
use crate::{Ref, Resource, ResourceType, json, make, refs};

/// A message of a type of resource, and what it refers to.
#[derive(Clone, Debug)]
struct Sample {
    ty: ResourceType,
    bytes: Vec<u8>,
    refs: BTreeSet<(ResourceType, String)>,
}

fn sample<M: crate::Message>(message: &M, refs: Vec<(ResourceType, String)>) -> Sample {
    let refs = refs.into_iter().filter(|(_, name)| !name.is_empty());
    Sample {
        ty: M::TYPE,
        bytes: message.encode_to_vec(),
        refs: refs.collect(),
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z|.]{1,12}", 1 => "\\PC{0,8}"]
}

/// Nested maps in which prost's order is random.
fn metadata() -> impl Strategy<Value = Option<Metadata>> {
    let leaf = prop_oneof![
        name().prop_map(Kind::StringValue),
        any::<i32>().prop_map(|n| Kind::NumberValue(n.into())),
        any::<bool>().prop_map(Kind::BoolValue),
    ];
    let fields = |kind: BoxedStrategy<Kind>| {
        prop::collection::hash_map(
            name(),
            kind.prop_map(|kind| Value { kind: Some(kind) }),
            0..6,
        )
        .prop_map(|fields| Struct { fields })
    };
    let kind = leaf.prop_recursive(3, 24, 6, move |inner| {
        fields(inner.boxed()).prop_map(Kind::StructValue)
    });
    let metadata = prop::collection::hash_map(name(), fields(kind.boxed()), 0..6);
    prop::option::of(metadata).prop_map(|filter_metadata| {
        Some(Metadata {
            filter_metadata: filter_metadata?,
            ..Default::default()
        })
    })
}

/// Where a configuration comes from, and whether that is the stream itself.
fn source() -> impl Strategy<Value = (ConfigSource, bool)> {
    use config_source::ConfigSourceSpecifier as From;
    let from = prop_oneof![
        Just((From::Ads(Default::default()), true)),
        Just((From::Self_(Default::default()), true)),
        name().prop_map(|path| {
            let path = PathConfigSource {
                path,
                ..Default::default()
            };
            (From::PathConfigSource(path), false)
        }),
    ];
    from.prop_map(|(from, ours)| {
        let source = ConfigSource {
            config_source_specifier: Some(from),
            ..Default::default()
        };
        (source, ours)
    })
}

fn cluster() -> impl Strategy<Value = Sample> {
    (name(), name(), source(), metadata()).prop_map(|(name, service, (source, ours), metadata)| {
        let mut cluster = Cluster {
            metadata,
            ..make::eds_cluster(&name)
        };
        let eds = cluster.eds_cluster_config.as_mut().unwrap();
        eds.eds_config = Some(source);
        eds.service_name.clone_from(&service);
        let refers = if service.is_empty() { name } else { service };
        sample(
            &cluster,
            if ours {
                vec![(ResourceType::Endpoint, refers)]
            } else {
                vec![]
            },
        )
    })
}

/// A route configuration, and the clusters it sends to.
fn routing() -> impl Strategy<Value = (RouteConfiguration, Vec<(ResourceType, String)>)> {
    let specifier = prop_oneof![
        name().prop_map(|to| (vec![to.clone()], ClusterSpecifier::Cluster(to))),
        name().prop_map(|header| (vec![], ClusterSpecifier::ClusterHeader(header))),
        prop::collection::vec(name(), 0..4).prop_map(|to| {
            let weight = |name: &String| ClusterWeight {
                name: name.clone(),
                ..Default::default()
            };
            let clusters = WeightedCluster {
                clusters: to.iter().map(weight).collect(),
                ..Default::default()
            };
            (to, ClusterSpecifier::WeightedClusters(clusters))
        }),
    ];
    let route = (specifier, prop::collection::vec(name(), 0..3), metadata()).prop_map(
        |((mut to, specifier), mirrors, metadata)| {
            let mirror = |cluster: &String| RequestMirrorPolicy {
                cluster: cluster.clone(),
                ..Default::default()
            };
            let action = RouteAction {
                cluster_specifier: Some(specifier),
                request_mirror_policies: mirrors.iter().map(mirror).collect(),
                ..Default::default()
            };
            to.extend(mirrors);
            let route = Route {
                metadata,
                action: Some(Action::Route(action)),
                ..make::route("/", "")
            };
            (route, to)
        },
    );
    (name(), prop::collection::vec(route, 0..4)).prop_map(|(name, routes)| {
        let (routes, to): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
        let to = to.into_iter().flatten();
        (
            make::routes(&name, routes),
            to.map(|to| (ResourceType::Cluster, to)).collect(),
        )
    })
}

fn listener() -> impl Strategy<Value = Sample> {
    let packed = |config: Any| Filter {
        config_type: Some(filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let filter = prop_oneof![
        name().prop_map(|to| {
            let proxy = TcpProxy {
                cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(to.clone())),
                ..Default::default()
            };
            (pack_any(proxy), vec![(ResourceType::Cluster, to)])
        }),
        name().prop_map(|of| (
            pack_any(make::http(make::rds(&of))),
            vec![(ResourceType::Route, of)]
        )),
        routing().prop_map(|(routes, to)| {
            let inline = make::RouteSpecifier::RouteConfig(routes);
            (pack_any(make::http(inline)), to)
        }),
    ];
    let filters = prop::collection::vec(filter, 0..4);
    (name(), filters, metadata()).prop_map(move |(name, filters, metadata)| {
        let (configs, to): (Vec<_>, Vec<_>) = filters.into_iter().unzip();
        let chain = FilterChain {
            filters: configs.into_iter().map(packed).collect(),
            ..Default::default()
        };
        let listener = Listener {
            name,
            metadata,
            filter_chains: vec![chain],
            ..Default::default()
        };
        sample(&listener, to.into_iter().flatten().collect())
    })
}

fn valid() -> impl Strategy<Value = Sample> {
    prop_oneof![
        cluster(),
        routing().prop_map(|(routes, to)| sample(&routes, to)),
        listener(),
    ]
}

/// A valid message with some bytes overwritten, removed or repeated.
fn mutated() -> impl Strategy<Value = Sample> {
    let change = (any::<Index>(), 0..8usize, any::<u8>(), 0..3u8);
    (valid(), prop::collection::vec(change, 1..5)).prop_map(|(mut sample, changes)| {
        for (at, len, byte, how) in changes {
            let at = at.index(sample.bytes.len() + 1);
            let end = (at + len).min(sample.bytes.len());
            match how {
                0 => sample.bytes[at..end].fill(byte),
                1 => drop(sample.bytes.drain(at..end)),
                _ => {
                    let again = sample.bytes[at..end].to_vec();
                    sample.bytes.splice(at..at, again);
                }
            }
        }
        sample
    })
}

/// Everything that reads bytes as a message of this type.
fn read(ty: ResourceType, bytes: &[u8]) -> Bytes {
    let message = message(ty.message_name()).unwrap();
    let _refs = refs::refs(message, bytes);
    let _shown = json::redacted(ty, bytes);
    let canonical = canonical(message, bytes);
    assert_eq!(canonical.len(), bytes.len());
    canonical
}

/// The references of a message.
fn found(ty: ResourceType, bytes: &[u8]) -> BTreeSet<(ResourceType, String)> {
    let refs = refs::refs(message(ty.message_name()).unwrap(), bytes);
    let pair = |Ref { ty, name }: &Ref| (*ty, name.to_string());
    refs.iter().map(pair).collect()
}

/// The types whose messages the table has.
fn tabled() -> impl Strategy<Value = ResourceType> {
    let known = ResourceType::ALL
        .into_iter()
        .filter(|ty| message(ty.message_name()).is_some());
    prop::sample::select(known.collect::<Vec<_>>())
}

/// The same message, its maps filled anew and so encoded in another order.
fn again(sample: &Sample) -> Vec<u8> {
    let bytes = sample.bytes.as_slice();
    match sample.ty {
        ResourceType::Cluster => Cluster::decode(bytes).unwrap().encode_to_vec(),
        ResourceType::Route => RouteConfiguration::decode(bytes).unwrap().encode_to_vec(),
        _ => Listener::decode(bytes).unwrap().encode_to_vec(),
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(ty in tabled(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let once = read(ty, &bytes);
        prop_assert_eq!(&read(ty, &once), &once, "sorted once, sorted for good");
    }

    #[test]
    fn no_damage_panics(sample in mutated()) {
        let once = read(sample.ty, &sample.bytes);
        prop_assert_eq!(&read(sample.ty, &once), &once, "sorted once, sorted for good");
        let any = Any { type_url: sample.ty.type_url().into(), value: sample.bytes };
        if let Ok(resource) = Resource::from_any(&any) {
            let _shown = resource.to_json();
        }
    }

    /// Every table entry, on the bytes of messages that it may not be for.
    #[test]
    fn no_message_of_the_table_panics(at in any::<Index>(), sample in mutated()) {
        let message = &SCHEMA[at.index(SCHEMA.len())];
        prop_assert_eq!(canonical(message, &sample.bytes).len(), sample.bytes.len());
        let _refs = refs::refs(message, &sample.bytes);
    }

    #[test]
    fn valid_messages_keep_their_meaning_and_lose_their_order(sample in valid()) {
        // A reader that opens each `Any` compares the meaning: to prost the order inside of them is bytes.
        let shown = |bytes: &[u8]| json::plain(sample.ty.message_name(), bytes).unwrap();
        let sorted = read(sample.ty, &sample.bytes);
        prop_assert_eq!(shown(&sorted), shown(&sample.bytes));
        prop_assert_eq!(read(sample.ty, &again(&sample)), sorted);
    }

    #[test]
    fn references_are_those_that_were_put_in(sample in valid()) {
        prop_assert_eq!(found(sample.ty, &sample.bytes), sample.refs);
    }

    #[test]
    fn json_leads_back_to_the_same_message(sample in valid()) {
        let shown = json::plain(sample.ty.message_name(), &sample.bytes).unwrap();
        let parsed = json::parse(sample.ty, &shown).unwrap();
        prop_assert_eq!(json::plain(sample.ty.message_name(), &parsed), Some(shown));
        prop_assert_eq!(found(sample.ty, &parsed), sample.refs);
    }

    #[test]
    fn varints_are_prosts(value: u64, rest: [u8; 3]) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        put_varint(&mut ours, value);
        prost::encoding::encode_varint(value, &mut theirs);
        prop_assert_eq!(&ours, &theirs);
        ours.extend(rest);
        prop_assert_eq!(varint(&ours), Some((value, &rest[..])));
    }

    #[test]
    fn fields_are_prosts(type_url: String, value: Vec<u8>) {
        let any = Any { type_url, value };
        let bytes = any.encode_to_vec();
        prop_assert_eq!(string(&bytes, 1), &any.type_url);
        prop_assert_eq!(payload(&bytes, 2).unwrap_or_default(), any.value);
    }

    #[test]
    fn no_secret_is_shown(secret in "[A-Z]{12}", depth in 0..24usize) {
        let tls = make::tls_secret("s", "CHAIN", &secret);
        let shown = json::redacted(ResourceType::Secret, &tls.encode_to_vec());
        prop_assert!(!shown.to_string().contains(&secret));
        let mut any = pack_any(tls);
        for _ in 0..depth {
            any = pack_any(any);
        }
        let filter = Filter { config_type: Some(filter::ConfigType::TypedConfig(any)), ..Default::default() };
        let chain = FilterChain { filters: vec![filter], ..Default::default() };
        let listener = Listener { filter_chains: vec![chain], ..Default::default() };
        let shown = json::redacted(ResourceType::Listener, &listener.encode_to_vec());
        prop_assert!(shown["filterChains"][0]["filters"].is_array());
        prop_assert!(!shown.to_string().contains(&secret));
    }
}

/// What is nested without end exhausts no stack.
#[test]
fn depth_is_bounded() {
    let mut any = Any::default();
    for _ in 0..5_000 {
        let mut value = Vec::new();
        put_field(&mut value, 1, b"x/google.protobuf.Any");
        put_field(&mut value, 2, &std::mem::take(&mut any.value));
        any.value = value;
    }
    let any_of_anys = Any {
        type_url: "x/google.protobuf.Any".into(),
        value: any.value,
    };
    let filter = Filter {
        config_type: Some(filter::ConfigType::TypedConfig(any_of_anys)),
        ..Default::default()
    };
    let chain = FilterChain {
        filters: vec![filter],
        ..Default::default()
    };
    let listener = Listener {
        name: "l".into(),
        filter_chains: vec![chain],
        ..Default::default()
    };
    let resource = Resource::new(&listener);
    assert_eq!(resource.body(), &listener.encode_to_vec());
    assert!(resource.to_json().to_string().contains("redacted"));
}
