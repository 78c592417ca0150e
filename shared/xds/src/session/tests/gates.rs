//! Rule C1: order, make-before-break, and removals that come last.

use super::*;

fn subscribed(variant: Variant, shown: &Snapshot) -> Client {
    subscribed_with(variant, shown, Options::default())
}

fn subscribed_with(variant: Variant, shown: &Snapshot, options: Options) -> Client {
    let mut client = Client::with(variant, options);
    client.show(shown);
    client.subscribe(Cluster, &[]);
    client.settle();
    client.subscribe(Endpoint, &["a", "b"]);
    client.subscribe(Listener, &[]);
    client.settle();
    client.subscribe(Route, &["r"]);
    client.settle();
    client
}

fn at(revision: i64, name: &str) -> Snapshot {
    snapshot(
        revision,
        &[
            cluster(name, 1),
            endpoints(name, 1),
            listener("l", "r"),
            route("r", name),
        ],
    )
}

fn types(seen: &[Seen]) -> Vec<ResourceType> {
    seen.iter().map(|s| s.ty).collect()
}

/// The clusters that the client holds, after all it was sent.
fn holds(seen: &[Seen], variant: Variant, mut held: Vec<String>) -> Vec<String> {
    for response in seen.iter().filter(|s| s.ty == Cluster) {
        if variant == Variant::Sotw {
            held.clear();
        }
        held.extend(response.resources.iter().map(|r| r.name().to_string()));
        held.retain(|name| !response.removed.contains(name));
        held.sort();
        held.dedup();
    }
    held
}

#[test]
fn c1_order_is_clusters_endpoints_listeners_routes() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        for (ty, names) in [
            (Route, &["r"][..]),
            (Listener, &[]),
            (Endpoint, &["a"]),
            (Secret, &["s"]),
            (Cluster, &[]),
        ] {
            client.subscribe(ty, names);
        }
        let mut shown = at(1, "a");
        shown.insert(secret("s", 1));
        client.show(&shown);
        assert_eq!(
            types(&client.settle()),
            [Secret, Cluster, Endpoint, Listener, Route],
            "{variant}"
        );
    }
}

#[test]
fn c1_new_routes_wait_for_the_clusters_ack() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        client.show(&at(2, "b"));
        let seen = client.receive();
        assert_eq!(types(&seen), [Cluster, Endpoint], "{variant}");
        assert!(seen[0].names().contains(&"b"));
        client.ack(&seen[1]);
        client.silent();
        client.ack(&seen[0]);
        assert_eq!(client.one().ty, Route);
    }
}

#[test]
fn c1_new_routes_wait_ten_seconds_at_most() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        client.show(&at(2, "b"));
        client.receive();
        client.later(Duration::from_millis(9_900));
        client.silent();
        let deadline = client.session.deadline().unwrap();
        assert_eq!(deadline - client.now, Duration::from_millis(100));
        client.now = deadline;
        assert_eq!(client.one().ty, Route, "{variant}");
    }
}

#[test]
fn c1_clusters_are_removed_after_the_routes_ack() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        client.show(&at(2, "b"));
        let seen = client.receive();
        assert_eq!(
            holds(&seen, variant, vec!["a".into()]),
            ["a", "b"],
            "{variant}"
        );
        seen.iter().for_each(|s| client.ack(s));
        let routes = client.one();
        client.silent();
        client.ack(&routes);
        let after = client.receive();
        assert_eq!(
            holds(&after, variant, vec!["a".into(), "b".into()]),
            ["b"],
            "{variant} {after:?}"
        );
    }
}

#[test]
fn c1_a_retained_cluster_keeps_its_last_endpoints() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        client.show(&at(2, "b"));
        let seen = client.receive();
        let assigned: Vec<_> = seen
            .iter()
            .filter(|s| s.ty == Endpoint)
            .flat_map(Seen::names)
            .collect();
        assert_eq!(assigned, ["b"], "{variant}");
        // A newer snapshot while the clusters are not ACKed changes nothing about that.
        client.show(&at(3, "b"));
        client.silent();
    }
}

