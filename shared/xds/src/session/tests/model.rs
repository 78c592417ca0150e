//! Random sequences of snapshots, requests, ACKs, NACKs and time, against a model of a client.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A new snapshot: (cluster version or absent; which cluster the route leads to).
    Show(Vec<Option<u32>>, usize),
    /// The client answers its oldest unanswered response of some type; whether it would refuse bad content.
    Answer(usize),
    Wait(u64),
    /// Subscribes to, or unsubscribes from, the endpoints of a cluster.
    Toggle(usize),
}

const CLUSTERS: usize = 5;
/// This version of any cluster is refused by the client.
const BAD: u32 = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prop::collection::vec(prop::option::weighted(0.7, 0..4u32), CLUSTERS), 0..CLUSTERS)
            .prop_map(|(clusters, to)| Step::Show(clusters, to)),
        6 => (0..4usize).prop_map(Step::Answer),
        1 => (1..20_000u64).prop_map(Step::Wait),
        1 => (0..CLUSTERS).prop_map(Step::Toggle),
    ]
}

/// What Envoy does with what it is sent.
#[derive(Default)]
struct Model {
    clusters: BTreeMap<String, Resource>,
    others: BTreeMap<(ResourceType, String), Resource>,
    queue: BTreeMap<ResourceType, Vec<Seen>>,
}

fn name(i: usize) -> String {
    format!("c{i}")
}

fn shown(revision: i64, clusters: &[Option<u32>], to: usize) -> Snapshot {
    let mut shown = snapshot(revision, &[listener("l", "r")]);
    for (i, v) in clusters.iter().enumerate() {
        // The route's cluster is always there: snapshots are consistent.
        if let Some(v) = v.or((i == to).then_some(0)) {
            shown.extend([cluster(&name(i), v), endpoints(&name(i), v + 1)]);
        }
    }
    shown.insert(route("r", &name(to)));
    shown
}

impl Model {
    fn take(&mut self, client: &mut Client) {
        for seen in client.receive() {
            // S12: no name twice, one type.
            let distinct: BTreeSet<&str> = seen.names().into_iter().collect();
            assert_eq!(distinct.len(), seen.resources.len());
            assert!(seen.type_urls.iter().all(|url| url == seen.ty.type_url()));
            self.queue.entry(seen.ty).or_default().push(seen);
        }
        // S4: one in flight.
        if client.variant == Variant::Sotw {
            assert!(self.queue.values().all(|q| q.len() <= 1));
        }
    }

    fn answer(&mut self, client: &mut Client, ty: ResourceType) {
        let queue = self.queue.entry(ty).or_default();
        if queue.is_empty() {
            return;
        }
        let seen = queue.remove(0);
        let bad: Vec<&Resource> = seen
            .resources
            .iter()
            .filter(|r| ty == Cluster && **r == cluster(r.name(), BAD))
            .filter(|r| self.clusters.get(&**r.name()) != Some(r))
            .collect();
        if !bad.is_empty() {
            client.nack(&seen, "no");
            return;
        }
        if ty == Cluster {
            if client.variant == Variant::Sotw {
                self.clusters
                    .retain(|name, _| seen.names().contains(&name.as_str()));
            }
            self.clusters.extend(
                seen.resources
                    .iter()
                    .map(|r| (r.name().to_string(), r.clone())),
            );
            seen.removed
                .iter()
                .for_each(|name| drop(self.clusters.remove(name)));
        } else {
            self.others.extend(
                seen.resources
                    .iter()
                    .map(|r| ((ty, r.name().to_string()), r.clone())),
            );
            seen.removed
                .iter()
                .for_each(|name| drop(self.others.remove(&(ty, name.clone()))));
        }
        client.ack(&seen);
    }

    /// C1: the route that the client runs never points at a cluster that it does not hold, unless that was refused.
    fn whole(&self) {
        if let Some(route) = self.others.get(&(Route, "r".to_owned())) {
            for to in route.refs_to(Cluster) {
                assert!(
                    self.clusters.contains_key(&**to),
                    "the route leads to {to}, which is not there"
                );
            }
        }
    }
}

