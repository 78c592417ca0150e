//! Certificates that Gateways name.

use super::*;

#[test]
fn certificates_that_gateways_do_not_find_are_told() {
    let gateway = |tls: Value| {
        let port = json!({"number": 443, "name": "https", "protocol": "HTTPS"});
        json!({"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": ["a.example"], "tls": tls}]})
    };
    let mut mesh = mesh();
    for (name, field) in [
        ("istio-system/web", "certificate"),
        ("istio-system/ca-cacert", "caCertificates"),
        ("istio-system/both-cacert", "caCertificates"),
        ("istio-system/both", "certificate"),
        ("default/elsewhere", "certificate"),
    ] {
        let secret = resource(Kind::TlsSecret, name, "", &json!({field: "PEM"}));
        mesh.apply(Change::Put(Arc::new(secret)));
    }
    let told = |tls: Value| {
        let warnings = analyze(&resource(Kind::Gateway, "g", "", &gateway(tls)), &mesh);
        let told = warnings.iter().map(|it| it.to_string());
        told.map(|it| it.split("; without").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let no = |field: &str, name: &str| {
        format!(
            "spec.servers[0].tls.{field}: there is no TlsSecret istio-system/{name} with a certificate"
        )
    };
    assert_eq!(
        told(json!({"mode": "SIMPLE", "credentialName": "web"})),
        [""; 0]
    );
    assert_eq!(
        told(json!({"mode": "MUTUAL", "credentialName": "both"})),
        [""; 0]
    );
    let other = json!({"mode": "MUTUAL", "credentialName": "web", "caCertCredentialName": "ca"});
    assert_eq!(told(other), [""; 0]);
    assert_eq!(
        told(json!({"mode": "SIMPLE", "credentialName": "elsewhere"})),
        [no("credentialName", "elsewhere")]
    );
    assert_eq!(
        told(json!({"mode": "SIMPLE", "credentialNames": ["web", "gone"]})),
        [no("credentialNames[1]", "gone")]
    );
    assert_eq!(
        told(json!({"mode": "MUTUAL", "credentialName": "web"})),
        [
            "spec.servers[0].tls.credentialName: there is no TlsSecret istio-system/web-cacert or istio-system/web with caCertificates"
        ]
    );
}
