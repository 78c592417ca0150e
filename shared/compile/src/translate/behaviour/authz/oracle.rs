//! A second evaluator of AuthorizationPolicies, written from Istio's reference documentation alone
//! (istio.io/latest/docs/reference/config/security/authorization-policy and .../conditions), on the documents as people write
//! them. It shares no code with the first, and knows nothing of what Weft does in doubt.

use std::net::Ipv4Addr;

use serde_json::Value;

/// A request, or a connection if there is no method.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Option<&'static str>,
    pub(super) host: &'static str,
    pub(super) path: &'static str,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// The claims of a valid token.
    pub(super) claims: Option<Value>,
    pub(super) source: Ipv4Addr,
}

/// Whether the request is allowed.
pub(super) fn allowed(policies: &[Value], request: &Request) -> bool {
    let of = |action: &str| -> Vec<&Value> {
        let named = policies
            .iter()
            .filter(|it| it["action"].as_str().unwrap_or("ALLOW") == action);
        named.collect()
    };
    // 1. If there are any DENY policies that match the request, deny it.
    if of("DENY")
        .iter()
        .any(|policy| matches(policy, request, true))
    {
        return false;
    }
    // 2. If there are no ALLOW policies, allow it. 3. If any of them match, allow it. 4. Deny it.
    let allow = of("ALLOW");
    allow.is_empty() || allow.iter().any(|policy| matches(policy, request, false))
}

fn list(value: &Value) -> Vec<&Value> {
    value
        .as_array()
        .map(|items| items.iter().collect())
        .unwrap_or_default()
}

fn matches(policy: &Value, request: &Request, deny: bool) -> bool {
    list(&policy["rules"]).into_iter().any(|rule| {
        // HTTP-only fields on TCP: a rule to allow is never matched, one to deny is matched by its other fields.
        if request.method.is_none() && !deny && asks_for_http(rule) {
            return false;
        }
        let either = |items: &Value, field: &str| {
            let mut items = list(items).into_iter().peekable();
            items.peek().is_none() || items.any(|item| object(&item[field], request, deny))
        };
        either(&rule["from"], "source")
            && either(&rule["to"], "operation")
            && list(&rule["when"])
                .into_iter()
                .all(|when| condition(when, request, deny))
    })
}

const HTTP_ONLY: [&str; 8] = [
    "requestPrincipals",
    "notRequestPrincipals",
    "hosts",
    "notHosts",
    "methods",
    "notMethods",
    "paths",
    "notPaths",
];

fn asks_for_http(rule: &Value) -> bool {
    let objects = list(&rule["from"]).into_iter().chain(list(&rule["to"]));
    let mut fields = objects
        .flat_map(|item| item.as_object().unwrap().values())
        .flat_map(|it| it.as_object().unwrap().keys());
    let conditions = list(&rule["when"]);
    let of_request = conditions
        .iter()
        .any(|when| when["key"].as_str().unwrap().starts_with("request."));
    of_request || fields.any(|field| HTTP_ONLY.contains(&field.as_str()))
}

/// Every field of a source or an operation.
fn object(fields: &Value, request: &Request, deny: bool) -> bool {
    fields.as_object().unwrap().iter().all(|(field, values)| {
        let (name, negative) = match field.strip_prefix("not") {
            Some(rest) => (rest[..1].to_lowercase() + &rest[1..], true),
            None => (field.clone(), false),
        };
        if request.method.is_none() && HTTP_ONLY.contains(&field.as_str()) {
            return true;
        }
        let found = list(values)
            .into_iter()
            .any(|value| attribute(&name, value.as_str().unwrap(), request, deny != negative));
        found != negative
    })
}

fn condition(when: &Value, request: &Request, deny: bool) -> bool {
    let key = when["key"].as_str().unwrap();
    if request.method.is_none() && key.starts_with("request.") {
        return true;
    }
    let any = |values: &Value, deny: bool| {
        list(values)
            .into_iter()
            .any(|value| attribute(key, value.as_str().unwrap(), request, deny))
    };
    (when["values"].is_null() || any(&when["values"], deny)) && !any(&when["notValues"], !deny)
}

