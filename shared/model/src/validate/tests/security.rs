//! AuthorizationPolicy, RequestAuthentication, and what MeshConfig says for them: a finding names field, value and rule.

use super::*;

/// Each row: what is written, the field that is refused, its value, and a word of the rule.
fn told(kind: Kind, rows: &[(Value, &str, &str, &str)]) {
    for (spec, field, value, rule) in rows {
        let object = Object {
            kind,
            metadata: Metadata {
                name: "default".into(),
                namespace: "istio-system".into(),
                ..Metadata::default()
            },
            spec: spec.clone(),
        };
        let errors = match check(object, Options::default()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors,
        };
        if field.is_empty() {
            assert!(errors.is_empty(), "{spec}: {errors:?}");
            continue;
        }
        let found = errors.iter().find(|it| it.field == format!("spec{field}"));
        let found = found.unwrap_or_else(|| panic!("{spec}: {errors:?}"));
        assert_eq!(found.value, *value, "{spec}");
        assert!(found.rule.contains(rule), "{spec}: {}", found.rule);
    }
}

#[test]
fn authorization_policies_keep_istios_rules() {
    let from = |source: Value| json!({"rules": [{"from": [{"source": source}]}]});
    let to = |operation: Value| json!({"rules": [{"to": [{"operation": operation}]}]});
    let paths = |path: &str| to(json!({"paths": [path]}));
    let when =
        |key: &str, values: Value| json!({"rules": [{"when": [{"key": key, "values": values}]}]});
    let custom =
        |rules: Value| json!({"action": "CUSTOM", "provider": {"name": "opa"}, "rules": rules});
    let source = ".rules[0].from[0].source";
    let operation = ".rules[0].to[0].operation";
    let at = |of: &str, field: &str| format!("{of}{field}");
    #[rustfmt::skip]
    told(Kind::AuthorizationPolicy, &[
        (json!({}), "", "", ""),
        (json!({"rules": [{}]}), "", "", ""),
        (json!({"action": "DENY", "rules": [{"from": [{"source": {"principals": ["*"], "notIpBlocks": ["10.0.0.0/8", "::1"]}}]}]}), "", "", ""),
        (paths("/a/{*}/b/{**}"), "", "", ""),
        (custom(json!([{}])), "", "", ""),
        (json!({"action": "PERMIT"}), ".action", "\"PERMIT\"", "ALLOW"),
        (json!({"action": "CUSTOM", "rules": [{}]}), ".provider.name", "", "extensionProviders"),
        (custom(json!([])), ".rules", "[]", "CUSTOM"),
        (json!({"provider": {"name": "opa"}}), ".provider", "{\"name\":\"opa\"}", "CUSTOM"),
        (json!({"rules": [{"from": []}]}), ".rules[0].from", "[]", "must not be empty"),
        (from(json!({})), source, "{}", "must not be empty"),
        (to(json!({})), operation, "{}", "must not be empty"),
        (from(json!({"principals": [""]})), &at(source, ".principals[0]"), "\"\"", "* stands for anything"),
        (from(json!({"ipBlocks": ["10.0.0.0/40"]})), &at(source, ".ipBlocks[0]"), "\"10.0.0.0/40\"", "must be"),
        (from(json!({"notRemoteIpBlocks": ["here"]})), &at(source, ".notRemoteIpBlocks[0]"), "\"here\"", "must be"),
        (from(json!({"serviceAccounts": ["a/*"]})), &at(source, ".serviceAccounts[0]"), "\"a/*\"", "wildcards"),
        (from(json!({"serviceAccounts": ["a"], "principals": ["b"]})), &at(source, ".serviceAccounts"), "[\"a\"]", "beside"),
        (to(json!({"ports": ["http"]})), &at(operation, ".ports[0]"), "\"http\"", "1 to 65535"),
        (to(json!({"ports": ["0"]})), &at(operation, ".ports[0]"), "\"0\"", "65535"),
        (paths("/a/{*}b"), &at(operation, ".paths[0]"), "\"/a/{*}b\"", "whole segment"),
        (paths("/{**}/{*}"), &at(operation, ".paths[0]"), "\"/{**}/{*}\"", "last"),
        (paths("/a//{*}"), &at(operation, ".paths[0]"), "\"/a//{*}\"", "empty segment"),
        (paths("a/{*}"), &at(operation, ".paths[0]"), "\"a/{*}\"", "slash"),
        (paths("/{name}"), &at(operation, ".paths[0]"), "\"/{name}\"", "{ and }"),
        (paths("/*/{*}"), &at(operation, ".paths[0]"), "\"/*/{*}\"", "letters"),
        (when("request.header[x]", json!(["a"])), ".rules[0].when[0].key", "\"request.header[x]\"", "request.headers[name]"),
        (when("request.headers[x y]", json!(["a"])), ".rules[0].when[0].key", "\"request.headers[x y]\"", ""),
        (when("destination.port", json!(["x"])), ".rules[0].when[0].values[0]", "\"x\"", "65535"),
        (when("source.ip", json!(["x"])), ".rules[0].when[0].values[0]", "\"x\"", "must be"),
        (when("source.ip", json!([])), ".rules[0].when[0]", "{\"key\":\"source.ip\",\"values\":[]}", "values or notValues"),
        (when("experimental.envoy.filters.a[b]", json!(["x"])), ".rules[0].when[0].key", "\"experimental.envoy.filters.a[b]\"", "not supported"),
        (custom(json!([{"from": [{"source": {"requestPrincipals": ["*"]}}]}])), &at(source, ".requestPrincipals"), "[\"*\"]", "before tokens"),
        (custom(json!([{"when": [{"key": "request.auth.claims[a]", "values": ["b"]}]}])), ".rules[0].when[0].key", "\"request.auth.claims[a]\"", "before tokens"),
        (json!({"targetRefs": [{"kind": "Gateway", "name": "a"}]}), ".targetRefs", "[{\"kind\":\"Gateway\",\"name\":\"a\"}]", "not supported"),
        (json!({"rules": [{"form": []}]}), ".rules[0].form", "", ""),
    ]);
}

