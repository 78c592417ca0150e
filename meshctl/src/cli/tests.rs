#![allow(clippy::unwrap_used)]
use super::choices::duration;
use super::*;
use clap::CommandFactory;
use proptest::prelude::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn times_are_read_with_and_without_unit() {
    let ms = |text| duration(text).map(|d| d.as_millis());
    assert_eq!(ms("30"), Ok(30_000));
    assert_eq!(ms("500ms"), Ok(500));
    assert_eq!(ms("2m"), Ok(120_000));
    for text in [
        "",
        "0",
        "-1s",
        "1h",
        "s",
        "1.5s",
        "99999999999999999999s",
        "18446744073709551615m",
    ] {
        assert!(ms(text).is_err(), "{text}");
    }
}

#[test]
fn habits_of_kubectl_and_istioctl_parse() {
    for line in [
        "get vs -A -o wide",
        "get vs/reviews -oyaml",
        "get vs reviews -n shop -w",
        "get -n shop virtualservices -l app=reviews -o name",
        "apply -f a.yaml -f dir --dry-run",
        "apply --dry-run=server -f a.yaml",
        "delete --dry-run vs x",
        "apply --filename -",
        "delete vs reviews ratings --ignore-not-found",
        "delete -f shop.yaml",
        "diff -f -",
        "pc cluster sidecar~default~reviews -o json",
        "ps",
        "history vs/reviews --limit 3",
        "rollback --to 12",
        "--server http://x:1 version --client",
        "completion zsh",
        "credentials list web-1 -o yaml",
        "ca status -o json",
        "ca rotate-issuing",
        "ca rotate-root",
        "ca revoke-root root-0011223344556677",
        "credentials revoke web-1 0011223344556677 8899aabbccddeeff",
        "credentials revoke web-1 --all",
        "authz check --from shop/web --to cart:80 --method GET --path /x --header x-a:b --claim groups=[1] --claim sub=me",
        "authz check --from-ip ::1 --to shop/cart-1:8080 -o json",
    ] {
        let words = std::iter::once("meshctl").chain(line.split_whitespace());
        assert!(Cli::try_parse_from(words).is_ok(), "{line}");
    }
    for line in [
        "apply",
        "delete",
        "delete vs x -f y",
        "get",
        "history --limit 0",
        "credentials revoke web-1",
        "ca revoke-root",
        "credentials revoke web-1 0011223344556677 --all",
        "proxy-config all",
        "get vs -o xml",
    ] {
        let words = std::iter::once("meshctl").chain(line.split_whitespace());
        assert_eq!(
            Cli::try_parse_from(words).unwrap_err().exit_code(),
            2,
            "{line}"
        );
    }
}

proptest! {
    #[test]
    fn a_time_is_a_number_and_a_unit(number: u64, unit in "|s|ms|m|h|[a-z]{1,2}| s") {
        let scale = match unit.as_str() {
            "" | "s" => Some(1000),
            "ms" => Some(1),
            "m" => Some(60_000),
            _ => None,
        };
        let expected = scale.and_then(|scale: u64| number.checked_mul(scale)).filter(|it| *it > 0);
        let parsed = duration(&format!("{number}{unit}"));
        prop_assert_eq!(parsed.ok(), expected.map(Duration::from_millis));
    }

    #[test]
    fn any_time_is_answered(text in "\\PC{0,24}|[0-9.ms-]{0,30}") {
        let _parsed = duration(&text);
    }
}
