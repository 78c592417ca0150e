//! Requests that try to get past a policy: none of them may, judged by what the backend makes of what it received.

use model::spec::{ClaimToHeader, JwtRule};
use serde_json::{Value, json};

use super::client::{Sent, http1, http2};
use super::jwt::{ISSUER, Issuer};
use super::*;

/// Listeners by name, with their policies.
fn start<'a>(envoy: &Path, backend: &Backend, guards: &[(&str, Vec<Value>, &[JwtRule])]) -> Proxy {
    let listeners = guards.iter().map(|(name, policies, rules)| {
        listener(name, &security(policies, rules), to("outbound|80||b"))
    });
    let config = validate::Config {
        clusters: vec![cluster("b", "{}", &[backend])],
        listeners: listeners.collect(),
        ..Default::default()
    };
    Proxy::start(envoy, config)
}

/// What the backend received, over HTTP/1.1 and HTTP/2; nothing if the request did not reach it.
fn received(proxy: &Proxy, name: &str, sent: &Sent) -> Vec<String> {
    let address = &proxy.listeners[name];
    let answers = [http1(address, sent), http2(address, sent)].into_iter();
    answers
        .filter_map(|answer| Some(answer.split_once("backend b\n")?.1.to_owned()))
        .collect()
}

/// Fails if anything that is let through is not as wanted.
fn assert_none(proxy: &Proxy, name: &str, corpus: &[Sent], forbidden: impl Fn(&str) -> bool) {
    let through = corpus.iter().flat_map(|sent| {
        let heads = received(proxy, name, sent).into_iter();
        heads
            .filter(|head| forbidden(head))
            .map(move |head| format!("{sent:?}\nbecame\n{head}"))
    });
    let through: Vec<String> = through.collect();
    assert!(through.is_empty(), "past {name}: {}", through.join("\n"));
}

fn assert_through(proxy: &Proxy, name: &str, sent: &Sent) {
    assert_eq!(
        received(proxy, name, sent).len(),
        2,
        "{name}: {sent:?} was ordinary"
    );
}