#[test]
fn request_authentications_keep_istios_rules() {
    let key = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "", "y": ""}]}).to_string();
    let rule = |rule: Value| json!({"jwtRules": [rule]});
    let with = |field: &str, value: Value| {
        let mut of = json!({"issuer": "a", "jwks": key});
        of[field] = value;
        rule(of)
    };
    let uri = |uri: &str| rule(json!({"issuer": "a", "jwksUri": uri}));
    #[rustfmt::skip]
    told(Kind::RequestAuthentication, &[
        (json!({}), "", "", ""),
        (with("audiences", json!(["b"])), "", "", ""),
        (uri("https://a.example/keys"), "", "", ""),
        (with("issuer", json!("")), ".jwtRules[0].issuer", "\"\"", "must not be empty"),
        (rule(json!({"issuer": "a"})), ".jwtRules[0]", "{\"issuer\":\"a\"}", "jwks or jwksUri"),
        (rule(json!({"issuer": "a", "jwks": "{}"})), ".jwtRules[0].jwks", "\"{}\"", "keys"),
        (rule(json!({"issuer": "a", "jwks": "x"})), ".jwtRules[0].jwks", "\"x\"", "JSON web key set"),
        (uri("file:///etc/keys"), ".jwtRules[0].jwksUri", "\"file:///etc/keys\"", "http:// or https://"),
        (uri("https://u@a.example/"), ".jwtRules[0].jwksUri", "\"https://u@a.example/\"", "URL"),
        (uri("https://a.example:0/"), ".jwtRules[0].jwksUri", "\"https://a.example:0/\"", "URL"),
        (with("timeout", json!("0s")), ".jwtRules[0].timeout", "\"0s\"", ""),
        (with("audiences", json!([""])), ".jwtRules[0].audiences[0]", "\"\"", "must not be empty"),
        (with("fromHeaders", json!([{"name": ":path"}])), ".jwtRules[0].fromHeaders[0].name", "\":path\"", "pseudo-header"),
        (with("outputClaimToHeaders", json!([{"header": "x y", "claim": "a"}])), ".jwtRules[0].outputClaimToHeaders[0].header", "\"x y\"", ""),
        (with("outputClaimToHeaders", json!([{"header": "x", "claim": ""}])), ".jwtRules[0].outputClaimToHeaders[0].claim", "\"\"", "must not be empty"),
    ]);
}

#[test]
fn providers_and_hosts_of_keys_are_told_too() {
    let provider = |provider: Value| json!({"extensionProviders": [provider]});
    let http = |field: &str, value: Value| {
        let mut of = json!({"service": "a.default.svc.cluster.local", "port": 80});
        of[field] = value;
        provider(json!({"name": "a", "envoyExtAuthzHttp": of}))
    };
    let at = |field: &str| format!(".extensionProviders[0].envoyExtAuthzHttp.{field}");
    #[rustfmt::skip]
    told(Kind::MeshConfig, &[
        (http("pathPrefix", json!("/check")), "", "", ""),
        (json!({"allowedJwksHosts": ["a.example", "*.b.example", "*"]}), "", "", ""),
        (json!({"allowedJwksHosts": ["a.*.example"]}), ".allowedJwksHosts[0]", "\"a.*.example\"", "wildcard"),
        (provider(json!({"name": "a"})), ".extensionProviders[0]", "{\"name\":\"a\"}", "either"),
        (http("service", json!("short")), &at("service"), "\"short\"", "full host name"),
        (http("port", json!(0)), &at("port"), "0", "65535"),
        (http("pathPrefix", json!("check")), &at("pathPrefix"), "\"check\"", "slash"),
        (http("statusOnError", json!("200")), &at("statusOnError"), "\"200\"", "400 to 599"),
        (http("includeRequestBodyInCheck", json!({})), &at("includeRequestBodyInCheck.maxRequestBytes"), "", "at least 1"),
        (json!({"gradualDelivery": {"first": 2, "rollback": true, "deadline": "30s"}}), "", "", ""),
        (json!({"gradualDelivery": {"first": 0}}), ".gradualDelivery.first", "0", "1 or more"),
        (json!({"gradualDelivery": {"deadline": "10ms"}}), ".gradualDelivery.deadline", "\"10ms\"", "1s or more"),
        (json!({"pathNormalization": {"normalization": "SOME"}}), ".pathNormalization.normalization", "\"SOME\"", "BASE"),
    ]);
}

