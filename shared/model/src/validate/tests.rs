#![allow(clippy::unwrap_used)]

mod istio;
mod peer_authentication;
mod security;

use serde_json::{Value, json};

use crate::{Kind, Metadata, Object, Options, check};

/// The fields that are refused.
fn refused(kind: Kind, spec: &Value) -> Vec<String> {
    let metadata = Metadata {
        name: "x".into(),
        namespace: "default".into(),
        ..Metadata::default()
    };
    match check(
        Object {
            kind,
            metadata,
            spec: spec.clone(),
        },
        Options::default(),
    ) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.field).collect(),
    }
}

/// Sets the value at a pointer, making objects on the way.
fn with(base: &Value, pointer: &str, value: Value) -> Value {
    let mut spec = base.clone();
    let mut at = &mut spec;
    for step in pointer.split('/').skip(1) {
        at = match at {
            Value::Array(items) => {
                let i: usize = step.parse().unwrap();
                if i == items.len() {
                    items.push(Value::Null);
                }
                &mut items[i]
            }
            other => &mut other[step],
        };
    }
    *at = value;
    spec
}

/// Each row changes one field of a valid spec; the field named is refused, or the change is fine.
fn table(kind: Kind, base: &Value, rows: &[(&str, Value, Option<&str>)]) {
    assert_eq!(
        refused(kind, base),
        Vec::<String>::new(),
        "the base is valid"
    );
    for (pointer, value, expected) in rows {
        let found = refused(kind, &with(base, pointer, value.clone()));
        match expected {
            Some(field) => assert!(
                found.contains(&format!("spec{field}")),
                "{pointer} = {value}: {found:?}"
            ),
            None => assert_eq!(found, Vec::<String>::new(), "{pointer} = {value}"),
        }
    }
}

