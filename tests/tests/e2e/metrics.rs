//! What the services expose, and what `docs/metrics.md` says they do; and that the numbers move when the mesh does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use weft_tests::envoy::Version;
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::{binaries, http, wait};

use crate::edge::{PORT, gateway, routes, workload};

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Documented {
    kind: String,
    labels: BTreeSet<String>,
    of: BTreeSet<String>,
    /// Only a mesh with something that not every mesh has exposes it.
    optional: bool,
}

impl Documented {
    fn is_of(&self, service: &str) -> bool {
        self.of.contains("all") || self.of.contains(service)
    }
}

/// The table of `docs/metrics.md`.
pub(crate) fn documented() -> BTreeMap<String, Documented> {
    let text = std::fs::read_to_string(binaries::repository().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `weft_"));
    let rows = rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let quoted = |cell: &str| cell.replace('`', "");
        let labels = quoted(cells[3]);
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let (of, condition) = cells[4].split_once(", if ").unwrap_or((cells[4], ""));
        let row = Documented {
            kind: cells[2].to_owned(),
            labels: labels.map(str::to_owned).collect(),
            of: of.split(", ").map(str::to_owned).collect(),
            optional: !condition.is_empty(),
        };
        (quoted(cells[1]), row)
    });
    rows.collect()
}

/// One service's metrics, as Prometheus reads them.
#[derive(Debug, Default)]
struct Exposed {
    kinds: BTreeMap<String, String>,
    labels: BTreeMap<String, BTreeSet<String>>,
    /// By the name and the labels in braces, as they are written.
    samples: Vec<(String, f64)>,
}

impl Exposed {
    fn parse(text: &str) -> Self {
        let mut exposed = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').unwrap();
                exposed.kinds.insert(name.to_owned(), kind.to_owned());
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = exposed.base(name);
            let of_name = exposed.labels.entry(base).or_default();
            let names = labels
                .split("\",")
                .filter_map(|label| label.split_once('='));
            of_name.extend(
                names
                    .map(|(name, _)| name.to_owned())
                    .filter(|name| name != "le"),
            );
            exposed
                .samples
                .push((series.to_owned(), value.parse().unwrap()));
        }
        exposed
    }

    /// A sample's metric: a histogram has several.
    fn base(&self, name: &str) -> String {
        let suffixes = ["_bucket", "_sum", "_count"].iter();
        let of_histogram = suffixes
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|base| {
                self.kinds
                    .get(*base)
                    .is_some_and(|kind| kind == "histogram")
            });
        of_histogram.unwrap_or(name).to_owned()
    }

    /// The sum of the samples whose series begin so.
    fn sum(&self, series: &str) -> f64 {
        let found = self
            .samples
            .iter()
            .filter(|(name, _)| name.starts_with(series));
        found.map(|(_, value)| value).sum()
    }
}

async fn scrape(mesh: &Mesh) -> Result<BTreeMap<&'static str, Exposed>> {
    let services = [
        ("config-api", mesh.api_address()),
        ("xds-pusher", mesh.net.at(1, 18001)),
        ("cert-issuer", mesh.net.at(1, 18011)),
    ];
    let mut scraped = BTreeMap::new();
    for (service, at) in services {
        let answer = http::get(format!("http://{at}/metrics")).await?.ok()?;
        scraped.insert(service, Exposed::parse(&answer.body));
    }
    Ok(scraped)
}

