//! A proxy to an HTTPS site, and Envoys that take less than everything: endpoints only, or by polling REST.

use std::net::SocketAddr;

use serde_json::{Value, json};
use weft_tests::backend::tls::Identity;
use weft_tests::backend::{Backend, Seen, Settings};
use weft_tests::envoy::{Envoy, Version, socket_address};
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::{http, wait};

use crate::edge::{Edge, every_kind, gateway, is, routes, service, who};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_site_by_dns_on_port_12000() {
    const SITE: &str = "www.site.example";
    let edge = Edge::start("site").await.unwrap();
    let identity = Identity::self_signed(&[SITE]).unwrap();
    let authority = edge.mesh.run.path("site.pem");
    std::fs::write(&authority, identity.certificate_pem()).unwrap();
    let settings = Settings {
        service: "site".into(),
        version: "v1".into(),
        tls: Some(identity),
        ..Settings::default()
    };
    // `site.localhost` resolves to loopback without a DNS server (RFC 6761), so the site is on 127.0.0.1.
    let site = Backend::start("127.0.0.1:0".parse().unwrap(), settings)
        .await
        .unwrap();
    let port = site.address().port();
    let document = |ca: &str| {
        format!(
        "{}---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: site, namespace: shop }}\nspec:\n  \
         hosts: [{SITE}]\n  location: MESH_EXTERNAL\n  resolution: DNS\n  \
         ports: [{{ number: 443, name: https, protocol: HTTPS }}]\n  \
         endpoints: [{{ address: site.localhost, ports: {{ https: {port} }} }}]\n\
         ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: site, namespace: shop }}\nspec:\n  \
         host: {SITE}\n  trafficPolicy: {{ tls: {{ mode: SIMPLE, sni: {SITE}, caCertificates: {ca} }} }}\n\
         ---\n{}",
        gateway("twelve", 12000),
        routes("site", &format!("- rewrite: {{ authority: {SITE} }}\n  route: [{{ destination: {{ host: {SITE}, port: {{ number: 443 }} }} }}]"))
            .replace("gateways: [edge]", "gateways: [twelve]"),
    )
    };
    edge.mesh
        .apply(&document(authority.to_str().unwrap()))
        .await
        .unwrap();
    for gateway in &edge.gateways {
        let address = SocketAddr::new(gateway.address.ip(), 12000);
        let seen: Seen = wait::until("the site's answer", wait::PATIENCE, async || {
            let answer = http::get(format!("http://{address}/page?x=1"))
                .await?
                .ok()?;
            Ok::<_, anyhow::Error>(serde_json::from_value(answer.json()?)?)
        })
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", gateway.name));
        let facts = (
            seen.scheme.as_str(),
            seen.sni.as_deref(),
            seen.authority.as_str(),
            seen.path.as_str(),
        );
        assert_eq!(
            facts,
            ("https", Some(SITE), SITE, "/page?x=1"),
            "{}",
            gateway.name
        );
    }
    // Another authority does not vouch for the site: nothing reaches it.
    let other = edge.mesh.run.path("other.pem");
    std::fs::write(
        &other,
        Identity::self_signed(&[SITE]).unwrap().certificate_pem(),
    )
    .unwrap();
    edge.mesh
        .apply(&document(other.to_str().unwrap()))
        .await
        .unwrap();
    for gateway in &edge.gateways {
        let address = SocketAddr::new(gateway.address.ip(), 12000);
        let refused = wait::until("the site to be refused", wait::PATIENCE, async || {
            let answer = http::get(format!("http://{address}/")).await?;
            if answer.status == 503 {
                Ok(())
            } else {
                anyhow::bail!("{}", answer.status)
            }
        });
        refused
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", gateway.name));
    }
    edge.finish().await;
}

/// A bootstrap with a static listener that forwards to a static cluster, whose endpoints come from `eds`.
fn endpoints_only(node: &str, mesh: &Mesh, listen: SocketAddr, eds: &Value) -> Value {
    let mut bootstrap = static_listener(
        node,
        mesh,
        listen,
        &json!({
            "route_config": { "virtual_hosts": [{
                "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "a" } }]
            }] }
        }),
    );
    push_cluster(
        &mut bootstrap,
        "a",
        "outbound|80||a.shop.svc.cluster.local",
        eds,
    );
    bootstrap
}

fn static_listener(node: &str, mesh: &Mesh, listen: SocketAddr, route: &Value) -> Value {
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [{ "name": "router", "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }]
    });
    manager
        .as_object_mut()
        .unwrap()
        .extend(route.as_object().unwrap().clone());
    let options = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} }
        }
    });
    let endpoint = json!({ "endpoint": { "address": socket_address(mesh.net.at(1, 18000)) } });
    let control_plane = |name: &str| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] }
        })
    };
    let mut grpc = control_plane("weft-xds");
    grpc["typed_extension_protocol_options"] = options;
    json!({
        "node": { "id": node, "cluster": "test" },
        "admin": {},
        "static_resources": {
            "clusters": [grpc, control_plane("weft-rest")],
            "listeners": [{
                "name": "in", "address": socket_address(listen),
                "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }]
            }]
        }
    })
}

fn push_cluster(bootstrap: &mut Value, name: &str, service: &str, eds: &Value) {
    let clusters = bootstrap["static_resources"]["clusters"]
        .as_array_mut()
        .unwrap();
    clusters.push(json!({
        "name": name, "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": { "service_name": service, "eds_config": eds }
    }));
}

