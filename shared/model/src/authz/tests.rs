#![allow(clippy::unwrap_used)]

use super::call::{Call, Http};
use super::*;
use crate::Kind;

fn call(method: &str, path: &str) -> Call {
    let local = "127.0.0.1".parse().unwrap();
    Call {
        principal: Some("cluster.local/ns/shop/sa/cart".into()),
        source_ip: "10.1.2.3".parse().unwrap(),
        remote_ip: "203.0.113.9".parse().unwrap(),
        destination_ip: local,
        destination_port: 8080,
        sni: None,
        http: Some(Http {
            method: method.into(),
            host: "shop.example".into(),
            path: path.into(),
            headers: vec![
                ("x-role".into(), "user".into()),
                ("x-role".into(), "admin".into()),
            ],
            claims: Some(serde_json::json!({
                "iss": "https://issuer.example/a", "sub": "me", "aud": ["a", "b"], "groups": ["g1"], "deep": {"er": "x"},
            })),
        }),
    }
}

fn judge(policies: &[&str], call: &Call) -> Verdict {
    let specs: Vec<AuthorizationPolicy> = policies
        .iter()
        .map(|it| serde_saphyr::from_str(it).unwrap())
        .collect();
    let policies: Vec<Policy<'_>> = specs
        .iter()
        .enumerate()
        .map(|(at, spec)| Policy {
            key: Key::new(Kind::AuthorizationPolicy, "shop", format!("p{at}")),
            dry_run: false,
            spec,
            home: None,
        })
        .collect();
    verdict(&policies, call)
}

fn allowed(policies: &[&str], call: &Call) -> bool {
    judge(policies, call).outcome == Outcome::Allowed
}

/// Whether a rule matches: an ALLOW policy of it alone allows.
fn matches(rule: &str, call: &Call) -> bool {
    allowed(&[&format!("rules: [{rule}]")], call)
}

#[test]
fn the_actions_are_taken_in_order() {
    let get = call("GET", "/a");
    let (nothing, everything) = ("{}", "rules: [{}]");
    assert!(allowed(&[], &get));
    assert!(!allowed(&[nothing], &get), "spec: {{}} denies everything");
    assert!(allowed(&[everything], &get));
    assert!(
        allowed(&["action: DENY"], &get),
        "DENY without rules matches nothing"
    );
    assert!(!allowed(&[everything, "{action: DENY, rules: [{}]}"], &get));
    let verdict = judge(
        &[
            "{action: AUDIT, rules: [{}]}",
            "{action: CUSTOM, provider: {name: opa}, rules: [{}]}",
            "{rules: [{to: [{operation: {methods: [PUT]}}]}, {to: [{operation: {methods: [GET]}}]}]}",
        ],
        &get,
    );
    let id = |at: usize, rule| RuleId {
        policy: Key::new(Kind::AuthorizationPolicy, "shop", format!("p{at}")),
        rule,
    };
    assert_eq!(verdict.by, Some(id(2, 1)));
    assert_eq!(verdict.asked, [("opa".to_owned(), id(1, 0))]);
    assert_eq!(verdict.audited, [id(0, 0)]);
}

