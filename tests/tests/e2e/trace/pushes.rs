//! What becomes of a write: compiled, pushed, acknowledged or refused.

use nix::sys::signal::Signal;
use serde_json::json;
use weft_tests::otlp::{Protocol, Sink, Span, drawn};
use weft_tests::wait;

use super::{
    CALLER, OTHER, TRACE, apply, edge, has, named, of, path, put, requested, service_entry,
};
use crate::edge::{gateway, service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_is_one_trace_to_the_acknowledgement_of_each_envoy() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("pushed", &sink.environment(Protocol::Grpc), false).await;
    let backend = edge.mesh.net.at(30, 9000);
    apply(&edge, OTHER, &service("a", &[backend])).await;
    let body = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": { "name": "a", "namespace": "shop" },
        "spec": { "hosts": ["*"], "gateways": ["edge"], "http": [{ "route": [{ "destination": { "host": "a" } }] }] }
    });
    let path = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/a";
    let revision = put(&edge.mesh, TRACE, path, &body).await;
    let push = sink.span(TRACE, "of the push", of("xds-pusher", "push"));
    let push = push.await.unwrap();
    requested(&sink).await;
    // Children are told before their parents end, but may come with the next batch.
    let acks = |spans: &[Span]| named(spans, "ACK").len();
    wait::until("the ACK of each Envoy", wait::PATIENCE, async || {
        let spans = sink.trace(TRACE);
        if acks(&spans) >= 2 {
            Ok(())
        } else {
            Err(drawn(&spans))
        }
    })
    .await
    .unwrap();
    let spans = sink.trace(TRACE);
    let drawn = drawn(&spans);
    let revision = ("mesh.revision", revision.as_str());

    // From each acknowledgement up to the request, and the caller's span.
    for gateway in &edge.gateways {
        let id = format!("gateway~istio-system~{}", gateway.name);
        let about = [("proxy.id", id.as_str()), ("xds.type", "RDS"), revision];
        let ack = (named(&spans, "ACK").into_iter()).find(|span| has(span, &about));
        let mut above = vec![ack.expect(&drawn)];
        while let Some(parent) =
            (spans.iter()).find(|span| span.id == above[above.len() - 1].parent)
        {
            above.push(parent);
        }
        let names: Vec<&str> = above.iter().map(|span| span.name.as_str()).collect();
        let expected = [
            "ACK",
            "push response",
            "proxy",
            "push class",
            "push",
            "watch",
            "etcd transaction",
        ];
        assert_eq!(names[..7], expected, "{drawn}");
        assert_eq!(above[7].parent, CALLER, "{drawn}");
        assert_eq!(above.len(), 8, "{drawn}");
        let response = above[1];
        assert!(
            has(response, &about) && has(response, &[("xds.resources", "1")]),
            "{drawn}"
        );
        assert!(
            response.get("xds.bytes").parse::<u64>().unwrap() > 0,
            "{drawn}"
        );
        assert!(!response.get("xds.version").is_empty(), "{drawn}");
    }
    assert!(
        has(
            &push,
            &[("proxies.total", "2"), ("proxies.acked", "2"), revision]
        ),
        "{drawn}"
    );
    let what = [
        ("policy.type", "virtualservice"),
        ("policy.name", "a"),
        ("policy.namespace", "shop"),
        revision,
    ];
    for name in [
        "etcd transaction",
        "watch",
        "compile",
        "push",
        "push response",
        "ACK",
    ] {
        for span in named(&spans, name) {
            assert!(has(span, &what), "{span:?} in {drawn}");
        }
    }
    let compile = named(&spans, "compile")[0];
    assert!(
        has(compile, &[("proxies.changed", "2"), revision]),
        "{drawn}"
    );
    assert!(spans.iter().all(|span| span.error.is_none()), "{drawn}");
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_is_named_with_the_reason() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("refused", &sink.environment(Protocol::Http), false).await;
    // The first Envoy cannot listen where somebody else does.
    let [refusing, other] = &edge.gateways[..] else {
        panic!()
    };
    let taken = tokio::net::TcpListener::bind((refusing.address.ip(), 8001))
        .await
        .unwrap();
    apply(&edge, TRACE, &gateway("taken", 8001)).await;
    let nack = sink.span(TRACE, "of the refusal", of("xds-pusher", "NACK"));
    let nack = nack.await.unwrap();
    let id = format!("gateway~istio-system~{}", refusing.name);
    assert!(
        has(&nack, &[("proxy.id", id.as_str()), ("xds.type", "LDS")]),
        "{nack:?}"
    );
    assert!(nack.get("xds.nack.reason").contains("8001"), "{nack:?}");
    let what = [
        ("policy.type", "gateway"),
        ("policy.name", "taken"),
        ("policy.namespace", "shop"),
    ];
    assert!(has(&nack, &what), "{nack:?}");
    assert!(nack.error.is_some());
    let is = of("xds-pusher", "push");
    let push = sink.span(TRACE, "of the push", is).await.unwrap();
    assert!(
        has(&push, &[("proxies.nacked", "1"), ("proxies.acked", "1")]),
        "{push:?}"
    );
    assert!(push.error.is_some(), "{push:?}");
    let id = format!("gateway~istio-system~{}", other.name);
    let is = |span: &Span| {
        span.name == "ACK" && has(span, &[("proxy.id", id.as_str()), ("xds.type", "LDS")])
    };
    sink.span(TRACE, "of the other's ACK", is).await.unwrap();
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_merges_writes_links_all_of_them() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("merged", &sink.environment(Protocol::Grpc), false).await;
    // While the pusher is stopped, writes pile up in its watch.
    edge.mesh.pusher.signal(Signal::SIGSTOP);
    let traces: Vec<String> = (1..=5).map(|n| format!("{n:032x}")).collect();
    for (n, trace) in traces.iter().enumerate() {
        let name = format!("m{n}");
        put(&edge.mesh, trace, &path(&name), &service_entry(&name)).await;
    }
    edge.mesh.pusher.signal(Signal::SIGCONT);
    let (mut written, mut compiled) = (Vec::new(), Vec::new());
    for trace in &traces {
        let is = of("config-api", "etcd transaction");
        written.push(sink.span(trace, "of the write", is).await.unwrap());
        // Each write arrives in its own trace.
        let is = of("xds-pusher", "watch");
        let watch = sink.span(trace, "of the arrival", is).await.unwrap();
        assert_eq!(watch.parent, written[written.len() - 1].id);
        compiled.push(watch);
    }
    // What was done for several at once is in the trace of one, and links the others; their arrivals link it.
    let spans = sink.spans();
    let merges: Vec<&Span> = (named(&spans, "compile").into_iter())
        .filter(|span| traces.contains(&span.trace) && !span.links.is_empty())
        .collect();
    assert!(!merges.is_empty(), "{}", drawn(&spans));
    let linked: usize = merges.iter().map(|span| span.links.len()).sum();
    let alone = (named(&spans, "compile").into_iter())
        .filter(|span| traces.contains(&span.trace) && span.links.is_empty());
    assert_eq!(merges.len() + linked + alone.count(), traces.len());
    for merge in merges {
        // All that it compiled is named: what is of its own trace in its attributes, the others in events.
        let events = merge.events.iter().filter(|(name, _)| name == "policy");
        let others: Vec<&str> = events.map(|(_, of)| of["policy.name"].as_str()).collect();
        assert_eq!(others.len(), merge.links.len(), "{merge:?}");
        assert!(!others.contains(&merge.get("policy.name")), "{merge:?}");
        assert!(merge.get("policy.name").starts_with('m'), "{merge:?}");
        for link in &merge.links {
            assert!(
                written
                    .iter()
                    .any(|it| (&it.trace, &it.id) == (&link.0, &link.1))
            );
            let back = compiled.iter().find(|it| it.trace == link.0).unwrap();
            assert!(
                back.links
                    .contains(&(merge.trace.clone(), merge.id.clone()))
            );
        }
    }
}
