//! HTTP to config-api: one request, one answer; or a watch, line by line.
//!
//! *Invariant:* nothing here knows a resource or a path, prints, or retries: a write whose answer is lost may have happened,
//! and only the user can judge that.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use crate::credentials::{self, Credentials};
use crate::status::Status;

/// Why an answer did not come, or was no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `--server` is no URL.
    #[error(
        "the server {0:?} is not an http or https URL; set it with --server or WEFT_SERVER, such as http://127.0.0.1:8080"
    )]
    Url(String),
    /// Credentials that must not be sent there.
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    /// The server does not know who calls.
    #[error(
        "{}\nmeshctl sent {sent}. Say who you are: --token-file FILE (WEFT_TOKEN_FILE), or --client-certificate and --client-key", status.lines()
    )]
    Unknown {
        status: Box<Status>,
        sent: &'static str,
    },
    /// No connection.
    #[error(
        "cannot reach the server at {server} ({cause})\nIs config-api running there? Another address: --server URL or WEFT_SERVER=URL"
    )]
    Unreachable { server: String, cause: String },
    /// No answer in time.
    #[error(
        "the server at {server} did not answer within {seconds} s; it may still have done what was asked. Wait longer with --request-timeout or WEFT_REQUEST_TIMEOUT"
    )]
    Timeout { server: String, seconds: f64 },
    /// The connection broke in the middle of an answer.
    #[error("the connection to {server} broke ({cause})")]
    Broken { server: String, cause: String },
    /// The server said no.
    #[error("{}", .0.lines())]
    Refused(Box<Status>),
    /// An answer that is not JSON: probably not config-api.
    #[error(
        "{url} did not answer with JSON ({cause}); is it a config-api? Another address: --server URL or WEFT_SERVER=URL"
    )]
    NotJson { url: String, cause: String },
}

impl Error {
    /// Whether the server is at fault rather than the request.
    pub(crate) fn is_unavailable(&self) -> bool {
        !matches!(self, Self::Url(_) | Self::Credentials(_))
            && self
                .refusal()
                .is_none_or(|s| s.code >= 500 || s.code == 429)
    }

    /// What the server refused, if it did.
    pub(crate) fn refusal(&self) -> Option<&Status> {
        match self {
            Self::Refused(status) | Self::Unknown { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether what was asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|s| s.code == 404)
    }
}

/// Asks Kubernetes-style endpoints for a `Table`, and for the objects where there is none.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// One request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    /// `Accept`; JSON if `None`.
    pub(crate) accept: Option<&'static str>,
    /// Sent as JSON.
    pub(crate) body: Option<Value>,
}

