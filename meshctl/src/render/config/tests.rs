use super::*;
use serde_json::json;

fn show(part: Part, bodies: &[(&str, Value)]) -> String {
    let resource = |(name, body): &(&str, Value)| Resource {
        kind: types_of(part).first().unwrap_or(&"CDS").to_string(),
        name: (*name).into(),
        version: "5f0c2a91".into(),
        body: body.clone(),
    };
    let resources: Vec<Resource> = bodies.iter().map(resource).collect();
    table(part, &resources, false, Style { colour: false })
}

#[test]
fn clusters_are_taken_apart_by_name() {
    insta::assert_snapshot!(show(
        Part::Clusters,
        &[
            (
                "outbound|80|v1|reviews.default.svc.cluster.local",
                json!({"type": "EDS"})
            ),
            ("inbound|9080||", json!({})),
            ("PassthroughCluster", json!({"type": "ORIGINAL_DST"})),
            (
                "outbound|443||example.org",
                json!({"clusterType": {"name": "envoy.clusters.dns"}})
            ),
        ]
    ));
}

#[test]
fn listeners_have_a_row_per_chain() {
    let body = json!({
        "address": {"socketAddress": {"address": "127.0.0.2", "portValue": 9080}},
        "filterChains": [
            {"filterChainMatch": {"transportProtocol": "tls", "applicationProtocols": ["istio"], "serverNames": ["a.example", "b.example"]},
             "filters": [{"name": "envoy.filters.network.rbac"}, {"name": "hcm", "typedConfig": {"rds": {"routeConfigName": "80"}}}]},
            {"filterChainMatch": {"destinationPort": 5432, "sourcePrefixRanges": [{"addressPrefix": "10.0.0.0", "prefixLen": 8}]},
             "filters": [{"name": "tcp", "typedConfig": {"weightedClusters": {"clusters": [{"name": "a", "weight": 3}, {"name": "b", "weight": 1}]}}}]},
            {"filters": [{"name": "hcm", "typedConfig": {"routeConfig": {"name": "inbound|9080||"}}}]},
        ],
        "defaultFilterChain": {"filters": [{"name": "tcp", "typedConfig": {"cluster": "BlackHoleCluster"}}]},
    });
    insta::assert_snapshot!(show(Part::Listeners, &[("virtualInbound", body)]));
}

#[test]
fn routes_show_what_they_match_and_where_they_lead() {
    let host = |name: &str, domains: Value, routes: Value| json!({"name": name, "domains": domains, "routes": routes});
    let body = json!({"virtualHosts": [
        host("reviews:80", json!(["reviews", "reviews:80", "reviews.default"]), json!([
            {"match": {"prefix": "/", "headers": [{"name": "end-user", "stringMatch": {"exact": "jason"}}]}, "route": {"cluster": "v2"}},
            {"match": {"path": "/exact", "headers": [{"name": "x-debug", "invertMatch": true, "presentMatch": true}]},
             "directResponse": {"status": 404}},
            {"match": {"safeRegex": {"regex": "/v[0-9]+"}, "queryParameters": [{"name": "q", "stringMatch": {"safeRegex": {"regex": "a.*"}}}]},
             "redirect": {"httpsRedirect": true, "hostRedirect": "example.org", "pathRedirect": "/new"}},
            {"match": {"pathSeparatedPrefix": "/api"}, "route": {"clusterHeader": "x-to"}},
            {"match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]}}},
        ])),
    ]});
    insta::assert_snapshot!(show(Part::Routes, &[("80", body)]));
}

#[test]
fn endpoints_come_from_eds_and_from_clusters() {
    let endpoint = |host: &str, port: u16| json!({"address": {"socketAddress": {"address": host, "portValue": port}}});
    let assignment = json!({"endpoints": [
        {"lbEndpoints": [{"endpoint": endpoint("127.0.0.2", 9080), "healthStatus": "HEALTHY", "loadBalancingWeight": 5}]},
        {"priority": 1, "lbEndpoints": [{"endpoint": endpoint("::1", 9080), "healthStatus": "UNHEALTHY"}]},
    ]});
    let inline = json!({"loadAssignment": {"endpoints": [{"lbEndpoints": [{"endpoint": {"address": {"pipe": {"path": "/run/x"}}}}]}]}});
    insta::assert_snapshot!(show(
        Part::Endpoints,
        &[
            ("outbound|80||reviews", assignment),
            ("inbound|1||", inline)
        ]
    ));
}

#[test]
fn secrets_and_everything() {
    let secrets = [
        ("default", json!({"tlsCertificate": {}})),
        ("ROOTCA", json!({"validationContext": {}})),
    ];
    insta::assert_snapshot!(show(Part::Secrets, &secrets) + "\n" + &show(Part::All, &secrets));
}

#[test]
fn what_is_missing_breaks_nothing() {
    for part in [
        Part::Clusters,
        Part::Listeners,
        Part::Routes,
        Part::Endpoints,
        Part::Secrets,
        Part::All,
    ] {
        for body in [
            json!(null),
            json!({}),
            json!([1]),
            json!({"filterChains": [{}], "virtualHosts": [{"routes": [{}]}]}),
        ] {
            let _ = show(part, &[("x", body)]);
        }
        assert_eq!(show(part, &[]), "");
    }
}
