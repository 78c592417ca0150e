//! Rule S7 and C7: what is refused stays out by itself, and is not sent again.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A client that refuses every response with one of these (name, version) in it, applies nothing of it, and ACKs the rest.
/// What it holds in the end, and how many responses it took.
fn stubborn(
    client: &mut Client,
    ty: ResourceType,
    bad: &[Resource],
    says: &str,
) -> (BTreeMap<String, Resource>, usize) {
    let mut held = BTreeMap::new();
    let mut count = 0;
    loop {
        let now = client.receive();
        if now.is_empty() {
            return (held, count);
        }
        for seen in now {
            count += 1;
            assert!(count < 200, "no end");
            if seen.ty == ty && seen.resources.iter().any(|r| bad.contains(r)) {
                client.nack(&seen, says);
                continue;
            }
            if seen.ty == ty {
                if client.variant == Variant::Sotw && ty.is_full_state() {
                    held.clear();
                }
                held.extend(
                    seen.resources
                        .iter()
                        .map(|r| (r.name().to_string(), r.clone())),
                );
                seen.removed.iter().for_each(|name| drop(held.remove(name)));
            }
            client.ack(&seen);
        }
    }
}

#[test]
fn c7_bisection_finds_the_bad_and_lets_the_good_through() {
    for variant in BOTH {
        for bad in [vec![3], vec![0, 19], vec![1, 2, 3, 4], (0..20).collect()] {
            for says in ["no", "c3 is bad, and c19"] {
                let all: Vec<Resource> = (0..20).map(|i| cluster(&format!("c{i}"), 1)).collect();
                let bad: Vec<Resource> = bad.iter().map(|i| all[*i].clone()).collect();
                let mut client = Client::new(variant);
                client.show(&snapshot(1, &all));
                client.subscribe(Cluster, &[]);
                let (held, count) = stubborn(&mut client, Cluster, &bad, says);
                let good: BTreeSet<String> = all
                    .iter()
                    .filter(|r| !bad.contains(r))
                    .map(|r| r.name().to_string())
                    .collect();
                assert_eq!(held.into_keys().collect::<BTreeSet<_>>(), good, "{variant}");
                let refused: BTreeSet<String> = client.refused().into_iter().collect();
                assert_eq!(
                    refused,
                    bad.iter().map(|r| r.name().to_string()).collect(),
                    "{variant}"
                );
                assert!(
                    count <= 2 + 10 * bad.len(),
                    "{variant}: {count} responses for {} bad ones",
                    bad.len()
                );
            }
        }
    }
}

#[test]
fn c7_the_last_good_one_stays() {
    for variant in BOTH {
        for ty in [Cluster, Endpoint] {
            let make = |name: &str, v| {
                if ty == Cluster {
                    cluster(name, v)
                } else {
                    endpoints(name, v)
                }
            };
            let mut client = Client::new(variant);
            client.show(&snapshot(1, &[make("a", 1), make("b", 1)]));
            client.subscribe(ty, &["a", "b"]);
            client.settle();
            client.show(&snapshot(2, &[make("a", 2), make("b", 2)]));
            let (held, _) = stubborn(&mut client, ty, &[make("a", 2)], "no");
            assert_eq!(held["b"], make("b", 2), "{variant} {ty}");
            assert_eq!(
                held.get("a").unwrap_or(&make("a", 1)),
                &make("a", 1),
                "{variant} {ty}"
            );
        }
    }
}

#[test]
fn s7_the_version_last_refused_is_not_sent_again() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        let mut refused = BTreeSet::new();
        client.show(&snapshot(1, &[cluster("a", 1), cluster("b", 1)]));
        client.subscribe(Cluster, &[]);
        client.settle();
        client.show(&snapshot(2, &[cluster("a", 2), cluster("b", 1)]));
        let seen = client.one();
        refused.insert(seen.version.clone());
        client.nack(&seen, "no");
        let mut after = client.settle();
        client.show(&snapshot(3, &[cluster("a", 2), cluster("b", 3)]));
        after.extend(client.settle());
        for seen in &after {
            assert!(
                !seen.resources.contains(&cluster("a", 2)),
                "{variant} {seen:?}"
            );
            assert!(!refused.contains(&seen.version), "{variant}");
        }
        assert!(
            after
                .iter()
                .any(|seen| seen.resources.contains(&cluster("b", 3))),
            "{variant}"
        );
    }
}

#[test]
fn s7_any_other_version_is_sent_an_earlier_one_included() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.subscribe(Cluster, &[]);
        client.show(&snapshot(1, &[cluster("a", 1)]));
        client.settle();
        for (revision, v) in [(2, 2), (3, 3)] {
            client.show(&snapshot(revision, &[cluster("a", v)]));
            let seen = client.one();
            assert_eq!(seen.resources, [cluster("a", v)], "{variant}");
            client.nack(&seen, "no");
            client.settle();
        }
        client.show(&snapshot(4, &[cluster("a", 2)]));
        assert_eq!(client.one().resources, [cluster("a", 2)], "{variant}");
    }
}

#[test]
fn c7_a_correction_is_accepted_and_reported() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.subscribe(Cluster, &[]);
        client.show(&snapshot(1, &[cluster("a", 1)]));
        let seen = client.one();
        client.nack(&seen, "no");
        client.settle();
        client.events();
        client.show(&snapshot(2, &[cluster("a", 2)]));
        client.settle();
        let events = client.events();
        assert!(
            events.contains(&Event::Corrected {
                ty: Cluster,
                name: "a".into()
            }),
            "{variant} {events:?}"
        );
        assert_eq!(
            events.last(),
            Some(&Event::Ack {
                ty: Cluster,
                revision: 2
            })
        );
    }
}

