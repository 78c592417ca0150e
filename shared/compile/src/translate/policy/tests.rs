#![allow(clippy::unwrap_used)]

use super::*;

fn policy(yaml: &str) -> TrafficPolicy {
    serde_saphyr::from_str(yaml).unwrap()
}

const DESTINATION: &str = "{loadBalancer: {simple: RANDOM}, outlierDetection: {consecutive5xxErrors: 1}, \
     portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 3}}}]}";

#[test]
fn port_level_settings_replace_everything_of_their_level() {
    let (random, of_port) = (
        policy("{loadBalancer: {simple: RANDOM}, outlierDetection: {consecutive5xxErrors: 1}}"),
        policy("{connectionPool: {tcp: {maxConnections: 3}}}"),
    );
    assert_eq!(effective(Some(&policy(DESTINATION)), None, 81), random);
    assert_eq!(
        effective(Some(&policy(DESTINATION)), None, 80),
        of_port,
        "nothing shines through"
    );
}

#[test]
fn a_subset_overrides_part_by_part() {
    let subset = policy("{loadBalancer: {simple: ROUND_ROBIN}}");
    let merged = effective(Some(&policy(DESTINATION)), Some(&subset), 81);
    let want = policy(
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1}}",
    );
    assert_eq!(merged, want);
    let of_port =
        policy("{portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]}");
    let merged = effective(Some(&policy(DESTINATION)), Some(&of_port), 81);
    assert_eq!(merged, policy("{loadBalancer: {simple: RANDOM}}"));
    assert_eq!(effective(None, None, 80), TrafficPolicy::default());
}