#[test]
fn virtual_service() {
    let base = json!({"hosts": ["a"], "http": [{"match": [{}], "route": [{"destination": {"host": "a"}}]}]});
    let route = "/http/0/route/1";
    let to = json!({"destination": {"host": "b"}});
    table(
        Kind::VirtualService,
        &base,
        &[
            ("/hosts", json!(["*"]), Some(".hosts[0]")),
            ("/hosts", json!(["a", "a"]), Some(".hosts[1]")),
            ("/hosts", json!(["a*"]), Some(".hosts[0]")),
            ("/hosts", json!(["*.example.com"]), None),
            ("/gateways", json!(["ns/gw", "mesh"]), None),
            ("/gateways", json!(["a/b/c"]), Some(".gateways[0]")),
            ("/http", json!([]), Some("")),
            ("/http/0/route", json!([]), Some(".http[0]")),
            ("/http/0/redirect", json!({"uri": "/x"}), Some(".http[0]")),
            (route, to.clone(), Some(".http[0].route")),
            (
                "/http/0/route/0/weight",
                json!(-1),
                Some(".http[0].route[0].weight"),
            ),
            (
                "/http/0/route/0/destination/host",
                json!("*"),
                Some(".http[0].route[0].destination.host"),
            ),
            (
                "/http/0/route/0/destination/port",
                json!({"number": 0}),
                Some(".http[0].route[0].destination.port.number"),
            ),
            (
                "/http/0/match/0/uri",
                json!({"regex": "("}),
                Some(".http[0].match[0].uri.regex"),
            ),
            (
                "/http/0/match/0/uri",
                json!({"regex": "(a{500}){500}{500}"}),
                Some(".http[0].match[0].uri.regex"),
            ),
            (
                "/http/0/match/0/uri",
                json!({"prefix": "/", "exact": "/"}),
                Some(".http[0].match[0].uri"),
            ),
            ("/http/0/match/0/headers", json!({"x-a": {}}), None),
            (
                "/http/0/match/0/headers",
                json!({"x a": {}}),
                Some(".http[0].match[0].headers.x a"),
            ),
            (
                "/http/0/match/0/headers",
                json!({"x": {"exact": "a", "prefix": "b"}}),
                Some(".http[0].match[0].headers.x"),
            ),
            (
                "/http/0/match/0/port",
                json!(70000),
                Some(".http[0].match[0].port"),
            ),
            (
                "/http/0/timeout",
                json!("5 seconds"),
                Some(".http[0].timeout"),
            ),
            ("/http/0/timeout", json!("0s"), None),
            ("/http/0/timeout", json!("1us"), Some(".http[0].timeout")),
            (
                "/http/0/retries",
                json!({"attempts": 0, "retryOn": "5xx"}),
                Some(".http[0].retries.attempts"),
            ),
            (
                "/http/0/retries",
                json!({"attempts": 3, "retryOn": "5xx,503, reset"}),
                None,
            ),
            (
                "/http/0/retries",
                json!({"attempts": 3, "retryOn": "sometimes"}),
                Some(".http[0].retries.retryOn"),
            ),
            (
                "/http/0/fault",
                json!({"abort": {"percentage": {"value": 10}}}),
                Some(".http[0].fault.abort"),
            ),
            (
                "/http/0/fault",
                json!({"delay": {"fixedDelay": "7s", "percentage": {"value": 100.1}}}),
                Some(".http[0].fault.delay.percentage.value"),
            ),
            (
                "/http/0/fault",
                json!({"abort": {"grpcStatus": "NOPE"}}),
                Some(".http[0].fault.abort.grpcStatus"),
            ),
            (
                "/http/0/mirrors",
                json!([{"destination": {"host": "b"}, "percentage": {"value": 101.0}}]),
                Some(".http[0].mirrors[0].percentage.value"),
            ),
            ("/http/0/rewrite", json!({}), Some(".http[0].rewrite")),
            (
                "/http/0/headers",
                json!({"request": {"set": {"a b": "c"}}}),
                Some(".http[0].headers.request.set.a b"),
            ),
            (
                "/http/0/headers",
                json!({"response": {"add": {"a": "%BAD("}}}),
                Some(".http[0].headers.response.add.a"),
            ),
            (
                "/http/0/headers",
                json!({"response": {"add": {"a": "100%% %REQ(x-a?x-b):10% %PROTOCOL%"}}}),
                None,
            ),
            (
                "/tls",
                json!([{"match": [{"sniHosts": ["b"]}], "route": [to.clone()]}]),
                Some(".tls[0].match[0].sniHosts[0]"),
            ),
            (
                "/tls",
                json!([{"match": [{"sniHosts": ["a"]}], "route": [to.clone()]}]),
                None,
            ),
            (
                "/tcp",
                json!([{"match": [{"destinationSubnets": ["10.0.0.0/33"]}], "route": [to]}]),
                Some(".tcp[0].match[0].destinationSubnets[0]"),
            ),
            ("/exportTo", json!(["*", "a"]), Some(".exportTo")),
        ],
    );
    let delegate = json!({"http": [{"route": [{"destination": {"host": "a"}}]}]});
    table(
        Kind::VirtualService,
        &delegate,
        &[
            ("/gateways", json!(["g"]), Some(".hosts")),
            (
                "/http/0",
                json!({"delegate": {"name": "x"}}),
                Some(".http[0].delegate"),
            ),
        ],
    );
}

