//! AuthorizationPolicy and RequestAuthentication, from the API to gateways of every kind; and a long expression, which an Envoy
//! takes only by what its bootstrap says.

use weft_tests::http;

use crate::edge::{Edge, Gateway, is, routes, service};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-admin, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/admin, '/admin/*'] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: roles, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  rules:
  - to: [{ operation: { notPaths: [/secret] } }]
  - when: [{ key: 'request.headers[x-role]', values: [admin] }]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  jwtRules: [{ issuer: somebody, jwks: '{\"keys\":[{\"kty\":\"oct\",\"kid\":\"1\",\"alg\":\"HS256\",\"k\":\"c2VjcmV0\"}]}' }]
";

/// The status of a request with these headers.
async fn status(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> u16 {
    let request = headers
        .iter()
        .fold(gateway.request(path), |request, (name, value)| {
            request.header(*name, *value)
        });
    http::send(request).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_hold_at_every_gateway_and_go_again() {
    let edge = Edge::start("authz").await.unwrap();
    let _a = edge.backend(2, "a", "v1").await.unwrap();
    let long = "a".repeat(300);
    let documents = [
        service("a", &[edge.mesh.net.at(2, 9000)]),
        routes(
            "all",
            &format!(
                "- match: [{{ uri: {{ regex: '/{long}' }} }}]\n  directResponse: {{ status: 418 }}\n\
                 - route: [{{ destination: {{ host: a }} }}]"
            ),
        ),
    ];
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    edge.all_answer("/admin", is("a v1")).await.unwrap();
    edge.all_answer(&format!("/{long}"), |it| it.status == 418)
        .await
        .unwrap();
    edge.mesh.apply(POLICIES).await.unwrap();
    // What the last of them makes refused is refused: all of them hold.
    edge.all_answer("/secret", |it| it.status == 403)
        .await
        .unwrap();
    edge.all_answer("/admin", |it| it.status == 403)
        .await
        .unwrap();
    let (admin, user) = (("x-role", "admin"), ("x-role", "user"));
    for gateway in &edge.gateways {
        for (path, headers, expected) in [
            ("/public", vec![], 200),
            ("//admin/x", vec![], 403),
            ("/secret", vec![admin], 200),
            ("/secret", vec![user, admin], 403),
            ("/secret", vec![admin, user], 403),
            ("/public", vec![("authorization", "Bearer a.b.c")], 401),
        ] {
            let found = status(gateway, path, &headers).await;
            assert_eq!(found, expected, "{} {path} {headers:?}", gateway.name);
        }
    }
    let all = "/apis/security.istio.io/v1/namespaces/istio-system";
    for path in [
        "authorizationpolicies/no-admin",
        "authorizationpolicies/roles",
        "requestauthentications/tokens",
    ] {
        let deleted = edge
            .mesh
            .call(reqwest::Method::DELETE, &format!("{all}/{path}"), None)
            .await;
        deleted.unwrap().ok().unwrap();
    }
    edge.all_answer("/admin", is("a v1")).await.unwrap();
    edge.all_answer("/secret", is("a v1")).await.unwrap();
    edge.finish().await;
}
