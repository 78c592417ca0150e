//! Tokens that nobody may believe do not get past a policy, and good ones do.

use model::spec::{ClaimToHeader, JwtRule};
use serde_json::{Value, json};

use super::client::{Sent, http1};
use super::corpus::{assert_none, assert_through, policy, received, start, values};
use super::jwt::{ISSUER, Issuer};
use super::*;

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
        let proxy = start(&envoy, &backend, &guards, Site::Edge);
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
