//! A plain HTTP client for the services' and Envoy's APIs.
//!
//! *Invariant:* no answer is an error here; the caller judges the status.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};

use crate::wait::PATIENCE;

/// A status and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is not JSON; the message holds the body.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("not JSON ({}): {}", self.status, self.body))
    }

    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Itself if the status is a 2xx.
    ///
    /// # Errors
    /// With the status and the body otherwise.
    pub fn ok(self) -> Result<Self> {
        if !(200..300).contains(&self.status) {
            bail!("{}: {}", self.status, self.body);
        }
        Ok(self)
    }
}

/// The client: no proxies, no redirects, patient.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> =
        LazyLock::new(|| builder().build().expect("the client's settings are valid"));
    &CLIENT
}

/// The same client for applications with `HTTP_PROXY`: requests go to the proxy, in absolute form.
///
/// # Errors
/// If the proxy's URL is none.
pub fn through(proxy: &str) -> Result<reqwest::Client> {
    let proxy = reqwest::Proxy::http(proxy).context("the proxy is unusable")?;
    Ok(builder().proxy(proxy).build()?)
}

fn builder() -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        // Every test has a runtime of its own, and a pooled connection dies with the runtime that opened it.
        .pool_max_idle_per_host(0)
}

/// Makes *ring* the process's cryptography, once.
pub fn install_crypto() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// If there is no answer.
pub async fn send(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers = headers
        .map(|(n, v)| {
            (
                n.to_string(),
                String::from_utf8_lossy(v.as_bytes()).into_owned(),
            )
        })
        .collect();
    Ok(Answer {
        status,
        headers,
        body: response.text().await?,
    })
}

/// GETs a URL.
///
/// # Errors
/// If there is no answer.
pub async fn get(url: impl AsRef<str>) -> Result<Answer> {
    let url = url.as_ref();
    send(client().get(url))
        .await
        .with_context(|| format!("GET {url}"))
}