/// Exact, prefix (`abc*`), suffix (`*abc`) and presence (`*`) match.
fn text(value: &str, is: &str) -> bool {
    if value == "*" {
        !is.is_empty()
    } else if let Some(end) = value.strip_prefix('*') {
        is.ends_with(end)
    } else if let Some(start) = value.strip_suffix('*') {
        is.starts_with(start)
    } else {
        is == value
    }
}

/// Of a header that is given several times, one value is enough to deny, and all are needed to allow: the documentation does not
/// say, so the one that cannot let the wrong request through.
fn attribute(name: &str, value: &str, request: &Request, deny: bool) -> bool {
    let claims = request.claims.as_ref();
    match name {
        // All connections here are plaintext: there is no peer identity to match.
        "principals" | "namespaces" | "serviceAccounts" | "source.principal"
        | "source.namespace" => false,
        "ipBlocks" | "remoteIpBlocks" | "source.ip" | "remote.ip" => cidr(value, request.source),
        "destination.ip" => cidr(value, Ipv4Addr::LOCALHOST),
        // No listener here has port 1.
        "ports" | "destination.port" => value != "1",
        "connection.sni" => false,
        "hosts" => {
            let host = request.host.to_lowercase();
            let bare = host.split(':').next().unwrap();
            text(&value.to_lowercase(), bare)
        }
        "methods" => text(value, request.method.unwrap()),
        "paths" => {
            let path = request.path.split('?').next().unwrap();
            if value.contains('{') {
                let (value, path): (Vec<&str>, Vec<&str>) =
                    (value.split('/').collect(), path.split('/').collect());
                template(&value, &path)
            } else {
                text(value, path)
            }
        }
        "requestPrincipals" | "request.auth.principal" => claims.is_some_and(|claims| {
            let (issuer, subject) = (
                claims["iss"].as_str().unwrap(),
                claims["sub"].as_str().unwrap(),
            );
            text(value, &format!("{issuer}/{subject}"))
        }),
        "request.auth.audiences" => claims.is_some_and(|claims| claim(&claims["aud"], value)),
        "request.auth.presenter" => claims.is_some_and(|claims| claim(&claims["azp"], value)),
        _ => {
            let keys: Vec<&str> = name
                .split(['[', ']'])
                .filter(|key| !key.is_empty())
                .collect();
            match keys[0] {
                "request.headers" => {
                    let mut given = request
                        .headers
                        .iter()
                        .filter(|(own, _)| own.eq_ignore_ascii_case(keys[1]))
                        .map(|(_, is)| text(value, is))
                        .peekable();
                    given.peek().is_some()
                        && if deny {
                            given.any(|it| it)
                        } else {
                            given.all(|it| it)
                        }
                }
                "request.auth.claims" => claims.is_some_and(|claims| {
                    claim(
                        keys[1..].iter().fold(claims, |claims, key| &claims[*key]),
                        value,
                    )
                }),
                other => unreachable!("{other}"),
            }
        }
    }
}

fn claim(claim: &Value, value: &str) -> bool {
    let one = |claim: &Value| claim.as_str().is_some_and(|is| text(value, is));
    one(claim) || list(claim).into_iter().any(one)
}

/// `{*}` matches one segment, `{**}` zero or more characters of any segments.
fn template(value: &[&str], path: &[&str]) -> bool {
    match (value, path) {
        ([], []) => true,
        (["{**}", rest @ ..], [_, ..]) => {
            (1..=path.len()).any(|taken| template(rest, &path[taken..]))
        }
        (["{*}", value @ ..], [segment, path @ ..]) => !segment.is_empty() && template(value, path),
        ([first, value @ ..], [segment, path @ ..]) => first == segment && template(value, path),
        _ => false,
    }
}

fn cidr(value: &str, address: Ipv4Addr) -> bool {
    let (network, bits) = value.split_once('/').unwrap_or((value, "32"));
    let network = u32::from(network.parse::<Ipv4Addr>().unwrap());
    let shift = 32 - bits.parse::<u32>().unwrap();
    u32::from(address).checked_shr(shift) == network.checked_shr(shift)
}
