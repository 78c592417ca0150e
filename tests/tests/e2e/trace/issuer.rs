//! What the issuer does: opens what was uploaded, rotates, signs.

use serde_json::json;
use weft_tests::otlp::{Protocol, Sink, Span};

use super::{CALLER, OTHER, TRACE, apply, edge, has, named, of, put, requested};

/// A Gateway that needs a certificate which is not there yet.
const SECURE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: secure, namespace: shop }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 8443, name: https, protocol: HTTPS }, hosts: ['*'], tls: { mode: SIMPLE, credentialName: web } }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_uploaded_is_traced_through_all_three_services() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("uploaded-traced", &sink.environment(Protocol::Grpc), true).await;
    apply(&edge, OTHER, SECURE).await;
    let is = |span: &Span| span.name == "ACK" && has(span, &[("xds.type", "LDS")]);
    sink.span(OTHER, "of the gateway's ACK", is).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["shop.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let body = json!({
        "apiVersion": "weft.mesh/v1", "kind": "TlsSecret",
        "metadata": { "name": "web", "namespace": "istio-system" },
        "spec": { "certificate": certificate, "privateKey": key.serialize_pem() }
    });
    let path = "/apis/weft.mesh/v1/namespaces/istio-system/tlssecrets/web";
    let revision = put(&edge.mesh, TRACE, path, &body).await;
    let is = of("cert-issuer", "push secret");
    let push = sink.span(TRACE, "of the issuer's push", is).await.unwrap();
    assert!(has(&push, &[("proxies.total", "2")]), "{push:?}");
    for gateway in &edge.gateways {
        let id = format!("gateway~istio-system~{}", gateway.name);
        let about = [("proxy.id", id.as_str()), ("xds.type", "SDS")];
        let is = |span: &Span| span.name == "ACK" && has(span, &about);
        sink.span(TRACE, "of the secret's ACK", is).await.unwrap();
    }
    let is = of("xds-pusher", "compile");
    sink.span(TRACE, "of the pusher", is).await.unwrap();
    let is = of("cert-issuer", "open secret");
    sink.span(TRACE, "of the opening", is).await.unwrap();
    requested(&sink).await;
    let spans = sink.trace(TRACE);
    let transaction = named(&spans, "etcd transaction")[0];
    let what = [
        ("policy.type", "tlssecret"),
        ("policy.name", "web"),
        ("mesh.revision", revision.as_str()),
    ];
    for watch in named(&spans, "watch") {
        assert_eq!(watch.parent, transaction.id);
        assert!(has(watch, &what), "{watch:?}");
    }
    let mut services: Vec<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    assert_eq!(services, ["cert-issuer", "config-api", "xds-pusher"]);

    // What an operator asks of the authority is done, and signed anew, in the operator's trace.
    let request = weft_tests::http::client()
        .post(format!("http://{}/v1/ca", edge.mesh.api_address()))
        .header("traceparent", format!("00-{OTHER}-{CALLER}-01"))
        .json(&json!({ "step": "rotateIssuing" }));
    weft_tests::http::send(request).await.unwrap().ok().unwrap();
    let is = |span: &Span| span.name == "rotate" && has(span, &[("ca.step", "rotateIssuing")]);
    sink.span(OTHER, "of the rotation", is).await.unwrap();
    let is = |span: &Span| span.name == "sign all" && has(span, &[("svids.signed", "2")]);
    sink.span(OTHER, "of signing", is).await.unwrap();
    let is =
        |span: &Span| span.name == "sign" && span.get("spiffe.id").contains("/ns/istio-system/");
    let sign = sink.span(OTHER, "of one signature", is).await.unwrap();
    assert_eq!(sign.get("svid.kind"), "x509", "{sign:?}");
    assert!(!sign.get("svid.expires").is_empty(), "{sign:?}");
    edge.finish().await;
}
