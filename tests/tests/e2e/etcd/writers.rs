//! Clients that write and read as fast as they are answered, and note every call.
//!
//! They share two dozen VirtualServices, each of a host of its own whose answer is the number of the write.
//!
//! *Invariant:* an answer that is neither a success, nor a refusal with a reason, nor a 503 stops the test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rand::rngs::StdRng;
use rand::seq::index;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_tests::ledger::{Act, Call, Edits, State, Told};
use weft_tests::wait;

/// Where the contested resources are.
pub(super) const NAMESPACE: &str = "ledger";

/// The contested resources.
pub(super) const HOSTS: [usize; 24] = {
    let mut all = [0; 24];
    let mut n = 0;
    while n < 24 {
        all[n] = n;
        n += 1;
    }
    all
};

const CLIENTS: usize = 16;

/// For how long a connection without a request is kept: much less than config-api keeps it.
const IDLE: Duration = Duration::from_secs(1);

const COLLECTION: &str = "/apis/networking.istio.io/v1/namespaces/ledger/virtualservices";

/// The name of a contested resource.
pub(super) fn key(n: usize) -> String {
    format!("k{n}")
}

/// Its host.
pub(super) fn host(n: usize) -> String {
    format!("{}.ledger.example", key(n))
}

fn document(n: usize, value: u64) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": key(n), "namespace": NAMESPACE},
        "spec": {
            "hosts": [host(n)], "gateways": ["shop/edge"],
            "http": [{"directResponse": {"status": 200, "body": {"string": value.to_string()}}}],
        },
    })
}

/// Which write a resource is of.
pub(super) fn number(object: &Value) -> Result<u64> {
    let body = object.pointer("/spec/http/0/directResponse/body/string");
    let text = body.and_then(Value::as_str);
    text.and_then(|text| text.parse().ok())
        .with_context(|| format!("no write's number in {object}"))
}

/// The same, and at which revision.
pub(super) fn value(object: &Value) -> Result<(u64, i64)> {
    Ok((
        number(object)?,
        revision(&object["metadata"]["resourceVersion"])?,
    ))
}

fn revision(text: &Value) -> Result<i64> {
    let revision = text.as_str().and_then(|text| text.parse().ok());
    revision.with_context(|| format!("{text} is no revision"))
}

/// What all clients share.
struct Shared {
    apis: Vec<SocketAddr>,
    http: reqwest::Client,
    stop: CancellationToken,
    /// The order of moments.
    clock: AtomicU64,
    /// The numbers of writes.
    values: AtomicU64,
    acknowledged: AtomicUsize,
    unanswered: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

/// Clients at work.
pub(super) struct Writers {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<()>>,
}

impl Writers {
    pub(super) fn start(apis: &[SocketAddr]) -> Self {
        let shared = Arc::new(Shared {
            apis: apis.to_vec(),
            http: reqwest::Client::builder()
                .no_proxy()
                // A server closes what is idle for long, and nobody can tell whether what crosses with that has arrived.
                .pool_idle_timeout(IDLE)
                .timeout(wait::PATIENCE)
                .build()
                .expect("the client's settings are valid"),
            stop: CancellationToken::new(),
            clock: AtomicU64::default(),
            values: AtomicU64::new(1),
            acknowledged: AtomicUsize::default(),
            unanswered: AtomicUsize::default(),
            calls: Mutex::default(),
        });
        let clients = (0..CLIENTS).map(|number| {
            let client = Client {
                number,
                api: number % apis.len(),
                random: StdRng::seed_from_u64(number as u64),
                shared: shared.clone(),
            };
            client.run()
        });
        Self {
            tasks: clients.collect(),
            shared,
        }
    }

    /// Waits until so many more writes are acknowledged.
    pub(super) async fn acknowledged(&self, more: usize) {
        self.counts("acknowledged writes", &self.shared.acknowledged, more)
            .await;
    }

    /// Waits until so many more calls were answered with 503.
    pub(super) async fn unanswered(&self, more: usize) {
        self.counts("calls without an answer", &self.shared.unanswered, more)
            .await;
    }

    async fn counts(&self, what: &str, counter: &AtomicUsize, more: usize) {
        let goal = counter.load(Ordering::Relaxed) + more;
        wait::until(&format!("{more} {what}"), wait::PATIENCE, async || {
            // One that ended, ended by a fault.
            anyhow::ensure!(self.tasks.len() == CLIENTS);
            match counter.load(Ordering::Relaxed) {
                enough if enough >= goal => Ok(()),
                n => bail!("{n} of {goal}"),
            }
        })
        .await
        .unwrap();
    }

