#![allow(clippy::unwrap_used)]

use std::sync::mpsc;

use super::*;

const RULES: &str = r"
- match: [{headers: {end-user: {exact: jason}}}]
  route: [{destination: {host: v2}}]
- match: [{uri: {prefix: /foo}}]
  route: [{destination: {host: v2}}]
- match: [{uri: {prefix: /a/}}]
  rewrite: {uri: /b/, authority: b.io}
  route: [{destination: {host: v1}}]
- match: [{uri: {prefix: /regex}}]
  rewrite: {uriRegexRewrite: {match: '^/regex/(\d+)$', rewrite: '/n/\1'}}
  route: [{destination: {host: v1}}]
- match: [{uri: {exact: /moved}}]
  redirect: {uri: /new, authority: new.io, redirectCode: 302}
- match: [{uri: {prefix: /old/}}]
  redirect: {uri: '%PREFIX()%/fresh/', scheme: https}
- match: [{uri: {exact: /gone}}]
  directResponse: {status: 404, body: {string: Not Found}}
- match: [{uri: {exact: /headers}}]
  headers: {request: {set: {a: set, Host: h.io}, add: {b: added}, remove: [c]}, response: {set: {d: back}, remove: [x-secret]}}
  route: [{destination: {host: v1}}]
- match: [{uri: {exact: /abort}}]
  fault: {abort: {httpStatus: 555, percentage: {value: 100}}}
  route: [{destination: {host: v1}}]
- match: [{uri: {exact: /grpc-abort}}]
  fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}
  route: [{destination: {host: v1}}]
- match: [{uri: {exact: /slow}}]
  timeout: 200ms
  retries: {attempts: 0}
  route: [{destination: {host: v1}}]
- match: [{uri: {exact: /slow/try}}]
  retries: {attempts: 1, perTryTimeout: 100ms}
  route: [{destination: {host: v1}}]
- match: [{uri: {exact: /without}, withoutHeaders: {x: {exact: y}}}]
  route: [{destination: {host: v2}}]
- match: [{uri: {exact: /query}, queryParams: {debug: {}, v: {exact: '2'}}}]
  route: [{destination: {host: v2}}]
- match: [{uri: {exact: /CaSe}, ignoreUriCase: true}]
  route: [{destination: {host: v2}}]
- match: [{uri: {exact: /cors}}]
  corsPolicy: {allowOrigins: [{exact: 'https://ok.io'}], allowMethods: [GET], allowHeaders: [x], maxAge: 1m}
  route: [{destination: {host: v1}}]
- route: [{destination: {host: v1}}]
";

/// The backend and status of an answer: `v1 200`.
fn outcome(answer: &str) -> String {
    let status = answer.split(' ').nth(1).unwrap_or("none");
    match answer.split("backend ").nth(1) {
        Some(rest) => format!("{} {status}", rest.lines().next().unwrap()),
        None => format!("- {status}"),
    }
}

fn assert_lines(answer: &str, has: &[&str], lacks: &[&str]) {
    let answer = answer.to_ascii_lowercase();
    for line in has {
        assert!(answer.contains(line), "{line:?} is not in\n{answer}");
    }
    for line in lacks {
        assert!(!answer.contains(line), "{line:?} is in\n{answer}");
    }
}

#[test]
fn requests_go_where_the_rules_say() {
    let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
    let clusters = [cluster("v1", "{}", &[&v1]), cluster("v2", "{}", &[&v2])];
    on_every_envoy(&clusters, &[shop(RULES)], |proxy| {
        let cases: [(&str, &[&str], &str); 17] = [
            ("/", &[], "v1 200"),
            ("/", &["end-user: jason"], "v2 200"),
            ("/", &["end-user: jasonx"], "v1 200"),
            ("/foobar", &[], "v2 200"),
            ("/moved", &[], "- 302"),
            ("/gone", &[], "- 404"),
            ("/abort", &[], "- 555"),
            ("/slow", &[], "- 504"),
            ("/slow/try", &[], "- 504"),
            ("/without", &[], "v2 200"),
            ("/without", &["x: z"], "v2 200"),
            ("/without", &["x: y"], "v1 200"),
            ("/query?debug&v=2", &[], "v2 200"),
            ("/query?v=2", &[], "v1 200"),
            ("/query?debug=1&v=3", &[], "v1 200"),
            ("/case", &[], "v2 200"),
            ("/flaky", &[], "v1 503"),
        ];
        for (path, headers, want) in cases {
            assert_eq!(
                outcome(&proxy.get(path, headers)),
                want,
                "{path} {headers:?}"
            );
        }
        proxy.get("/flaky", &[]);
        assert_eq!(
            outcome(&proxy.send("GET", "unknown.io", "/", &[])),
            "- 404",
            "another host"
        );

        assert_lines(
            &proxy.get("/a/x", &[]),
            &["get /b/x http", "host: b.io"],
            &[],
        );
        assert_lines(&proxy.get("/regex/42", &[]), &["get /n/42 http"], &[]);
        assert_lines(
            &proxy.get("/moved", &[]),
            &["location: http://new.io/new"],
            &[],
        );
        assert_lines(
            &proxy.get("/old/x", &[]),
            &["301", "location: https://shop.io/fresh/x"],
            &[],
        );
        assert_lines(&proxy.get("/gone", &[]), &["not found"], &[]);
        let headers = proxy.get("/headers", &["a: 1", "b: 2", "c: 3"]);
        assert_lines(
            &headers,
            &["\r\na: set", "b: 2", "b: added", "host: h.io", "d: back"],
            &["\r\nc: 3", "x-secret", "a: 1"],
        );
        let grpc = proxy.get("/grpc-abort", &["content-type: application/grpc"]);
        assert_lines(&grpc, &["grpc-status: 8"], &[]);
    });
}

