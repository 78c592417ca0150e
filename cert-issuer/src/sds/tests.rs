//! Who may have what.

#![allow(clippy::unwrap_used)]

use jiff::SignedDuration;

use super::*;

fn identity() -> Identity {
    "spiffe://td/ns/shop/sa/orders".parse().unwrap()
}

fn caller() -> Caller {
    Caller {
        identity: identity(),
        hash: "h".into(),
        workload: "orders-v1".into(),
    }
}

#[test]
fn a_caller_may_have_its_own_secrets_only() {
    for name in [
        "default",
        "ROOTCA",
        "spiffe://td/ns/shop/sa/orders",
        "spiffe://td",
        "shop/web",
        "shop/web-cacert",
        "jwt:db",
        "bearer:db",
        "jwt:https://db.example/a",
        "spiffe://friends",
    ] {
        allowed(name, &identity(), |domain| domain.as_str() == "friends").unwrap();
    }
    for name in [
        "spiffe://td/ns/shop/sa/admin",
        "spiffe://td/ns/other/sa/orders",
        "spiffe://td/ns/shop/sa/orders/x",
        "spiffe://other",
        "spiffe://other/ns/shop/sa/orders",
        "spiffe://td/",
        "spiffe://friends/ns/shop/sa/orders",
        "Default",
        "",
        "/etc/passwd",
        "bank/web",
        "shop/",
        "/web",
        "web",
        "shop/web/x",
        "spiffe:/shop/web",
        "jwt:",
        "jwt",
    ] {
        let status = allowed(name, &identity(), |domain| domain.as_str() == "friends").unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{name}");
    }
}

#[test]
fn a_node_is_of_the_callers_namespace_and_of_the_credentials_workload() {
    for id in ["sidecar~shop~orders-v1", "gateway~shop~orders-v1"] {
        let named = workload(id, &caller()).unwrap();
        assert_eq!((named.identity, &*named.node), (identity(), id));
    }
    for (id, why) in [
        ("sidecar~other~orders-v1", "another namespace"),
        ("sidecar~shop~orders-v2", "made for the workload"),
        ("shop~orders-v1", "is not sidecar~"),
        ("router~shop~orders-v1", "is not sidecar~"),
        ("sidecar~shop~orders-v1~x", "is not sidecar~"),
        ("", "is not sidecar~"),
    ] {
        let status = workload(id, &caller()).unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains(why), "{id}: {}", status.message());
    }
}

#[test]
fn renewal_is_at_half_life_a_tenth_more_or_less() {
    let now = Timestamp::UNIX_EPOCH;
    let end = now + SignedDuration::from_secs(1000);
    let seconds = |jitter| renewal(now, end, jitter).as_second();
    assert_eq!((seconds(0.0), seconds(0.5), seconds(1.0)), (450, 500, 550));
    assert_eq!((seconds(-1.0), seconds(2.0)), (450, 550));
}
