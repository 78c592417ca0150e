//! Rules that hold for both variants.

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::*;

fn full() -> Snapshot {
    snapshot(
        1,
        &[
            cluster("a", 1),
            endpoints("a", 1),
            listener("l", "r"),
            route("r", "a"),
        ],
    )
}

fn subscribed(variant: Variant, shown: &Snapshot) -> Client {
    let mut client = Client::new(variant);
    client.show(shown);
    client.subscribe(Cluster, &[]);
    client.subscribe(Endpoint, &["a"]);
    client.subscribe(Listener, &[]);
    client.subscribe(Route, &["r"]);
    client
}

#[test]
fn s12_no_name_twice_and_one_type() {
    for variant in BOTH {
        let mut client = subscribed(variant, &full());
        client.subscribe(Cluster, &["*", "a", "a"]);
        for seen in client.settle() {
            let mut names = seen.names();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), seen.resources.len());
            assert!(seen.type_urls.iter().all(|url| url == seen.ty.type_url()));
        }
    }
}

#[test]
fn s14_nothing_is_sent_when_nothing_changed() {
    for variant in BOTH {
        let mut client = subscribed(variant, &full());
        client.settle();
        client.events();
        let mut again = full();
        again.set_revision(2);
        client.show(&again);
        client.silent();
        let acked = client.events();
        assert_eq!(acked.len(), 4);
        assert!(
            acked
                .iter()
                .all(|e| matches!(e, Event::Ack { revision: 2, .. })),
            "{acked:?}"
        );
    }
}

#[test]
fn s15_a_nack_of_one_type_stalls_no_other() {
    for variant in BOTH {
        let mut client = subscribed(variant, &full());
        client.settle();
        client.show(&snapshot(
            2,
            &[
                cluster("a", 2),
                endpoints("a", 1),
                listener("l", "r"),
                route("r", "a"),
            ],
        ));
        let seen = client.receive();
        client.nack(&seen[0], "bad");
        seen[1..].iter().for_each(|other| client.ack(other));
        client.settle();
        client.show(&snapshot(
            3,
            &[
                cluster("a", 2),
                endpoints("a", 9),
                listener("l", "r"),
                route("r", "a"),
            ],
        ));
        assert_eq!(
            client.settle()[0].resources,
            [endpoints("a", 9)],
            "{variant}"
        );
    }
}

#[test]
fn s16_no_node_or_no_type_is_refused() {
    let new = |variant, only| {
        Session::new(
            variant,
            Options {
                only,
                ..Options::default()
            },
            Instant::now(),
        )
    };
    let url = || Cluster.type_url().to_owned();
    let node = || Some(client::node());
    let sotw = |only, type_url, node| {
        new(Variant::Sotw, only).on_request(&DiscoveryRequest {
            type_url,
            node,
            ..Default::default()
        })
    };
    let delta = |only, type_url, node| {
        new(Variant::Delta, only).on_delta_request(&DeltaDiscoveryRequest {
            type_url,
            node,
            ..Default::default()
        })
    };
    assert_eq!(sotw(None, url(), None), Err(Refusal::NoNode));
    assert_eq!(delta(None, url(), None), Err(Refusal::NoNode));
    assert_eq!(sotw(None, String::new(), node()), Err(Refusal::NoType));
    assert_eq!(delta(None, String::new(), node()), Err(Refusal::NoType));
    assert!(matches!(
        sotw(Some(Endpoint), url(), node()),
        Err(Refusal::OtherType { .. })
    ));
    assert_eq!(delta(Some(Cluster), String::new(), node()), Ok(()));
}

#[test]
fn s16_the_node_is_needed_only_once() {
    for variant in BOTH {
        let mut client = subscribed(variant, &full());
        client.settle();
        assert_eq!(client.session.node().unwrap().id, "node");
    }
}

#[test]
fn c2_every_response_names_the_control_plane() {
    for variant in BOTH {
        let mut client = Client::with(
            variant,
            Options {
                control_plane: "replica-1".into(),
                ..Options::default()
            },
        );
        client.show(&full());
        client.subscribe(Cluster, &[]);
        client.subscribe(Endpoint, &["a", "none"]);
        assert!(
            client
                .settle()
                .iter()
                .all(|seen| seen.control_plane == "replica-1")
        );
    }
}

