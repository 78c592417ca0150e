//! Requests that try to get past a policy: none of them may, judged by what the backend makes of what it received.

mod requests;

use model::spec::JwtRule;
use serde_json::{Value, json};

use super::client::{Sent, http1, http2};
use super::*;
use requests::{addresses, hosts, paths, peers, roles};

/// Listeners by name, with their policies.
pub(super) fn start(
    envoy: &Path,
    backend: &Backend,
    guards: &[(&str, Vec<Value>, &[JwtRule])],
    site: Site,
) -> Proxy {
    let clients = match site {
        Site::Edge => authz::Clients::Seen,
        Site::Workload => authz::Clients::Told(None),
    };
    let listeners = guards.iter().map(|(name, policies, rules)| {
        let security = security(policies, rules, &clients);
        listener(name, &security, to("outbound|80||b"), site)
    });
    let config = validate::Config {
        clusters: vec![cluster("b", "{}", &[backend])],
        listeners: listeners.collect(),
        ..Default::default()
    };
    Proxy::start(envoy, config)
}

/// What the backend received, over HTTP/1.1 and HTTP/2; nothing if the request did not reach it.
pub(super) fn received(proxy: &Proxy, name: &str, sent: &Sent) -> Vec<String> {
    let address = &proxy.listeners[name];
    let answers = [http1(address, sent), http2(address, sent)].into_iter();
    answers
        .filter_map(|answer| Some(answer.split_once("backend b\n")?.1.to_owned()))
        .collect()
}

/// How many requests are under way at once: Envoy takes a second to close a connection it refuses.
const AT_ONCE: usize = 16;

