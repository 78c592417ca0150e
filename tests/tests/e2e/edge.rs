//! What the scenarios share: a mesh with one gateway of each kind, and short ways to write policy.
//!
//! *Invariant:* every scenario ends with [`Edge::finish`], which reads every Envoy's log.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{Envoy, Version};
use weft_tests::http::{self, Answer};
use weft_tests::load::{Load, Report, Running};
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::{envoy, wait};

/// The port the scenarios' gateways listen on.
pub(crate) const PORT: u16 = 8000;

/// A gateway and the kind of Envoy it is.
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) envoy: Envoy,
    pub(crate) address: SocketAddr,
}

/// A mesh with gateways.
pub(crate) struct Edge {
    pub(crate) mesh: Mesh,
    pub(crate) gateways: Vec<Gateway>,
}

/// SotW and delta on both Envoys.
pub(crate) fn every_kind() -> Vec<(Variant, Version)> {
    Variant::ALL
        .into_iter()
        .flat_map(|variant| Version::ALL.map(|version| (variant, version)))
        .collect()
}

/// A kind of Envoy as part of a name.
pub(crate) fn kind_name((variant, version): (Variant, Version)) -> String {
    format!("{}-{}", variant.name(), version.number().replace('.', "-"))
}

/// Stops Envoys and checks that they lived until now and what they complained about.
pub(crate) async fn no_complaints(envoys: impl IntoIterator<Item = &Envoy>) {
    for envoy in envoys {
        let name = envoy.process.name();
        let ended = envoy.process.exited();
        assert!(ended.is_none(), "{name}:\n{}", envoy.process.tail(20));
        envoy.process.stop().await;
        assert_eq!(envoy.complaints(), Vec::<String>::new(), "log of {name}");
    }
}

impl Edge {
    /// A mesh with one gateway of every kind, and the Gateway `shop/edge` on port 8000 for any host.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, &every_kind(), Options::default()).await
    }

    pub(crate) async fn start_with(
        name: &str,
        kinds: &[(Variant, Version)],
        options: Options<'_>,
    ) -> Result<Self> {
        let mesh = Mesh::start_with(name, options).await?;
        let named: Vec<(String, u8)> = kinds
            .iter()
            .zip(10..)
            .map(|(kind, n)| (format!("gw-{}", kind_name(*kind)), n))
            .collect();
        let mut documents = vec![gateway("edge", PORT)];
        for (name, n) in &named {
            let labels = [("istio", "ingressgateway")];
            documents.push(workload(
                "istio-system",
                name,
                mesh.net.at(*n, PORT),
                &labels,
            ));
        }
        mesh.apply(&documents.join("---\n")).await?;
        let mut gateways = Vec::new();
        for ((name, n), (variant, version)) in named.into_iter().zip(kinds) {
            let envoy = mesh
                .envoy("istio-system", &name, *variant, *version, u16::from(n))
                .await?;
            gateways.push(Gateway {
                name,
                envoy,
                address: mesh.net.at(n, PORT),
            });
        }
        for gateway in &gateways {
            gateway.envoy.ready().await?;
        }
        Ok(Self { mesh, gateways })
    }

    /// A backend on an address of the mesh, port 9000.
    pub(crate) async fn backend(&self, n: u8, service: &str, version: &str) -> Result<Backend> {
        let settings = Settings {
            service: service.into(),
            version: version.into(),
            ..Settings::default()
        };
        Backend::start(self.mesh.net.at(n, 9000), settings)
            .await
            .context("starting a backend")
    }

    /// Puts the same load on every gateway.
    pub(crate) fn load(&self, shape: impl Fn(Load) -> Load) -> Loads {
        let loads = self.gateways.iter().map(|g| {
            (
                g.name.clone(),
                shape(Load::new(g.address, "shop.example", "/")).start(),
            )
        });
        Loads(loads.collect())
    }

    /// Waits until every gateway answers a GET as `accept` wants.
    pub(crate) async fn all_answer(
        &self,
        path: &str,
        accept: impl Fn(&Answer) -> bool,
    ) -> Result<()> {
        for gateway in &self.gateways {
            gateway.answers(path, &accept).await?;
        }
        Ok(())
    }

    /// Stops the Envoys and checks what they complained about.
    pub(crate) async fn finish(self) {
        no_complaints(self.gateways.iter().map(|gateway| &gateway.envoy)).await;
    }
}

