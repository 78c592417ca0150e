//! Rules S1 to S18.

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::*;

fn client() -> Client {
    Client::new(Variant::Sotw)
}

#[test]
fn s1_version_is_a_function_of_content() {
    let all = [cluster("a", 1), cluster("b", 1)];
    let mut versions = Vec::new();
    for order in [[0, 1], [1, 0]] {
        let mut client = client();
        client.show(&snapshot(
            versions.len() as i64,
            &order.map(|i| all[i].clone()),
        ));
        client.subscribe(Cluster, &[]);
        versions.push(client.one().version);
    }
    assert_eq!(versions[0], versions[1]);
    let mut changed = client();
    changed.show(&snapshot(1, &[cluster("a", 1), cluster("b", 2)]));
    changed.subscribe(Cluster, &[]);
    assert_ne!(changed.one().version, versions[0]);
}

#[test]
fn s1_the_callers_version_is_sent() {
    let mut shown = snapshot(1, &[cluster("a", 1)]);
    shown.set_version("v1");
    let mut client = client();
    client.show(&shown);
    client.subscribe(Cluster, &[]);
    assert_eq!(client.one().version, "v1");
}

#[test]
fn s2_nonces_are_new_per_response_and_per_stream() {
    let mut nonces = Vec::new();
    for stream in ["x-", "y-"] {
        let mut client = Client::with(
            Variant::Sotw,
            Options {
                nonce: stream.into(),
                ..Options::default()
            },
        );
        client.subscribe(Cluster, &[]);
        for v in 0..3 {
            client.show(&snapshot(1, &[cluster("a", v)]));
            nonces.extend(client.settle().into_iter().map(|seen| seen.nonce));
        }
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 6);
}

#[test]
fn s3_first_request_is_answered_whatever_it_carries() {
    let mut first = client();
    first.show(&snapshot(1, &[cluster("a", 1)]));
    first.subscribe(Cluster, &[]);
    let version = first.one().version;
    for (version, nonce) in [("", "1"), (version.as_str(), ""), ("old", "stale")] {
        let mut client = client();
        client.show(&snapshot(1, &[cluster("a", 1)]));
        client.sotw(DiscoveryRequest {
            type_url: Cluster.type_url().into(),
            version_info: version.into(),
            response_nonce: nonce.into(),
            ..Default::default()
        });
        assert_eq!(client.one().names(), ["a"]);
    }
    let mut empty = client();
    empty.show(&snapshot(1, &[]));
    empty.subscribe(Route, &["no-such"]);
    assert!(empty.one().names().is_empty());
}

#[test]
fn s4_stale_nonce_gets_no_response() {
    let mut client = client();
    client.show(&snapshot(1, &[endpoints("a", 1), endpoints("b", 1)]));
    client.subscribe(Endpoint, &["a"]);
    let first = client.one();
    client.ack(&first);
    client.silent();
    client.show(&snapshot(2, &[endpoints("a", 2), endpoints("b", 1)]));
    let second = client.one();
    client.names.insert(Endpoint, vec!["a".into(), "b".into()]);
    client.ack(&first);
    client.silent();
    client.ack(&second);
    assert_eq!(client.one().names(), ["b"]);
}

#[test]
fn s4_one_response_in_flight_per_type() {
    let mut client = client();
    client.subscribe(Cluster, &[]);
    for v in 0..5 {
        client.show(&snapshot(v, &[cluster("a", v as u32)]));
        assert_eq!(client.receive().len(), usize::from(v == 0));
    }
}

#[test]
fn s5_matching_nonce_and_same_names_is_silence() {
    let mut client = client();
    client.show(&snapshot(1, &[cluster("a", 1)]));
    client.subscribe(Cluster, &[]);
    let seen = client.one();
    client.ack(&seen);
    client.silent();
    client.ack(&seen);
    client.silent();
}

#[test]
fn s6_a_nack_is_error_detail_and_its_names_take_effect() {
    let mut client = client();
    client.show(&snapshot(1, &[endpoints("a", 1), endpoints("b", 1)]));
    client.subscribe(Endpoint, &["a"]);
    let seen = client.one();
    client.names.insert(Endpoint, vec!["a".into(), "b".into()]);
    client.nack(&seen, "a is bad");
    assert_eq!(client.one().names(), ["b"]);
    assert_eq!(client.refused(), ["a"]);
    // An ACK without version_info is an ACK all the same.
    let mut client = self::client();
    client.show(&snapshot(1, &[cluster("a", 1)]));
    client.subscribe(Cluster, &[]);
    let seen = Seen {
        version: String::new(),
        ..client.one()
    };
    client.ack(&seen);
    assert_eq!(
        client.events(),
        [Event::Ack {
            ty: Cluster,
            revision: 1
        }]
    );
}