/// What is exposed and not said, or said and not exposed, or otherwise.
fn compare(scraped: &BTreeMap<&'static str, Exposed>) -> Vec<String> {
    let mut wrong = Vec::new();
    let table = documented();
    for (service, exposed) in scraped {
        for (name, kind) in &exposed.kinds {
            let Some(row) = table.get(name) else {
                wrong.push(format!(
                    "{service} exposes {name}, which is not in docs/metrics.md"
                ));
                continue;
            };
            if row.kind != *kind {
                wrong.push(format!("{name} is a {kind}, not a {}", row.kind));
            }
            if !row.is_of(service) {
                wrong.push(format!(
                    "{name} is exposed by {service}, and said to be of {:?}",
                    row.of
                ));
            }
            let labels = exposed.labels.get(name).cloned().unwrap_or_default();
            if labels != row.labels {
                wrong.push(format!(
                    "{name} has the labels {labels:?}, not {:?}",
                    row.labels
                ));
            }
        }
        for (name, row) in &table {
            let its = !row.optional && row.is_of(service);
            if its && !exposed.kinds.contains_key(name) {
                wrong.push(format!("{service} does not expose {name}"));
            }
        }
    }
    wrong
}

/// A gateway's configuration that answers by itself.
fn answering(body: &str) -> String {
    routes(
        "answer",
        &format!("- directResponse: {{ status: 200, body: {{ string: {body} }} }}"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exposed_is_what_is_documented_and_moves() {
    let mesh = Mesh::secure("metrics", &[]).await.unwrap();
    let at = mesh.net.at(10, PORT);
    let labels = [("istio", "ingressgateway")];
    let documents = [
        gateway("edge", PORT),
        workload("istio-system", "gw", at, &labels),
        answering("first"),
    ];
    mesh.apply(&documents.join("---\n")).await.unwrap();
    let envoy = mesh.envoy("istio-system", "gw", Variant::Delta, Version::Newest, 10);
    let envoy = envoy.await.unwrap();
    envoy.ready().await.unwrap();
    let answers = async |body: &str| {
        wait::until(body, wait::PATIENCE, async || {
            let answer = http::get(format!("http://{at}/")).await?.ok()?;
            ensure!(answer.body == body, "{}", answer.body);
            Ok(())
        })
        .await
        .unwrap();
    };
    answers("first").await;
    mesh.apply(&answering("second")).await.unwrap();
    answers("second").await;
    let bundle = format!("http://{}/bundle", mesh.net.at(1, 18011));
    http::get(bundle).await.unwrap().ok().unwrap();
    // Words of callers, in every part that they choose.
    let word = Method::from_bytes(b"XYZZY").unwrap();
    for (method, path) in [
        (Method::GET, "/xyzzy/xyzzy?xyzzy"),
        (Method::GET, "/v1/proxies/xyzzy?xyzzy=xyzzy"),
        (
            Method::GET,
            "/apis/networking.istio.io/v1/namespaces/xyzzy/virtualservices/xyzzy",
        ),
        (
            Method::DELETE,
            "/apis/networking.istio.io/v1/namespaces/xyzzy/virtualservices/xyzzy",
        ),
        (Method::GET, "/apis/xyzzy/v1/xyzzy"),
        (word, "/v1/proxies/xyzzy"),
    ] {
        let status = mesh.call(method, path, None).await.unwrap().status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    let missing = mesh
        .call(Method::GET, "/v1/proxies/nobody", None)
        .await
        .unwrap();
    assert_eq!(missing.status, 404);

    // The issuer says what it holds once a minute, and everything else at once.
    let scraped = wait::until(
        "every metric of the table, and no other",
        wait::PATIENCE,
        async || {
            let scraped = scrape(&mesh).await?;
            match compare(&scraped)[..] {
                [] => Ok(scraped),
                ref wrong => bail!("{}", wrong.join("\n")),
            }
        },
    )
    .await
    .unwrap();

    for (service, exposed) in &scraped {
        for (series, _) in &exposed.samples {
            let word = series.to_lowercase().contains("xyzzy");
            assert!(!word, "{service}: callers make series: {series}");
        }
    }
    let [api, pusher, issuer] = ["config-api", "xds-pusher", "cert-issuer"].map(|of| &scraped[of]);
    let applied = "weft_http_requests_total{method=\"POST\",route=\"/v1/apply\",code=\"200\"}";
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    for (of, series, least) in [
        (api, applied, 2.0),
        (
            api,
            "weft_http_requests_total{method=\"GET\",route=\"/v1/proxies/{id}\",code=\"404\"}",
            1.0,
        ),
        (
            api,
            "weft_http_request_seconds_count{method=\"POST\",route=\"/v1/apply\"}",
            2.0,
        ),
        (
            api,
            "weft_etcd_request_seconds_count{operation=\"txn\"}",
            1.0,
        ),
        (pusher, "weft_xds_acks_total{type=\"RDS\"}", 2.0),
        (pusher, "weft_xds_response_bytes_total{type=\"RDS\"}", 100.0),
        (pusher, "weft_xds_answer_seconds_count{type=\"LDS\"}", 1.0),
        (pusher, "weft_commit_ack_seconds_count{type=\"RDS\"}", 1.0),
        (pusher, "weft_watch_delay_seconds_count", 1.0),
        (pusher, "weft_snapshot_updates_total", 2.0),
        (pusher, "weft_xds_streams", 1.0),
        (pusher, "weft_mesh_resources", 3.0),
        (pusher, "weft_cache_units", 1.0),
        (
            api,
            "weft_http_requests_total{method=\"GET\",route=\"/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}\",code=\"404\"}",
            1.0,
        ),
        (
            api,
            "weft_http_requests_total{method=\"other\",route=\"/v1/proxies/{id}\"",
            1.0,
        ),
        (
            pusher,
            "weft_grpc_requests_total{method=\"/weft.pusher.v1.Pusher/ListProxies\",code=\"OK\"}",
            1.0,
        ),
        (
            pusher,
            "weft_grpc_request_seconds_count{method=\"/weft.pusher.v1.Pusher/ListProxies\"}",
            1.0,
        ),
        (
            issuer,
            "weft_grpc_requests_total{method=\"/weft.issuer.v1.Issuer/SignX509Svid\",code=\"OK\"}",
            2.0,
        ),
        (
            issuer,
            "weft_http_requests_total{method=\"GET\",route=\"/bundle\",code=\"200\"}",
            1.0,
        ),
        (issuer, "weft_xds_streams", 1.0),
        (issuer, "weft_xds_acks_total{type=\"SDS\"}", 1.0),
        (issuer, "weft_issuer_svids_total{kind=\"x509\"}", 3.0),
        (
            pusher,
            "weft_certificate_expiry_timestamp_seconds{certificate=\"own\"}",
            now,
        ),
        (
            issuer,
            "weft_certificate_expiry_timestamp_seconds{certificate=\"root\"}",
            now,
        ),
    ] {
        let value = of.sum(series);
        assert!(value >= least, "{series} is {value}, not {least} or more");
    }
    assert_eq!(pusher.sum("weft_xds_nacks_total"), 0.0);
    // One change waited for its ACK once; what a stream gets first waited for no commit.
    assert_eq!(
        pusher.sum("weft_commit_ack_seconds_count{type=\"LDS\"}"),
        0.0
    );
}

/// A metric that no test has met is in the table as well.
#[test]
fn whatever_the_sources_count_is_documented() {
    let root = binaries::repository();
    let table = documented();
    let mut found = BTreeSet::new();
    for service in ["config-api", "xds-pusher", "cert-issuer", "shared"] {
        sources(&root.join(service), &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    let unsaid: Vec<&String> = found
        .iter()
        .filter(|name| !table.contains_key(*name))
        .collect();
    assert!(unsaid.is_empty(), "not in docs/metrics.md: {unsaid:?}");
    let nowhere: Vec<&String> = table.keys().filter(|name| !found.contains(*name)).collect();
    assert!(nowhere.is_empty(), "nothing counts {nowhere:?}");
}

/// The metrics' names in a directory's sources: string literals that are nothing else.
fn sources(directory: &std::path::Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).context("a source").unwrap();
            let literals = text
                .split("\"weft_")
                .skip(1)
                .filter_map(|rest| rest.split('"').next());
            let metric = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let names = literals.filter(metric).map(|name| format!("weft_{name}"));
            found.extend(names.filter(|name| name != "weft_"));
        }
    }
}