#[test]
fn c7_something_new_does_not_wait_for_the_search() {
    for variant in BOTH {
        let many: Vec<Resource> = (0..16).map(|i| cluster(&format!("c{i}"), 1)).collect();
        let mut client = Client::new(variant);
        client.subscribe(Cluster, &[]);
        client.show(&snapshot(1, &many));
        let seen = client.one();
        client.nack(&seen, "no");
        let mut next = snapshot(2, &many);
        next.insert(cluster("new", 1));
        client.show(&next);
        assert!(client.one().names().contains(&"new"), "{variant}");
    }
}

#[test]
fn c7_a_full_set_never_leaves_out_what_an_earlier_stream_left() {
    use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
    let mut client = Client::new(Variant::Sotw);
    client.show(&snapshot(1, &[cluster("a", 2), cluster("b", 2)]));
    client.sotw(DiscoveryRequest {
        type_url: Cluster.type_url().into(),
        version_info: "from before".into(),
        ..Default::default()
    });
    let seen = client.one();
    client.nack(&seen, "a: no");
    assert_eq!(client.refused(), ["a"]);
    client.silent();
    client.show(&snapshot(2, &[cluster("a", 2), cluster("b", 3)]));
    assert_eq!(client.one().names(), ["a", "b"]);
}

#[test]
fn c1_a_route_to_a_refused_cluster_waits() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.show(&snapshot(
            1,
            &[cluster("a", 1), listener("l", "r"), route("r", "a")],
        ));
        client.subscribe(Cluster, &[]);
        client.subscribe(Listener, &[]);
        client.subscribe(Route, &["r"]);
        client.settle();
        client.show(&snapshot(
            2,
            &[
                cluster("a", 1),
                cluster("bad", 1),
                listener("l", "r"),
                route("r", "bad"),
            ],
        ));
        let seen = client.one();
        client.nack(&seen, "bad is bad");
        let after = client.settle();
        assert!(after.iter().all(|s| s.ty != Route), "{variant} {after:?}");
        client.later(Duration::from_secs(11));
        assert_eq!(client.one().ty, Route);
    }
}

#[test]
fn c7_a_group_that_lost_its_culprit_convicts_nobody() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.subscribe(Cluster, &[]);
        let good = [cluster("a", 1), cluster("b", 1)];
        let mut first = snapshot(1, &good);
        first.insert(cluster("c", 1));
        client.show(&first);
        let seen = client.one();
        client.nack(&seen, "no");
        // The bad one, c, goes before it is found.
        client.show(&snapshot(2, &good));
        let (held, _) = stubborn(&mut client, Cluster, &[cluster("c", 1)], "no");
        assert_eq!(held.len(), 2, "{variant} {held:?}");
        assert_eq!(client.refused(), [""; 0]);
    }
}

#[test]
fn s7_a_client_that_refuses_everything_is_left_alone() {
    for variant in BOTH {
        for (ty, make) in [
            (Cluster, cluster as fn(&str, u32) -> Resource),
            (Endpoint, endpoints),
            (Secret, secret),
        ] {
            let mut client = Client::new(variant);
            let refuse_all = |client: &mut Client, what: &str| {
                for round in 0.. {
                    assert!(round < 12, "{variant} {ty}: {what}: no end");
                    let now = client.receive();
                    if now.is_empty() {
                        return round;
                    }
                    now.iter().for_each(|seen| client.nack(seen, "no"));
                }
                unreachable!("the loop has no other end")
            };
            client.show(&snapshot(1, &[make("a", 1), make("b", 1)]));
            client.subscribe(ty, &["a", "b", "none"]);
            assert!(refuse_all(&mut client, "from the start") > 0);
            client.show(&snapshot(2, &[make("a", 2), make("b", 2)]));
            assert!(refuse_all(&mut client, "changed") > 0);
            client.show(&snapshot(3, &[make("a", 3), make("b", 3)]));
            client.settle();
            client.show(&snapshot(4, &[make("a", 4), make("b", 3)]));
            assert!(refuse_all(&mut client, "after something good") > 0);
            client.show(&snapshot(5, &[]));
            refuse_all(&mut client, "removed");
            // It is not forgotten: what comes next is sent, and is held once it is ACKed.
            client.show(&snapshot(6, &[make("a", 6), make("b", 6)]));
            let seen = client.settle();
            assert_eq!(seen[0].names(), ["a", "b"], "{variant} {ty}");
            client.silent();
        }
    }
}

#[test]
fn d8_a_refused_removal_is_tried_again_once_there_is_something_new() {
    let mut client = Client::new(Variant::Delta);
    client.show(&snapshot(1, &[cluster("a", 1)]));
    client.subscribe(Cluster, &[]);
    let first = client.one();
    client.nack(&first, "no");
    let removal = client.one();
    assert_eq!(removal.removed, ["a"]);
    client.nack(&removal, "no");
    client.silent();
    client.show(&snapshot(2, &[cluster("a", 1), cluster("b", 1)]));
    assert_eq!(client.settle()[0].names(), ["b"]);
    client.show(&snapshot(3, &[cluster("b", 1)]));
    let again = client.one();
    assert_eq!(again.removed, ["a"]);
    client.nack(&again, "no");
    client.silent();
    client.show(&snapshot(4, &[cluster("a", 4), cluster("b", 1)]));
    assert_eq!(client.settle()[0].names(), ["a"]);
}