#[test]
fn cors_preflights_are_answered() {
    let v1 = Backend::start("v1");
    on_every_envoy(&[cluster("v1", "{}", &[&v1])], &[shop(RULES)], |proxy| {
        let preflight = |origin: &str| {
            let headers = [origin, "access-control-request-method: GET"];
            proxy.send("OPTIONS", "shop.io", "/cors", &headers)
        };
        let allowed = [
            "access-control-allow-origin: https://ok.io",
            "access-control-max-age: 60",
        ];
        assert_lines(&preflight("origin: https://ok.io"), &allowed, &["backend"]);
        let other = preflight("origin: https://evil.io");
        assert_lines(&other, &["backend v1"], &["access-control-allow-origin"]);
    });
}

#[test]
fn retries_mirrors_and_hashes() {
    let rules = r"
- match: [{uri: {exact: /flaky}}]
  retries: {attempts: 2, retryOn: '503'}
  route: [{destination: {host: v1}}]
- match: [{uri: {prefix: /mirrored}}]
  mirror: {host: shadow}
  route: [{destination: {host: v1}}]
- match: [{uri: {exact: /dead}}]
  route: [{destination: {host: half-dead}}]
- route: [{destination: {host: hashed}}]
";
    let [v1, v2, shadow] = ["v1", "v2", "shadow"].map(Backend::start);
    // Nobody listens there.
    let dead = Backend {
        port: 1,
        requests: Arc::default(),
    };
    let clusters = [
        cluster("v1", "{}", &[&v1]),
        cluster("shadow", "{}", &[&shadow]),
        cluster("half-dead", "{}", &[&dead, &v1]),
        cluster("hashed", HASHED, &[&v1, &v2]),
    ];
    on_every_envoy(&clusters, &[shop(rules)], |proxy| {
        assert_eq!(
            outcome(&proxy.get("/flaky", &[])),
            "v1 200",
            "503 in retryOn is retried"
        );
        for _ in 0..10 {
            assert_eq!(
                outcome(&proxy.get("/dead", &[])),
                "v1 200",
                "the default retries another host"
            );
        }
        let of = |user: usize| outcome(&proxy.get("/", &[&format!("x-user: {user}")]));
        let users: Vec<String> = (0..20).map(of).collect();
        assert_eq!(
            users,
            (0..20).map(of).collect::<Vec<_>>(),
            "a user stays with a backend"
        );
        assert!(
            ["v1 200", "v2 200"]
                .iter()
                .all(|it| users.iter().any(|user| user == it))
        );

        shadow.requests.lock().unwrap().clear();
        assert_eq!(outcome(&proxy.get("/mirrored", &[])), "v1 200");
        let mirrored = || shadow.requests.lock().unwrap().first().cloned();
        let deadline = Instant::now() + PATIENCE;
        let copy = loop {
            if let Some(copy) = mirrored() {
                break copy;
            }
            assert!(Instant::now() < deadline, "no copy arrived");
            std::thread::yield_now();
        };
        assert_lines(&copy, &["host: shop.io-shadow"], &[]);
    });
}

