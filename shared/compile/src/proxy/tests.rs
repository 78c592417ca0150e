#![allow(clippy::unwrap_used)]

use envoy_types::pb::envoy::config::core::v3::BuildVersion;
use envoy_types::pb::envoy::r#type::v3::SemanticVersion;
use envoy_types::pb::google::protobuf::Value;
use proptest::prelude::*;

use super::*;

fn node(id: &str) -> Node {
    Node {
        id: id.into(),
        ..Default::default()
    }
}

fn string(text: &str) -> Value {
    Value {
        kind: Some(ValueKind::StringValue(text.into())),
    }
}

#[test]
fn the_id_says_role_and_workload() {
    let proxy = Proxy::from_node(&node("gateway~istio-system~ingress")).unwrap();
    assert_eq!(
        (proxy.role, &*proxy.namespace, &*proxy.workload),
        (Role::Gateway, "istio-system", "ingress")
    );
    assert_eq!(proxy.envoy, EnvoyVersion::OLDEST);
    assert_eq!(proxy.interception, None);
}

#[test]
fn other_ids_are_refused_by_name() {
    for id in ["", "sidecar~a", "router~a~b", "sidecar~~b", "sidecar~a~b~c"] {
        assert_eq!(Proxy::from_node(&node(id)), Err(NodeError::Id(id.into())));
    }
}

#[test]
fn version_mode_and_labels_come_from_the_node() {
    let mut node = node("sidecar~default~web");
    let version = SemanticVersion {
        major_number: 1,
        minor_number: 38,
        patch: 3,
    };
    node.user_agent_version_type =
        Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(version),
            ..Default::default()
        }));
    let labels = Struct {
        fields: [("app".to_owned(), string("web"))].into_iter().collect(),
    };
    let labels = Value {
        kind: Some(ValueKind::StructValue(labels)),
    };
    let fields = [
        ("INTERCEPTION_MODE".to_owned(), string("REDIRECT")),
        ("LABELS".to_owned(), labels),
    ];
    node.metadata = Some(Struct {
        fields: fields.into_iter().collect(),
    });
    let proxy = Proxy::from_node(&node).unwrap();
    assert_eq!(
        proxy.envoy,
        EnvoyVersion {
            major: 1,
            minor: 38
        }
    );
    assert_eq!(proxy.interception, Some(Interception::Transparent));
    assert_eq!(
        proxy.labels,
        BTreeMap::from([("app".to_owned(), "web".to_owned())])
    );
    node.metadata
        .as_mut()
        .unwrap()
        .fields
        .insert("INTERCEPTION_MODE".into(), string("MAGIC"));
    assert_eq!(
        Proxy::from_node(&node),
        Err(NodeError::Interception("MAGIC".into()))
    );
}

proptest! {
    #[test]
    fn any_id_is_answered_and_an_accepted_one_is_its_parts(id in "(sidecar|gateway|[a-z]{0,3})?(~?[a-z./ ]{0,3}){0,4}|\\PC{0,20}") {
        match Proxy::from_node(&node(&id)) {
            Ok(proxy) => {
                let role = match proxy.role {
                    Role::Sidecar => "sidecar",
                    Role::Gateway => "gateway",
                };
                prop_assert!(!proxy.namespace.is_empty() && !proxy.workload.is_empty());
                prop_assert_eq!(format!("{role}~{}~{}", proxy.namespace, proxy.workload), id);
            }
            Err(error) => prop_assert_eq!(error, NodeError::Id(id)),
        }
    }

    #[test]
    fn an_id_of_three_parts_is_accepted(gateway: bool, namespace in "[^~]{1,10}", workload in "[^~]{1,10}") {
        let role = if gateway { "gateway" } else { "sidecar" };
        let proxy = Proxy::from_node(&node(&format!("{role}~{namespace}~{workload}"))).unwrap();
        prop_assert_eq!((proxy.role == Role::Gateway, &*proxy.namespace, &*proxy.workload), (gateway, &*namespace, &*workload));
    }

    #[test]
    fn any_metadata_is_answered(mode in "NONE|REDIRECT|TPROXY|[A-Z]{0,3}", labels in prop::collection::btree_map("[a-c]{1,2}", "\\PC{0,5}", 0..4)) {
        let fields = labels.iter().map(|(name, value)| (name.clone(), string(value))).collect();
        let fields = [
            ("INTERCEPTION_MODE".to_owned(), string(&mode)),
            ("LABELS".to_owned(), Value { kind: Some(ValueKind::StructValue(Struct { fields })) }),
        ];
        let node = Node {
            metadata: Some(Struct { fields: fields.into() }),
            ..node("sidecar~a~b")
        };
        match Proxy::from_node(&node) {
            Ok(proxy) => {
                prop_assert_eq!(proxy.labels, labels);
                let expected = match mode.as_str() {
                    "" => None,
                    "NONE" => Some(Interception::Explicit),
                    _ => Some(Interception::Transparent),
                };
                prop_assert_eq!(proxy.interception, expected);
            }
            Err(error) => {
                prop_assert!(!["", "NONE", "REDIRECT", "TPROXY"].contains(&mode.as_str()));
                prop_assert_eq!(error, NodeError::Interception(mode));
            }
        }
    }
}
