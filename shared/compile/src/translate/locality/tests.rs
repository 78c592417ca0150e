#![allow(clippy::unwrap_used)]

use super::*;
use crate::translate::endpoint::Address;

/// The groups of endpoints at these places, as `place priority weight`; an endpoint is `place[ label=value]`.
fn grouped(setting: &str, outlier_detection: bool, endpoints: &[&str]) -> Vec<String> {
    let setting: Option<LocalityLoadBalancerSetting> = serde_saphyr::from_str(setting).unwrap();
    let place = Place::new("us/a/1");
    let labels = BTreeMap::from([("v".to_owned(), "1".to_owned())]);
    let balance = Balance::new(&place, &labels, setting.as_ref(), None, outlier_detection);
    let endpoints: Vec<Endpoint> = endpoints
        .iter()
        .map(|text| {
            let (place, label) = text.split_once(' ').unwrap_or((text, ""));
            Endpoint {
                place: Place::new(place),
                address: Address::new("10.0.0.1", 80),
                labels: label
                    .split_once('=')
                    .map(|(k, v)| (k.into(), v.into()))
                    .into_iter()
                    .collect(),
                ..Default::default()
            }
        })
        .collect();
    let shown = |group: &Group<'_>| {
        let Place {
            region,
            zone,
            subzone,
        } = group.place;
        format!(
            "{region}/{zone}/{subzone} {} {}",
            group.priority, group.weight
        )
    };
    groups(&endpoints.iter().collect::<Vec<_>>(), &balance)
        .iter()
        .map(shown)
        .collect()
}

const PLACES: [&str; 4] = ["us/a/1", "us/a/2", "us/b/1", "eu/a/1"];

#[test]
fn failover_prefers_what_is_near_without_gaps_in_priority() {
    assert_eq!(
        grouped("{}", true, &PLACES),
        ["us/a/1 0 1", "us/a/2 1 1", "us/b/1 2 1", "eu/a/1 3 1"]
    );
    assert_eq!(
        grouped("{}", true, &["us/b/1", "eu/a/1"]),
        ["us/b/1 0 1", "eu/a/1 1 1"]
    );
}

#[test]
fn outlier_detection_alone_turns_failover_on() {
    assert_eq!(grouped("null", true, &PLACES), grouped("{}", true, &PLACES));
    assert_eq!(
        grouped("null", false, &PLACES),
        grouped("{}", false, &PLACES)
    );
}

#[test]
fn failover_needs_outlier_detection_and_can_be_switched_off() {
    for (setting, outlier) in [("{}", false), ("{enabled: false}", true)] {
        let priorities = grouped(setting, outlier, &PLACES);
        assert!(
            priorities.iter().all(|it| it.ends_with(" 0 1")),
            "{setting}: {priorities:?}"
        );
    }
}

#[test]
fn failover_to_a_named_region() {
    let setting = "{failover: [{from: us, to: asia}]}";
    let seen = grouped(setting, true, &["us/a/1", "asia/a/1", "eu/a/1"]);
    assert_eq!(seen, ["us/a/1 0 1", "asia/a/1 1 1", "eu/a/1 2 1"]);
}

#[test]
fn failover_priority_counts_labels_that_agree_from_the_left() {
    let setting = "{failoverPriority: [v, w]}";
    assert_eq!(
        grouped(setting, true, &["us/a/1 v=2", "us/a/1 v=1"]),
        ["us/a/1 0 1", "us/a/1 1 1"]
    );
    let fixed = "{failoverPriority: ['v=2']}";
    assert_eq!(
        grouped(fixed, true, &["us/a/1 v=2", "eu/a/1 v=1"]),
        ["us/a/1 0 1", "eu/a/1 1 1"]
    );
}

#[test]
fn distribute_gives_shares_and_drops_who_is_not_named() {
    let setting = "{distribute: [{from: us/a/*, to: {us/a/1: 70, 'us/*': 30}}]}";
    assert_eq!(
        grouped(setting, false, &PLACES),
        ["us/a/1 0 70", "us/a/2 0 15", "us/b/1 0 15"]
    );
    let other = "{distribute: [{from: eu/*, to: {'eu/*': 100}}]}";
    assert_eq!(
        grouped(other, false, &PLACES).len(),
        4,
        "a rule for others changes nothing"
    );
}

#[test]
fn what_follows_the_subzone_does_not_count() {
    assert_eq!(
        Place::new("us/us-east-1/az-1/r11"),
        Place::new("us/us-east-1/az-1")
    );
}
