#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The units, in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

fn parse(text: &str) -> Option<std::time::Duration> {
    text.parse::<Duration>().ok().map(|duration| duration.0)
}

#[test]
fn durations_as_istio_writes_them() {
    let millis = |text| parse(text).map(|duration| duration.as_millis());
    for (text, expected) in [
        ("0", Some(0)),
        ("0s", Some(0)),
        ("5s", Some(5_000)),
        ("1.5s", Some(1_500)),
        (".5s", Some(500)),
        ("1.s", Some(1_000)),
        ("1h30m", Some(5_400_000)),
        ("10ms", Some(10)),
        ("315576000000s", Some(315_576_000_000_000)),
        ("315576000001s", None),
        ("", None),
        ("5", None),
        ("-1s", None),
        ("+1s", None),
        ("1e3s", None),
        ("1 s", None),
        ("1.2.3s", None),
        (".s", None),
        ("s", None),
        ("5S", None),
        ("infs", None),
        ("5s ", None),
    ] {
        assert_eq!(millis(text), expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}|[0-9.hmsnuµ]{0,40}") {
        if let Ok(duration) = text.parse::<Duration>() {
            prop_assert!(duration.as_secs() <= 315_576_000_000);
        }
    }

    /// Whole numbers of units add up to the nanosecond, as far as a second of nanoseconds can be told apart.
    #[test]
    fn units_add_up(parts in prop::collection::vec((0..7usize, 0..100u64), 1..5)) {
        let text: String = parts.iter().map(|(unit, n)| format!("{n}{}", UNITS[*unit].0)).collect();
        let nanos: u64 = parts.iter().map(|(unit, n)| n * UNITS[*unit].1).sum();
        prop_assert_eq!(parse(&text), Some(std::time::Duration::from_nanos(nanos)), "{}", text);
    }

    #[test]
    fn what_is_displayed_is_read_again(nanos in 0..1_000_000_000_000_000u64) {
        let duration = Duration(std::time::Duration::from_nanos(nanos));
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }

    /// A wildcard covers what ends like it, and is longer; `covering` lists exactly the patterns that do.
    #[test]
    fn hosts_cover_what_ends_like_them(host in "[ab]{1,2}(\\.[ab]{1,2}){0,3}", pattern in "\\*(\\.?[ab]{1,2}){0,3}|[ab]{1,2}(\\.[ab]{1,2}){0,3}") {
        use crate::mesh::host::{covering, covers, intersection};
        let naive = match pattern.strip_prefix('*') {
            None => pattern == host,
            Some(end) => (0..host.len()).any(|at| at > 0 && &host[at..] == end) || end.is_empty(),
        };
        prop_assert_eq!(covers(&pattern, &host), naive);
        let narrower = intersection(&pattern, &host);
        prop_assert_eq!(narrower, naive.then_some(host.as_str()));
        let all: Vec<String> = covering(&host).collect();
        prop_assert!(all.iter().all(|it| covers(it, &host)), "{:?}", all);
        prop_assert!(all.windows(2).all(|pair| pair[0] != pair[1] && covers(&pair[1], &pair[0])), "{:?}", all);
        let listed = pattern == host || pattern == "*" || pattern.starts_with("*.") && naive;
        prop_assert_eq!(all.contains(&pattern), listed, "{:?}", all);
    }

    #[test]
    fn any_host_is_answered(a in "\\PC{0,12}", b in "\\PC{0,12}") {
        use crate::mesh::host::{covering, covers, full_host, intersection};
        let _answers = (covers(&a, &b), intersection(&a, &b).is_some(), covering(&a).count());
        let full = full_host(&a, "ns", "svc.cluster.local");
        prop_assert_eq!(full_host(&full, "other", "domain"), full);
    }
}
