#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::liveness::parse_ttl;

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,20}|[-0-9.a-zPT ]{0,16}") {
        if let Err(why) = duration(&text) {
            prop_assert!(why.contains("is not a duration"), "{}", why);
        }
        let _ttl = parse_ttl(&text);
    }

    #[test]
    fn units_add_up(hours in 0..1000u64, minutes in 0..100u64, seconds in 0..100u64, millis in 1..1000u64) {
        let sum = Duration::from_millis(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis);
        prop_assert_eq!(duration(&format!("{hours}h{minutes}m{seconds}s{millis}ms")), Ok(sum));
        let negative = format!("-{millis}ms");
        prop_assert!(duration(&negative).is_err());
    }

    #[test]
    fn a_ttl_is_from_100_ms_to_a_day(millis in prop_oneof![0..300u64, 86_399_000..86_401_000u64]) {
        let ttl = parse_ttl(&format!("{millis}ms"));
        prop_assert_eq!(ttl.ok(), (100..=86_400_000).contains(&millis).then_some(Duration::from_millis(millis)));
    }
}