fn rest() -> Value {
    json!({ "resource_api_version": "V3", "api_config_source": {
        "api_type": "REST", "transport_api_version": "V3", "cluster_names": ["weft-rest"],
        "refresh_delay": "0.2s", "request_timeout": "15s"
    } })
}

fn stream(variant: Variant) -> Value {
    json!({ "resource_api_version": "V3", "api_config_source": {
        "api_type": variant.api_type(), "transport_api_version": "V3",
        "grpc_services": [{ "envoy_grpc": { "cluster_name": "weft-xds" } }]
    } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_alone_by_stream_or_by_polling() {
    let edge = Edge::start_with("eds", &[], Options::default())
        .await
        .unwrap();
    let _backends = (
        edge.backend(2, "a", "v1").await.unwrap(),
        edge.backend(3, "a", "v2").await.unwrap(),
    );
    let mesh = &edge.mesh;
    mesh.apply(&service("a", &[mesh.net.at(2, 9000)]))
        .await
        .unwrap();
    let node = "sidecar~shop~anyone";
    let mut envoys = Vec::new();
    let streams = every_kind()
        .into_iter()
        .map(|(variant, version)| (version, stream(variant)));
    let polls = Version::ALL.map(|version| (version, rest()));
    for ((version, eds), n) in streams.chain(polls).zip(10..) {
        let listen = mesh.net.at(n, 8000);
        let bootstrap = endpoints_only(node, mesh, listen, &eds);
        let (name, admin) = (format!("envoy-{n}"), mesh.net.at(n, 9901));
        let envoy = Envoy::start(&mesh.run, &name, version, bootstrap, admin)
            .await
            .unwrap();
        envoy.ready().await.unwrap();
        envoys.push((listen, envoy));
    }
    for (endpoint, expected) in [(None, "a v1"), (Some(3), "a v2")] {
        if let Some(n) = endpoint {
            mesh.apply(&service("a", &[mesh.net.at(n, 9000)]))
                .await
                .unwrap();
        }
        for (listen, envoy) in &envoys {
            let answers = wait::until(expected, wait::PATIENCE, async || {
                let answer = http::get(format!("http://{listen}/")).await?;
                if is(expected)(&answer) {
                    Ok(())
                } else {
                    anyhow::bail!("{}: {}", answer.status, who(&answer))
                }
            });
            answers.await.unwrap_or_else(|error| {
                panic!(
                    "{}: {error}\n{}",
                    envoy.process.name(),
                    envoy.process.tail(10)
                )
            });
        }
    }
    // What polls is counted by its route.
    let metrics = format!("http://{}/metrics", mesh.net.at(1, 18001));
    let metrics = http::get(&metrics).await.unwrap().body;
    let polls =
        "weft_http_requests_total{method=\"POST\",route=\"/v3/discovery:endpoints\",code=\"200\"}";
    assert!(metrics.contains(polls), "{metrics}");
    for (_, envoy) in &envoys {
        // Before it stops: it complains of the poll that its own end interrupts.
        assert_eq!(envoy.complaints(), Vec::<String>::new());
        envoy.process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_and_endpoints_by_polling() {
    let edge = Edge::start("rest").await.unwrap();
    let _backends = (
        edge.backend(2, "a", "v1").await.unwrap(),
        edge.backend(3, "b", "v1").await.unwrap(),
    );
    let mesh = &edge.mesh;
    let to = |host: &str| {
        routes(
            "one",
            &format!("- route: [{{ destination: {{ host: {host} }} }}]"),
        )
    };
    let services = [
        service("a", &[mesh.net.at(2, 9000)]),
        service("b", &[mesh.net.at(3, 9000)]),
        to("a"),
    ];
    mesh.apply(&services.join("---\n")).await.unwrap();
    edge.all_answer("/", is("a v1")).await.unwrap();
    // The polling Envoy asks for the route configuration that the other gateways were given.
    let dump = edge.gateways[0]
        .envoy
        .config_dump()
        .await
        .unwrap()
        .to_string();
    let name = dump
        .split("\"route_config_name\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let node = format!("gateway~istio-system~{}", edge.gateways[0].name);
    let mut envoys = Vec::new();
    for (version, n) in Version::ALL.into_iter().zip(30..) {
        let listen = mesh.net.at(n, 8000);
        let rds = json!({ "rds": { "route_config_name": name, "config_source": rest() } });
        let mut bootstrap = static_listener(&node, mesh, listen, &rds);
        for host in ["a", "b"] {
            let cluster = format!("outbound|80||{host}.shop.svc.cluster.local");
            push_cluster(&mut bootstrap, &cluster, &cluster, &rest());
        }
        let log = format!("envoy-rest-{n}");
        let admin = mesh.net.at(n, 9901);
        let envoy = Envoy::start(&mesh.run, &log, version, bootstrap, admin)
            .await
            .unwrap();
        envoy.ready().await.unwrap();
        envoys.push((version, listen, envoy));
    }
    for host in ["a", "b"] {
        mesh.apply(&to(host)).await.unwrap();
        for (version, listen, _) in &envoys {
            wait::until("the polled route", wait::PATIENCE, async || {
                let answer = http::get(format!("http://{listen}/")).await?;
                if is(&format!("{host} v1"))(&answer) {
                    Ok(())
                } else {
                    anyhow::bail!("{}: {}", answer.status, answer.body)
                }
            })
            .await
            .unwrap_or_else(|error| panic!("{version:?}: {error}"));
        }
    }
    for (_, _, envoy) in &envoys {
        // Before it stops: it complains of the poll that its own end interrupts.
        assert_eq!(envoy.complaints(), Vec::<String>::new());
        envoy.process.stop().await;
    }
    edge.finish().await;
}
