//! Tokens over SDS: a real Envoy adds them to requests, and the backend checks them by the issuer's key set.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use store::testing::Etcd;

use crate::envoy::{Envoy, ORDERS, cluster, injector, sds};
use crate::fixture::{Issuer, credential, get, until};

/// The audience, which may be anything.
const AUDIENCE: &str = "https://db.example/orders";

/// Whose token a request carries, by the keys that the issuer publishes; otherwise 401.
async fn subject(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
) -> Result<String, (StatusCode, String)> {
    let refused = |why: String| (StatusCode::UNAUTHORIZED, why);
    let header = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = header.and_then(|text| text.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| refused(format!("no token in {headers:?}")))?;
    let keys: JwkSet = serde_json::from_str(&issuer.admin("/keys").await.unwrap()).unwrap();
    let kid = jsonwebtoken::decode_header(token)
        .map_err(|error| refused(error.to_string()))?
        .kid;
    let key = keys
        .find(&kid.unwrap())
        .ok_or_else(|| refused("no such key".into()))?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.leeway = 0;
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
        .map_err(|error| refused(error.to_string()))?
        .claims;
    Ok(format!(
        "{} {}",
        claims["sub"].as_str().unwrap(),
        claims["iat"]
    ))
}

/// `kind`: with `jwt` the Envoy itself puts `Bearer` before the token.
async fn a_proxy_shows_its_workloads_token(version: &str, api_type: &str, kind: &str) {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Arc::new(Issuer::start(&etcd, &["--jwt-ttl=10s", "--svid-ttl=24h"]).await);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(subject).with_state(issuer.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let filters = "type.googleapis.com/envoy.extensions.filters";
    let secret = json!({"name": format!("{kind}:{AUDIENCE}"), "sds_config": sds(api_type)});
    let mut injector = injector(&secret);
    if kind == "jwt" {
        injector["typed_config"]["credential"]["typed_config"]["header_value_prefix"] =
            "Bearer ".into();
    }
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}],
        }]},
        "http_filters": [
            injector,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": format!("{filters}.http.router.v3.Router")}},
        ],
    }});
    let token = credential(&store, ORDERS, "orders-v1").await;
    let way = (&*issuer.bundle().await, issuer.address.port());
    let node = "sidecar~shop~orders-v1";
    let backend = cluster("backend", port, None);
    let envoy = Envoy::with(version, node, &token, way, &backend, &filter);
    let call = async || get(([127, 0, 0, 1], envoy.listener).into(), "/").await;

    let mut first = None;
    until(
        &format!("a call with a token\n{}", envoy.log()),
        async || {
            first = call().await;
            first.is_some()
        },
    )
    .await;
    let first = first.unwrap();
    assert!(first.starts_with(ORDERS), "{first}");
    // Renewed by a push, over and over, without a call that fails: a token lasts for ten seconds.
    let mut seen = std::collections::BTreeSet::from([first]);
    until("three tokens", async || {
        seen.insert(call().await.expect("a call with a valid token"));
        seen.len() >= 4
    })
    .await;
    assert_eq!(envoy.stat("cluster.weft-issuer.upstream_cx_total").await, 1);
    let dump = envoy.ask("/config_dump").await;
    assert!(dump.contains(AUDIENCE) && !dump.contains("eyJ"), "{dump}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_envoy_shows_its_workloads_token() {
    a_proxy_shows_its_workloads_token("1.40.0", "DELTA_GRPC", "jwt").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_envoy_shows_its_workloads_token() {
    a_proxy_shows_its_workloads_token("1.36.4", "GRPC", "bearer").await;
}
