//! AuthorizationPolicies on identities that callers prove with certificates.

use super::*;
use authority::id;

/// What each path is open to, and what is open to connections.
const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: server}
spec:
  selector: {matchLabels: {app: shop}}
  rules:
  - {to: [{operation: {paths: [/principal]}}], from: [{source: {principals: [mesh.test/ns/default/sa/client]}}]}
  - {to: [{operation: {paths: [/suffix]}}], from: [{source: {principals: ['*/sa/client']}}]}
  - {to: [{operation: {paths: [/prefix]}}], from: [{source: {principals: ['mesh.test/ns/default/*']}}]}
  - {to: [{operation: {paths: [/anybody]}}], from: [{source: {principals: ['*']}}]}
  - {to: [{operation: {paths: [/account]}}], from: [{source: {serviceAccounts: [client]}}]}
  - {to: [{operation: {paths: [/far-account]}}], from: [{source: {serviceAccounts: [far/client]}}]}
  - {to: [{operation: {paths: [/namespace]}}], from: [{source: {namespaces: [default]}}]}
  - {to: [{operation: {paths: [/not-namespace]}}], from: [{source: {principals: ['*'], notNamespaces: [far]}}]}
  - {to: [{operation: {paths: [/when]}}], when: [{key: source.principal, values: [mesh.test/ns/default/sa/client]}]}
  - {to: [{operation: {ports: ['$TCP']}}], from: [{source: {serviceAccounts: [client]}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denied}
spec:
  action: DENY
  rules: [{from: [{source: {principals: ['*/sa/banned']}}]}]
";

/// Callers by namespace and account.
const CALLERS: [(&str, &str); 5] = [
    ("default", "client"),
    ("default", "client2"),
    ("far", "client"),
    ("defaults", "client"),
    ("default", "banned"),
];
/// For each path, which of the callers get through.
const OPEN: [(&str, [bool; 5]); 9] = [
    ("/principal", [true, false, false, false, false]),
    ("/suffix", [true, false, true, true, false]),
    ("/prefix", [true, true, false, false, false]),
    ("/anybody", [true, true, true, true, false]),
    ("/account", [true, false, false, false, false]),
    ("/far-account", [false, false, true, false, false]),
    ("/namespace", [true, true, false, false, false]),
    ("/not-namespace", [true, true, false, true, false]),
    ("/when", [true, false, false, false, false]),
];

#[test]
fn identities_open_what_policies_say() {
    let authority = Authority::new();
    for binary in ENVOYS {
        let world = World::new(&format!("{PERMISSIVE}---{POLICIES}"));
        let _envoys = world.start(binary, &authority, "server");
        let request = |path| {
            format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{FORGED}\r\n")
        };
        for (at, (namespace, account)) in CALLERS.into_iter().enumerate() {
            let who = id(TRUST_DOMAIN, account).replace("/default/", &format!("/{namespace}/"));
            let credential = authority.issue_to(&who);
            for (path, open) in OPEN {
                world.http.seen.lock().unwrap().clear();
                let answer =
                    backends::tls_exchange(&world.http_at(), Some(&credential), &request(path));
                let expected = if open[at] {
                    "HTTP/1.1 200"
                } else {
                    "HTTP/1.1 403"
                };
                assert!(
                    answer.starts_with(expected),
                    "{binary} {who} {path}: {answer}"
                );
                let arrived = world.http.seen.lock().unwrap().len();
                assert_eq!(arrived, usize::from(open[at]), "{binary} {who} {path}");
            }
            let heard = backends::tls_talk(&world.tcp_at(), Some(&credential));
            let echoed = heard == "hello\nand you\n";
            assert_eq!(echoed, at == 0, "{binary} {who}: {heard}");
        }
        world.http.seen.lock().unwrap().clear();
        world.tcp.seen.lock().unwrap().clear();
        for (path, _) in OPEN {
            let answer = backends::exchange(&world.http_at(), &request(path));
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "{binary} {path}: {answer}"
            );
        }
        backends::talk(&world.tcp_at());
        assert_eq!(
            *world.http.seen.lock().unwrap(),
            [""; 0],
            "{binary}: plaintext"
        );
        assert_eq!(*world.tcp.seen.lock().unwrap(), b"", "{binary}: plaintext");
        // The mesh's own client, through its sidecar.
        let answer = world.ask("/principal");
        assert!(answer.starts_with("HTTP/1.1 200"), "{binary}: {answer}");
        let answer = world.ask("/far-account");
        assert!(answer.starts_with("HTTP/1.1 403"), "{binary}: {answer}");
    }
}
