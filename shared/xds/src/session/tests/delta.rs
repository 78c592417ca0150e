//! Rules D1 to D8.

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::*;

fn client() -> Client {
    Client::new(Variant::Delta)
}

#[test]
fn d1_nonces_are_unique() {
    let mut client = client();
    client.subscribe(Cluster, &[]);
    client.subscribe(Endpoint, &["a"]);
    let mut nonces = Vec::new();
    for v in 0..5 {
        client.show(&snapshot(1, &[cluster("a", v), endpoints("a", v + 1)]));
        nonces.extend(client.settle().into_iter().map(|seen| seen.nonce));
    }
    let count = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert!(nonces.len() == count && count >= 10);
}

#[test]
fn d2_a_stale_nonce_never_blocks_a_subscription() {
    let mut client = client();
    client.show(&snapshot(1, &[endpoints("a", 1), endpoints("b", 1)]));
    client.subscribe(Endpoint, &["a"]);
    let unanswered = client.one();
    client.delta(DeltaDiscoveryRequest {
        type_url: Endpoint.type_url().into(),
        response_nonce: "stale".into(),
        resource_names_subscribe: vec!["b".into()],
        ..Default::default()
    });
    let second = client.one();
    assert_eq!(second.names(), ["b"]);
    client.ack(&second);
    client.ack(&unanswered);
    client.silent();
    client.show(&snapshot(2, &[endpoints("a", 2), endpoints("b", 1)]));
    assert_eq!(client.one().names(), ["a"]);
}

#[test]
fn d3_a_repeated_subscription_is_answered_again() {
    let mut client = client();
    client.show(&snapshot(1, &[endpoints("a", 1), cluster("a", 1)]));
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    client.subscribe(Endpoint, &["a"]);
    assert_eq!(client.settle()[0].names(), ["a"]);
    client.subscribe(Cluster, &[]);
    client.settle();
    client.subscribe(Cluster, &["a"]);
    assert_eq!(client.settle()[0].names(), ["a"]);
}

#[test]
fn d4_unsubscribing_from_what_was_not_subscribed_changes_nothing() {
    let mut client = client();
    client.show(&snapshot(1, &[endpoints("a", 1)]));
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    client.unsubscribe(Endpoint, &["b"]);
    client.silent();
    client.show(&snapshot(2, &[endpoints("a", 2)]));
    assert_eq!(client.one().names(), ["a"]);
}

#[test]
fn d4_under_the_wildcard_an_unsubscription_is_answered() {
    let mut client = client();
    client.show(&snapshot(1, &[cluster("A", 1)]));
    client.subscribe(Cluster, &["*", "A", "none"]);
    client.settle();
    client.unsubscribe(Cluster, &["A"]);
    assert_eq!(client.settle()[0].names(), ["A"]);
    client.unsubscribe(Cluster, &["none"]);
    assert_eq!(client.settle()[0].removed, ["none"]);
}

#[test]
fn d5_what_does_not_exist_is_removed_and_its_subscription_stays() {
    for (ty, resource) in [
        (Cluster, cluster("a", 1)),
        (Endpoint, endpoints("a", 1)),
        (Listener, listener("a", "r")),
        (Route, route("a", "x")),
        (Secret, secret("a", 1)),
    ] {
        let mut client = client();
        client.show(&snapshot(1, &[]));
        client.subscribe(ty, &["a"]);
        let seen = client.one();
        assert!(
            seen.resources.is_empty() && seen.removed == ["a"],
            "{seen:?}"
        );
        client.ack(&seen);
        client.show(&snapshot(2, &[resource]));
        assert_eq!(client.settle()[0].names(), ["a"]);
        client.show(&snapshot(3, &[]));
        match ty {
            // Clients refuse the removal of a secret they hold; they keep it.
            Secret => client.silent(),
            // Clients ignore the removal of endpoints; an empty assignment does it.
            Endpoint => assert_eq!(client.one().names(), ["a"]),
            _ => assert_eq!(client.one().removed, ["a"]),
        }
    }
}

#[test]
fn d6_what_the_client_still_holds_is_not_sent() {
    let mut client = client();
    let (same, old, gone) = (
        cluster("same", 1),
        cluster("changed", 1),
        cluster("gone", 1),
    );
    client.show(&snapshot(
        1,
        &[same.clone(), cluster("changed", 2), cluster("new", 1)],
    ));
    client.resume(Cluster, &[], &[&same, &old, &gone]);
    let seen = client.one();
    assert_eq!(seen.names(), ["changed", "new"]);
    client.ack(&seen);
    client.later(Duration::from_secs(1));
    assert_eq!(client.one().removed, ["gone"]);
}

#[test]
fn d6_in_step_the_answer_is_empty() {
    let mut client = client();
    let (c, e) = (cluster("a", 1), endpoints("a", 1));
    client.show(&snapshot(1, &[c.clone(), e.clone()]));
    client.resume(Cluster, &[], &[&c]);
    client.resume(Endpoint, &["a"], &[&e]);
    let seen = client.settle();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|s| s.resources.is_empty() && s.removed.is_empty())
    );
}

#[test]
fn d6_endpoints_are_sent_again_after_their_cluster() {
    let mut client = client();
    let (old, e) = (cluster("a", 1), endpoints("a", 1));
    client.show(&snapshot(1, &[cluster("a", 2), e.clone()]));
    client.resume(Cluster, &[], &[&old]);
    let first = client.one();
    assert_eq!(first.names(), ["a"]);
    client.resume(Endpoint, &["a"], &[&e]);
    assert_eq!(client.one().resources, std::slice::from_ref(&e));
    // While clusters warm, Envoy reconnects without asking for them.
    let mut warming = self::client();
    warming.show(&snapshot(1, &[cluster("a", 2), e.clone()]));
    warming.resume(Endpoint, &["a"], &[&e]);
    assert_eq!(warming.one().resources, [e]);
}

#[test]
fn d7_names_do_not_end_the_legacy_wildcard() {
    let mut client = client();
    client.show(&snapshot(1, &[cluster("A", 1), cluster("B", 1)]));
    client.subscribe(Cluster, &[]);
    client.settle();
    client.subscribe(Cluster, &["A"]);
    client.settle();
    client.show(&snapshot(2, &[cluster("A", 1), cluster("B", 2)]));
    assert_eq!(client.settle()[0].names(), ["B"]);
    client.unsubscribe(Cluster, &["*"]);
    client.settle();
    client.show(&snapshot(3, &[cluster("A", 3), cluster("B", 3)]));
    assert_eq!(client.settle()[0].names(), ["A"]);
}

#[test]
fn d8_nothing_is_held_before_its_ack() {
    let mut client = client();
    client.show(&snapshot(1, &[cluster("a", 1), cluster("b", 1)]));
    client.subscribe(Cluster, &[]);
    let first = client.one();
    client.nack(&first, "no");
    // What was refused is unknown: it is sent again, apart, or removed by name; never taken for granted.
    let mut told = std::collections::BTreeSet::new();
    for seen in client.settle() {
        told.extend(seen.names().into_iter().map(str::to_owned));
        told.extend(seen.removed.clone());
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["a", "b"]);
}