#[test]
fn every_field_matches_what_istio_says() {
    let get = call("GET", "/a/b?c=/d");
    for (rule, expected) in [
        (
            "{from: [{source: {principals: [cluster.local/ns/shop/sa/cart]}}]}",
            true,
        ),
        ("{from: [{source: {principals: ['*']}}]}", true),
        ("{from: [{source: {principals: ['*/sa/cart']}}]}", true),
        (
            "{from: [{source: {notPrincipals: ['cluster.local/*']}}]}",
            false,
        ),
        ("{from: [{source: {namespaces: [shop]}}]}", true),
        ("{from: [{source: {namespaces: ['sh*']}}]}", true),
        ("{from: [{source: {namespaces: ['*op']}}]}", true),
        ("{from: [{source: {namespaces: [sho]}}]}", false),
        ("{from: [{source: {serviceAccounts: [cart]}}]}", true),
        ("{from: [{source: {serviceAccounts: [other/cart]}}]}", false),
        ("{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}", true),
        (
            "{from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.2.3]}}]}",
            false,
        ),
        (
            "{from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]}",
            true,
        ),
        (
            "{from: [{source: {requestPrincipals: ['https://issuer.example/a/me']}}]}",
            true,
        ),
        (
            "{from: [{source: {requestPrincipals: ['https://issuer.example/a/*']}}]}",
            true,
        ),
        ("{from: [{source: {requestPrincipals: ['*/me']}}]}", true),
        (
            "{from: [{source: {requestPrincipals: ['https://issuer.example/me']}}]}",
            false,
        ),
        (
            "{from: [{source: {ipBlocks: [1.1.1.1]}}, {source: {namespaces: [shop]}}]}",
            true,
        ),
        ("{to: [{operation: {hosts: [SHOP.example]}}]}", true),
        (
            "{to: [{operation: {hosts: ['*.example'], notHosts: [shop.example]}}]}",
            false,
        ),
        ("{to: [{operation: {methods: [GET], paths: [/a/b]}}]}", true),
        ("{to: [{operation: {methods: [PUT]}}]}", false),
        ("{to: [{operation: {paths: ['/a*']}}]}", true),
        ("{to: [{operation: {paths: ['*/b']}}]}", true),
        ("{to: [{operation: {paths: ['/{*}/b']}}]}", true),
        ("{to: [{operation: {paths: ['/{*}']}}]}", false),
        ("{to: [{operation: {paths: ['/{**}']}}]}", true),
        ("{to: [{operation: {ports: ['8080']}}]}", true),
        ("{to: [{operation: {notPorts: ['8080']}}]}", false),
        (
            "{when: [{key: 'request.headers[X-Role]', values: ['user,admin']}]}",
            true,
        ),
        (
            "{when: [{key: 'request.headers[X-Role]', values: [admin]}]}",
            false,
        ),
        (
            "{when: [{key: 'request.auth.claims[groups]', values: [g1]}]}",
            true,
        ),
        (
            "{when: [{key: 'request.auth.claims[deep][er]', values: ['x*']}]}",
            true,
        ),
        ("{when: [{key: request.auth.audiences, values: [b]}]}", true),
        (
            "{when: [{key: request.auth.presenter, values: ['*']}]}",
            false,
        ),
        (
            "{when: [{key: destination.ip, notValues: [127.0.0.0/8]}]}",
            false,
        ),
        ("{when: [{key: connection.sni, values: ['*']}]}", false),
        (
            "{when: [{key: source.namespace, values: [shop]}, {key: source.ip, values: [10.9.9.9]}]}",
            false,
        ),
        (
            "{when: [{key: experimental.envoy.filters.a, values: [b]}]}",
            false,
        ),
    ] {
        assert_eq!(matches(rule, &get), expected, "{rule}");
    }
}

#[test]
fn without_an_identity_no_rule_that_names_one_matches() {
    let plain = Call {
        principal: None,
        ..call("GET", "/")
    };
    for rule in [
        "{from: [{source: {principals: ['*']}}]}",
        "{from: [{source: {namespaces: ['*']}}]}",
        "{from: [{source: {serviceAccounts: [cart]}}]}",
    ] {
        assert!(!matches(rule, &plain), "{rule}");
    }
}

#[test]
fn on_connections_what_is_not_known_never_allows() {
    let tcp = Call {
        http: None,
        ..call("", "")
    };
    let rule =
        "rules: [{from: [{source: {namespaces: [shop]}}], to: [{operation: {methods: [GET]}}]}]";
    assert!(!allowed(&[rule], &tcp), "the rule is skipped");
    assert!(
        !allowed(&[&format!("{{action: DENY, {}}}", rule)], &tcp),
        "the condition is dropped"
    );
    assert!(matches("{to: [{operation: {ports: ['8080']}}]}", &tcp));
}

#[test]
fn doubt_never_lets_through() {
    let deny = |rule: &str| format!("{{action: DENY, rules: [{rule}]}}");
    let admin = "{to: [{operation: {paths: [/admin/x]}}]}";
    for path in ["/admin/x;v=1", "/admin;a/x", "/;/admin/x", "/admin/;b/x"] {
        assert!(!allowed(&[&deny(admin)], &call("GET", path)), "{path}");
        assert!(!matches(admin, &call("GET", path)), "{path}");
        let except = "{to: [{operation: {notPaths: [/admin/x]}}]}";
        assert!(!matches(except, &call("GET", path)), "{path}");
    }
    let public = "{to: [{operation: {paths: ['/public/*']}}]}";
    assert!(matches(public, &call("GET", "/public/a;b")));
    assert!(!matches(public, &call("GET", "/public/..;/admin/x")));
    assert!(!allowed(
        &[&deny(admin)],
        &call("GET", "/public/..;/admin/x")
    ));
    let role = "{when: [{key: 'request.headers[x-role]', values: [admin]}]}";
    assert!(!allowed(&[&deny(role)], &call("GET", "/")));
    let mut dotted = call("GET", "/");
    dotted.http.as_mut().unwrap().host = "Shop.Example.:8080".into();
    let host = "{to: [{operation: {hosts: [shop.example]}}]}";
    assert!(!allowed(&[&deny(host)], &dotted));
}