#[test]
fn destination_rule() {
    let base = json!({"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]});
    let policy = "/trafficPolicy";
    table(
        Kind::DestinationRule,
        &base,
        &[
            ("/host", json!(""), Some(".host")),
            (
                "/subsets/1",
                json!({"name": "v1"}),
                Some(".subsets[1].name"),
            ),
            (
                "/subsets/1",
                json!({"name": "v 1"}),
                Some(".subsets[1].name"),
            ),
            (
                "/subsets/0/labels",
                json!({"a b": "c"}),
                Some(".subsets[0].labels.a b"),
            ),
            (
                policy,
                json!({"loadBalancer": {"simple": "ROUND_ROBIN", "consistentHash": {"useSourceIp": true}}}),
                Some(".trafficPolicy.loadBalancer"),
            ),
            (
                policy,
                json!({"loadBalancer": {"consistentHash": {}}}),
                Some(".trafficPolicy.loadBalancer.consistentHash"),
            ),
            (
                policy,
                json!({"loadBalancer": {"consistentHash": {"useSourceIp": true, "maglev": {"tableSize": 4}}}}),
                Some(".trafficPolicy.loadBalancer.consistentHash.maglev.tableSize"),
            ),
            (
                policy,
                json!({"loadBalancer": {"simple": "FASTEST"}}),
                Some(".trafficPolicy.loadBalancer.simple"),
            ),
            (
                policy,
                json!({"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a/*", "to": {"b": 50}}]}}}),
                Some(".trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to"),
            ),
            (
                policy,
                json!({"outlierDetection": {"maxEjectionPercent": 101}}),
                Some(".trafficPolicy.outlierDetection.maxEjectionPercent"),
            ),
            (
                policy,
                json!({"tls": {"mode": "MUTUAL"}}),
                Some(".trafficPolicy.tls.clientCertificate"),
            ),
            (
                policy,
                json!({"tls": {"mode": "SIMPLE", "sni": "a.b"}}),
                None,
            ),
            (
                policy,
                json!({"portLevelSettings": [{"port": {"number": 80}, "tls": {}}, {"port": {"number": 80}, "tls": {}}]}),
                Some(".trafficPolicy.portLevelSettings[1].port.number"),
            ),
        ],
    );
}

#[test]
fn gateway() {
    let base = json!({"selector": {"istio": "ingressgateway"}, "servers": [
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]});
    let port = |number: u16, name: &str, protocol: &str| json!({"number": number, "name": name, "protocol": protocol});
    let server = |port: Value| json!({"port": port, "hosts": ["a.com"]});
    let tls = |mode: &str| json!({"port": port(443, "tls", "TLS"), "hosts": ["a.com"], "tls": {"mode": mode}});
    table(
        Kind::Gateway,
        &base,
        &[
            ("/servers", json!([]), Some(".servers")),
            (
                "/servers/0/port/number",
                json!(0),
                Some(".servers[0].port.number"),
            ),
            (
                "/servers/0/port/protocol",
                json!("FTP"),
                Some(".servers[0].port.protocol"),
            ),
            ("/servers/0/hosts", json!([]), Some(".servers[0].hosts")),
            ("/servers/0/hosts", json!(["ns/a.com", "./b.com"]), None),
            (
                "/servers/1",
                server(port(81, "http", "HTTP")),
                Some(".servers[1].port.name"),
            ),
            ("/servers/1", server(port(80, "more", "HTTP")), None),
            ("/servers/1", server(port(80, "tcp", "TCP")), None),
            (
                "/servers/1",
                server(port(443, "https", "HTTPS")),
                Some(".servers[1].tls"),
            ),
            ("/servers/1", tls("PASSTHROUGH"), None),
            (
                "/servers/1",
                tls("SIMPLE"),
                Some(".servers[1].tls.serverCertificate"),
            ),
            ("/servers/0/tls", json!({"httpsRedirect": true}), None),
            (
                "/servers/0/tls",
                json!({"mode": "SIMPLE"}),
                Some(".servers[0].tls"),
            ),
        ],
    );
}

