#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Envoy's commands, read by hand.
fn commands_by_hand(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        if !rest.starts_with(|c: char| c.is_ascii_uppercase()) {
            return false;
        }
        let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        rest = rest.trim_start_matches(word);
        if let Some(argument) = rest.strip_prefix('(') {
            let Some((_, after)) = argument.split_once(')') else {
                return false;
            };
            rest = after;
        }
        if let Some(length) = rest.strip_prefix(':') {
            let digits = length.trim_start_matches(|c: char| c.is_ascii_digit());
            if digits.len() == length.len() {
                return false;
            }
            rest = digits;
        }
        let Some(after) = rest.strip_prefix('%') else {
            return false;
        };
        rest = after;
    }
    true
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,30}") {
        let _answers = (regex(&text), header(&text), header_value(&text));
    }

    #[test]
    fn expressions_that_are_nearly_right_are_answered(text in "[ab.*+?|(){}\\[\\]\\\\^$0-9,:<>=!-]{0,24}") {
        if let Err(why) = regex(&text) {
            prop_assert!(!why.is_empty() && !why.contains('\n'), "{}", why);
        }
    }

    #[test]
    fn commands_are_those_that_envoy_reads(text in "([%(): aA]|%%|REQ|%REQ\\(x\\)%|:10){0,8}") {
        prop_assert_eq!(header_value(&text).is_ok(), commands_by_hand(&text));
    }

    #[test]
    fn percentages_are_from_0_to_100(value: f64) {
        prop_assert_eq!(percent(Percent { value }).is_ok(), (0.0..=100.0).contains(&value));
    }
}

#[test]
fn an_expression_that_grows_without_measure_is_refused() {
    for text in [
        "(a{1000}){1000}",
        "((a{100}){100}){100}",
        &"(".repeat(10_000),
    ] {
        assert!(regex(text).is_err(), "{text:.20}");
    }
}
