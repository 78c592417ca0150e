//! TLS: the server's certificate, and clients that prove themselves by theirs.

use std::io::Read;
use std::io::Write;

use reqwest::Method;
use time::{Duration, OffsetDateTime};

use crate::access::until;
use crate::fixture::{Api, VS, answer, virtual_service};
use crate::keyring::{Authority, Keyring};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

async fn start(keys: &Keyring) -> Api {
    let mut access = keys.with_tls(keys.by_token(&[("token", "viewer", &["shop"])]));
    access.client_ca_file = Some(keys.path("ca.pem"));
    access.access_file = Some(keys.grants(&[
        ("token", "viewer", &["shop"]),
        (WEB, "editor", &["shop"]),
        ("cert:alice", "admin", &["*"]),
    ]));
    let mut api = Api::with(|c| c.access = access).await;
    api.http = keys.client(None);
    api
}

#[tokio::test]
async fn a_certificate_proves_who_calls() {
    let keys = Keyring::new();
    let mut api = start(&keys).await;
    assert_eq!(answer(api.request(Method::GET, VS)).await.0, 401);
    assert_eq!(answer(api.by("token", Method::GET, VS)).await.0, 200);
    assert_eq!(answer(api.request(Method::GET, "/readyz")).await.0, 200);

    let make = virtual_service("a", "b");
    api.http = keys.client(Some(&keys.authority().workload(WEB)));
    assert_eq!(api.post(VS, &make).await.0, 201);
    let elsewhere = VS.replace("shop", "pay");
    assert_eq!(api.get(&elsewhere).await.0, 403);
    // A token goes before the certificate, and is not made good by it.
    assert_eq!(
        answer(api.request(Method::GET, VS).bearer_auth("wrong"))
            .await
            .0,
        401
    );
    assert_eq!(
        answer(api.by("token", Method::DELETE, &format!("{VS}/a")))
            .await
            .0,
        403
    );

    api.http = keys.client(Some(&keys.authority().person("alice")));
    let history = api.get("/v1/history").await.1;
    assert_eq!(history["changes"][0]["who"], WEB);
    assert_eq!(api.get(&elsewhere).await.0, 200);

    // A common name that looks like a SPIFFE ID, or like a token's owner, is neither.
    for name in [WEB, "token"] {
        api.http = keys.client(Some(&keys.authority().person(name)));
        let (code, status) = api.get(VS).await;
        assert_eq!(code, 403);
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .contains(&format!("cert:{name}")),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_ends_the_handshake() {
    let keys = Keyring::new();
    let mut api = start(&keys).await;
    let now = OffsetDateTime::now_utc();
    let expired = keys.authority().issue(|p| {
        p.subject_alt_names
            .push(rcgen::SanType::URI(WEB.try_into().unwrap()));
        (p.not_before, p.not_after) = (now - Duration::days(2), now - Duration::days(1));
    });
    for (what, identity) in [
        ("a stranger's", Authority::new().workload(WEB)),
        ("an expired one", expired),
    ] {
        api.http = keys.client(Some(&identity));
        assert!(api.request(Method::GET, VS).send().await.is_err(), "{what}");
        assert!(
            api.request(Method::GET, "/livez").send().await.is_err(),
            "{what}"
        );
    }
    // Nor does the server speak to who does not speak TLS.
    let plain = api.url.strip_prefix("https://").unwrap().to_owned();
    let said = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(plain).unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
            .unwrap();
        let mut said = Vec::new();
        // A reset is an answer, too.
        let _ = stream.read_to_end(&mut said);
        said
    });
    let said = said.await.unwrap();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
}

#[tokio::test]
async fn what_is_renewed_is_shown_and_what_is_withdrawn_is_refused() {
    let keys = Keyring::new();
    let mut api = start(&keys).await;
    let web = keys.authority().workload(WEB);
    api.http = keys.client(Some(&web));
    assert_eq!(api.get(VS).await.0, 200);

    // Half of a new pair is no pair: the old one stays.
    let other = Authority::new();
    let (certificate, key) = other.server();
    keys.write("server.pem", &certificate);
    until("the half is told", async || {
        let ready = api.get("/readyz").await.1;
        ready["checks"]["tls"]["warning"]
            .as_str()
            .is_some_and(|w| w.contains("server.pem"))
    })
    .await;
    keys.write("server.key", &key);
    let trusted = reqwest::Certificate::from_pem(other.pem.as_bytes()).unwrap();
    let fresh = || {
        let identity =
            reqwest::Identity::from_pem(format!("{}{}", web.0, web.1).as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([trusted.clone()]);
        client.identity(identity).build().unwrap()
    };
    until("the new certificate is shown", async || {
        fresh()
            .get(format!("{}/livez", api.url))
            .send()
            .await
            .is_ok()
    })
    .await;
    // Authorities of clients, too.
    keys.write("ca.pem", &other.pem);
    until("the old authority's clients are refused", async || {
        fresh()
            .get(format!("{}/livez", api.url))
            .send()
            .await
            .is_err()
    })
    .await;
}