#[test]
fn service_entry() {
    let base = json!({"hosts": ["a.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC", "endpoints": [{"address": "127.0.0.1"}]});
    table(
        Kind::ServiceEntry,
        &base,
        &[
            ("/hosts", json!(["*"]), Some(".hosts[0]")),
            (
                "/ports/1",
                json!({"number": 80, "name": "b"}),
                Some(".ports[1].number"),
            ),
            (
                "/ports/1",
                json!({"number": 81, "name": "http"}),
                Some(".ports[1].name"),
            ),
            ("/ports/0/number", json!(0), Some(".ports[0].number")),
            ("/ports/0/number", json!("80"), Some(".ports[0].number")),
            ("/resolution", json!("NONE"), Some(".endpoints")),
            ("/resolution", json!("MAGIC"), Some(".resolution")),
            (
                "/endpoints/0/address",
                json!("b.com"),
                Some(".endpoints[0].address"),
            ),
            (
                "/endpoints/0/ports",
                json!({"other": 80}),
                Some(".endpoints[0].ports.other"),
            ),
            (
                "/endpoints/0/ports",
                json!({"http": 0}),
                Some(".endpoints[0].ports.http"),
            ),
            (
                "/workloadSelector",
                json!({"labels": {"app": "a"}}),
                Some(".workloadSelector"),
            ),
            ("/addresses", json!(["10.0.0.0/8"]), None),
            ("/addresses", json!(["ten"]), Some(".addresses[0]")),
        ],
    );
    let dns = json!({"hosts": ["a.com"], "ports": [{"number": 443, "name": "https", "protocol": "HTTPS"}], "resolution": "DNS"});
    table(
        Kind::ServiceEntry,
        &dns,
        &[
            ("/hosts", json!(["*.a.com"]), Some(".hosts[0]")),
            ("/addresses", json!(["10.0.0.0/8"]), Some(".addresses[0]")),
            ("/endpoints", json!([{"address": "b.com"}]), None),
        ],
    );
}

#[test]
fn workloads() {
    let base = json!({"address": "127.0.0.2", "ports": {"http": 8080}, "labels": {"app": "a"}});
    table(
        Kind::WorkloadEntry,
        &base,
        &[
            ("/address", json!(""), Some(".address")),
            ("/address", json!("unix:///run/a"), Some(".ports")),
            ("/ports/http", json!(0), Some(".ports.http")),
            ("/locality", json!("a//c"), Some(".locality")),
            ("/locality", json!("eu/eu-1"), None),
            ("/labels/app", json!("a b"), Some(".labels.app")),
        ],
    );
    let group = json!({"template": {"ports": {"http": 80}}, "probe": {"httpGet": {"port": 80}}});
    table(
        Kind::WorkloadGroup,
        &group,
        &[
            ("/probe/tcpSocket", json!({"port": 1}), Some(".probe")),
            ("/probe/httpGet/port", json!(0), Some(".probe.httpGet.port")),
        ],
    );
}

#[test]
fn sidecar() {
    let port = |number: u16| json!({"number": number, "protocol": "HTTP", "name": "http"});
    let base = json!({"egress": [{"hosts": ["./*", "istio-system/*"]}]});
    table(
        Kind::Sidecar,
        &base,
        &[
            (
                "/egress/0/hosts",
                json!(["reviews"]),
                Some(".egress[0].hosts[0]"),
            ),
            ("/egress/1", json!({"hosts": ["*/*"]}), Some(".egress[0]")),
            (
                "/egress",
                json!([{"port": port(9080), "bind": "127.0.0.1", "hosts": ["*/*"]}, {"hosts": ["*/*"]}]),
                None,
            ),
            (
                "/egress/0/bind",
                json!("127.0.0.1"),
                Some(".egress[0].bind"),
            ),
            (
                "/ingress",
                json!([{"port": port(80)}, {"port": port(80)}]),
                Some(".ingress[1].port.number"),
            ),
            (
                "/ingress",
                json!([{"port": port(80), "defaultEndpoint": "10.0.0.1:80"}]),
                Some(".ingress[0].defaultEndpoint"),
            ),
            (
                "/ingress",
                json!([{"port": port(80), "defaultEndpoint": "127.0.0.1:8080"}, {"port": port(81), "defaultEndpoint": ":80"},
                    {"port": port(82), "defaultEndpoint": "[::]:80"}, {"port": {"number": 83}, "defaultEndpoint": "unix://@a"}]),
                None,
            ),
            (
                "/ingress",
                json!([{"port": port(80), "defaultEndpoint": ":0"}]),
                Some(".ingress[0].defaultEndpoint"),
            ),
            ("/workloadSelector", json!({}), None),
        ],
    );
}