#[test]
fn a_full_circuit_breaker_and_an_ejected_outlier() {
    let limited =
        "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}";
    let outlier = "{outlierDetection: {consecutive5xxErrors: 1, interval: 100ms, baseEjectionTime: 60s, maxEjectionPercent: 100}}";
    let rules = r"
- match: [{uri: {exact: /slow}}]
  route: [{destination: {host: limited}}]
- route: [{destination: {host: ejecting}}]
";
    for envoy in validate::envoys() {
        let v1 = Backend::start("v1");
        let clusters = vec![
            cluster("limited", limited, &[&v1]),
            cluster("ejecting", outlier, &[&v1]),
        ];
        let config = validate::Config {
            clusters,
            virtual_hosts: vec![shop(rules)],
            ..Default::default()
        };
        let proxy = Proxy::start(&envoy, config);
        let (answered, answers) = mpsc::channel();
        for _ in 0..4 {
            let (address, answered) = (proxy.address.clone(), answered.clone());
            std::thread::spawn(move || {
                let request = "GET /slow HTTP/1.1\r\nhost: shop.io\r\nconnection: close\r\n\r\n";
                // What waits is never answered: its connection ends with the proxy, when nobody listens any more.
                let _ = try_exchange(&address, request).map(|it| answered.send(it));
            });
        }
        // The first waits in the same queue until its connection is there, so one or none can wait behind it.
        for _ in 0..2 {
            let answer = answers.recv_timeout(PATIENCE).unwrap();
            assert!(answer.contains("x-envoy-overloaded: true"), "{answer}");
        }
        let deadline = Instant::now() + PATIENCE;
        let arrived = || {
            v1.requests
                .lock()
                .unwrap()
                .iter()
                .any(|it| it.contains(" /slow"))
        };
        while !arrived() {
            assert!(Instant::now() < deadline, "no request got through");
            std::thread::yield_now();
        }
        assert_eq!(outcome(&proxy.get("/flaky", &[])), "v1 503");
        let deadline = Instant::now() + PATIENCE;
        while outcome(&proxy.get("/", &[])) != "- 503" {
            assert!(Instant::now() < deadline, "nothing was ejected");
        }
    }
}

#[test]
fn tls_to_a_site_with_its_name_verified() {
    let (ours, theirs) = (site::Authority::new("ours"), site::Authority::new("theirs"));
    let ca = format!("caCertificates: {}", ours.file("ca.pem"));
    let client = format!(
        "clientCertificate: {}, privateKey: {}",
        ours.file("client.pem"),
        ours.file("client.key")
    );
    let open = [ours.site("site.io", false)];
    let closed = [ours.site("site.io", true)];
    let cases = [
        (
            "sni",
            format!("mode: SIMPLE, sni: site.io, {ca}"),
            &open,
            "sni site.io",
        ),
        (
            "the host of the request",
            format!("mode: SIMPLE, {ca}"),
            &open,
            "sni site.io",
        ),
        (
            "another name in subjectAltNames",
            format!("mode: SIMPLE, sni: site.io, subjectAltNames: [a.io], {ca}"),
            &open,
            "503",
        ),
        (
            "its name in subjectAltNames",
            format!("mode: SIMPLE, sni: x.io, subjectAltNames: [site.io], {ca}"),
            &open,
            "sni x.io",
        ),
        (
            "another authority",
            format!(
                "mode: SIMPLE, sni: site.io, caCertificates: {}",
                theirs.file("ca.pem")
            ),
            &open,
            "503",
        ),
        (
            "insecureSkipVerify",
            "mode: SIMPLE, insecureSkipVerify: true, sni: y.io".into(),
            &open,
            "sni y.io",
        ),
        (
            "SIMPLE where a certificate is asked for",
            format!("mode: SIMPLE, sni: site.io, {ca}"),
            &closed,
            "503",
        ),
        (
            "MUTUAL",
            format!("mode: MUTUAL, sni: site.io, {client}, {ca}"),
            &closed,
            "sni site.io",
        ),
    ];
    let rules: Vec<String> = (0..cases.len())
        .map(|at| {
            format!(
                "{{match: [{{uri: {{exact: /{at}}}}}], rewrite: {{authority: site.io}}, retries: {{attempts: 0}}, \
                  route: [{{destination: {{host: c{at}}}}}]}}"
            )
        })
        .chain(["{route: [{destination: {host: c1}}]}".into()])
        .collect();
    let clusters: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(at, (_, tls, endpoints, _))| {
            cluster_of(
                &format!("c{at}"),
                &format!("{{tls: {{{tls}}}}}"),
                *endpoints,
            )
        })
        .collect();
    on_every_envoy(
        &clusters,
        &[shop(&format!("[{}]", rules.join(",")))],
        |proxy| {
            for (at, (case, _, _, want)) in cases.iter().enumerate() {
                let answer = proxy.get(&format!("/{at}"), &[]);
                assert!(
                    answer.contains(want),
                    "{case}: {want:?} is not in\n{answer}"
                );
            }
            let answer = proxy.get("/not-rewritten", &[]);
            assert_eq!(
                outcome(&answer),
                "- 503",
                "its certificate is not for shop.io"
            );
        },
    );
}
