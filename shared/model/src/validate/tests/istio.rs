//! Rules in which Istio's own validation is the measure; each row names the field of Istio's API that it is about.

use serde_json::{Value, json};

use super::{Kind, table};

/// `Headers.HeaderOperations`, `HTTPRedirect`, `VirtualService.hosts`, `Destination.host`, `VirtualService.exportTo`.
#[test]
fn virtual_service() {
    let base = json!({"hosts": ["a"], "http": [{"match": [{}], "route": [{"destination": {"host": "a"}}]}]});
    let headers = "/http/0/headers";
    let request = |value: Value| json!({"request": {"set": value}});
    let value = Some(".http[0].headers.request.set.x");
    table(
        Kind::VirtualService,
        &base,
        &[
            (headers, request(json!({":authority": "b.io"})), None),
            (headers, request(json!({"Host": "b.io"})), None),
            (
                headers,
                request(json!({":path": "/x"})),
                Some(".http[0].headers.request.set.:path"),
            ),
            (
                headers,
                json!({"request": {"remove": ["host"]}}),
                Some(".http[0].headers.request.remove[0]"),
            ),
            (
                headers,
                json!({"response": {"set": {":status": "200"}}}),
                Some(".http[0].headers.response.set.:status"),
            ),
            (
                headers,
                json!({"response": {"add": {"host": "a"}}}),
                Some(".http[0].headers.response.add.host"),
            ),
            (
                headers,
                json!({"request": {"set": {"host": "a"}, "add": {":authority": "b"}}}),
                Some(".http[0].headers.request"),
            ),
            (headers, request(json!({"x": "%HOSTNAME% and 100%%"})), None),
            (headers, request(json!({"x": "%REQ(x-a?x-b):8%"})), None),
            (
                headers,
                request(json!({"x": "%START_TIME(%Y-%m-%d)%"})),
                None,
            ),
            (headers, request(json!({"x": "abc%123"})), value),
            (headers, request(json!({"x": "%START_TIME%%"})), value),
            (headers, request(json!({"x": "100%"})), value),
            (
                "/http/0",
                json!({"redirect": {"uri": "/x"}, "fault": {"abort": {"httpStatus": 500}}}),
                Some(".http[0].fault"),
            ),
            (
                "/http/0/match/0/headers",
                json!({"@request.auth.claims.sub": {"exact": "a"}}),
                Some(".http[0].match[0].headers.@request.auth.claims.sub"),
            ),
            (
                "/hosts",
                json!(["a", "*.b.io", "*.c.b.io"]),
                Some(".hosts[2]"),
            ),
            ("/hosts", json!(["b.io", "*.b.io"]), None),
            ("/hosts", json!(["10.0.0.1"]), None),
            ("/hosts", json!(["10.0.0.300"]), Some(".hosts[0]")),
            (
                "/http/0/route/0/destination/host",
                json!("10.0.0.1"),
                Some(".http[0].route[0].destination.host"),
            ),
            ("/exportTo", json!(["~"]), Some(".exportTo[0]")),
        ],
    );
}

/// `CorsPolicy`, and regular expressions where routes are delegated (`validateHTTPRouteMatchRequest`).
#[test]
fn cors_and_delegates() {
    let base = json!({"hosts": ["a"], "http": [{"match": [{}], "route": [{"destination": {"host": "a"}}]}]});
    let cors = "/http/0/corsPolicy";
    let root = |matches: Value| json!({"match": [matches], "delegate": {"name": "b"}});
    let rows = [
        (
            cors,
            json!({"allowMethods": ["GET", "PATCH"], "allowHeaders": ["*"]}),
            None,
        ),
        (
            cors,
            json!({"allowMethods": ["*"]}),
            Some(".http[0].corsPolicy.allowMethods[0]"),
        ),
        (
            cors,
            json!({"allowMethods": ["get"]}),
            Some(".http[0].corsPolicy.allowMethods[0]"),
        ),
        (
            cors,
            json!({"allowOrigins": [{"exact": ""}]}),
            Some(".http[0].corsPolicy.allowOrigins[0].exact"),
        ),
        ("/http/0", root(json!({"uri": {"prefix": "/a"}})), None),
        (
            "/http/0",
            root(json!({"uri": {"regex": "/a"}})),
            Some(".http[0].match[0].uri.regex"),
        ),
        (
            "/http/0",
            root(json!({"headers": {"x": {"regex": "a"}}})),
            Some(".http[0].match[0].headers.x.regex"),
        ),
        ("/http/0/match/0/uri", json!({"regex": "/a"}), None),
    ];
    table(Kind::VirtualService, &base, &rows);
    let delegate = json!({"http": [{"match": [{}], "route": [{"destination": {"host": "a"}}]}]});
    let rows = [
        ("/http/0/match/0/uri", json!({"exact": "/a"}), None),
        (
            "/http/0/match/0/method",
            json!({"regex": "G.*"}),
            Some(".http[0].match[0].method.regex"),
        ),
        (
            "/http/0/match/0/queryParams",
            json!({"q": {"regex": "a"}}),
            Some(".http[0].match[0].queryParams.q.regex"),
        ),
    ];
    table(Kind::VirtualService, &delegate, &rows);
}