impl Gateway {
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        http::get(format!("http://{}{path}", self.address)).await
    }

    pub(crate) fn request(&self, path: &str) -> reqwest::RequestBuilder {
        http::client().get(format!("http://{}{path}", self.address))
    }

    pub(crate) async fn answers(
        &self,
        path: &str,
        accept: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        wait::until(
            &format!("{} to answer {path} rightly", self.name),
            envoy::PATIENCE,
            async || {
                let answer = self.get(path).await?;
                if accept(&answer) {
                    Ok(answer)
                } else {
                    bail!("{}: {}", answer.status, answer.body)
                }
            },
        )
        .await
    }

    /// Waits until every one of many answers in a row is as `accept` wants: a worker thread hears of a change a moment
    /// after Envoy's main thread shows it.
    pub(crate) async fn always(&self, accept: impl Fn(&Answer) -> bool) {
        let what = format!("every answer of {} to be right", self.name);
        wait::until(&what, wait::PATIENCE, async || {
            for _ in 0..20 {
                let answer = self.get("/").await?;
                if !accept(&answer) {
                    bail!("{}: {}", answer.status, answer.body);
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// The loads of all gateways.
pub(crate) struct Loads(Vec<(String, Running)>);

impl Loads {
    /// Waits until each has made so many requests more.
    pub(crate) async fn make(&self, more: u64) {
        let goals: Vec<u64> = self.0.iter().map(|(_, load)| load.made() + more).collect();
        for ((name, load), goal) in self.0.iter().zip(goals) {
            let what = format!("{goal} requests on {name}");
            wait::until(&what, wait::PATIENCE, async || match load.made() {
                made if made >= goal => Ok(()),
                made => Err(format!("{made} so far")),
            })
            .await
            .unwrap();
        }
    }

    pub(crate) async fn stop(self) -> Vec<(String, Report)> {
        let stopped = self
            .0
            .into_iter()
            .map(|(name, load)| async move { (name, load.stop().await) });
        futures::future::join_all(stopped).await
    }

    /// Stops; every request must have been answered with a 2xx.
    pub(crate) async fn flawless(self) -> Vec<Report> {
        let reports = self.stop().await.into_iter();
        reports
            .map(|(name, report)| {
                report
                    .flawless()
                    .unwrap_or_else(|error| panic!("{name}: {error}"))
            })
            .collect()
    }
}

/// Who answered, `service version`.
pub(crate) fn who(answer: &Answer) -> String {
    let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    format!(
        "{} {}",
        json["service"].as_str().unwrap_or("?"),
        json["version"].as_str().unwrap_or("?")
    )
}

pub(crate) fn is(service_and_version: &str) -> impl Fn(&Answer) -> bool {
    move |answer| answer.status == 200 && who(answer) == service_and_version
}

/// A Gateway of namespace `shop` for any host, in plain HTTP.
pub(crate) fn gateway(name: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         selector: {{ istio: ingressgateway }}\n  \
         servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, hosts: ['*'] }}]\n"
    )
}

/// A WorkloadEntry whose port is called `http`.
pub(crate) fn workload(
    namespace: &str,
    name: &str,
    at: SocketAddr,
    labels: &[(&str, &str)],
) -> String {
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let (labels, address, port) = (labels.join(", "), at.ip(), at.port());
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
         metadata: {{ name: {name}, namespace: {namespace}, labels: {{ {labels} }} }}\n\
         spec: {{ address: {address}, ports: {{ http: {port} }}, labels: {{ {labels} }} }}\n"
    )
}

/// A ServiceEntry `<name>.shop.svc.cluster.local` on port 80 with endpoints of its own.
pub(crate) fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|at| {
            format!(
                "{{ address: {}, ports: {{ http: {} }} }}",
                at.ip(),
                at.port()
            )
        })
        .collect();
    service_with(name, &format!("endpoints: [{}]", endpoints.join(", ")))
}

/// A ServiceEntry on port 80 whose endpoints are the workloads with the label `app: <name>`.
pub(crate) fn selecting_service(name: &str) -> String {
    service_with(
        name,
        &format!("workloadSelector: {{ labels: {{ app: {name} }} }}"),
    )
}

fn service_with(name: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         hosts: [{name}.shop.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{ number: 80, name: http, protocol: HTTP }}]\n  {more}\n"
    )
}

/// A VirtualService of the edge for any host; `http` is the YAML list of its routes, each line beginning with `- `.
pub(crate) fn routes(name: &str, http: &str) -> String {
    let http = http.trim().replace('\n', "\n  ");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         hosts: ['*']\n  gateways: [edge]\n  http:\n  {http}\n"
    )
}

/// A DestinationRule with these subsets, each a label `version` of the same name, and further YAML at the depth of `spec`.
pub(crate) fn rule(host: &str, subsets: &[&str], more: &str) -> String {
    let subsets: Vec<String> = subsets
        .iter()
        .map(|name| format!("{{ name: {name}, labels: {{ version: {name} }} }}"))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: {host}, namespace: shop }}\nspec:\n  \
         host: {host}\n  subsets: [{}]\n  {more}\n",
        subsets.join(", ")
    )
}