    /// Lets every client finish its call; what they noted.
    pub(super) async fn stop(mut self) -> Vec<Call> {
        self.shared.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
        std::mem::take(&mut self.shared.calls.lock().unwrap())
    }
}

struct Client {
    number: usize,
    /// The replica it asks, until that cannot answer or chance has it ask another.
    api: usize,
    random: StdRng,
    shared: Arc<Shared>,
}

/// What a call came to.
enum Answer {
    Success(Value),
    /// 404 or 409.
    Refused(StatusCode),
    /// 503.
    Nobody,
}

impl Client {
    async fn run(mut self) -> Result<()> {
        while !self.shared.stop.is_cancelled() {
            match self.random.random_range(0..10) {
                0 => self.list().await?,
                1 | 2 => self.batch().await?,
                _ => self.change().await?,
            }
        }
        Ok(())
    }

    /// Reads a resource, and writes it as one who has read it does.
    async fn change(&mut self) -> Result<()> {
        let n = self.random.random_range(0..HOSTS.len());
        let path = format!("{COLLECTION}/{}", key(n));
        let begun = self.now();
        let seen = match self.call(Method::GET, &path, None).await? {
            Answer::Success(object) => Some(value(&object)?),
            Answer::Refused(StatusCode::NOT_FOUND) => None,
            Answer::Refused(other) => bail!("GET {path}: {other}"),
            Answer::Nobody => return Ok(()),
        };
        self.note(begun, Act::Read { key: key(n), seen });
        let value = self.shared.values.fetch_add(1, Ordering::Relaxed);
        let Some((_, at)) = seen else {
            let edits = Edits::from([(key(n), Some(value))]);
            return self
                .write(Method::POST, COLLECTION, document(n, value), edits)
                .await;
        };
        if self.random.random_bool(0.2) {
            let options = json!({"preconditions": {"resourceVersion": at.to_string()}});
            let edits = Edits::from([(key(n), None)]);
            return self.write(Method::DELETE, &path, options, edits).await;
        }
        let mut body = document(n, value);
        body["metadata"]["resourceVersion"] = json!(at.to_string());
        let edits = Edits::from([(key(n), Some(value))]);
        self.write(Method::PUT, &path, body, edits).await
    }

    /// Writes three resources in one.
    async fn batch(&mut self) -> Result<()> {
        let value = self.shared.values.fetch_add(1, Ordering::Relaxed);
        let chosen: Vec<usize> = index::sample(&mut self.random, HOSTS.len(), 3).into_vec();
        let items: Vec<Value> = chosen.iter().map(|n| document(*n, value)).collect();
        let body = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let edits = chosen.iter().map(|n| (key(*n), Some(value))).collect();
        self.write(Method::POST, "/v1/apply", body, edits).await
    }

    async fn write(&mut self, method: Method, path: &str, body: Value, edits: Edits) -> Result<()> {
        let deletes = method == Method::DELETE;
        let begun = self.now();
        let told = match self.call(method, path, Some(&body)).await? {
            // A deletion is answered without its revision.
            Answer::Success(_) if deletes => Told::Gone,
            Answer::Success(answer) => {
                let at = answer
                    .get("revision")
                    .unwrap_or(&answer["metadata"]["resourceVersion"]);
                Told::Done(revision(at)?)
            }
            Answer::Refused(_) => Told::Refused,
            Answer::Nobody => Told::Unknown,
        };
        if matches!(told, Told::Done(_) | Told::Gone) {
            self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self.note(begun, Act::Write { edits, told });
        Ok(())
    }

    /// Reads all of them.
    async fn list(&mut self) -> Result<()> {
        let begun = self.now();
        let list = match self.call(Method::GET, COLLECTION, None).await? {
            Answer::Success(list) => list,
            Answer::Refused(other) => bail!("GET {COLLECTION}: {other}"),
            Answer::Nobody => return Ok(()),
        };
        let items = list["items"].as_array().context("a list has items")?;
        let seen = items.iter().map(|item| {
            let name = item["metadata"]["name"]
                .as_str()
                .context("an item has a name")?;
            Ok((name.to_owned(), value(item)?))
        });
        let seen: State = seen.collect::<Result<_>>()?;
        let revision = revision(&list["metadata"]["resourceVersion"])?;
        self.note(begun, Act::List { revision, seen });
        Ok(())
    }

    /// Asks a replica.
    async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let apis = self.shared.apis.len();
        if self.random.random_bool(0.1) {
            self.api = self.random.random_range(0..apis);
        }
        let api = self.shared.apis[self.api];
        let request = self
            .shared
            .http
            .request(method.clone(), format!("http://{api}{path}"));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.text().await?))
        };
        let (status, text) = answer.await.with_context(|| format!("{method} {path}"))?;
        match status {
            StatusCode::OK | StatusCode::CREATED => {
                Ok(Answer::Success(serde_json::from_str(&text)?))
            }
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(Answer::Refused(status)),
            StatusCode::SERVICE_UNAVAILABLE => {
                self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
                self.api = (self.api + 1) % apis;
                Ok(Answer::Nobody)
            }
            other => Err(anyhow!("{method} {path}: {other}: {text}")),
        }
    }

    fn now(&self) -> u64 {
        self.shared.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&self, begun: u64, act: Act) {
        let call = Call {
            client: self.number,
            begun,
            ended: self.now(),
            act,
        };
        self.shared.calls.lock().unwrap().push(call);
    }
}