#[test]
fn s8_newly_named_is_sent_though_unchanged() {
    let mut client = client();
    client.show(&snapshot(1, &[endpoints("a", 1), endpoints("b", 1)]));
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    client.subscribe(Endpoint, &["b"]);
    assert_eq!(client.settle()[0].names(), ["b"]);
    client.unsubscribe(Endpoint, &["a"]);
    client.silent();
    client.subscribe(Endpoint, &["a"]);
    assert_eq!(client.one().names(), ["a"]);
}

#[test]
fn s9_empty_list_is_the_wildcard_only_before_names() {
    let mut client = client();
    client.show(&snapshot(1, &[cluster("A", 1), cluster("B", 1)]));
    client.list(Cluster, &[]);
    assert_eq!(client.settle()[0].names(), ["A", "B"]);
    client.list(Cluster, &["*", "A"]);
    client.settle();
    assert_eq!(client.session.subscription(Cluster), (true, 1));
    client.list(Cluster, &["A"]);
    client.settle();
    client.show(&snapshot(2, &[cluster("A", 1), cluster("B", 2)]));
    client.silent();
    client.list(Cluster, &[]);
    client.show(&snapshot(3, &[cluster("A", 3), cluster("B", 3)]));
    client.silent();
    assert_eq!(client.session.subscription(Cluster), (false, 0));
}

#[test]
fn s9_empty_list_of_other_types_is_nothing() {
    let mut client = client();
    client.show(&snapshot(
        1,
        &[endpoints("a", 1), route("r", "a"), secret("s", 1)],
    ));
    for ty in [Endpoint, Route, Secret] {
        client.list(ty, &[]);
        assert!(client.one().names().is_empty());
    }
}

#[test]
fn s10_every_response_is_the_full_set() {
    let mut client = client();
    client.show(&snapshot(1, &[cluster("a", 1), cluster("b", 1)]));
    client.subscribe(Cluster, &[]);
    client.settle();
    client.show(&snapshot(
        2,
        &[cluster("a", 1), cluster("b", 1), cluster("c", 1)],
    ));
    assert_eq!(client.settle()[0].names(), ["a", "b", "c"]);
    client.show(&snapshot(3, &[cluster("a", 1)]));
    assert_eq!(client.one().names(), ["a"]);
}

#[test]
fn s10_nothing_is_sent_before_the_state_is_loaded() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.subscribe(Cluster, &[]);
        client.subscribe(Endpoint, &["a"]);
        client.silent();
    }
}

#[test]
fn s11_absence_deletes_no_route_and_only_changes_are_sent() {
    let mut client = client();
    client.show(&snapshot(1, &[route("a", "x"), route("b", "x")]));
    client.subscribe(Route, &["a", "b"]);
    client.settle();
    client.show(&snapshot(2, &[route("a", "y")]));
    assert_eq!(client.settle()[0].names(), ["a"]);
}

#[test]
fn s13_a_name_that_appears_is_pushed() {
    for variant in BOTH {
        for (ty, resource) in [
            (Route, route("late", "x")),
            (Secret, secret("late", 1)),
            (Cluster, cluster("late", 1)),
        ] {
            let mut client = Client::new(variant);
            client.show(&snapshot(1, &[]));
            client.subscribe(ty, &["late"]);
            client.settle();
            client.show(&snapshot(2, &[resource]));
            assert_eq!(client.one().names(), ["late"], "{variant} {ty}");
        }
    }
}

#[test]
fn s18_an_absent_name_blocks_no_other() {
    let mut client = client();
    client.show(&snapshot(1, &[endpoints("a", 1)]));
    client.subscribe(Endpoint, &["a", "none"]);
    let seen = client.one();
    let none = Resource::new(&ClusterLoadAssignment {
        cluster_name: "none".into(),
        ..Default::default()
    });
    assert_eq!(seen.resources, [endpoints("a", 1), none]);
    client.ack(&seen);
    client.silent();
}

#[test]
fn s18_a_cluster_that_loses_its_last_endpoint_gets_an_empty_assignment() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.show(&snapshot(1, &[cluster("a", 1), endpoints("a", 1)]));
        client.subscribe(Cluster, &[]);
        client.subscribe(Endpoint, &["a"]);
        client.settle();
        client.show(&snapshot(2, &[cluster("a", 1)]));
        let seen = client.settle();
        let empty = Resource::new(&ClusterLoadAssignment {
            cluster_name: "a".into(),
            ..Default::default()
        });
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].resources, [empty], "{variant}");
        client.show(&snapshot(3, &[cluster("a", 1), endpoints("a", 2)]));
        assert_eq!(client.one().resources, [endpoints("a", 2)]);
    }
}
