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

#[test]
fn expressions_are_those_that_re2_reads() {
    for text in [
        "/a/.*",
        "(?i)^x|y$",
        "[^a-z]+?",
        r"\d{2,3}\.\w*",
        "[[:alpha:]-]",
        r"(?P<n>a)(?<m>b)",
        r"\x{41}\x7f",
        "é(?:ü){2}",
        "[]a]",
        "a{1000}",
        "x{2,}",
        r"\%\/\-",
    ] {
        assert_eq!(regex(text), Ok(()), "{text}");
    }
    for (text, why) in [
        ("[a-z&&[^x]]", "cannot be taken from another"),
        ("[a[b]]", "cannot stand in another"),
        ("(?x)a b", "flags are i, m, s and U"),
        ("(?-u:a)", "flags are i, m, s and U"),
        (r"\u00e9", r"\x7f"),
        (r"\x{1F600}", r"\x7f"),
        ("[a-é]", "ASCII"),
        ("é+", "ASCII"),
        (r"\<a", r"\b"),
        (r"\p{Lu}", "bytes"),
        (r"[\pL]", "bytes"),
        ("a**", "without a group"),
        ("a{1001}", "1000 times"),
        ("(a{100}){11}", "1000 times"),
        ("(?=a)", "look-around"),
        (r"(a)\1", "backreferences"),
        ("a{,3}", "decimal"),
        (r"(?:\W\S\D.){900}", "too large"),
        ("(", "unclosed group"),
    ] {
        let error = regex(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}
