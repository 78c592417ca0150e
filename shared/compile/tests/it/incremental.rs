//! However policy came about, edit by edit or at once, the configuration is the same, byte for byte, and refers to nothing
//! that is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compile::{Change, Compiler, Interception, Settings};
use model::{Key, Kind, Revision};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use xds::{ResourceType, Snapshot};

use crate::support::{identities, proxy, resource};

const NAMESPACES: [&str; 3] = ["default", "other", "istio-system"];
const HOSTS: [&str; 5] = [
    "a.default.svc.cluster.local",
    "b.default.svc.cluster.local",
    "c.other.svc.cluster.local",
    "x.example.com",
    "*.example.com",
];
const SUBSETS: [&str; 2] = ["v1", "v2"];

/// One edit: put a resource, delete one, a turn of a workload's liveness, or of where its proxy takes mutual TLS.
#[derive(Clone, Debug)]
enum Edit {
    Put(Kind, &'static str, &'static str, u32, Value),
    Delete(Kind, &'static str, &'static str),
    Liveness(&'static str, &'static str, bool),
    Mtls(&'static str, &'static str, BTreeSet<u16>),
}

const KINDS: [Kind; 12] = [
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::WorkloadGroup,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::Gateway,
    Kind::Sidecar,
    Kind::MeshConfig,
    Kind::RuntimeLayer,
    Kind::PeerAuthentication,
    Kind::AuthorizationPolicy,
    Kind::RequestAuthentication,
];

fn export_to() -> impl Strategy<Value = Value> {
    select(vec![
        json!([]),
        json!(["*"]),
        json!(["."]),
        json!(["other"]),
        json!(["default", "istio-system"]),
    ])
}

