//! A running service and a client for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config_api::{Config, Server};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use store::memory::MemoryStore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long what is sure to come may take: what a loaded machine needs, many times over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const VS: &str = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices";

/// A service that ends with the test.
pub(crate) struct Api {
    pub(crate) url: String,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) http: reqwest::Client,
    shutdown: CancellationToken,
    _task: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::beside(Arc::new(MemoryStore::new()), change).await
    }

    /// One that gives out credentials. No issuer knows its own.
    pub(crate) async fn with_identities() -> Self {
        Self::with_identities_and(|_| {}).await
    }

    /// The same, otherwise configured.
    pub(crate) async fn with_identities_and(change: impl FnOnce(&mut Config)) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let credential = model::Credential::new(&[7; model::CREDENTIAL_BYTES].into());
        std::fs::write(file.path(), credential.expose()).unwrap();
        // It is read while it starts.
        Self::with(|config| {
            config.insecure_plaintext_xds = false;
            config.identity.credential_file = Some(file.path().into());
            change(config);
        })
        .await
    }

    /// One more replica on the same store.
    pub(crate) async fn beside(store: Arc<MemoryStore>, change: impl FnOnce(&mut Config)) -> Self {
        // Once per process; later calls find it done.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::default();
        config.listen.set_port(0);
        config.insecure_plaintext_xds = true;
        change(&mut config);
        let scheme = match config.access.tls_certificate_file {
            Some(_) => "https",
            None => "http",
        };
        let server = Server::bind(config, store.clone()).await.unwrap();
        let url = format!("{scheme}://{}", server.address());
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { server.run(token).await.unwrap() });
        Self {
            url,
            store,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            shutdown,
            _task: task,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn patch(&self, path: &str, media: &str, body: &Value) -> (StatusCode, Value) {
        let request = self
            .request(Method::PATCH, path)
            .header("content-type", media)
            .body(body.to_string());
        answer(request).await
    }

    /// What `/readyz` says once it is answered with this status.
    pub(crate) async fn until_readyz(&self, code: u16) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (is, report) = self.get("/readyz").await;
            if is == code {
                return report;
            }
            assert!(Instant::now() < deadline, "{is}: {report}");
            tokio::task::yield_now().await;
        }
    }

    /// Every key and value of the store, to show that nothing changed.
    pub(crate) async fn everything(&self) -> Vec<Value> {
        use store::Store;
        let page = self
            .store
            .list(store::Scope::default(), 0, None, None)
            .await
            .unwrap();
        page.objects.iter().map(|o| o.to_json()).collect()
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// A VirtualService that sends a host to a destination.
pub(crate) fn virtual_service(name: &str, destination: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": destination}}]}]},
    })
}
