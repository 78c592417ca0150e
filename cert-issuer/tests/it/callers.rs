//! Who is let in, and what it gets: by credential, and by nothing else, over REST and gRPC.

use issuer_api::v1::issuer_client::IssuerClient;
use issuer_api::v1::{GetBundleRequest, SignX509SvidRequest};
use reqwest::StatusCode;
use serde_json::json;
use store::testing::Etcd;
use tonic::Code;
use tonic::metadata::MetadataValue;

use crate::fixture::{Issuer, credential, json, revoke, until};

pub(crate) const ORDERS: &str = "spiffe://td/ns/shop/sa/orders";

/// A request that asks for more than its sender may have, and its key in PEM.
fn csr() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["evil.example".to_owned()]).unwrap();
    let uri = "spiffe://td/ns/other/sa/admin".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    let request = params.serialize_request(&key).unwrap();
    (request.pem().unwrap(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_gets_certificates_of_its_own_identity_until_it_is_revoked() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Issuer::start(&etcd, &[]).await;
    let token = credential(&store, ORDERS, "orders-v1").await;
    let client = issuer.client().await;
    let (csr, key) = csr();
    let sign = || async {
        let request = client.post(issuer.url("/v1/x509-svid")).body(csr.clone());
        request.bearer_auth(token.expose()).send().await.unwrap()
    };
    until("the credential to be known", async || {
        sign().await.status() == StatusCode::OK
    })
    .await;
    let signed = json(&sign().await.text().await.unwrap());
    assert_eq!(signed["spiffeId"], ORDERS);
    assert_eq!(signed["bundle"].as_str().unwrap(), issuer.bundle().await);
    let chain = signed["chain"].as_str().unwrap();
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(chain.as_bytes()).unwrap();
    let (id, _) = mtls::leaf(&der).unwrap();
    assert_eq!(id.to_string(), ORDERS, "not what the request asked for");

    // That certificate alone gets nothing, or who has it could renew it after the credential is revoked.
    let pem = format!("{chain}{key}");
    let own = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
    let by_certificate = issuer.builder().await.identity(own).build().unwrap();
    let refused = async || {
        for request in [
            by_certificate
                .post(issuer.url("/v1/x509-svid"))
                .body(csr.clone()),
            by_certificate
                .post(issuer.url("/v1/jwt-svid"))
                .json(&json!({"audience": ["db"]})),
            by_certificate.get(issuer.url("/v1/bundle")),
            by_certificate
                .post(issuer.url("/v3/discovery:secrets"))
                .json(&json!({"node": {"id": "sidecar~shop~orders-v1"}, "resource_names": ["default"]})),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            let why = answer.text().await.unwrap();
            assert!(why.contains("a certificate is not enough"), "{why}");
        }
    };
    refused().await;

    revoke(&store, &token).await;
    until("the revocation to be known", async || {
        sign().await.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    refused().await;
    let metrics = issuer.admin("/metrics").await.unwrap();
    let counted = metrics
        .lines()
        .any(|line| line.starts_with("weft_issuer_refusals_total{reason=\"authentication\"}"));
    assert!(counted, "{metrics}");
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let etcd = Etcd::start().await;
    let issuer = Issuer::start(&etcd, &[]).await;
    let foreign = credential(&etcd.store(), "spiffe://other/ns/shop/sa/orders", "x").await;
    let client = issuer.client().await;
    let bundle = issuer.url("/v1/bundle");
    let status =
        |request: reqwest::RequestBuilder| async { request.send().await.unwrap().status() };
    assert_eq!(status(client.get(&bundle)).await, StatusCode::UNAUTHORIZED);
    for token in [
        "",
        "weft_",
        "weft_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        foreign.expose(),
    ] {
        let request = client.get(&bundle).bearer_auth(token);
        assert_eq!(status(request).await, StatusCode::UNAUTHORIZED, "{token}");
    }
    // Nor does a certificate that somebody made for himself help.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(ORDERS.try_into().unwrap())];
    let own = params.self_signed(&key).unwrap();
    let pem = format!("{}{}", own.pem(), key.serialize_pem());
    let own = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
    let forger = issuer.builder().await.identity(own).build().unwrap();
    assert_eq!(status(forger.get(&bundle)).await, StatusCode::UNAUTHORIZED);
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_signs_and_refuses_alike() {
    let etcd = Etcd::start().await;
    let issuer = Issuer::start(&etcd, &[]).await;
    let token = credential(&etcd.store(), ORDERS, "orders-v1").await;
    let channel = issuer.channel().await;
    let mut stranger = IssuerClient::new(channel.clone());
    let refused = stranger.get_bundle(GetBundleRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let bearer: MetadataValue<_> = format!("Bearer {}", token.expose()).parse().unwrap();
    let mut client =
        IssuerClient::with_interceptor(channel, move |mut request: tonic::Request<()>| {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
            Ok(request)
        });
    until("the credential to be known", async || {
        client.get_bundle(GetBundleRequest {}).await.is_ok()
    })
    .await;
    let csr = csr().0.into_bytes();
    let signed = client
        .sign_x509_svid(SignX509SvidRequest { csr })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((signed.spiffe_id.as_str(), signed.chain.len()), (ORDERS, 2));
    let bundle = signed.bundle.unwrap();
    assert_eq!(
        (bundle.trust_domain.as_str(), bundle.roots.len()),
        ("td", 1)
    );
    let csr = b"nonsense".to_vec();
    let refused = client
        .sign_x509_svid(SignX509SvidRequest { csr })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().starts_with("csr: "),
        "{}",
        refused.message()
    );
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_made_a_moment_ago_is_known() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Issuer::start(&etcd, &[]).await;
    let client = issuer.client().await;
    let ask = async |token: &str| {
        let request = client.get(issuer.url("/v1/bundle")).bearer_auth(token);
        request.send().await.unwrap().status()
    };
    for n in 0..20 {
        let token = credential(&store, ORDERS, &format!("orders-{n}")).await;
        assert_eq!(ask(token.expose()).await, StatusCode::OK, "{n}");
    }
    // What nobody made is refused, however often it is asked for.
    let made_up = model::Credential::new(&[7; model::CREDENTIAL_BYTES].into());
    for _ in 0..100 {
        assert_eq!(ask(made_up.expose()).await, StatusCode::UNAUTHORIZED);
    }
    issuer.stop().await;
}
