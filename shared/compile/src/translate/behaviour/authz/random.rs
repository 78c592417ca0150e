//! Random policies and requests: Envoy's verdict, that of the model's evaluator, and that of one written from the
//! documentation agree on thousands.

use model::authz::{self as meaning, Outcome, call};
use model::{Metadata, Object, Options, check};
use serde_json::{Value, json};

use super::client::{Sent, http1};
use super::jwt::{ISSUER, Issuer};
use super::oracle::{self, Request};
use super::*;

const PATHS: [&str; 12] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/admin",
    "/admin/x",
    "/b/c/d.php",
    "/a/x/c?q=/admin",
    "/x.php",
    "/a/b/c/d/e",
    "/b",
];
const PATH_VALUES: [&str; 14] = [
    "/a",
    "/a*",
    "*.php",
    "*",
    "/admin/*",
    "/a/{*}/c",
    "/{*}",
    "/a/{**}",
    "/{**}/c",
    "/{*}/{*}",
    "/b/c/d.php",
    "*/c",
    "/a/b",
    "/{**}",
];
const HOSTS: [&str; 6] = [
    "a.example",
    "b.example",
    "A.Example",
    "a.example:8080",
    "sub.a.example",
    "B.example:1",
];
const HOST_VALUES: [&str; 6] = [
    "a.example",
    "*.example",
    "B.EXAMPLE",
    "a*",
    "*",
    "*.a.example",
];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const METHOD_VALUES: [&str; 5] = ["GET", "POST", "P*", "*T", "*"];
const BLOCKS: [&str; 5] = [
    "127.0.0.0/8",
    "127.0.0.1",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "192.168.1.1",
];
const NAMES: [&str; 3] = ["*", "cluster.local/*", "shop"];
const PRINCIPALS: [&str; 7] = [
    "*",
    "https://issuer.example/shop/me",
    "https://issuer.example/shop/*",
    "*/you",
    "*/me",
    "https://issuer.example/me",
    "me",
];
const TEXTS: [&str; 7] = ["red", "blue", "re*", "*e", "*", "admin", "g1"];
const KEYS: [&str; 12] = [
    "request.headers[X-Team]",
    "request.headers[x-none]",
    "request.auth.claims[role]",
    "request.auth.claims[groups]",
    "request.auth.claims[deep][er]",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "source.ip",
    "destination.ip",
    "destination.port",
    "source.namespace",
];

/// Teams said several times.
const TEAMS: [(&str, &str); 3] = [("x-team", "blue"), ("x-team", "red"), ("X-Team", "blue")];

/// Some of these.
fn some(chance: &mut Chance, of: &[&str]) -> Value {
    let count = 1 + chance.below(2);
    (0..count).map(|_| chance.one(of)).collect()
}

/// Puts values under a field, or under its negation.
fn put(to: &mut Value, field: &str, values: &[&str], chance: &mut Chance) {
    let name = match chance.below(4) {
        0 => format!("not{}{}", field[..1].to_uppercase(), &field[1..]),
        _ => field.to_owned(),
    };
    to[name] = some(chance, values);
}

fn rule(chance: &mut Chance) -> Value {
    let mut rule = json!({});
    if chance.below(2) == 0 {
        let items = (0..1 + chance.below(2)).map(|_| {
            let mut source = json!({});
            for _ in 0..1 + chance.below(2) {
                let (field, values): (&str, &[&str]) = match chance.below(5) {
                    0 => ("principals", &NAMES),
                    1 => ("namespaces", &NAMES),
                    2 => ("ipBlocks", &BLOCKS),
                    3 => ("remoteIpBlocks", &BLOCKS),
                    _ => ("requestPrincipals", &PRINCIPALS),
                };
                put(&mut source, field, values, chance);
            }
            json!({ "source": source })
        });
        rule["from"] = items.collect();
    }
    if chance.below(3) > 0 {
        let items = (0..1 + chance.below(2)).map(|_| {
            let mut operation = json!({});
            for _ in 0..1 + chance.below(3) {
                let (field, values): (&str, &[&str]) = match chance.below(5) {
                    0 => ("hosts", &HOST_VALUES),
                    1 => ("methods", &METHOD_VALUES),
                    2 => ("ports", &["1"]),
                    _ => ("paths", &PATH_VALUES),
                };
                put(&mut operation, field, values, chance);
            }
            json!({ "operation": operation })
        });
        rule["to"] = items.collect();
    }
    if chance.below(3) == 0 {
        let items = (0..1 + chance.below(2)).map(|_| {
            let key = chance.one(&KEYS);
            let values: &[&str] = match key {
                "source.ip" | "destination.ip" => &BLOCKS,
                "destination.port" => &["1"],
                "request.auth.principal" => &PRINCIPALS,
                "request.auth.audiences" => &["shop", "sh*", "other"],
                _ => &TEXTS,
            };
            let field = chance.one(&["values", "values", "notValues"]);
            json!({"key": key, field: some(chance, values)})
        });
        rule["when"] = items.collect();
    }
    rule
}

fn policies(chance: &mut Chance) -> Vec<Value> {
    let count = 1 + chance.below(3);
    let policies = (0..count).map(|_| {
        let action = chance.one(&["ALLOW", "ALLOW", "DENY"]);
        let rules: Vec<Value> = (0..chance.below(3) + usize::from(action == "DENY"))
            .map(|_| rule(chance))
            .collect();
        let policy = json!({"action": action, "rules": rules});
        let object = Object {
            kind: Kind::AuthorizationPolicy,
            metadata: Metadata {
                name: "p".into(),
                namespace: "shop".into(),
                ..Default::default()
            },
            spec: policy.clone(),
        };
        check(object, Options::default()).unwrap();
        policy
    });
    policies.collect()
}