fn spec(kind: Kind) -> BoxedStrategy<Value> {
    let host = || select(&HOSTS[..4]);
    match kind {
        Kind::ServiceEntry => (host(), select(vec![80u16, 9080]), select(vec!["HTTP", "TCP", "GRPC", "TLS"]), 0..4u8, export_to())
            .prop_map(|(host, port, protocol, shape, export)| {
                let mut spec = json!({
                    "hosts": [host], "ports": [{"number": port, "protocol": protocol, "name": "p"}],
                    "location": "MESH_INTERNAL", "resolution": "STATIC", "exportTo": export,
                });
                match shape {
                    0 => spec["workloadSelector"] = json!({"labels": {"app": "a"}}),
                    1 => spec["endpoints"] = json!([{"address": "10.0.0.1", "labels": {"version": "v1"}}]),
                    2 => spec["endpoints"] = json!([{"address": "10.0.0.2"}, {"address": "10.0.0.3", "weight": 3}]),
                    _ => spec["resolution"] = json!("DNS"),
                }
                spec
            })
            .boxed(),
        Kind::WorkloadEntry => (select(vec!["127.0.1.1", "127.0.1.2"]), select(vec!["a", "b"]), select(&SUBSETS[..]), any::<bool>())
            .prop_map(|(address, app, version, gateway)| {
                let mut labels = json!({"app": app, "version": version});
                if gateway {
                    labels["istio"] = json!("ingressgateway");
                }
                json!({"address": address, "labels": labels, "serviceAccount": app})
            })
            .boxed(),
        Kind::WorkloadGroup => select(vec!["a", "b"])
            .prop_map(|app| {
                json!({
                    "metadata": {"labels": {"app": app}}, "template": {},
                    "probe": {"httpGet": {"path": "/healthz", "port": 8080}},
                })
            })
            .boxed(),
        Kind::VirtualService => (host(), host(), select(&HOSTS[..]), 0..5u8, export_to())
            .prop_map(|(one, two, of, shape, export)| {
                let to = |host: &str, subset: Option<&str>| match subset {
                    Some(subset) => json!({"destination": {"host": host, "subset": subset, "port": {"number": 80}}, "weight": 50}),
                    None => json!({"destination": {"host": host}, "weight": 50}),
                };
                let route = match shape {
                    0 => json!({"route": [to(one, None)]}),
                    1 => json!({"route": [to(one, Some("v1")), to(two, Some("v2"))]}),
                    2 => json!({
                        "match": [{"uri": {"prefix": "/x"}, "sourceLabels": {"app": "a"}}],
                        "route": [to(two, None)], "mirror": {"host": one},
                    }),
                    3 => json!({"match": [{"uri": {"prefix": "/d"}}], "delegate": {"name": "one", "namespace": "other"}}),
                    _ => json!({"directResponse": {"status": 404, "body": {"string": "none"}}}),
                };
                if of == "x.example.com" {
                    return json!({"http": [{"match": [{"uri": {"prefix": "/d"}}], "route": [to(one, None)]}]});
                }
                let gateways = if shape % 2 == 0 { json!(["mesh", "istio-system/one"]) } else { json!(["mesh"]) };
                json!({"hosts": [of], "gateways": gateways, "http": [route], "exportTo": export})
            })
            .boxed(),
        Kind::PeerAuthentication => (select(vec!["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]), 0..4u8)
            .prop_map(|(mode, shape)| {
                let mut spec = json!({"mtls": {"mode": mode}});
                match shape {
                    0 => spec["selector"] = json!({"matchLabels": {"weft.mesh/service-account": "a"}}),
                    1 => {
                        spec["selector"] = json!({"matchLabels": {"app": "a"}});
                        spec["portLevelMtls"] = json!({"80": {"mode": "STRICT"}, "1": {"mode": mode}});
                    }
                    _ => {}
                }
                spec
            })
            .boxed(),
        Kind::DestinationRule => (select(&HOSTS[..]), 0..4u8, export_to())
            .prop_map(|(host, shape, export)| {
                let policy = match shape {
                    0 => json!({"outlierDetection": {"consecutive5xxErrors": 3}}),
                    1 => json!({"tls": {"mode": "ISTIO_MUTUAL"}}),
                    2 => json!({"tls": {"mode": "DISABLE"}}),
                    _ => json!({"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}),
                };
                json!({
                    "host": host, "trafficPolicy": policy, "exportTo": export,
                    "subsets": SUBSETS.map(|name| json!({"name": name, "labels": {"version": name}})),
                })
            })
            .boxed(),
        Kind::Gateway => (select(vec![80u16, 8000]), select(vec!["*", "*.example.com", "a.default.svc.cluster.local"]), any::<bool>())
            .prop_map(|(port, host, redirect)| {
                let mut server = json!({"port": {"number": port, "protocol": "HTTP", "name": "http"}, "hosts": [host]});
                if redirect {
                    server["tls"] = json!({"httpsRedirect": true});
                }
                json!({"selector": {"istio": "ingressgateway"}, "servers": [server]})
            })
            .boxed(),
        Kind::Sidecar => (select(vec!["./*", "other/*", "*/a.default.svc.cluster.local", "*/*"]), any::<bool>(), any::<bool>())
            .prop_map(|(hosts, selects, port)| {
                let mut egress = vec![json!({"hosts": [hosts]})];
                if port {
                    egress.insert(0, json!({"port": {"number": 9080, "protocol": "HTTP", "name": "h"}, "hosts": ["*/*"]}));
                }
                let mut spec = json!({"egress": egress});
                if selects {
                    spec["workloadSelector"] = json!({"labels": {"app": "a"}});
                }
                spec
            })
            .boxed(),
        Kind::MeshConfig => (select(vec!["ALLOW_ANY", "REGISTRY_ONLY"]), select(&HOSTS[..4]), any::<bool>())
            .prop_map(|(mode, host, local)| {
                let provider = json!({"name": "asked", "envoyExtAuthzGrpc": {"service": host, "port": 80}});
                json!({
                    "outboundTrafficPolicy": {"mode": mode}, "defaultServiceExportTo": ["*"],
                    "extensionProviders": [provider], "allowLocalJwksUri": local, "allowedJwksHosts": ["*.example"],
                })
            })
            .boxed(),
        Kind::AuthorizationPolicy => (select(vec!["ALLOW", "DENY", "AUDIT", "CUSTOM"]), selector(), any::<bool>())
            .prop_map(|(action, selector, known)| {
                let mut spec = json!({
                    "action": action, "selector": selector,
                    "rules": [{"to": [{"operation": {"paths": ["/a*"]}}]}, {"from": [{"source": {"namespaces": ["other"]}}]}],
                });
                if action == "CUSTOM" {
                    spec["provider"] = json!({"name": if known { "asked" } else { "unknown" }});
                }
                spec
            })
            .boxed(),
        Kind::RequestAuthentication => (select(vec!["127.0.0.1", "x.example.com", "keys.example"]), selector())
            .prop_map(|(host, selector)| {
                json!({"selector": selector, "jwtRules": [{"issuer": "i", "jwksUri": format!("http://{host}/keys")}]})
            })
            .boxed(),
        _ => any::<u8>().prop_map(|value| json!({"layer": {"some.key": value}})).boxed(),
    }
}

fn selector() -> impl Strategy<Value = Value> {
    select(vec![
        json!({}),
        json!({"matchLabels": {"app": "a"}}),
        json!({"matchLabels": {"istio": "ingressgateway"}}),
    ])
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = || (select(&NAMESPACES[..]), select(vec!["one", "two"]));
    let put =
        (select(&KINDS[..]), place(), 1..4u32).prop_flat_map(|(kind, (namespace, name), age)| {
            let (namespace, name) = if kind == Kind::MeshConfig {
                ("istio-system", "default")
            } else {
                (namespace, name)
            };
            spec(kind).prop_map(move |spec| Edit::Put(kind, namespace, name, age, spec))
        });
    let delete = (select(&KINDS[..]), place())
        .prop_map(|(kind, (namespace, name))| Edit::Delete(kind, namespace, name));
    let liveness = (place(), any::<bool>())
        .prop_map(|((namespace, name), up)| Edit::Liveness(namespace, name, up));
    let ports = prop::collection::btree_set(select(vec![80u16, 9080]), 0..3);
    let mtls =
        (place(), ports).prop_map(|((namespace, name), ports)| Edit::Mtls(namespace, name, ports));
    prop_oneof![7 => put, 2 => delete, 1 => liveness, 1 => mtls]
}

impl Edit {
    fn change(&self) -> Change {
        match self {
            Self::Put(kind, namespace, name, age, spec) => Change::Put(Arc::new(resource(json!({
                "apiVersion": kind.api_version(), "kind": kind.name(), "spec": spec,
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": format!("2026-01-0{age}T00:00:00Z")},
            })))),
            Self::Delete(kind, namespace, name) => {
                Change::Delete(Key::new(*kind, *namespace, *name))
            }
            Self::Liveness(namespace, name, up) => Change::Liveness {
                namespace: (*namespace).into(),
                name: (*name).into(),
                up: *up,
            },
            Self::Mtls(namespace, name, ports) => Change::Mtls {
                namespace: (*namespace).into(),
                name: (*name).into(),
                ports: ports.clone(),
            },
        }
    }
}

/// What a sequence of edits leaves.
fn outcome(edits: &[Edit]) -> Vec<Change> {
    let mut puts = BTreeMap::new();
    let mut down = BTreeMap::new();
    let mut mtls = BTreeMap::new();
    for edit in edits {
        match (edit, edit.change()) {
            (Edit::Put(..), Change::Put(resource)) => {
                puts.insert(resource.key(), resource);
            }
            (Edit::Delete(..), Change::Delete(key)) => {
                puts.remove(&key);
            }
            (Edit::Liveness(namespace, name, _), change) => {
                down.insert((namespace.to_string(), name.to_string()), change);
            }
            (Edit::Mtls(namespace, name, _), change) => {
                mtls.insert((namespace.to_string(), name.to_string()), change);
            }
            _ => unreachable!(),
        }
    }
    puts.into_values()
        .map(Change::Put)
        .chain(down.into_values())
        .chain(mtls.into_values())
        .collect()
}

fn connect(compiler: &mut Compiler) -> Vec<compile::ProxyId> {
    let ids = [
        "sidecar~default~one",
        "sidecar~default~two",
        "sidecar~other~one",
        "gateway~istio-system~one",
        "gateway~default~two",
    ];
    let mut proxies: Vec<_> = ids.into_iter().map(proxy).collect();
    let mut transparent = proxy("sidecar~other~two");
    transparent.interception = Some(Interception::Transparent);
    proxies.push(transparent);
    proxies
        .into_iter()
        .map(|proxy| compiler.connect(proxy))
        .collect()
}

fn bytes(snapshot: &Snapshot) -> BTreeMap<(ResourceType, String), Vec<u8>> {
    let resources = ResourceType::ALL
        .into_iter()
        .flat_map(|ty| snapshot.iter(ty));
    resources
        .map(|resource| {
            (
                (resource.ty(), resource.name().to_string()),
                resource.body().to_vec(),
            )
        })
        .collect()
}

fn check(edits: &[Edit], batch: usize, identified: bool) -> Result<(), TestCaseError> {
    let settings = Settings {
        identities: identified.then(|| identities("cluster.local")),
        ..Settings::default()
    };
    let mut edited = Compiler::new(settings.clone());
    let proxies = connect(&mut edited);
    let mut before: Vec<_> = proxies
        .iter()
        .map(|id| bytes(&edited.snapshot(*id).unwrap()))
        .collect();
    for (at, edits) in edits.chunks(batch).enumerate() {
        let applied = edited.apply(Revision(at as i64 + 1), edits.iter().map(Edit::change));
        for (id, before) in proxies.iter().zip(&mut before) {
            let snapshot = edited.snapshot(*id).unwrap();
            prop_assert_eq!(snapshot.consistent(), Ok(()));
            let after = bytes(&snapshot);
            prop_assert_eq!(
                applied.changed.contains(id),
                *before != after,
                "changed exactly if bytes did"
            );
            *before = after;
        }
    }
    like_anew(&edited, &proxies, settings, edits)
}

/// That a compiler is as one that started with what these edits leave.
fn like_anew(
    edited: &Compiler,
    proxies: &[compile::ProxyId],
    settings: Settings,
    edits: &[Edit],
) -> Result<(), TestCaseError> {
    let mut whole = Compiler::new(settings);
    whole.apply(Revision(1), outcome(edits));
    let fresh = connect(&mut whole);
    for (id, edited_id) in fresh.into_iter().zip(proxies) {
        let before = bytes(&edited.snapshot(*edited_id).unwrap());
        let scratch = bytes(&whole.snapshot(id).unwrap());
        let names =
            |of: &BTreeMap<(ResourceType, String), Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(&scratch), names(&before));
        let differs = scratch
            .iter()
            .find(|(name, bytes)| before.get(*name) != Some(*bytes))
            .map(|(name, _)| name);
        prop_assert_eq!(differs, None);
    }
    prop_assert_eq!(whole.statuses(), edited.statuses());
    Ok(())
}

/// A copy follows a compiler, some of whose edits it is not told.
fn follow(edits: &[Edit], held: &BTreeSet<usize>) -> Result<(), TestCaseError> {
    let settings = Settings {
        identities: Some(identities("cluster.local")),
        ..Settings::default()
    };
    let mut leader = Compiler::new(settings.clone());
    let proxies = connect(&mut leader);
    let mut copy = leader.clone();
    let (mut present, mut apart) = (BTreeMap::new(), BTreeMap::new());
    let mut told = Vec::new();
    for (at, edit) in edits.iter().enumerate() {
        let change = edit.change();
        let key = match &change {
            Change::Put(resource) => Some(resource.key()),
            Change::Delete(key) => Some(key.clone()),
            _ => None,
        };
        let mut own = Some(change.clone());
        if let Some(key) = key {
            if held.contains(&at) || apart.contains_key(&key) {
                let before = present.get(&key).cloned();
                let before = before.unwrap_or_else(|| Change::Delete(key.clone()));
                apart.entry(key.clone()).or_insert(before);
                own = None;
            }
            present.insert(key, change.clone());
        }
        told.extend(own.is_some().then(|| edit.clone()));
        let revision = Revision(at as i64 + 1);
        leader.record();
        leader.apply(revision, [change]);
        let apart: Vec<Change> = apart.values().cloned().collect();
        copy.follow(&mut leader, apart, |copy| copy.apply(revision, own));
    }
    like_anew(&leader, &proxies, settings.clone(), edits)?;
    like_anew(&copy, &proxies, settings, &told)
}

proptest! {
    #[test]
    fn who_follows_is_as_who_computes_himself(edits in prop::collection::vec(edit(), 1..24), held in prop::collection::btree_set(0..24usize, 0..4)) {
        follow(&edits, &held)?;
    }

    #[test]
    fn edits_lead_where_starting_anew_does(edits in prop::collection::vec(edit(), 1..24), batch in 1..4usize, identified: bool) {
        check(&edits, batch, identified)?;
    }
}