/// Fails if anything that is let through is not as wanted.
pub(super) fn assert_none(
    proxy: &Proxy,
    name: &str,
    corpus: &[Sent],
    forbidden: impl Fn(&str) -> bool + Sync,
) {
    let past = |sent: &Sent| {
        let heads = received(proxy, name, sent).into_iter();
        heads
            .filter(|head| forbidden(head))
            .map(|head| format!("{sent:?}\nbecame\n{head}"))
            .collect::<String>()
    };
    let through: String = std::thread::scope(|scope| {
        let part = |first| corpus.iter().skip(first).step_by(AT_ONCE).map(past);
        let parts = (0..AT_ONCE).map(|first| scope.spawn(move || part(first).collect::<String>()));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(through.is_empty(), "past {name}: {through}");
}

pub(super) fn assert_through(proxy: &Proxy, name: &str, sent: &Sent) {
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

/// The values of a header, each by itself.
pub(super) fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
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

pub(super) fn policy(action: &str, rule: Value) -> Value {
    json!({"action": action, "rules": vec![rule]})
}

fn to_paths(paths: &[&str]) -> Value {
    json!({"to": [{"operation": {"paths": paths}}]})
}

#[test]
fn nobody_gets_past_a_policy() {
    let backend = Backend::start("b");
    let source = |source: Value| json!({"from": [{"source": source}]});
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
    let envoys = validate::envoys();
    let places = envoys
        .iter()
        .flat_map(|envoy| Site::BOTH.map(|site| (envoy, site)));
    for (envoy, site) in places {
        let proxy = start(envoy, &backend, &guards, site);
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
        for name in ["deny-ip", "allow-ip"] {
            assert_none(&proxy, name, &addresses(), |_| true);
        }
        for name in ["allow-principal", "allow-namespace"] {
            assert_none(&proxy, name, &peers(), |_| true);
        }
        assert_none(&proxy, "deny-host", &peers(), |head| {
            !values(head, "x-forwarded-client-cert").is_empty()
        });
    }
}

#[test]
fn nobody_gets_past_by_saying_a_header_twice() {
    let backend = Backend::start("b");
    let when = |header: &str, field: &str, values: &[&str]| json!({"when": [{"key": format!("request.headers[{header}]"), field: values}]});
    let role = |action, field, value| vec![policy(action, when("x-role", field, &[value]))];
    let agent = when("User-Agent", "values", &["Mozilla/*"]);
    let guards: Vec<(&str, Vec<Value>, &[JwtRule])> = vec![
        ("deny", role("DENY", "values", "admin"), &[]),
        ("deny-prefix", role("DENY", "values", "adm*"), &[]),
        ("deny-suffix", role("DENY", "values", "*min"), &[]),
        ("allow", role("ALLOW", "values", "admin"), &[]),
        ("allow-prefix", role("ALLOW", "values", "adm*"), &[]),
        ("allow-suffix", role("ALLOW", "values", "*min"), &[]),
        ("allow-others", role("ALLOW", "notValues", "admin"), &[]),
        ("deny-others", role("DENY", "notValues", "admin"), &[]),
        ("allow-agent", vec![policy("ALLOW", agent)], &[]),
    ];
    let is = |value: &str| Sent::get("/x").with("x-role", value);
    let envoys = validate::envoys();
    let places = envoys
        .iter()
        .flat_map(|envoy| Site::BOTH.map(|site| (envoy, site)));
    for (envoy, site) in places {
        let proxy = start(envoy, &backend, &guards, site);
        let roles = roles();
        for name in ["deny", "deny-prefix", "deny-suffix", "allow-others"] {
            assert_through(&proxy, name, &is("user"));
            assert_through(&proxy, name, &Sent::get("/x"));
            assert_none(&proxy, name, &roles, |head| {
                values(head, "x-role").contains(&"admin")
            });
        }
        for name in ["allow", "allow-prefix", "allow-suffix", "deny-others"] {
            assert_through(&proxy, name, &is("admin"));
            assert_none(&proxy, name, &[Sent::get("/x")], |_| true);
            assert_none(&proxy, name, &roles, |head| {
                values(head, "x-role") != ["admin"]
            });
        }
        let agent = |value: &str| Sent::get("/x").with("user-agent", value);
        let browser = agent("Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko)");
        assert_through(&proxy, "allow-agent", &browser);
        let agents = [
            agent("curl/8"),
            agent("curl/8").with("user-agent", "Mozilla/5.0"),
            agent("Mozilla/5.0").with("user-agent", "curl/8"),
            agent("Mozilla/5.0").with("User-Agent", " curl/8"),
            agent("").with("user-agent", "Mozilla/5.0"),
        ];
        // Envoy itself makes one of several.
        assert_none(&proxy, "allow-agent", &agents, |head| {
            let lines = head.lines().filter_map(|it| it.strip_prefix("user-agent:"));
            let agents: Vec<&str> = lines.map(str::trim).collect();
            agents.len() != 1 || !agents[0].starts_with("Mozilla/")
        });
    }
}

/// `model::authz::path` says of every path what a real Envoy makes of it.
#[test]
fn the_model_normalises_paths_as_envoy_does() {
    use model::authz::path::normalize;
    use model::spec::NormalizationType;
    let mut sent: Vec<String> = [
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/a/.",
        "/..",
        "/../x",
        "/a/...",
        "/a/.b",
        "/a/..b",
        "/a./b",
        "/a../b",
        "/a//b",
        "///a///b///",
        "/a//../b",
        "/a/%2e/b",
        "/a/%2E%2e/b",
        "/a/.%2e/b",
        "/a/%2e./b",
        "/a%2e%2e/b",
        "/%61/%41/%7e/%2d/%5f/%30",
        "/a%20b",
        "/a%zzb",
        "/a%2",
        "/a%",
        "/%25%32%65",
        "/a%2Fb",
        "/a%2f%2e%2e%2fb",
        "/a%5Cb",
        "/a%5c..%5Cb",
        "/a\\b",
        "/a\\..\\b",
        "/a/..\\b",
        "/a;b/../c",
        "/a%3B/b",
        "/%C3%A4/%c3%a4",
        "/a%00b",
        "/a+b&c=d,e!$'()*@:~",
        "/a[b]",
        "/a{b}",
        "/a|b",
        "/a^b",
        "/a`b",
        "/a\"b",
        "/a<b>",
        "/a?b/../c",
        "/a/../b?c=%2F//",
        "/%2e%2e%2fetc",
        "/a%2F/..%2F/b",
    ]
    .map(str::to_owned)
    .into();
    // Every byte, plain and encoded.
    for byte in 0x21..0x7f_u8 {
        let plain = char::from(byte);
        if !['#', '?'].contains(&plain) {
            sent.push(format!("/x{plain}y"));
        }
    }
    sent.extend((0..=255_u8).map(|byte| format!("/x%{byte:02x}y/%{byte:02X}")));
    for envoy in validate::envoys() {
        let backend = Backend::start("b");
        let proxy = start(&envoy, &backend, &[("open", Vec::new(), &[])], Site::Edge);
        let (mut judged, mut redirected, mut wrong) = (0, 0, Vec::new());
        for path in &sent {
            let expected = normalize(path, NormalizationType::Default);
            let answer = http1(&proxy.listeners["open"], &Sent::get(path));
            let found = match answer.split_once("backend b\n") {
                Some((_, head)) => (head.split(' ').nth(1).unwrap().to_owned(), false),
                None => {
                    let mut lines = answer.lines();
                    let location = lines.find_map(|line| line.strip_prefix("location: "));
                    // Envoy refuses it, so it is not there to be judged.
                    let Some(location) = location else { continue };
                    (location.to_owned(), true)
                }
            };
            judged += 1;
            redirected += usize::from(found.1);
            if found != (expected.path.clone(), expected.redirect) {
                wrong.push(format!("{path}: {found:?}, not {expected:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}: {wrong:#?}", envoy.display());
        assert!(judged > 200 && redirected > 5, "{judged} {redirected}");
    }
}