fn run(variant: Variant, steps: Vec<Step>, with_bad: bool) {
    let mut client = Client::new(variant);
    let mut model = Model::default();
    let mut last = (vec![Some(0); CLUSTERS], 0);
    client.show(&shown(0, &last.0, last.1));
    client.subscribe(Cluster, &[]);
    client.subscribe(Listener, &[]);
    client.subscribe(Route, &["r"]);
    client.subscribe(Endpoint, &["c0", "c1"]);
    let types = [Cluster, Endpoint, Listener, Route];
    let mut revision = 0;
    let mut waited = Duration::ZERO;
    for step in steps {
        match step {
            Step::Show(mut clusters, to) => {
                if !with_bad {
                    clusters.iter_mut().flatten().for_each(|v| *v %= BAD);
                }
                revision += 1;
                client.show(&shown(revision, &clusters, to));
                last = (clusters, to);
            }
            Step::Answer(i) => model.answer(&mut client, types[i]),
            // Time only passes as far as no limit of patience is reached: those are tested by themselves.
            Step::Wait(ms) if waited + Duration::from_millis(ms) < Duration::from_secs(9) => {
                waited += Duration::from_millis(ms);
                client.later(Duration::from_millis(ms));
            }
            Step::Wait(_) => {}
            Step::Toggle(i) => {
                let all = client.names.get(&Endpoint).cloned().unwrap_or_default();
                // State of the world: with a response in flight, its ACK carries the change.
                if variant == Variant::Sotw
                    && model.queue.get(&Endpoint).is_some_and(|q| !q.is_empty())
                {
                    continue;
                }
                if all.contains(&name(i)) {
                    client.unsubscribe(Endpoint, &[&name(i)]);
                    model.others.remove(&(Endpoint, name(i)));
                } else {
                    client.subscribe(Endpoint, &[&name(i)]);
                }
            }
        }
        model.take(&mut client);
        if !with_bad {
            model.whole();
        }
    }
    // Left alone, the client gets to the newest snapshot.
    for round in 0..400 {
        model.take(&mut client);
        if model.queue.values().all(Vec::is_empty) {
            break;
        }
        assert!(round < 399, "the client never comes to rest");
        for ty in types {
            model.answer(&mut client, ty);
            if !with_bad {
                model.whole();
            }
        }
    }
    if with_bad {
        // Routes to what was refused wait no longer than ten seconds, and what they used no longer than that either.
        for _ in 0..20 {
            client.later(Duration::from_secs(11));
            model.take(&mut client);
            types.iter().for_each(|ty| model.answer(&mut client, *ty));
        }
    }
    let newest = shown(revision, &last.0, last.1);
    let good: BTreeMap<String, Resource> = newest
        .iter(Cluster)
        .filter(|r| **r != cluster(r.name(), BAD))
        .map(|r| (r.name().to_string(), r.clone()))
        .collect();
    for (name, resource) in &good {
        assert_eq!(model.clusters.get(name), Some(resource), "{variant}");
    }
    for name in model.clusters.keys() {
        assert!(
            newest.get(Cluster, name).is_some(),
            "{variant}: {name} should be gone"
        );
    }
    assert_eq!(
        model.others.get(&(Route, "r".to_owned())),
        newest.get(Route, "r"),
        "{variant}"
    );
    for name in client.names[&Endpoint]
        .iter()
        .filter(|n| newest.get(Endpoint, n).is_some())
    {
        assert_eq!(
            model.others.get(&(Endpoint, name.clone())),
            newest.get(Endpoint, name),
            "{variant}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sotw_converges_and_is_never_broken(steps in prop::collection::vec(step(), 0..60)) {
        run(Variant::Sotw, steps, false);
    }

    #[test]
    fn delta_converges_and_is_never_broken(steps in prop::collection::vec(step(), 0..60)) {
        run(Variant::Delta, steps, false);
    }

    #[test]
    fn sotw_converges_past_what_is_refused(steps in prop::collection::vec(step(), 0..60)) {
        run(Variant::Sotw, steps, true);
    }

    #[test]
    fn delta_converges_past_what_is_refused(steps in prop::collection::vec(step(), 0..60)) {
        run(Variant::Delta, steps, true);
    }
}
