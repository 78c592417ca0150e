#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::{Metadata, Object};

mod certificates;
mod conflicts;
mod security;
mod shadowed;

fn resource(kind: Kind, name: &str, created: &str, spec: &Value) -> Resource {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let metadata = Metadata {
        name: name.into(),
        namespace: namespace.into(),
        creation_timestamp: (!created.is_empty()).then(|| created.into()),
        ..Metadata::default()
    };
    let object = Object {
        kind,
        metadata,
        spec: spec.clone(),
    };
    object.decode().unwrap()
}

/// A mesh with reviews (v1 and v2, 9080), two-ports (80, 443), *.wide.example, a gateway with its workload.
fn mesh() -> Mesh {
    let mut mesh = Mesh::new("svc.cluster.local", "istio-system");
    let http = json!({"number": 9080, "name": "http", "protocol": "HTTP"});
    let specs = [
        (
            Kind::ServiceEntry,
            "reviews",
            json!({"hosts": ["reviews.default.svc.cluster.local"], "ports": [http], "resolution": "STATIC",
                   "workloadSelector": {"labels": {"app": "reviews"}}}),
        ),
        (
            Kind::ServiceEntry,
            "two",
            json!({"hosts": ["two.example"], "addresses": ["10.0.0.1"], "resolution": "NONE",
                   "ports": [{"number": 80, "name": "a", "protocol": "HTTP"}, {"number": 443, "name": "b", "protocol": "TLS"}]}),
        ),
        (
            Kind::ServiceEntry,
            "wide",
            json!({"hosts": ["*.wide.example"], "resolution": "NONE", "ports": [http]}),
        ),
        (
            Kind::ServiceEntry,
            "far/hidden",
            json!({"hosts": ["hidden.example"], "resolution": "NONE", "ports": [http], "exportTo": ["."]}),
        ),
        (
            Kind::WorkloadEntry,
            "r1",
            json!({"address": "127.0.0.2", "labels": {"app": "reviews", "version": "v1"}}),
        ),
        (
            Kind::WorkloadEntry,
            "r2",
            json!({"address": "127.0.0.3", "labels": {"app": "reviews", "version": "v2"}}),
        ),
        (
            Kind::WorkloadEntry,
            "istio-system/gw",
            json!({"address": "127.0.0.4", "labels": {"istio": "ingressgateway"}}),
        ),
        (
            Kind::Gateway,
            "shop",
            json!({"selector": {"istio": "ingressgateway"},
                   "servers": [{"port": {"number": 8000, "name": "http", "protocol": "HTTP"}, "hosts": ["*.shop.example", "prod/b.example"]}]}),
        ),
        (
            Kind::DestinationRule,
            "reviews",
            json!({"host": "reviews", "trafficPolicy": {}, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
        ),
        (
            Kind::VirtualService,
            "old",
            json!({"hosts": ["taken"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]}),
        ),
        (
            Kind::VirtualService,
            "part",
            json!({"http": [{"route": [{"destination": {"host": "reviews"}}]}]}),
        ),
    ];
    for (kind, name, spec) in specs {
        mesh.apply(Change::Put(Arc::new(resource(
            kind,
            name,
            "2026-01-01T00:00:00Z",
            &spec,
        ))));
    }
    mesh
}

fn warnings(kind: Kind, name: &str, spec: &Value) -> Vec<String> {
    let resource = resource(kind, name, "2026-02-02T00:00:00Z", spec);
    analyze(&resource, &mesh())
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn route(destination: &Value) -> Value {
    json!({"hosts": ["x.shop.example"], "http": [{"route": [{"destination": destination}]}]})
}

#[test]
fn what_exists_is_passed_over_in_silence() {
    let fine = [
        json!({"host": "reviews", "subset": "v1", "port": {"number": 9080}}),
        json!({"host": "reviews.default.svc.cluster.local"}),
        json!({"host": "two.example", "port": {"number": 443}}),
        json!({"host": "a.wide.example"}),
    ];
    for destination in fine {
        let mut spec = route(&destination);
        spec["gateways"] = json!(["shop", "mesh", "default/shop"]);
        assert_eq!(
            warnings(Kind::VirtualService, "new", &spec),
            [""; 0],
            "{destination}"
        );
    }
}

#[test]
fn a_destination_that_is_not_there_is_a_warning() {
    let at = "spec.http[0].route[0].destination";
    let table = [
        (
            json!({"host": "ratings"}),
            format!(
                "{at}: there is no service with the host \"ratings.default.svc.cluster.local\"; a ServiceEntry declares one"
            ),
        ),
        (
            json!({"host": "wide.example"}),
            format!(
                "{at}: there is no service with the host \"wide.example\"; a ServiceEntry declares one"
            ),
        ),
        (
            json!({"host": "reviews", "subset": "v9"}),
            format!(
                "{at}.subset: no DestinationRule for \"reviews.default.svc.cluster.local\" has the subset \"v9\"; until there is one, requests get 503"
            ),
        ),
        (
            json!({"host": "reviews", "port": {"number": 1}}),
            format!(
                "{at}.port.number: \"reviews.default.svc.cluster.local\" has no port 1, only 9080"
            ),
        ),
        (
            json!({"host": "two.example"}),
            format!(
                "{at}: \"two.example\" has several ports (80, 443); without port.number, the port that the request came to is used"
            ),
        ),
        (
            json!({"host": "hidden.example"}),
            format!(
                "{at}: ServiceEntry far/hidden does not export the host \"hidden.example\" to the namespace \"default\"; see its exportTo"
            ),
        ),
    ];
    for (destination, warning) in table {
        assert_eq!(
            warnings(Kind::VirtualService, "new", &route(&destination)),
            [warning],
            "{destination}"
        );
    }
}

#[test]
fn every_place_that_names_a_destination_is_looked_at() {
    let gone = json!({"host": "gone"});
    let spec = json!({
        "hosts": ["x.shop.example"],
        "http": [
            {"match": [{"port": 1}], "route": [{"destination": {"host": "reviews"}}], "mirror": gone},
            {"route": [{"destination": {"host": "reviews"}}], "mirrors": [{"destination": gone}]},
        ],
        "tls": [{"match": [{"sniHosts": ["x.shop.example"]}], "route": [{"destination": gone}]}],
        "tcp": [{"route": [{"destination": gone}]}],
    });
    let found: Vec<_> = warnings(Kind::VirtualService, "new", &spec)
        .iter()
        .map(|warning| warning.split(": ").next().unwrap().to_owned())
        .collect();
    let expected = [
        "spec.http[0].mirror",
        "spec.http[1].mirrors[0].destination",
        "spec.tls[0].route[0].destination",
        "spec.tcp[0].route[0].destination",
    ];
    assert_eq!(found, expected);
}

#[test]
fn gateways_are_looked_for_and_must_serve_a_host() {
    let gateways = |hosts: &Value, gateways: &Value| {
        let spec = json!({"hosts": hosts, "gateways": gateways, "http": [{"route": [{"destination": {"host": "reviews"}}]}]});
        warnings(Kind::VirtualService, "new", &spec)
    };
    assert_eq!(
        gateways(&json!(["a.shop.example"]), &json!(["shop"])),
        [""; 0]
    );
    assert_eq!(gateways(&json!(["*"]), &json!(["shop"])), [""; 0]);
    assert_eq!(
        gateways(&json!(["a.shop.example"]), &json!(["other/shop"])),
        [
            "spec.gateways[0]: there is no Gateway other/shop; until there is, this has no effect there"
        ]
    );
    assert_eq!(
        gateways(&json!(["shop.example"]), &json!(["shop"])),
        ["spec.gateways[0]: no server of Gateway default/shop has any of the hosts shop.example"]
    );
    // The server has b.example for VirtualServices of the namespace prod only.
    assert_eq!(gateways(&json!(["b.example"]), &json!(["shop"])).len(), 1);
}

#[test]
fn a_match_for_a_gateway_that_is_not_bound_is_a_warning() {
    let mut spec = route(&json!({"host": "reviews"}));
    spec["http"][0]["match"] = json!([{"gateways": ["mesh"]}, {"gateways": ["shop"]}]);
    assert_eq!(
        warnings(Kind::VirtualService, "new", &spec),
        ["spec.http[0].match[1].gateways[0]: never matches: \"shop\" is not among spec.gateways"]
    );
}

#[test]
fn delegates_are_looked_for_and_have_no_hosts() {
    let delegate = |name: &str| {
        let spec = json!({"hosts": ["a.shop.example"], "gateways": ["shop"], "http": [{"delegate": {"name": name}}]});
        warnings(Kind::VirtualService, "new", &spec)
    };
    assert_eq!(delegate("part"), [""; 0]);
    assert_eq!(
        delegate("none"),
        [
            "spec.http[0].delegate: there is no VirtualService default/none; until there is, requests that match get 404"
        ]
    );
    assert_eq!(
        delegate("old"),
        [
            "spec.http[0].delegate: VirtualService default/old has hosts, so it is no delegate; remove its hosts"
        ]
    );
}

#[test]
fn of_two_for_one_host_in_the_mesh_the_older_holds() {
    let mut spec = route(&json!({"host": "reviews"}));
    spec["hosts"] = json!(["taken"]);
    let host = "taken.default.svc.cluster.local";
    assert_eq!(
        warnings(Kind::VirtualService, "new", &spec),
        [format!(
            "spec.hosts[0]: VirtualService default/old is older and has the host {host:?} in the mesh too; for it, this one has no effect"
        )]
    );
    let older = resource(Kind::VirtualService, "older", "2025-01-01T00:00:00Z", &spec);
    assert_eq!(
        analyze(&older, &mesh())[0].text,
        format!(
            "VirtualService default/old has the host {host:?} in the mesh too; this one is older, so that one has no effect for it"
        )
    );
    // One that is not stored yet will be the youngest.
    let unborn = resource(Kind::VirtualService, "a", "", &spec);
    assert!(
        analyze(&unborn, &mesh())[0]
            .text
            .contains("for it, this one has no effect")
    );
    // At a gateway, they are merged.
    spec["hosts"] = json!(["a.shop.example"]);
    spec["gateways"] = json!(["shop"]);
    assert_eq!(warnings(Kind::VirtualService, "new", &spec), [""; 0]);
}

#[test]
fn destination_rules_are_held_against_the_service_and_older_rules() {
    let table = [
        (json!({"host": "two.example"}), None),
        (json!({"host": "*.wide.example"}), None),
        (
            json!({"host": "gone"}),
            Some(
                "spec.host: there is no service with the host \"gone.default.svc.cluster.local\"; a ServiceEntry declares one",
            ),
        ),
        (
            json!({"host": "*.gone"}),
            Some("spec.host: no service's host matches \"*.gone\""),
        ),
        (
            json!({"host": "reviews", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]}),
            None,
        ),
        (
            json!({"host": "reviews", "subsets": [{"name": "v3", "labels": {"version": "v3"}}]}),
            Some(
                "spec.subsets[0].labels: no endpoint of \"reviews.default.svc.cluster.local\" has these labels; requests to the subset \"v3\" get 503",
            ),
        ),
        (
            json!({"host": "reviews", "subsets": [{"name": "v1"}]}),
            Some(
                "spec.subsets[0]: has no effect: DestinationRule default/reviews is older and has the subset \"v1\" too",
            ),
        ),
        (
            json!({"host": "reviews", "trafficPolicy": {}}),
            Some(
                "spec.trafficPolicy: has no effect: DestinationRule default/reviews is older and has one for \"reviews.default.svc.cluster.local\"; use one rule",
            ),
        ),
        (
            json!({"host": "two.example", "trafficPolicy": {"portLevelSettings": [{"port": {"number": 81}}]}}),
            Some(
                "spec.trafficPolicy.portLevelSettings[0].port.number: \"two.example\" has no port 81",
            ),
        ),
    ];
    for (spec, warning) in table {
        let found = warnings(Kind::DestinationRule, "new", &spec);
        assert_eq!(found, warning.into_iter().collect::<Vec<_>>(), "{spec}");
    }
}

#[test]
fn services_that_find_no_workload_or_lose_to_an_older_one_are_told() {
    let ports = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
    let table = [
        (
            json!({"hosts": ["new"], "ports": ports, "resolution": "STATIC", "workloadSelector": {"labels": {"app": "none"}}}),
            "spec.workloadSelector: selects no live WorkloadEntry of the namespace \"default\"; requests find no endpoint",
        ),
        (
            json!({"hosts": ["two.example"], "ports": ports}),
            "spec.hosts[0]: ServiceEntry default/two of this namespace is older and has the host too; this one has no effect for it",
        ),
        (
            json!({"hosts": ["new.example"], "ports": ports, "addresses": ["10.0.0.1"]}),
            "spec.addresses[0]: belongs to an older ServiceEntry; connections to it go there",
        ),
    ];
    for (spec, warning) in table {
        assert_eq!(
            warnings(Kind::ServiceEntry, "zz", &spec),
            [warning],
            "{spec}"
        );
    }
}

#[test]
fn selectors_that_select_nobody_are_told() {
    let server =
        json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    assert_eq!(
        warnings(
            Kind::Gateway,
            "g",
            &json!({"selector": {"istio": "egressgateway"}, "servers": [server]})
        ),
        ["spec.selector: selects no workload; a gateway is a WorkloadEntry with these labels"]
    );
    let sidecar = json!({"workloadSelector": {"labels": {"app": "none"}}, "egress": [{"hosts": ["./*", "default/gone.example", "~/*"]}]});
    assert_eq!(
        warnings(Kind::Sidecar, "s", &sidecar),
        [
            "spec.egress[0].hosts[1]: there is no service with the host \"gone.example\"; a ServiceEntry declares one",
            "spec.workloadSelector: selects no workload of the namespace \"default\"",
        ]
    );
}

#[test]
fn two_sidecars_for_the_same_workloads_are_told() {
    let mut mesh = mesh();
    let spec = json!({"egress": [{"hosts": ["./*"]}]});
    mesh.apply(Change::Put(Arc::new(resource(
        Kind::Sidecar,
        "one",
        "2026-01-01T00:00:00Z",
        &spec,
    ))));
    let found = analyze(
        &resource(Kind::Sidecar, "two", "2026-02-01T00:00:00Z", &spec),
        &mesh,
    );
    assert_eq!(
        found[0].to_string(),
        "spec.workloadSelector: Sidecar default/one is for every workload of the namespace too; the older one holds alone"
    );
    assert!(
        analyze(
            &resource(Kind::Sidecar, "aaa/two", "2026-02-01T00:00:00Z", &spec),
            &mesh
        )
        .is_empty()
    );
}

#[test]
fn a_mesh_config_that_is_not_in_force_is_told() {
    assert_eq!(
        warnings(Kind::MeshConfig, "istio-system/default", &json!({})),
        [""; 0]
    );
    assert_eq!(
        warnings(Kind::MeshConfig, "default", &json!({})),
        [
            "metadata.name: is not in force: the mesh's configuration is the MeshConfig default of the namespace istio-system"
        ]
    );
}

#[test]
fn analysis_leaves_the_mesh_as_it_is() {
    let mesh = mesh();
    let before = mesh.resources().count();
    analyze(
        &resource(
            Kind::VirtualService,
            "new",
            "",
            &route(&json!({"host": "reviews"})),
        ),
        &mesh,
    );
    assert_eq!(mesh.resources().count(), before);
}

#[test]
fn peer_authentications_that_hold_for_nobody_are_told() {
    let select =
        |app: &str| json!({"selector": {"matchLabels": {"app": app}}, "mtls": {"mode": "STRICT"}});
    let kind = Kind::PeerAuthentication;
    assert_eq!(warnings(kind, "strict", &select("reviews")), [""; 0]);
    assert_eq!(warnings(kind, "istio-system/default", &json!({})), [""; 0]);
    assert_eq!(
        warnings(kind, "strict", &select("nobody")),
        ["spec.selector: selects no workload of the namespace \"default\""]
    );
    assert_eq!(
        warnings(kind, "istio-system/strict", &select("reviews")),
        [
            "spec.selector: holds for nobody: in the root namespace istio-system policies are for the whole mesh; remove the \
             selector, or put the policy into the workloads' namespace"
        ]
    );
    let mut mesh = mesh();
    for (name, created) in [
        ("old", "2026-01-01T00:00:00Z"),
        ("young", "2026-03-01T00:00:00Z"),
    ] {
        let one = resource(kind, name, created, &select("reviews"));
        mesh.apply(Change::Put(Arc::new(one)));
    }
    let new = resource(kind, "new", "2026-02-02T00:00:00Z", &select("reviews"));
    let told: Vec<_> = analyze(&new, &mesh)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "spec.selector: the older PeerAuthentication default/old is for the same workloads, and holds alone; merge the two"
        ]
    );
}
