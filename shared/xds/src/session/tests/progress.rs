//! How far the client is: only what it answered counts, and a listener without its routes is not warm.

use super::*;

fn site(revision: i64, port: u32, routes: &str) -> Snapshot {
    snapshot(
        revision,
        &[
            cluster("a", 1),
            endpoints("a", port),
            listener("l", routes),
            route(routes, "a"),
        ],
    )
}

/// A client that has asked for everything, and answered it.
fn warm(variant: Variant) -> Client {
    let mut client = Client::new(variant);
    client.show(&site(1, 1, "r"));
    client.subscribe(Cluster, &[]);
    client.settle();
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    client.subscribe(Listener, &[]);
    client.settle();
    assert_eq!(client.session.progress(), Progress::Acked, "{variant}");
    client.subscribe(Route, &["r"]);
    assert_eq!(client.session.progress(), Progress::Behind, "{variant}");
    client.settle();
    client
}

fn progressed(client: &mut Client) -> Option<(i64, Progress)> {
    let progressed = client.session.progressed();
    progressed.map(|(snapshot, progress)| (snapshot.revision(), progress))
}

#[test]
fn a_client_is_warm_once_its_listeners_have_their_routes() {
    for variant in BOTH {
        let mut client = warm(variant);
        assert_eq!(
            progressed(&mut client),
            Some((1, Progress::Warm)),
            "{variant}"
        );
        assert_eq!(progressed(&mut client), None, "{variant}");
        client.show(&site(2, 1, "other"));
        assert_eq!(client.session.progress(), Progress::Behind, "{variant}");
        client.settle();
        assert_eq!(
            progressed(&mut client),
            Some((2, Progress::Acked)),
            "{variant}"
        );
        client.subscribe(Route, &["other"]);
        client.settle();
        assert_eq!(
            progressed(&mut client),
            Some((2, Progress::Warm)),
            "{variant}"
        );
    }
}

#[test]
fn what_is_not_answered_is_not_run() {
    for variant in BOTH {
        let mut client = warm(variant);
        client.show(&site(2, 2, "r"));
        let seen = client.one();
        assert_eq!(seen.ty, Endpoint, "{variant}");
        assert_eq!(client.session.progress(), Progress::Behind, "{variant}");
        // Neither is something newer that it has not heard of.
        client.show(&site(3, 3, "r"));
        client.ack(&seen);
        assert_eq!(client.session.progress(), Progress::Behind, "{variant}");
        client.settle();
        assert_eq!(
            progressed(&mut client),
            Some((3, Progress::Warm)),
            "{variant}"
        );
    }
}

#[test]
fn a_revision_that_changes_nothing_is_run_without_a_word() {
    for variant in BOTH {
        let mut client = warm(variant);
        client.show(&site(9, 1, "r"));
        client.silent();
        assert_eq!(
            progressed(&mut client),
            Some((9, Progress::Warm)),
            "{variant}"
        );
    }
}

#[test]
fn while_a_culprit_is_looked_for_nothing_is_known() {
    for variant in BOTH {
        let mut client = warm(variant);
        let mut poisoned = site(2, 1, "r");
        poisoned.insert(cluster("b", 1));
        poisoned.insert(cluster("c", 1));
        client.show(&poisoned);
        let seen = client.one();
        client.nack(&seen, "no");
        assert_eq!(client.session.progress(), Progress::Behind, "{variant}");
        // It is found; what is left is a client that runs everything else.
        for _ in 0..8 {
            for seen in client.receive() {
                match seen.names().contains(&"b") {
                    true => client.nack(&seen, "no"),
                    false => client.ack(&seen),
                }
            }
        }
        assert_eq!(client.refused(), ["b"], "{variant}");
        assert_eq!(client.session.progress(), Progress::Warm, "{variant}");
    }
}
