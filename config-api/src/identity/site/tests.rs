//! Browsers' requests, and everybody else's.

#![allow(clippy::unwrap_used)]

use http::Request;

use super::*;

fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn check(sites: &Sites, headers: &[(&str, &str)]) -> Result<()> {
    sites.check(&parts("/v1/apply", headers))
}

fn open() -> Sites {
    Sites::new(&Config {
        allowed_hosts: vec!["Policy.Example.".into()],
        ..Config::default()
    })
}

#[test]
fn where_nobody_is_authenticated_the_name_is_an_address_or_our_own() {
    for host in [
        "127.0.0.1:8080",
        "172.30.83.21:8080",
        "[::1]:8080",
        "localhost:8080",
        "LOCALHOST",
        "localhost.:8080",
        "weft.localhost:8080",
        "config-api:8080",
        "config-api.weft-system",
        "config-api.weft-system.svc",
        "config-api.weft-system.svc.cluster.local:8080",
        "policy.example",
    ] {
        check(&open(), &[("host", host)]).unwrap();
    }
    for host in [
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "config-api.evil",
        "evil",
        "notlocalhost",
    ] {
        let refused = check(&open(), &[("host", host)]).unwrap_err().to_string();
        assert!(refused.contains("--allowed-hosts"), "{host}: {refused}");
    }
    let two = [("host", "127.0.0.1"), ("host", "evil.example")];
    check(&open(), &two).unwrap_err();
    let target = parts("http://evil.example/v1/apply", &[("host", "127.0.0.1")]);
    open().check(&target).unwrap_err();
    check(&open(), &[("host", "a b")]).unwrap_err();
    // HTTP/1.0 has none, and no browser speaks it.
    check(&open(), &[]).unwrap();
}

#[test]
fn where_callers_are_authenticated_the_name_is_theirs_to_choose() {
    let mut config = Config::default();
    config.access.token_hashes_file = Some("tokens".into());
    check(&Sites::new(&config), &[("host", "policy.other")]).unwrap();
    let mut config = Config::default();
    config.access.https = true;
    check(&Sites::new(&config), &[("host", "policy.other")]).unwrap();
}

#[test]
fn pages_of_other_sites_are_refused_whoever_is_authenticated() {
    let host = ("host", "localhost:8080");
    let mut config = Config::default();
    config.access.token_hashes_file = Some("tokens".into());
    for sites in [open(), Sites::new(&config)] {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "http://127.0.0.1:8080"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "anything"),
        ] {
            let refused = check(&sites, &[host, (name, value)]).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains("another site"), "{name}: {refused}");
        }
        for (name, value) in [
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
        ] {
            check(&sites, &[host, (name, value)]).unwrap();
        }
    }
    check(&open(), &[("origin", "http://localhost:8080")]).unwrap_err();
}