#[test]
fn namespaces_and_accounts_are_the_meshs_own_where_others_are_federated() {
    let source = |field: &str, value: &str| -> AuthorizationPolicy {
        let rule = format!("rules: [{{from: [{{source: {{{field}: ['{value}']}}}}]}}]");
        serde_saphyr::from_str(&rule).unwrap()
    };
    let from = |of: &str| Call {
        principal: Some(format!("{of}/ns/shop/sa/cart")),
        ..call("GET", "/")
    };
    let allowed = |spec: &AuthorizationPolicy, home: Option<&str>, of: &str| {
        let policy = Policy {
            key: Key::new(Kind::AuthorizationPolicy, "shop", "p"),
            dry_run: false,
            spec,
            home: home.map(|home| home.parse().unwrap()),
        };
        verdict(&[policy], &from(of)).outcome == Outcome::Allowed
    };
    let home = Some("cluster.local");
    for (field, value) in [
        ("namespaces", "shop"),
        ("namespaces", "s*"),
        ("serviceAccounts", "cart"),
    ] {
        let spec = source(field, value);
        assert!(allowed(&spec, home, "cluster.local"), "{field}");
        assert!(!allowed(&spec, home, "partner"), "{field}");
        assert!(allowed(&spec, None, "partner"), "{field}");
    }
    assert!(allowed(&source("notNamespaces", "shop"), home, "partner"));
    assert!(allowed(
        &source("principals", "partner/ns/shop/sa/cart"),
        home,
        "partner"
    ));
    assert!(!allowed(
        &source("principals", "partner/ns/shop/sa/cart"),
        home,
        "cluster.local"
    ));
}

#[test]
fn rules_are_explained_as_they_are_judged() {
    let spec = "
rules:
- {from: [{source: {namespaces: [far]}}, {source: {principals: ['*']}}], to: [{operation: {paths: [/b]}}]}
- {when: [{key: 'request.headers[x-role]', values: [user, admin]}, {key: 'request.auth.claims[deep][er]', notValues: [y]}]}
- {to: [{operation: {ports: ['8080']}}]}";
    let spec: AuthorizationPolicy = serde_saphyr::from_str(spec).unwrap();
    let policy = Policy {
        key: Key::new(Kind::AuthorizationPolicy, "shop", "p"),
        dry_run: false,
        spec: &spec,
        home: None,
    };
    let get = call("GET", "/a");
    let explained = explain::rules(&policy, &get);
    let judged: Vec<usize> = matched(&policy, &get).map(|it| it.rule).collect();
    let matching = explained.iter().filter(|it| it.matches).map(|it| it.at);
    assert_eq!(matching.collect::<Vec<_>>(), judged);
    assert_eq!(judged, [2]);
    let [far, any] = &explained[0].sources[..] else {
        panic!("{explained:?}")
    };
    assert!(!far[0].holds && any[0].holds);
    assert_eq!(
        far[0].found.as_deref(),
        Some("cluster.local/ns/shop/sa/cart")
    );
    assert_eq!(explained[0].operations[0][0].found.as_deref(), Some("/a"));
    let [role, claim] = &explained[1].sources[0][..] else {
        panic!("{explained:?}")
    };
    assert_eq!(
        (role.attribute.as_str(), role.holds),
        ("request.headers[x-role]", false)
    );
    assert_eq!(role.found.as_deref(), Some("user,admin"));
    assert_eq!(
        (claim.attribute.as_str(), claim.holds),
        ("request.auth.claims[deep][er]", true)
    );
    let connection = Call { http: None, ..get };
    let left_out: Vec<bool> = explain::rules(&policy, &connection)
        .iter()
        .map(|it| it.left_out)
        .collect();
    assert_eq!(left_out, [true, true, false]);
}
