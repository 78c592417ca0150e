#![allow(clippy::unwrap_used)]

use envoy_types::pb::envoy::config::core::v3::BuildVersion;
use envoy_types::pb::envoy::r#type::v3::SemanticVersion;
use envoy_types::pb::google::protobuf::Value;

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
