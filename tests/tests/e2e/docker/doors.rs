//! Who is let in where: config-api, etcd, and workloads whose credential no longer counts.

use anyhow::ensure;
use weft_tests::wait;

use super::engine::{Engine, LONG};

/// What an application's container gets from an address: the first line of an HTTP answer, or nothing.
async fn from_an_application(engine: &Engine, host: &str, port: u16, request: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/{host}/{port} && printf '{request} HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 || true"
    );
    let words = [
        "docker", "compose", "exec", "-T", "web-app", "timeout", "5", "bash", "-c", &script,
    ];
    let said = engine.command(&words, LONG).await;
    // What never answers is ended by `timeout`, which is an error.
    said.unwrap_or_default()
}

/// Everybody on the network may ask; to write, or to become somebody by a bootstrap, one must be on this machine.
pub(super) async fn only_this_machine_writes(engine: &Engine) {
    for host in ["config-api-1", "config-api-2"] {
        for (request, code) in [
            (
                "GET /apis/networking.istio.io/v1/namespaces/shop/virtualservices",
                "200",
            ),
            ("GET /metrics", "200"),
            (
                "POST /v1/namespaces/shop/workloads/payments/bootstrap",
                "403",
            ),
            ("POST /v1/apply", "403"),
            (
                "DELETE /apis/networking.istio.io/v1/namespaces/shop/virtualservices/shop",
                "403",
            ),
        ] {
            let answer = from_an_application(engine, host, 8080, request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {code}")),
                "{host}: {request}: {answer}"
            );
        }
    }
    let etcd = engine.docker("compose ps -q etcd").await.unwrap();
    let said = engine.docker(&format!("inspect {etcd}")).await.unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let network = &said[0]["NetworkSettings"]["Networks"]["weft_control"];
    let address = network["IPAddress"].as_str().unwrap();
    let direct = engine
        .docker("compose exec -T etcd etcdctl endpoint health")
        .await;
    direct.unwrap();
    for host in ["etcd", address] {
        assert_eq!(
            from_an_application(engine, host, 2379, "GET /version").await,
            "",
            "{host}"
        );
    }
    let written = "http://localhost:8081/v1/apply --header content-type:application/yaml --data-binary @demo/canary-half.yaml";
    let written = engine.curl(written).await.unwrap();
    assert!(written.contains("orders"), "{written}");
}

/// Everything is closed, mesh-wide; and who keeps the mesh can still open it.
pub(super) async fn no_policy_closes_the_api(engine: &Engine) {
    let closed = "\
apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: strict, namespace: istio-system }\nspec: { mtls: { mode: STRICT } }\n---\n\
apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: strict, namespace: weft-system }\nspec: { mtls: { mode: STRICT } }\n---\n\
apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: nothing, namespace: istio-system }\nspec: {}\n";
    std::fs::write(engine.source.join("demo/closed.yaml"), closed).unwrap();
    let apply = "compose run --rm -T meshctl apply --wait --timeout 120s -f demo/closed.yaml";
    engine.docker(apply).await.unwrap();
    let status = "--output /dev/null --write-out %{http_code}";
    let closed = async || {
        let all = engine.command(
            &[
                "curl",
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "localhost:8000/",
            ],
            LONG,
        );
        let answer = all.await?;
        ensure!(answer == "403", "the shop answers {answer}");
        anyhow::Ok(())
    };
    wait::until("the shop to be closed", LONG, closed)
        .await
        .unwrap();
    for port in [8080, 8081] {
        for path in ["readyz", "metrics", "v1/proxies"] {
            let answer = engine
                .curl(&format!("{status} http://localhost:{port}/{path}"))
                .await;
            assert_eq!(answer.unwrap(), "200", "{port} {path}");
        }
    }
    // A workload that starts now gets its configuration too.
    engine
        .docker("compose restart payments-sidecar")
        .await
        .unwrap();
    engine.healthy("payments-sidecar").await;
    let delete = |kind: &str, namespace: &str, name: &str| {
        format!(
            "--request DELETE http://localhost:8080/apis/security.istio.io/v1/namespaces/{namespace}/{kind}/{name}"
        )
    };
    for words in [
        delete("peerauthentications", "istio-system", "strict"),
        delete("peerauthentications", "weft-system", "strict"),
        delete("authorizationpolicies", "istio-system", "nothing"),
    ] {
        engine.curl(&words).await.unwrap();
    }
    engine.answers().await;
}

/// A workload whose credentials were revoked is nobody until the stack is brought up again, which gives it a new bootstrap.
pub(super) async fn a_revoked_workload_gets_a_new_bootstrap(engine: &Engine) {
    let credentials = "compose run --rm -T meshctl credentials";
    let list = format!("{credentials} list web -n shop -o json");
    let held = engine.docker(&list).await.unwrap();
    assert!(held.contains("\"id\""), "{held}");
    let revoke = format!("{credentials} revoke web -n shop --all");
    engine.docker(&revoke).await.unwrap();
    let container = engine.docker("compose ps -q web-sidecar").await.unwrap();
    let started = format!("inspect --format {{{{.State.StartedAt}}}} {container}");
    let before = engine.docker(&started).await.unwrap();
    engine.docker("compose up --detach").await.unwrap();
    let anew = async || {
        let now = engine.docker(&started).await?;
        ensure!(now != before, "the sidecar runs since {now}");
        anyhow::Ok(())
    };
    wait::until("the sidecar to start anew", LONG, anew)
        .await
        .unwrap();
    let held = engine.docker(&list).await.unwrap();
    assert_eq!(held.matches("\"id\"").count(), 1, "{held}");
    engine.healthy("web-sidecar").await;
    engine.answers().await;
    let said = engine.docker("compose logs shop").await.unwrap();
    assert!(
        said.contains("shop/web: its credential is not known"),
        "{said}"
    );
    assert!(!said.contains("shop/payments: its credential"), "{said}");
}