#[test]
fn c3_every_first_request_is_answered_even_if_there_is_nothing() {
    for variant in BOTH {
        for ty in ResourceType::ALL {
            let mut client = Client::new(variant);
            client.show(&snapshot(1, &[]));
            client.subscribe(ty, if ty.is_full_state() { &[] } else { &["none"] });
            assert_eq!(client.receive().len(), 1, "{variant} {ty}");
        }
    }
}

#[test]
fn c5_changes_coalesce_into_the_newest() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.subscribe(Cluster, &[]);
        client.show(&snapshot(0, &[cluster("a", 0)]));
        let first = client.one();
        for v in 1..100 {
            client.show(&snapshot(v, &[cluster("a", v as u32)]));
            client.silent();
        }
        client.ack(&first);
        let seen = client.settle();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].resources, [cluster("a", 99)]);
        assert_eq!(
            client.events().last(),
            Some(&Event::Ack {
                ty: Cluster,
                revision: 99
            })
        );
    }
}

#[test]
fn c8_heartbeats_only_to_those_who_understand_them() {
    for variant in BOTH {
        for understands in [true, false] {
            let mut client = Client::new(variant);
            let ttl = endpoints("a", 1).with_ttl(Duration::from_secs(10));
            client.show(&snapshot(1, std::slice::from_ref(&ttl)));
            let mut node = client::node();
            if understands {
                node.client_features
                    .push("xds.config.supports-resource-ttl".into());
            }
            client.node();
            let names = vec!["a".to_owned()];
            client.names.insert(Endpoint, names.clone());
            let (node, type_url) = (Some(node), Endpoint.type_url().to_owned());
            match variant {
                Variant::Sotw => client.session.on_request(&DiscoveryRequest {
                    node,
                    type_url,
                    resource_names: names,
                    ..Default::default()
                }),
                Variant::Delta => client.session.on_delta_request(&DeltaDiscoveryRequest {
                    node,
                    type_url,
                    resource_names_subscribe: names,
                    ..Default::default()
                }),
            }
            .unwrap();
            let seen = client.one();
            assert_eq!(seen.names(), ["a"]);
            assert_eq!(seen.ttls, usize::from(understands));
            client.ack(&seen);
            client.silent();
            assert_eq!(client.session.deadline().is_some(), understands);
            for _ in 0..3 {
                client.later(Duration::from_secs(5));
                let beats: Vec<_> = client
                    .settle()
                    .into_iter()
                    .flat_map(|seen| seen.beats)
                    .collect();
                assert_eq!(beats.len(), usize::from(understands), "{variant}");
            }
        }
    }
}

#[test]
fn c12_a_cluster_sent_again_gets_its_endpoints_again() {
    for variant in BOTH {
        let mut client = subscribed(variant, &full());
        client.settle();
        client.show(&snapshot(
            2,
            &[
                cluster("a", 2),
                endpoints("a", 1),
                listener("l", "r"),
                route("r", "a"),
            ],
        ));
        let seen = client.receive();
        let sent: Vec<_> = seen.iter().map(|s| (s.ty, s.names())).collect();
        assert_eq!(
            sent,
            [(Cluster, vec!["a"]), (Endpoint, vec!["a"])],
            "{variant}"
        );
        seen.iter().for_each(|s| client.ack(s));
        client.silent();
    }
}

#[test]
fn an_unknown_type_ends_nothing() {
    for variant in BOTH {
        let mut client = subscribed(variant, &full());
        let type_url = "type.googleapis.com/envoy.config.route.v3.VirtualHost".to_owned();
        match variant {
            Variant::Sotw => client.sotw(DiscoveryRequest {
                type_url,
                ..Default::default()
            }),
            Variant::Delta => client.delta(DeltaDiscoveryRequest {
                type_url,
                ..Default::default()
            }),
        }
        assert!(
            client
                .events()
                .iter()
                .any(|e| matches!(e, Event::Unsupported { .. }))
        );
        assert_eq!(client.settle().len(), 4);
    }
}

#[test]
fn a_stream_in_step_costs_no_map_of_names() {
    let many: Vec<Resource> = (0..500).map(|i| cluster(&format!("c{i}"), 1)).collect();
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.show(&snapshot(1, &many));
        client.subscribe(Cluster, &[]);
        client.settle();
        let mut next = snapshot(1, &many);
        next.insert(cluster("c7", 2));
        client.show(&next);
        client.settle();
        assert!(client.session.types[Cluster as usize].except.is_empty());
        assert!(client.session.types[Cluster as usize].flights.is_empty());
    }
}
