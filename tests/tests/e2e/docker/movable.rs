//! Every line of `.env.example`, changed at once: the stack comes up on other ports, another network, another trust domain and three
//! members of etcd, of which the leader is killed.

use anyhow::ensure;
use weft_tests::wait;

use super::engine::{Engine, LONG};
use super::kills::Loaded;

/// What each line is changed to; nothing for those that the example itself changes.
const CHANGED: [(&str, &str); 18] = [
    ("WEFT_GATEWAY_PORT", "8100"),
    ("WEFT_API_PORT", "8180"),
    ("WEFT_API_2_PORT", "8181"),
    ("WEFT_ORDERS_PORT", "9181"),
    ("JAEGER_PORT", "16786"),
    ("PROMETHEUS_PORT", "9190"),
    ("GRAFANA_PORT", "3100"),
    ("WEFT_NETWORK", "172.29.84"),
    ("WEFT_TRUST_DOMAIN", "shop.example"),
    ("WEFT_LOG", "debug"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ("COMPOSE_PROFILES", "etcd-cluster"),
    ("ETCD_INITIAL_CLUSTER", EXAMPLE),
    ("WEFT_ETCD_ENDPOINTS", EXAMPLE),
    ("ETCD_DATA", "elsewhere"),
    ("WEFT_TAG", "moved"),
    ("PROFILE", "dev"),
];

/// The line's own value, which is not the default.
const EXAMPLE: &str = "as in the example";

/// The lines of `.env`, and where three members of etcd are.
fn changed(example: &str) -> (String, String) {
    let (mut env, mut endpoints) = (String::new(), String::new());
    let mut seen = 0;
    for (name, value) in example
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
    {
        if name.contains(' ') {
            continue;
        }
        let (_, to) = CHANGED
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("nobody changes {name}"));
        assert_ne!(value, *to, "{name}");
        let to = if *to == EXAMPLE { value } else { to };
        if name == "WEFT_ETCD_ENDPOINTS" {
            to.clone_into(&mut endpoints);
        }
        env += &format!("{name}={to}\n");
        seen += 1;
    }
    assert_eq!(
        seen,
        CHANGED.len(),
        "what is changed is not all in the example"
    );
    (env, endpoints)
}

pub(super) async fn everything_in_the_example(engine: &Engine) {
    engine.docker("compose down --volumes").await.unwrap();
    let example = std::fs::read_to_string(engine.source.join(".env.example")).unwrap();
    let (env, endpoints) = changed(&example);
    std::fs::write(engine.source.join(".env"), env).unwrap();
    for secret in ["key-encryption-keys", "weft.snapshot"] {
        std::fs::write(engine.source.join(secret), "secret").unwrap();
    }
    engine
        .docker("compose --profile tools build")
        .await
        .unwrap();
    no_secret_in_images(engine).await;
    engine.docker("compose up --detach").await.unwrap();
    moved(engine).await;
    three_members(engine, &endpoints).await;
}

/// What lies about in the folder comes into no layer.
async fn no_secret_in_images(engine: &Engine) {
    engine
        .docker("build --quiet --target manifests --tag weft/manifests .")
        .await
        .unwrap();
    let all = engine
        .docker("run --rm weft/manifests find /src -maxdepth 1")
        .await
        .unwrap();
    assert!(all.contains("/src/Cargo.toml"), "{all}");
    for secret in ["key-encryption-keys", "weft.snapshot", ".env"] {
        assert!(
            !all.lines().any(|line| line == format!("/src/{secret}")),
            "{all}"
        );
    }
    engine.docker("rmi weft/manifests").await.unwrap();
}

/// Everything is where it was moved to, and nowhere else; and there are two of what comes in twos.
async fn moved(engine: &Engine) {
    let shop = async || engine.shop(8100).await;
    let front = wait::until("the shop to answer", LONG, shop).await.unwrap();
    assert!(
        front.contains("spiffe://shop.example/ns/shop/sa/web"),
        "{front}"
    );
    for place in ["8180/readyz", "8181/readyz", "9181/orders/1"] {
        engine
            .curl(&format!("http://localhost:{place}"))
            .await
            .unwrap();
    }
    for port in [8000, 8080, 8081, 9081] {
        assert!(
            engine
                .curl(&format!("http://localhost:{port}/"))
                .await
                .is_err(),
            "{port}"
        );
    }
    let images = engine.docker("ps --format {{.Image}}").await.unwrap();
    assert!(
        images.contains("weft/sidecar:moved") && !images.contains(":local"),
        "{images}"
    );
    let config = engine
        .docker("compose --profile observability --profile not-here config")
        .await
        .unwrap();
    for line in [
        "127.0.0.1:16786:16686",
        "127.0.0.1:9190:9090",
        "127.0.0.1:3100:3000",
        "PROFILE: dev",
        "OTEL_EXPORTER_OTLP_PROTOCOL: http/protobuf",
    ] {
        assert!(config.contains(line), "{line} is not in {config}");
    }
    assert!(
        config.contains("OTEL_EXPORTER_OTLP_ENDPOINT: ''"),
        "{config}"
    );
    for service in ["xds-pusher", "cert-issuer"] {
        let ids = engine
            .docker(&format!("compose ps -q {service}"))
            .await
            .unwrap();
        assert_eq!(ids.lines().count(), 2, "{service}");
    }
    let logs = engine.docker("compose logs xds-pusher").await.unwrap();
    assert!(logs.contains("DEBUG"), "{logs}");
    engine
        .docker("compose exec -T etcd test -d /var/lib/etcd/elsewhere/member")
        .await
        .unwrap();
    let address = engine
        .docker("compose exec -T web hostname -I")
        .await
        .unwrap();
    assert_eq!(address.trim(), "172.29.84.11");
}

/// The leader of three members is killed under load: no request fails, and soon one can write again.
async fn three_members(engine: &Engine, endpoints: &str) {
    let ask = |from: &str| {
        format!("compose exec -T {from} etcdctl --endpoints={endpoints} endpoint status")
    };
    let members = async || {
        let status = engine.docker(&ask("etcd")).await?;
        ensure!(status.lines().count() == 3, "{status}");
        Ok::<_, anyhow::Error>(status)
    };
    let status = wait::until("three members", LONG, members).await.unwrap();
    // Endpoint, id, version, size, whether it leads.
    let leads = |line: &&str| line.split(", ").nth(4) == Some("true");
    let leader = status
        .lines()
        .find(leads)
        .unwrap_or_else(|| panic!("nobody leads: {status}"));
    let leader = leader.split([':', '/']).nth(3).unwrap();
    assert!(["etcd", "etcd-2", "etcd-3"].contains(&leader), "{status}");
    let load = Loaded::start(engine, 8100).await;
    engine
        .docker(&format!("compose kill {leader}"))
        .await
        .unwrap();
    let write = async || {
        engine
            .docker("compose run --rm --no-deps -T meshctl apply -f demo/retry.yaml")
            .await
    };
    let written = wait::until("a write without that member", LONG, write)
        .await
        .unwrap();
    assert!(written.contains("VirtualService shop/shop"), "{written}");
    load.goes_on().await;
    engine
        .docker(&format!("compose start {leader}"))
        .await
        .unwrap();
    wait::until("three members again", LONG, members)
        .await
        .unwrap();
    load.flawless("a leader of etcd").await;
    engine.shop(8100).await.unwrap();
}