#[test]
fn federated_trust_domains_say_how_they_are_known() {
    let bundle = r#"{"keys": []}"#;
    let mesh = |domain: Value| json!({"federatedTrustDomains": [domain]});
    let with = |url: &str, profile: Value| {
        mesh(json!({
            "trustDomain": "b", "bundleEndpointURL": url, "bundleEndpointProfile": profile, "trustDomainBundle": bundle,
        }))
    };
    let (web, url) = (json!({"type": "https_web"}), "https://b.example/bundle");
    let spiffe = |id: &str| json!({"type": "https_spiffe", "endpointSPIFFEID": id});
    let local = |url: &str| {
        let mut spec = with(url, web.clone());
        spec["allowLocalBundleEndpoints"] = true.into();
        spec
    };
    let at = ".federatedTrustDomains[0]";
    let endpoint = &format!("{at}.bundleEndpointURL");
    let profile = &format!("{at}.bundleEndpointProfile");
    let id = &format!("{at}.bundleEndpointProfile.endpointSPIFFEID");
    let twice = json!({"federatedTrustDomains": [
        {"trustDomain": "b", "trustDomainBundle": bundle}, {"trustDomain": "b", "trustDomainBundle": bundle},
    ]});
    #[rustfmt::skip]
    told(Kind::MeshConfig, &[
        (mesh(json!({"trustDomain": "b", "trustDomainBundle": bundle})), "", "", ""),
        (mesh(json!({"trustDomain": "b", "bundleEndpointURL": url, "bundleEndpointProfile": web})), "", "", ""),
        (with(url, spiffe("spiffe://b/server")), "", "", ""),
        (local("https://127.0.0.1:1/bundle"), "", "", ""),
        (mesh(json!({"trustDomain": "B", "trustDomainBundle": bundle})), &format!("{at}.trustDomain"), "\"B\"", "a-z"),
        (twice, ".federatedTrustDomains[1].trustDomain", "\"b\"", "stands already"),
        (mesh(json!({"trustDomain": "b"})), endpoint, "", "trustDomainBundle"),
        (mesh(json!({"trustDomain": "b", "trustDomainBundle": "PEM"})), &format!("{at}.trustDomainBundle"), "\"PEM\"", "JWK set"),
        (mesh(json!({"trustDomain": "b", "bundleEndpointURL": url})), profile, "", "must be said"),
        (mesh(json!({"trustDomain": "b", "bundleEndpointProfile": web})), endpoint, "", "is missing"),
        (with("http://b.example/bundle", web.clone()), endpoint, "\"http://b.example/bundle\"", "https"),
        (with("https://u@b.example/bundle", web.clone()), endpoint, "\"https://u@b.example/bundle\"", "without a user"),
        (with("https://localhost/bundle", web.clone()), endpoint, "\"https://localhost/bundle\"", "allowLocalBundleEndpoints"),
        (with("https://169.254.169.254/", web.clone()), endpoint, "\"https://169.254.169.254/\"", "allowLocalBundleEndpoints"),
        (with(url, json!({})), &format!("{profile}.type"), "", "https_spiffe"),
        (with(url, json!({"type": "https_web", "endpointSPIFFEID": "spiffe://b/x"})), id, "\"spiffe://b/x\"", "DNS name"),
        (with(url, json!({"type": "https_spiffe"})), id, "", "is missing"),
        (with(url, spiffe("b/x")), id, "\"b/x\"", "spiffe://"),
        (with(url, spiffe("spiffe://c/x")), id, "\"spiffe://c/x\"", "one of federatedTrustDomains"),
        (mesh(json!({"trustDomain": "b", "bundleEndpointURL": url, "bundleEndpointProfile": spiffe("spiffe://b/x")})),
         &format!("{at}.trustDomainBundle"), "", "another way"),
    ]);
}

#[test]
fn gateways_name_cipher_suites_that_envoys_know() {
    let with = |suites: Value| {
        json!({"servers": [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.example"],
            "tls": {"mode": "SIMPLE", "credentialName": "a", "cipherSuites": suites}}]})
    };
    let at = |n: u8| format!(".servers[0].tls.cipherSuites[{n}]");
    #[rustfmt::skip]
    told(Kind::Gateway, &[
        (with(json!([])), "", "", ""),
        (with(json!(["ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA"])), "", "", ""),
        (with(json!(["AES128-SHA", "TLS_AES_128_GCM_SHA256"])), &at(1), "\"TLS_AES_128_GCM_SHA256\"", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (with(json!(["ecdhe-rsa-aes128-sha"])), &at(0), "\"ecdhe-rsa-aes128-sha\"", "one of"),
    ]);
}
