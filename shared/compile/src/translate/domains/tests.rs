#![allow(clippy::unwrap_used)]

use super::*;

const REVIEWS: &str = "reviews.shop.svc.cluster.local";

fn names<'a>(host: &'a str, namespace: &'a str, port: PortInHost) -> Names<'a> {
    Names {
        host,
        addresses: &[],
        namespace,
        mesh_domain: "svc.cluster.local",
        port,
    }
}

#[test]
fn domains_of_a_service_as_generate_virtual_host_domains() {
    use PortInHost::{Ignored, Matched};
    let cases: [(&str, &str, &str, PortInHost, &[&str]); 7] = [
        (
            "same namespace",
            REVIEWS,
            "shop",
            Ignored,
            &[REVIEWS, "reviews", "reviews.shop", "reviews.shop.svc"],
        ),
        (
            "other namespace",
            REVIEWS,
            "web",
            Ignored,
            &[REVIEWS, "reviews.shop", "reviews.shop.svc"],
        ),
        (
            "outside the mesh",
            "www.wikipedia.org",
            "shop",
            Ignored,
            &["www.wikipedia.org"],
        ),
        (
            "a wildcard",
            "*.wikipedia.org",
            "shop",
            Matched(80),
            &["*.wikipedia.org", "*.wikipedia.org:80"],
        ),
        ("any host is one domain", "*", "shop", Matched(8080), &["*"]),
        (
            "port 80 on the HTTP proxy port",
            "a.io",
            "shop",
            Matched(80),
            &["a.io", "a.io:80"],
        ),
        (
            "another port on the HTTP proxy port",
            REVIEWS,
            "web",
            Matched(9080),
            &[
                "reviews.shop.svc.cluster.local:9080",
                "reviews.shop:9080",
                "reviews.shop.svc:9080",
            ],
        ),
    ];
    for (case, host, namespace, port, want) in cases {
        let got = Claims::default().claim(&names(host, namespace, port));
        assert_eq!(got, want, "{case}");
    }
}

#[test]
fn addresses_are_domains_and_ipv6_is_bracketed() {
    let addresses = ["10.1.2.3".to_owned(), "fd00::1".to_owned()];
    let names = Names {
        addresses: &addresses,
        ..names("a.io", "shop", PortInHost::Matched(80))
    };
    let got = Claims::default().claim(&names);
    assert_eq!(
        got,
        [
            "a.io",
            "a.io:80",
            "10.1.2.3",
            "10.1.2.3:80",
            "[fd00::1]",
            "[fd00::1]:80"
        ]
    );
}

#[test]
fn a_domain_is_given_away_once_and_a_full_name_never_to_a_short_one() {
    let mut claims = Claims::new(["reviews.shop"]);
    let short = claims.claim(&names(REVIEWS, "shop", PortInHost::Ignored));
    assert_eq!(short, [REVIEWS, "reviews", "reviews.shop.svc"]);
    assert_eq!(
        claims.claim(&names("reviews.shop", "shop", PortInHost::Ignored)),
        ["reviews.shop"]
    );
    assert!(
        claims
            .claim(&names("Reviews.Shop", "shop", PortInHost::Ignored))
            .is_empty()
    );
}
