//! The demo shop: its workloads, where they are, and the policy applied on the first start.
//!
//! *Invariant:* policy a person may have changed is applied once; only what says where things are follows the flags.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::flags::Flags;
use super::tell;
use crate::run::Run;
use crate::{envoy, http, wait};

/// The port of a sidecar that takes requests for other services.
const HTTP_PROXY_PORT: u16 = 15080;

/// One workload and its Envoy.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    pub(super) admin: SocketAddr,
    labels: &'static [(&'static str, &'static str)],
    address: IpAddr,
    port: u16,
}

/// The gateway, then the sidecars.
pub(super) fn workloads(flags: &Flags) -> Vec<Workload> {
    const SERVICES: [(&str, &[(&str, &str)]); 4] = [
        ("web", &[("app", "web"), ("version", "v1")]),
        ("orders-v1", &[("app", "orders"), ("version", "v1")]),
        ("orders-v2", &[("app", "orders"), ("version", "v2")]),
        ("payments", &[("app", "payments"), ("version", "v1")]),
    ];
    let gateway = Workload {
        name: "ingressgateway",
        namespace: "istio-system",
        admin: flags.admin(0),
        labels: &[("app", "istio-ingressgateway"), ("istio", "ingressgateway")],
        address: flags.gateway.ip(),
        port: flags.gateway.port(),
    };
    let sidecars = (0..).zip(SERVICES).map(|(n, (name, labels))| Workload {
        name,
        namespace: "shop",
        admin: flags.admin(1 + n),
        labels,
        address: IpAddr::V4(Ipv4Addr::new(
            127,
            0,
            flags.network,
            1 + u8::try_from(n).expect("four services"),
        )),
        port: flags.service_ports + n,
    });
    std::iter::once(gateway).chain(sidecars).collect()
}

impl Workload {
    fn label(&self, name: &str) -> &'static str {
        self.labels
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, value)| value)
    }

    /// Where the service itself listens.
    pub(super) fn application(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Where its Envoy takes requests for it.
    pub(super) fn inbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Where its Envoy takes requests from it.
    pub(super) fn http_proxy(&self) -> SocketAddr {
        SocketAddr::new(self.address, HTTP_PROXY_PORT)
    }

    /// The arguments of its demo backend; the gateway has none.
    pub(super) fn backend(&self) -> Option<Vec<String>> {
        let app = self.label("app");
        if self.namespace != "shop" {
            return None;
        }
        let listen = self.application().to_string();
        let mut args = vec![
            "--listen",
            &listen,
            "--service",
            app,
            "--service-version",
            self.label("version"),
        ];
        let proxy = format!("http://{}", self.http_proxy());
        if app == "web" {
            args.extend([
                "--call",
                "orders=http://orders.shop.svc.cluster.local/orders",
            ]);
            args.extend([
                "--call",
                "payments=http://payments.shop.svc.cluster.local/payments",
            ]);
            args.extend(["--proxy", &proxy]);
        }
        Some(args.into_iter().map(str::to_owned).collect())
    }

    fn document(&self) -> Value {
        let labels: serde_json::Map<String, Value> = self
            .labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": { "name": self.name, "namespace": self.namespace, "labels": labels },
            "spec": { "address": self.address, "ports": { "http": self.port }, "labels": labels, "serviceAccount": self.label("app") },
        })
    }
}

/// Applies the whole shop on the first start, and where things are whenever the flags moved them. Whether this was the
/// first start.
pub(super) async fn apply(flags: &Flags, state: &Run) -> Result<bool> {
    let mut places: Vec<Value> = workloads(flags).iter().map(Workload::document).collect();
    places.push(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": { "name": "shop", "namespace": "shop" },
        "spec": {
            "selector": { "istio": "ingressgateway" },
            "servers": [{ "port": { "number": flags.gateway.port(), "name": "http", "protocol": "HTTP" }, "hosts": ["*"] }],
        },
    }));
    let documents: Vec<String> = places.iter().map(Value::to_string).collect();
    let documents = format!("---\n{}", documents.join("\n---\n"));
    let applied = state.path("applied.yaml");
    let before = std::fs::read_to_string(&applied).ok();
    if before.as_ref() == Some(&documents) {
        tell::line("keeping the policy of the last start");
        return Ok(false);
    }
    let first = before.is_none();
    tell::line(if first {
        "applying the demo shop"
    } else {
        "moving the workloads to where the flags say"
    });
    let policy = if first {
        include_str!("../../../demo/shop.yaml")
    } else {
        ""
    };
    let body = [&documents, policy].join("\n---\n");
    let request = http::client().post(format!("http://{}/v1/apply", flags.api));
    let request = request
        .header("content-type", "application/yaml")
        .body(body);
    http::send(request).await?.ok().context("POST /v1/apply")?;
    std::fs::write(&applied, &documents)
        .with_context(|| format!("writing {}", applied.display()))?;
    Ok(first)
}

/// Waits until a request through the gateway, web and two more sidecars is answered.
pub(super) async fn answers(flags: &Flags) -> Result<()> {
    let url = format!("http://{}/", flags.gateway);
    wait::until(
        "the shop to answer through the gateway",
        envoy::PATIENCE,
        async || {
            let json = http::get(&url).await?.ok()?.json()?;
            match (
                &json["calls"]["orders"]["service"],
                &json["calls"]["payments"]["service"],
            ) {
                (Value::String(_), Value::String(_)) => Ok(()),
                _ => bail!("{json}"),
            }
        },
    )
    .await
}