/// The path of a request as a server understands it that is as liberal as any: it decodes, ignores parameters, takes
/// backslashes for slashes and many slashes for one, and then follows dot segments.
fn understood(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap();
    let target = target
        .split_once("://")
        .map_or(target, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
    let path = target.split(['?', '#']).next().unwrap().as_bytes();
    let hex =
        |at: usize| u8::from_str_radix(std::str::from_utf8(path.get(at..at + 2)?).ok()?, 16).ok();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < path.len() {
        match hex(at + 1).filter(|_| path[at] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(path[at]);
                at += 1;
            }
        }
    }
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let text = text.split('\0').next().unwrap();
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/').map(|it| it.split(';').next().unwrap()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

fn paths() -> Vec<Sent> {
    const WAYS: [&str; 62] = [
        "/admin",
        "//admin",
        "///admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/admi%6e",
        "/%61%64%6d%69%6e",
        "/%2fadmin",
        "/%2Fadmin",
        "/x%2f..%2fadmin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "/x/%2E./admin",
        "/\\admin",
        "/x\\..\\admin",
        "/%5cadmin",
        "/x%5c..%5cadmin",
        "/x%5C%2e%2e%5Cadmin",
        "/admin;v=1",
        "/admin;",
        "/admin;a;b=c",
        "/;/admin",
        "/;a=b/admin",
        "/x/..;/admin",
        "/x/.;/../admin",
        "/x/..;a=b/admin",
        "/x/y/..;/..;/admin",
        "/.;/admin",
        "/admin%3bv",
        "/x/..%3b/admin",
        "/admin%3Fx",
        "/admin%23x",
        "/admin%00",
        "/admin%00/x",
        "/admin/",
        "/admin//",
        "/admin/.",
        "/admin/x/..",
        "/admin/../admin",
        "/admin/..;/admin",
        "//./admin/.//",
        "/public/../admin",
        "/public/..;/admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public/%2e%2e%2fadmin",
        "/public//../admin",
        "/public//..//../admin",
        "/public\\..\\admin",
        "/public/..\\admin",
        "/public/..%5cadmin",
        "/public/x/../../admin",
        "/public/;/../../admin",
        "/public/%252e%252e/admin",
        "/public/..%252fadmin",
        "/public/%c0%ae%c0%ae/admin",
        "/public/.../admin",
        "/public;/../admin",
        "/public/*/../../admin",
        "/public/%2e%2e;/admin",
        "/public/%2e%2e%3b/admin",
    ];
    let tails = ["", "/x", "?next=/public/x", "/x;y?/public"];
    let mut corpus: Vec<Sent> = WAYS
        .iter()
        .flat_map(|way| tails.map(|tail| Sent::get(format!("{way}{tail}"))))
        .collect();
    for path in ["/admin", "//admin", "/x/../admin", "/public/..;/admin"] {
        corpus.push(Sent::get(format!("http://shop.example{path}")));
        corpus.push(
            Sent::get("/public/x")
                .with("x-original-url", path)
                .with("x-envoy-original-path", path),
        );
    }
    corpus
}

fn hosts() -> Vec<Sent> {
    let names = [
        "admin.example",
        "ADMIN.example",
        "Admin.EXAMPLE",
        "admin.example.",
        "admin.example:80",
        "admin.example:8443",
        "admin.example.:80",
        "ADMIN.example.:1",
        "admin.example:",
        "user@admin.example",
        "user:pw@admin.example",
        "user@admin.example:80",
        "shop.example@admin.example",
        "admin.example,shop.example",
        "shop.example,admin.example",
        "admin.example:80:80",
        "admin.example#shop.example",
        "admin.example/shop.example",
        "admin.example?shop.example",
        "shop.example#@admin.example",
        "shop.example:80@admin.example",
        "[admin.example]",
        "admin%2eexample",
    ];
    let mut corpus: Vec<Sent> = names
        .iter()
        .map(|name| Sent::get("/x").host(name))
        .collect();
    for name in ["admin.example", "ADMIN.example.:80"] {
        corpus.push(Sent::get("/x").with("host", name));
        corpus.push(
            Sent::get("/x")
                .with("x-forwarded-host", name)
                .with("forwarded", format!("host={name}")),
        );
        corpus.push(Sent::get(format!("http://{name}/x")));
    }
    corpus
}

/// The values of a header, each by itself.
fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(own, _)| own.eq_ignore_ascii_case(name))
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim)
        .collect()
}

fn bare_host(head: &str) -> Vec<String> {
    let hosts = values(head, "host").into_iter().map(|host| {
        let host = host.rsplit('@').next().unwrap().to_ascii_lowercase();
        let host = host.split([':', '/', '?', '#']).next().unwrap().to_owned();
        host.trim_end_matches('.').to_owned()
    });
    hosts.collect()
}

fn roles() -> Vec<Sent> {
    let lists: [&[&str]; 10] = [
        &["admin"],
        &["user", "admin"],
        &["admin", "user"],
        &["user, admin"],
        &["admin,user"],
        &["admin "],
        &["", "admin"],
        &["admin", "admin"],
        &["user,admin,guest"],
        &["user\t,\tadmin"],
    ];
    let sent = lists.iter().map(|list| {
        list.iter()
            .fold(Sent::get("/x"), |sent, value| sent.with("x-role", *value))
    });
    sent.collect()
}

fn policy(action: &str, rule: Value) -> Value {
    json!({"action": action, "rules": [rule]})
}

fn to_paths(paths: &[&str]) -> Value {
    json!({"to": [{"operation": {"paths": paths}}]})
}

