#![allow(clippy::unwrap_used)]

use serde::de::DeserializeOwned;

use super::*;

fn with_scope<R: DeserializeOwned>(
    yaml: &str,
    compile: impl Fn(&[R], &Scope<'_>) -> Vec<Chain>,
) -> Vec<Chain> {
    let rules: Vec<R> = serde_saphyr::from_str(yaml).unwrap();
    let gateways = ["mesh".to_owned()];
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    compile(
        &rules,
        &Scope {
            name: "db",
            namespace: "shop",
            port: 3306,
            gateways: &gateways,
            proxy_labels: &labels,
            proxy_namespace: "shop",
            resolve: &|destination| {
                let upstream = Upstream {
                    host: destination.host.to_string(),
                    ..Default::default()
                };
                let idle_timeout = Some(Duration::from_secs(7));
                (
                    upstream,
                    Connections {
                        idle_timeout,
                        max_duration: None,
                        hash_source_ip: true,
                        access_log: Vec::new(),
                    },
                )
            },
        },
    )
}

fn clusters(chain: &Chain) -> String {
    match chain.proxy.cluster_specifier.as_ref().unwrap() {
        ClusterSpecifier::Cluster(name) => name.clone(),
        ClusterSpecifier::WeightedClusters(weighted) => {
            let clusters = weighted
                .clusters
                .iter()
                .map(|it| format!("{}={}", it.name, it.weight));
            clusters.collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn tcp_destinations_are_weighted() {
    let chains = with_scope(
        "[{route: [{destination: {host: a, subset: v1}, weight: 20}, {destination: {host: b}, weight: 80}, \
           {destination: {host: c}, weight: 0}]}]",
        tcp_chains,
    );
    assert_eq!(
        clusters(&chains[0]),
        "outbound|3306|v1|a=20 outbound|3306||b=80"
    );
    assert_eq!(chains[0].proxy.stat_prefix, "db.shop");
    let single = with_scope(
        "[{route: [{destination: {host: a}, weight: 0}]}]",
        tcp_chains,
    );
    assert_eq!(
        clusters(&single[0]),
        "outbound|3306||a",
        "a single one has no need of a weight"
    );
    assert_eq!(
        single[0].proxy.idle_timeout.unwrap().seconds,
        7,
        "connectionPool.tcp.idleTimeout"
    );
    assert_eq!(
        single[0].proxy.hash_policy.len(),
        1,
        "consistentHash.useSourceIp"
    );
}

#[test]
fn tcp_matches_in_order_until_one_takes_all() {
    let chains = with_scope(
        "[{match: [{port: 1}], route: [{destination: {host: other-port}}]}, \
          {match: [{sourceLabels: {app: api}}], route: [{destination: {host: other-source}}]}, \
          {match: [{destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: subnet}}]}, \
          {match: [{destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: shadowed}}]}, \
          {match: [{port: 3306}], route: [{destination: {host: all}}]}, \
          {match: [{destinationSubnets: [11.0.0.0/8]}], route: [{destination: {host: after}}]}]",
        tcp_chains,
    );
    let seen: Vec<_> = chains.iter().map(clusters).collect();
    assert_eq!(seen, ["outbound|3306||subnet", "outbound|3306||all"]);
    assert_eq!(chains[0].destination_subnets, ["10.0.0.0/8"]);
}

#[test]
fn tls_matches_by_server_name_and_the_first_of_equals_counts() {
    let chains = with_scope(
        "[{match: [{port: 443, sniHosts: [no.io]}], route: [{destination: {host: other-port}}]}, \
          {match: [{sniHosts: [a.io], gateways: [shop/public]}], route: [{destination: {host: gateway}}]}, \
          {match: [{sniHosts: [a.io]}], route: [{destination: {host: a}}]}, \
          {match: [{sniHosts: [a.io]}, {sniHosts: [b.io], destinationSubnets: [10.0.0.0/8]}], \
           route: [{destination: {host: b}}]}, \
          {match: [{sniHosts: ['*']}], route: [{destination: {host: any}}]}]",
        tls_chains,
    );
    let seen: Vec<_> = chains
        .iter()
        .map(|it| {
            (
                clusters(it),
                it.sni_hosts.join(","),
                it.destination_subnets.len(),
            )
        })
        .collect();
    let want = [
        ("outbound|3306||a", "a.io", 0),
        ("outbound|3306||b", "b.io", 1),
        ("outbound|3306||any", "", 0),
    ];
    assert_eq!(
        seen,
        want.map(|(cluster, sni, subnets)| (cluster.to_owned(), sni.to_owned(), subnets))
    );
}