/// A request, and its token if it has one.
fn request(chance: &mut Chance, issuer: &Issuer) -> (Request, Option<String>) {
    let claims = (chance.below(2) == 0).then(|| {
        let mut claims = json!({"iss": ISSUER, "sub": chance.one(&["me", "you"]), "aud": "shop"});
        claims["role"] = json!(chance.one(&["admin", "red"]));
        claims["groups"] = json!([chance.one(&["g1", "g2"]), "blue"]);
        claims["deep"] = json!({"er": chance.one(&["re", "none"])});
        claims
    });
    let mut headers = Vec::new();
    match chance.below(4) {
        0 | 1 => headers.push(("x-team", chance.one(&["red", "blue", "reddish"]))),
        2 => headers.extend(chance.one(&[&TEAMS[..], &TEAMS[1..], &TEAMS[..2]])),
        _ => {}
    }
    let token = claims.as_ref().map(|claims| issuer.token(claims));
    let request = Request {
        method: Some(chance.one(&METHODS)),
        host: chance.one(&HOSTS),
        path: chance.one(&PATHS),
        headers,
        claims,
        source: std::net::Ipv4Addr::LOCALHOST,
    };
    (request, token)
}

/// The same for the model.
fn call(request: &Request) -> call::Call {
    let local = request.source.into();
    call::Call {
        principal: None,
        source_ip: local,
        remote_ip: local,
        destination_ip: local,
        destination_port: 2,
        sni: None,
        http: request.method.map(|method| call::Http {
            method: method.into(),
            host: request.host.into(),
            path: request.path.into(),
            headers: request
                .headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            claims: request.claims.clone(),
        }),
    }
}

fn by_model(policies: &[Value], request: &Request) -> bool {
    let specs: Vec<AuthorizationPolicy> = policies
        .iter()
        .map(|it| serde_json::from_value(it.clone()).unwrap())
        .collect();
    let policies: Vec<Policy<'_>> = specs
        .iter()
        .map(|spec| Policy {
            key: Key::new(Kind::AuthorizationPolicy, "shop", "p"),
            dry_run: false,
            spec,
            home: None,
        })
        .collect();
    meaning::verdict(&policies, &call(request)).outcome == Outcome::Allowed
}

/// The status of a request; 0 if there is no answer.
fn status(address: &str, (request, token): &(Request, Option<String>)) -> u16 {
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let bearer = token
        .iter()
        .map(|token| ("authorization".into(), format!("Bearer {token}")));
    let sent = Sent {
        method: request.method.unwrap_or("GET"),
        host: request.host.into(),
        path: request.path.into(),
        headers: headers.chain(bearer).collect(),
    };
    let answer = http1(address, &sent);
    answer
        .split(' ')
        .nth(1)
        .map_or(0, |status| status.parse().unwrap())
}

/// A listener that lets connections through by these policies.
fn connections(name: &str, security: &Security) -> Listener {
    let mut listener = listener(name, &Security::default(), answered(), Site::Edge);
    listener.filter_chains[0]
        .filters
        .splice(0..0, security.network.iter().cloned());
    listener
}

#[test]
fn three_evaluators_agree() {
    let mut chance = Chance(7);
    let issuer = Issuer::new("k");
    let rules = [Issuer::rule(&[&issuer])];
    let requests: Vec<_> = (0..40).map(|_| request(&mut chance, &issuer)).collect();
    let connection = (
        Request {
            method: None,
            ..requests[0].0.clone()
        },
        None,
    );
    let sets: Vec<Vec<Value>> = (0..250).map(|_| policies(&mut chance)).collect();
    let mut listeners = Vec::new();
    for (at, policies) in sets.iter().enumerate() {
        let security = security(policies, &rules, &authz::Clients::Seen);
        listeners.push(listener(
            &format!("http-{at}"),
            &security,
            answered(),
            Site::Edge,
        ));
        listeners.push(connections(&format!("tcp-{at}"), &security));
    }
    let mut counts = [0, 0];
    for envoy in validate::envoys() {
        let config = validate::Config {
            listeners: listeners.clone(),
            ..Default::default()
        };
        let proxy = Proxy::start(&envoy, config);
        for (at, policies) in sets.iter().enumerate() {
            let address = &proxy.listeners[&format!("http-{at}")];
            for sent in &requests {
                let (request, status) = (&sent.0, status(address, sent));
                let expected = oracle::allowed(policies, request);
                let said = format!("{} {request:?}", json!(policies));
                assert_eq!(status, if expected { 200 } else { 403 }, "Envoy: {said}");
                assert_eq!(by_model(policies, request), expected, "the model: {said}");
                counts[usize::from(expected)] += 1;
            }
            let found = status(&proxy.listeners[&format!("tcp-{at}")], &connection);
            let expected = oracle::allowed(policies, &connection.0);
            let said = json!(policies);
            assert_eq!(found == 200, expected, "Envoy, a connection: {said}");
            assert_eq!(
                by_model(policies, &connection.0),
                expected,
                "the model, a connection: {said}"
            );
        }
    }
    assert!(
        counts.iter().all(|count| *count > 3000),
        "denied and allowed: {counts:?}"
    );
}
