#![allow(clippy::unwrap_used)]
use super::*;
use crate::binaries;

fn named() -> Named {
    let program = Program::parse("Options:\n      --file <FILE>  A file [env: WEFT_FILE=]\n").0;
    let methods = |all: &[&str]| all.iter().map(|m| (*m).to_owned()).collect();
    Named {
        programs: ["weft", "weft-up"]
            .map(|name| (name.to_owned(), program.clone()))
            .into(),
        variables: ["WEFT_PORT".to_owned()].into(),
        paths: [
            ("/v1/proxies/{id}".to_owned(), methods(&["GET"])),
            ("/v1/apply".to_owned(), methods(&["POST"])),
        ]
        .into(),
        metrics: ["weft_a_total".to_owned(), "weft_b_seconds".to_owned()].into(),
    }
}

fn missing(document: &str) -> Vec<String> {
    let root = binaries::repository();
    named().missing(root, "docs/x.md", document).unwrap()
}

#[test]
fn what_there_is_may_be_named() {
    for good in [
        "`make up ARGS='--file x'`, `weft --file x`, `--file`, `--drain-time-s`, `weft`",
        "```sh\nWEFT_PORT=1 target/release/weft --file x | other --any\n```",
        "WEFT_FILE and `$WEFT_PORT`",
        "`GET /v1/proxies/web?x=y`, localhost:1/v1/apply. `POST /v1/x509-svid`",
        "/apis/a/v1/any, config-api/src/v1/any.rs, /weft/v1/epoch",
        "`weft_a_total`, rate(weft_b_seconds_bucket[5m]), weft_…",
        "`docs/API.md`, `a/b`, [x](API.md#who-may-call), [y](../README.md), [z](#a-heading), [w](https://x.example)\n# A heading!",
    ] {
        assert_eq!(missing(good), [""; 0], "{good}");
    }
}

#[test]
fn what_there_is_not_may_not() {
    for bad in [
        "`weft --fil x`",
        "`make up ARGS='--fil x'`",
        "`weft x`",
        "`--fil`",
        "```sh\ntrue && target/release/weft --fil x\n```",
        "| `x $(weft --fil)` |",
        "set WEFT_FIL",
        "```sh\nWEFT_POR=1 true\n```",
        "/v1/proxy",
        "`$X/v1/proxies/web/more`",
        "`POST /v1/proxies/{id}`",
        "weft_a",
        "weft_a_total_seconds",
        "`docs/nothing.md`",
        "[x](nothing.md)",
        "[x](API.md#no-such-heading)",
        "[x](#no-such-heading)",
    ] {
        assert_eq!(missing(bad).len(), 1, "{bad}: {:?}", missing(bad));
    }
    assert_eq!(missing("a\nWEFT_X"), ["docs/x.md:2: nothing reads WEFT_X"]);
}