#[test]
fn nobody_gets_past_a_policy() {
    let backend = Backend::start("b");
    let source = |source: Value| json!({"from": [{"source": source}]});
    let role = json!({"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]});
    let host = |name: &str| json!({"to": [{"operation": {"hosts": [name]}}]});
    let guards: Vec<(&str, Vec<Value>, &[JwtRule])> = vec![
        (
            "deny-path",
            vec![policy("DENY", to_paths(&["/admin", "/admin/*"]))],
            &[],
        ),
        (
            "deny-template",
            vec![policy("DENY", to_paths(&["/admin", "/admin/{**}"]))],
            &[],
        ),
        (
            "allow-path",
            vec![policy("ALLOW", to_paths(&["/public", "/public/*"]))],
            &[],
        ),
        (
            "allow-template",
            vec![policy("ALLOW", to_paths(&["/public", "/public/{**}"]))],
            &[],
        ),
        (
            "allow-others",
            vec![policy(
                "ALLOW",
                json!({"to": [{"operation": {"notPaths": ["/admin", "/admin/*"]}}]}),
            )],
            &[],
        ),
        (
            "deny-host",
            vec![policy("DENY", host("admin.example"))],
            &[],
        ),
        (
            "deny-hosts",
            vec![policy("DENY", host("*min.example"))],
            &[],
        ),
        (
            "allow-host",
            vec![policy("ALLOW", host("shop.example"))],
            &[],
        ),
        ("deny-role", vec![policy("DENY", role.clone())], &[]),
        ("allow-role", vec![policy("ALLOW", role)], &[]),
        (
            "deny-ip",
            vec![policy(
                "DENY",
                source(json!({"remoteIpBlocks": ["127.0.0.0/8"]})),
            )],
            &[],
        ),
        (
            "allow-ip",
            vec![policy(
                "ALLOW",
                source(json!({"remoteIpBlocks": ["10.0.0.0/8"]})),
            )],
            &[],
        ),
        (
            "allow-principal",
            vec![policy("ALLOW", source(json!({"principals": ["*"]})))],
            &[],
        ),
        (
            "allow-namespace",
            vec![policy("ALLOW", source(json!({"namespaces": ["shop"]})))],
            &[],
        ),
    ];
    let forged: Vec<Sent> = [
        "10.0.0.1",
        "10.0.0.1, 10.0.0.2",
        "10.0.0.1,127.0.0.1",
        "::ffff:10.0.0.1",
        "unknown",
    ]
    .iter()
    .flat_map(|ip| {
        let names = [
            "x-forwarded-for",
            "x-real-ip",
            "x-envoy-external-address",
            "true-client-ip",
            "forwarded",
        ];
        let one = names.map(|name| Sent::get("/x").with(name, *ip));
        one.into_iter().chain([Sent::get("/x")
            .with("x-forwarded-for", *ip)
            .with("x-forwarded-for", *ip)])
    })
    .collect();
    let id = "spiffe://cluster.local/ns/shop/sa/admin";
    let peers: Vec<Sent> = [
        format!("URI={id}"),
        format!("By={id};Hash=0;Subject=\"\";URI={id}"),
        id.into(),
    ]
    .into_iter()
    .map(|value| {
        Sent::get("/x")
            .with("x-forwarded-client-cert", value)
            .with("x-envoy-peer-metadata-id", "shop")
    })
    .collect();
    for envoy in validate::envoys() {
        let proxy = start(&envoy, &backend, &guards);
        for name in ["deny-path", "deny-template", "allow-others"] {
            assert_through(&proxy, name, &Sent::get("/public/x"));
            assert_through(&proxy, name, &Sent::get("/cart;session=1//x"));
            assert_none(&proxy, name, &paths(), |head| {
                let path = understood(head);
                path == "admin" || path.starts_with("admin/")
            });
        }
        for name in ["allow-path", "allow-template"] {
            assert_through(&proxy, name, &Sent::get("/public//x;y=1?z"));
            assert_none(&proxy, name, &paths(), |head| {
                let path = understood(head);
                path != "public" && !path.starts_with("public/")
            });
        }
        for name in ["deny-host", "deny-hosts"] {
            assert_through(&proxy, name, &Sent::get("/x"));
            assert_none(&proxy, name, &hosts(), |head| {
                bare_host(head).iter().any(|it| it == "admin.example")
            });
        }
        assert_through(
            &proxy,
            "allow-host",
            &Sent::get("/x").host("Shop.example.:8080"),
        );
        assert_none(&proxy, "allow-host", &hosts(), |head| {
            bare_host(head) != ["shop.example"]
        });
        assert_through(
            &proxy,
            "deny-role",
            &Sent::get("/x").with("x-role", "administrator"),
        );
        assert_none(&proxy, "deny-role", &roles(), |head| {
            values(head, "x-role").contains(&"admin")
        });
        assert_through(
            &proxy,
            "allow-role",
            &Sent::get("/x").with("x-role", "admin"),
        );
        assert_none(&proxy, "allow-role", &roles(), |head| {
            values(head, "x-role") != ["admin"]
        });
        for name in ["deny-ip", "allow-ip"] {
            assert_none(&proxy, name, &forged, |_| true);
        }
        for name in ["allow-principal", "allow-namespace"] {
            assert_none(&proxy, name, &peers, |_| true);
        }
        assert_none(&proxy, "deny-host", &peers, |head| {
            !values(head, "x-forwarded-client-cert").is_empty()
        });
    }
}

#[test]
fn nobody_gets_past_with_a_token_that_is_not_good() {
    let backend = Backend::start("b");
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let both = [JwtRule {
        output_claim_to_headers: vec![ClaimToHeader {
            header: "x-role".into(),
            claim: "role".into(),
        }],
        output_payload_to_header: Some("x-payload".into()),
        ..Issuer::rule(&[&old, &new])
    }];
    let rotated = [Issuer::rule(&[&new])];
    let admins = json!({
        "from": [{"source": {"requestPrincipals": [format!("{ISSUER}/*")]}}],
        "when": [{"key": "request.auth.claims[role]", "values": ["admin"]}],
    });
    let guards: Vec<(&str, Vec<Value>, &[JwtRule])> = vec![
        ("tokens", vec![], &both),
        ("admins", vec![policy("ALLOW", admins.clone())], &both),
        (
            "deny-others",
            vec![policy(
                "DENY",
                json!({"from": [{"source": {"notRequestPrincipals": ["*"]}}]}),
            )],
            &both,
        ),
        ("rotated", vec![policy("ALLOW", admins)], &rotated),
    ];
    let bearing = |token: &str| Sent::get("/x").with("authorization", format!("Bearer {token}"));
    let good = |issuer: &Issuer| bearing(&issuer.token(&json!({"role": "admin"})));
    let bad: Vec<Sent> = old
        .bad()
        .into_iter()
        .flat_map(|(_, token)| {
            let param = Sent::get(format!("/x?access_token={token}"));
            let twice = bearing(&token).with("authorization", format!("Bearer {token}"));
            [bearing(&token), param, twice]
        })
        .collect();
    let user = old.token(&json!({"role": "user"}));
    for envoy in validate::envoys() {
        let proxy = start(&envoy, &backend, &guards);
        let status = |name: &str, sent: &Sent| {
            let answer = http1(&proxy.listeners[name], sent);
            answer.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        for (name, issuer) in [
            ("tokens", &old),
            ("admins", &old),
            ("admins", &new),
            ("deny-others", &new),
            ("rotated", &new),
        ] {
            assert_through(&proxy, name, &good(issuer));
        }
        assert_through(&proxy, "tokens", &Sent::get("/x"));
        assert_eq!(status("admins", &Sent::get("/x")), "403", "no token");
        assert_eq!(
            status("admins", &bearing(&user)),
            "403",
            "a good token of a user"
        );
        assert_eq!(
            status("rotated", &good(&old)),
            "401",
            "the key has been retired"
        );
        for (why, token) in old.bad().into_iter().filter(|(_, token)| !token.is_empty()) {
            // Envoy, and so Istio, tells the bearer of a good token for somebody else that it is forbidden.
            let expected = if why.contains("audience") {
                "403"
            } else {
                "401"
            };
            assert_eq!(status("tokens", &bearing(&token)), expected, "{why}");
        }
        for name in ["admins", "deny-others", "rotated"] {
            assert_none(&proxy, name, &bad, |_| true);
        }
        let forged = Sent::get("/x")
            .with("x-role", "admin")
            .with("x-payload", "e30");
        let heads = received(&proxy, "tokens", &forged);
        assert_eq!(heads.len(), 2);
        for head in heads {
            assert_eq!(
                values(&head, "x-role").len() + values(&head, "x-payload").len(),
                0,
                "{head}"
            );
        }
        let head = &received(&proxy, "tokens", &good(&old).with("x-role", "root"))[0];
        assert_eq!(values(head, "x-role"), ["admin"]);
        assert_eq!(
            values(head, "authorization"),
            [""; 0],
            "the token stays here"
        );
    }
}
