#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

fn proxies() -> Vec<Proxy> {
    let status = |r#type: &str, state: &str| json!({"type": r#type, "state": state, "sentRevision": 42, "ackedRevision": 42, "resources": 3});
    let refused = json!({"type": "LDS", "state": "NACK", "sentRevision": 42, "ackedRevision": 40, "resources": 2,
        "error": "Error adding/updating listener(s) 12000: cannot bind\nlisten(2): in use", "refused": ["12000"]});
    let proxy = |id: &str, types: Vec<serde_json::Value>| {
        json!({"id": id, "envoyVersion": "1.40.0", "variant": "delta",
        "connectedAt": "2026-11-21T00:00:00.123Z", "peer": "127.0.0.1:5000", "ackedRevision": 42, "types": types, "workloadKnown": true, "pusher": "p1"})
    };
    let mut stranger = proxy("sidecar~blue~stranger", vec![status("CDS", "NOT SENT")]);
    stranger["workloadKnown"] = false.into();
    let all = json!([
        proxy(
            "gateway~edge~ingress",
            vec![
                status("CDS", "SYNCED"),
                status("LDS", "STALE"),
                status("RDS", "SYNCED")
            ]
        ),
        proxy(
            "sidecar~default~reviews",
            vec![status("CDS", "SYNCED"), refused]
        ),
        stranger,
    ]);
    serde_json::from_value(all).unwrap()
}

#[test]
fn all_proxies_with_a_column_per_type_in_use() {
    insta::assert_snapshot!(table(&proxies(), false, Style { colour: false }));
}

#[test]
fn wide_adds_how_they_are_connected() {
    insta::assert_snapshot!(table(&proxies()[..1], true, Style { colour: false }));
}

#[test]
fn one_proxy_in_detail() {
    insta::assert_snapshot!(detail(&proxies()[1], Style { colour: false }));
}

#[test]
fn a_proxy_is_found_by_whatever_is_unambiguous() {
    let mut all = proxies();
    all.push(Proxy {
        id: "sidecar~blue~reviews".into(),
        ..Proxy::default()
    });
    let found = |wanted: &str, namespace: &str| {
        find(&all, wanted, namespace)
            .map(|p| p.id.clone())
            .map_err(|e| e.to_string())
    };
    let ok = |id: &str| Ok::<_, String>(id.to_owned());
    assert_eq!(
        found("sidecar~default~reviews", "x"),
        ok("sidecar~default~reviews")
    );
    assert_eq!(found("reviews", "default"), ok("sidecar~default~reviews"));
    assert_eq!(found("reviews", "blue"), ok("sidecar~blue~reviews"));
    assert_eq!(found("reviews.blue", "default"), ok("sidecar~blue~reviews"));
    assert_eq!(found("edge/ingress", "default"), ok("gateway~edge~ingress"));
    assert_eq!(found("ingress", "default"), ok("gateway~edge~ingress"));
    assert_eq!(
        found("reviews", "green"),
        Err(r#""reviews" could be any of sidecar~default~reviews, sidecar~blue~reviews; give the whole id"#.into())
    );
    assert_eq!(
        found("ingres", "default"),
        Err(r#"no connected proxy is called "ingres"; did you mean "ingress"?"#.into())
    );
    assert_eq!(
        found("zzz", "default"),
        Err(r#"no connected proxy is called "zzz"; meshctl proxy-status lists them"#.into())
    );
}