/// `ConnectionPoolSettings`, `OutlierDetection`, `HTTPCookie.ttl`, `ClientTLSSettings`, `DestinationRule.workloadSelector`.
#[test]
fn destination_rule() {
    let base = json!({"host": "a"});
    let policy = "/trafficPolicy";
    table(
        Kind::DestinationRule,
        &base,
        &[
            (policy, json!({}), Some(".trafficPolicy")),
            (
                policy,
                json!({"portLevelSettings": [{"port": {"number": 80}}]}),
                Some(".trafficPolicy.portLevelSettings[0]"),
            ),
            (
                policy,
                json!({"connectionPool": {"tcp": {"maxConnections": 0}, "http": {"http1MaxPendingRequests": 0, "http2MaxRequests": 0, "maxConcurrentStreams": 0}}}),
                None,
            ),
            (
                policy,
                json!({"outlierDetection": {"consecutiveLocalOriginFailures": 0}}),
                None,
            ),
            (
                policy,
                json!({"outlierDetection": {"consecutiveLocalOriginFailures": 1}}),
                Some(".trafficPolicy.outlierDetection.consecutiveLocalOriginFailures"),
            ),
            (
                policy,
                json!({"loadBalancer": {"consistentHash": {"httpCookie": {"name": "user"}}}}),
                None,
            ),
            (
                policy,
                json!({"tls": {"mode": "SIMPLE", "clientCertificate": "/a", "privateKey": "/b"}}),
                None,
            ),
            (
                policy,
                json!({"tls": {"mode": "SIMPLE", "insecureSkipVerify": true, "caCertificates": "/ca"}}),
                Some(".trafficPolicy.tls.insecureSkipVerify"),
            ),
            (
                policy,
                json!({"tls": {"mode": "SIMPLE", "insecureSkipVerify": true, "sni": "a.b"}}),
                None,
            ),
            ("/exportTo", json!(["~"]), Some(".exportTo[0]")),
        ],
    );
    let selected = json!({"host": "a", "workloadSelector": {"matchLabels": {"app": "a"}}});
    table(
        Kind::DestinationRule,
        &selected,
        &[
            ("/exportTo", json!(["*"]), Some(".exportTo")),
            ("/exportTo", json!(["."]), None),
        ],
    );
}

/// `ServiceEntry.hosts`, `ServiceEntry.ports`, `WorkloadEntry.address`, `ServiceEntry.exportTo`.
#[test]
fn service_entry() {
    let base = json!({"hosts": ["a.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC"});
    let port = |number: u16, protocol: &str| json!({"number": number, "name": protocol.to_ascii_lowercase(), "protocol": protocol});
    table(
        Kind::ServiceEntry,
        &base,
        &[
            ("/ports", json!([]), None),
            ("/hosts", json!(["127.0.0.1"]), Some(".hosts[0]")),
            ("/hosts", json!(["a.com", "b.com"]), None),
            ("/exportTo", json!(["~"]), None),
        ],
    );
    let several =
        json!({"hosts": ["a.com", "b.com"], "ports": [port(443, "TLS")], "resolution": "DNS"});
    table(
        Kind::ServiceEntry,
        &several,
        &[
            ("/ports/1", port(81, "TCP"), Some(".ports[1].protocol")),
            (
                "/ports/1",
                json!({"number": 81, "name": "b"}),
                Some(".ports[1].protocol"),
            ),
            ("/ports/1", port(81, "GRPC"), None),
        ],
    );
    let socket = json!({"hosts": ["a.com"], "ports": [port(80, "HTTP")], "resolution": "STATIC", "endpoints": [{"address": "unix:///run/a"}]});
    table(
        Kind::ServiceEntry,
        &socket,
        &[
            ("/ports/1", port(81, "TCP"), Some(".endpoints[0].address")),
            ("/resolution", json!("DNS"), Some(".endpoints[0].address")),
        ],
    );
}

/// `Server.tls`: Istio warns of what has no effect, and rejects a revocation list without client certificates.
#[test]
fn gateway() {
    let tls = json!({"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"});
    let port = json!({"number": 443, "name": "https", "protocol": "HTTPS"});
    let base = json!({"servers": [{"port": port, "hosts": ["*"], "tls": tls}]});
    table(
        Kind::Gateway,
        &base,
        &[
            ("/servers/0/tls/httpsRedirect", json!(true), None),
            ("/servers/0/tls/mode", json!("PASSTHROUGH"), None),
            (
                "/servers/0/tls/caCrl",
                json!("/crl"),
                Some(".servers[0].tls.caCrl"),
            ),
        ],
    );
}

/// `WorkloadEntry.locality` as in the example of the API, and `ReadinessProbe`, where 0 is the default.
#[test]
fn workloads() {
    let locality = json!({"address": "2.2.2.2", "locality": "us/us-east-1/az-1/r11"});
    table(Kind::WorkloadEntry, &locality, &[]);
    let probe = json!({"template": {}, "probe": {"tcpSocket": {"port": 80}, "timeoutSeconds": 0, "periodSeconds": 0, "successThreshold": 0, "failureThreshold": 0}});
    table(Kind::WorkloadGroup, &probe, &[]);
}

/// `IstioEgressListener.captureMode`: IPTABLES is refused with Unix sockets only.
#[test]
fn sidecar() {
    let port = json!({"number": 80, "protocol": "HTTP", "name": "http"});
    let base = json!({"ingress": [{"bind": "172.16.1.32", "port": port, "captureMode": "IPTABLES"}],
        "egress": [{"bind": "127.0.0.1", "port": port, "captureMode": "IPTABLES", "hosts": ["./*"]}]});
    let socket = json!({"bind": "unix:///run/a", "port": {"number": 0, "protocol": "HTTP"}, "captureMode": "IPTABLES", "hosts": ["./*"]});
    let field = Some(".egress[0].captureMode");
    table(Kind::Sidecar, &base, &[("/egress/0", socket, field)]);
}