#[test]
fn c1_without_late_removal_clusters_go_at_once() {
    for variant in BOTH {
        let options = Options {
            late_removal: false,
            ..Options::default()
        };
        let mut client = subscribed_with(variant, &at(1, "a"), options);
        client.show(&at(2, "b"));
        assert_eq!(
            holds(&client.receive(), variant, vec!["a".into()]),
            ["b"],
            "{variant}"
        );
    }
}

#[test]
fn c1_a_silent_client_keeps_a_cluster_for_sixty_seconds() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        client.show(&at(2, "b"));
        let seen = client.receive();
        seen.iter().for_each(|s| client.ack(s));
        assert_eq!(client.one().ty, Route);
        client.later(Duration::from_secs(59));
        client.silent();
        client.later(Duration::from_secs(2));
        assert_eq!(
            holds(&client.receive(), variant, vec!["a".into(), "b".into()]),
            ["b"],
            "{variant}"
        );
    }
}

#[test]
fn c1_after_a_nack_a_cluster_is_kept_until_corrected() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        client.show(&at(2, "b"));
        let seen = client.receive();
        seen.iter().for_each(|s| client.ack(s));
        let routes = client.one();
        client.nack(&routes, "r is bad");
        let mut after = client.settle();
        client.later(Duration::from_secs(3600));
        after.extend(client.settle());
        assert_eq!(
            holds(&after, variant, vec!["a".into(), "b".into()]),
            ["a", "b"],
            "{variant}"
        );
        let mut corrected = at(3, "b");
        corrected.insert(make(Route, &json!({"name": "r", "virtual_hosts": []})));
        client.show(&corrected);
        assert_eq!(
            holds(&client.settle(), variant, vec!["a".into(), "b".into()]),
            ["b"],
            "{variant}"
        );
    }
}

#[test]
fn c1_types_not_subscribed_do_not_gate() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        client.show(&at(1, "a"));
        client.subscribe(Cluster, &[]);
        client.settle();
        client.show(&at(2, "b"));
        assert_eq!(
            holds(&client.settle(), variant, vec!["a".into()]),
            ["b"],
            "{variant}"
        );
        let mut routes = Client::new(variant);
        routes.show(&at(1, "a"));
        routes.subscribe(Route, &["r"]);
        assert_eq!(routes.one().ty, Route);
    }
}

#[test]
fn c1_listeners_count_only_when_their_routes_are_acked() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        // The listener moves to another route configuration, which leads to another cluster.
        let moved = [
            cluster("b", 1),
            endpoints("b", 1),
            listener("l", "r2"),
            route("r2", "b"),
        ];
        client.show(&snapshot(2, &moved));
        let mut seen = client.settle();
        assert_eq!(
            holds(&seen, variant, vec!["a".into()]),
            ["a", "b"],
            "{variant}"
        );
        client.subscribe(Route, &["r2"]);
        let routes = client
            .receive()
            .into_iter()
            .find(|s| s.names() == ["r2"])
            .unwrap();
        client.silent();
        client.ack(&routes);
        seen.extend(client.settle());
        assert_eq!(holds(&seen, variant, vec!["a".into()]), ["b"], "{variant}");
    }
}

#[test]
fn c1_endpoints_and_secrets_never_wait() {
    for variant in BOTH {
        let mut client = Client::new(variant);
        let mut shown = at(1, "a");
        shown.insert(secret("s", 1));
        client.show(&shown);
        client.subscribe(Cluster, &[]);
        client.receive();
        client.subscribe(Endpoint, &["a"]);
        client.subscribe(Secret, &["s"]);
        assert_eq!(types(&client.receive()), [Secret, Endpoint], "{variant}");
        let mut alone = Client::new(variant);
        alone.show(&shown);
        alone.subscribe(Endpoint, &["a"]);
        assert_eq!(alone.one().names(), ["a"]);
    }
}

#[test]
fn c1_a_cluster_that_comes_back_is_not_removed() {
    for variant in BOTH {
        let mut client = subscribed(variant, &at(1, "a"));
        client.show(&at(2, "b"));
        let mut seen = client.receive();
        let mut both = at(3, "b");
        both.extend([cluster("a", 1), endpoints("a", 1)]);
        client.show(&both);
        seen.iter().for_each(|s| client.ack(s));
        seen.extend(client.settle());
        assert_eq!(
            holds(&seen, variant, vec!["a".into()]),
            ["a", "b"],
            "{variant}"
        );
    }
}