impl Request {
    /// A `GET` of a path given as segments.
    pub(crate) fn get<S: AsRef<str>>(path: &[S]) -> Self {
        Self {
            path: path.iter().map(|s| s.as_ref().to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Another method on a path given as segments.
    pub(crate) fn of<S: AsRef<str>>(method: Method, path: &[S]) -> Self {
        Self {
            method,
            ..Self::get(path)
        }
    }

    /// With one query parameter more.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With a parameter, if it has a value.
    pub(crate) fn maybe(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With a body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
}

/// An answer that was not an error.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Value,
    /// The texts of `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// A config-api.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    timeout: Duration,
    /// What this client proves itself with, in words.
    sent: &'static str,
}

impl Client {
    /// A client of the server at this URL; nothing is sent yet.
    ///
    /// # Errors
    /// If it is not an HTTP URL, or the credentials must not be sent there.
    pub(crate) fn new(
        server: &str,
        timeout: Duration,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let invalid = || Error::Url(server.to_owned());
        let with_scheme = if server.contains("://") {
            server.to_owned()
        } else {
            format!("http://{server}")
        };
        let url = Url::parse(&with_scheme).map_err(|_| invalid())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid());
        }
        let agent = concat!("meshctl/", env!("CARGO_PKG_VERSION"));
        let mut headers = HeaderMap::new();
        if let Some(token) = credentials.token_for(&url)? {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| credentials::Error::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .user_agent(agent)
            .default_headers(headers)
            // Credentials are for this server alone.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5));
        let http = credentials
            .equip(http)
            .build()
            .map_err(|e| Error::Unreachable {
                server: server.to_owned(),
                cause: deepest(&e),
            })?;
        Ok(Self {
            http,
            server: url,
            timeout,
            sent: credentials.described(),
        })
    }

    /// Where this client sends to.
    pub(crate) fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If there is none, or it is an error.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, Error> {
        let (url, response) = self.start(request, Some(self.timeout)).await?;
        let warnings = warnings(response.headers());
        let bytes = response.bytes().await.map_err(|e| self.failed(&e))?;
        let not_json = |e: serde_json::Error| Error::NotJson {
            url: url.to_string(),
            cause: e.to_string(),
        };
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(not_json)?
        };
        Ok(Answer { body, warnings })
    }

    /// Opens a watch: a stream of JSON values, one per line, without a time limit.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn watch(&self, request: Request) -> Result<Watch<'_>, Error> {
        let (url, response) = self.start(request, None).await?;
        Ok(Watch {
            client: self,
            url,
            response,
            buffer: Vec::new(),
        })
    }

    async fn start(
        &self,
        request: Request,
        timeout: Option<Duration>,
    ) -> Result<(Url, Response), Error> {
        let mut url = self.server.clone();
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .extend(&request.path);
        let mut builder = self
            .http
            .request(request.method, url.clone())
            .query(&request.query);
        builder = builder.header(ACCEPT, request.accept.unwrap_or("application/json"));
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(body) = request.body {
            builder = builder
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let response = builder.send().await.map_err(|e| self.failed(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok((url, response));
        }
        let bytes = response.bytes().await.map_err(|e| self.failed(&e))?;
        let refusal = Box::new(Status::of(status.as_u16(), &bytes));
        Err(match status {
            StatusCode::UNAUTHORIZED => Error::Unknown {
                status: refusal,
                sent: self.sent,
            },
            _ => Error::Refused(refusal),
        })
    }

    fn failed(&self, error: &reqwest::Error) -> Error {
        let (server, cause) = (self.server().to_owned(), deepest(error));
        if error.is_connect() {
            Error::Unreachable { server, cause }
        } else if error.is_timeout() {
            Error::Timeout {
                server,
                seconds: self.timeout.as_secs_f64(),
            }
        } else {
            Error::Broken { server, cause }
        }
    }
}

/// The lines of a watch.
pub(crate) struct Watch<'a> {
    client: &'a Client,
    url: Url,
    response: Response,
    buffer: Vec<u8>,
}

impl Watch<'_> {
    /// The next event; `None` when the server ended the watch.
    ///
    /// # Errors
    /// If the connection breaks or the line is not JSON.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let not_json = |e: serde_json::Error| Error::NotJson {
                    url: self.url.to_string(),
                    cause: e.to_string(),
                };
                return serde_json::from_slice(&line).map(Some).map_err(not_json);
            }
            match self
                .response
                .chunk()
                .await
                .map_err(|e| self.client.failed(&e))?
            {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// The innermost reason: what the operating system or the protocol said.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The texts of `Warning: 299 - "text"` headers (RFC 7234, section 5.5), unescaped.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let text = |value: &str| {
        let quoted = value.split_once('"')?.1.rsplit_once('"')?.0;
        let mut text = String::new();
        let mut characters = quoted.chars();
        while let Some(c) = characters.next() {
            text.extend(if c == '\\' {
                characters.next()
            } else {
                Some(c)
            });
        }
        Some(text)
    };
    let values = headers.get_all("warning").iter();
    values
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        .map(|v| text(&v).unwrap_or(v))
        .collect()
}

#[cfg(test)]
mod tests;
