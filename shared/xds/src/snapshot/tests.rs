#![allow(clippy::unwrap_used)]

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use proptest::prelude::*;

use super::*;

fn cluster(name: &str, stat: &str) -> Resource {
    Resource::new(&Cluster {
        name: name.into(),
        alt_stat_name: stat.into(),
        ..Default::default()
    })
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .iter(ResourceType::Cluster)
        .map(|r| format!("{}={}", r.name(), r.version()))
        .collect()
}

#[test]
fn own_resources_hide_shared_ones() {
    let shared = Snapshot::of(5, [cluster("a", "shared"), cluster("b", "shared")]);
    let own = Snapshot::of(3, [cluster("b", "own"), cluster("c", "own")]);
    let both = Snapshot::layered(&shared, &own);
    let flat = Snapshot::of(
        5,
        [
            cluster("a", "shared"),
            cluster("b", "own"),
            cluster("c", "own"),
        ],
    );
    assert_eq!(both.revision(), 5);
    assert_eq!(names(&both), names(&flat));
    assert_eq!(both.len(ResourceType::Cluster), 3);
    assert_eq!(
        both.digest(ResourceType::Cluster),
        flat.digest(ResourceType::Cluster)
    );
    assert_eq!(
        shared.get(ResourceType::Cluster, "b").unwrap(),
        &cluster("b", "shared")
    );
}

#[test]
fn a_reference_into_nothing_is_an_inconsistency() {
    let route = serde_json::json!({"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]});
    let mut snapshot = Snapshot::of(
        1,
        [Resource::from_json(ResourceType::Route, &route).unwrap()],
    );
    let lost = snapshot.consistent().unwrap_err();
    assert_eq!(lost.len(), 1);
    assert!(
        lost[0].to_string().contains(r#"RDS "r" refers to CDS "c""#),
        "{}",
        lost[0]
    );
    assert!(snapshot.consistent_except(|r| &*r.name == "c").is_ok());
    snapshot.insert(cluster("c", ""));
    assert!(snapshot.consistent().is_ok());
}

/// Some resources per layer: name 0..20, content 0..3.
fn layer() -> impl Strategy<Value = Snapshot> {
    prop::collection::vec((0..20u8, 0..3u8), 0..30).prop_map(|items| {
        Snapshot::of(
            1,
            items
                .iter()
                .map(|(n, c)| cluster(&format!("n{n}"), &format!("c{c}"))),
        )
    })
}

proptest! {
    #[test]
    fn a_difference_is_what_differs(a in layer(), b in layer(), c in layer(), d in layer()) {
        let (old, new) = (Snapshot::layered(&a, &b), Snapshot::layered(&c, &d));
        let ty = ResourceType::Cluster;
        let brute: BTreeSet<Arc<str>> = old.iter(ty).chain(new.iter(ty)).map(|r| r.name().clone())
            .filter(|n| old.get(ty, n) != new.get(ty, n)).collect();
        prop_assert_eq!(old.diff(&new, ty), brute);
        let flat = Snapshot::of(1, new.iter(ty).cloned());
        prop_assert_eq!(flat.digest(ty), new.digest(ty));
        prop_assert_eq!(names(&flat), names(&new));
        prop_assert_eq!(flat.len(ty), new.len(ty));
    }

    #[test]
    fn a_removal_leaves_nothing_in_either_layer(a in layer(), b in layer(), n in 0..20u8) {
        let mut both = Snapshot::layered(&a, &b);
        let name = format!("n{n}");
        both.remove(ResourceType::Cluster, &name);
        prop_assert!(both.get(ResourceType::Cluster, &name).is_none());
        let flat = Snapshot::of(1, both.iter(ResourceType::Cluster).cloned());
        prop_assert_eq!(flat.digest(ResourceType::Cluster), both.digest(ResourceType::Cluster));
    }
}
