//! A whole mesh for one test: etcd, config-api, a pusher and, if it has identities, an issuer, on addresses of its own.
//!
//! *Invariant:* two meshes share nothing but the machine.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::envoy::{Envoy, Version};
use crate::http::{self, Answer};
use crate::net::Block;
use crate::process::Process;
use crate::run::Run;
use crate::stack::Trust;
use crate::{stack, wait};

/// Where the services' credentials are, in the directory of a run.
const CREDENTIALS: &str = "credentials";

/// The root of the keys in a test's etcd.
pub const PREFIX: &str = "/weft/v1";

/// How an Envoy asks its control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// State of the world over ADS.
    Sotw,
    /// Incremental over ADS.
    Delta,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sotw, Self::Delta];

    /// As on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sotw => "sotw",
            Self::Delta => "delta",
        }
    }

    /// As in Envoy's `api_type`.
    pub const fn api_type(self) -> &'static str {
        match self {
            Self::Sotw => "GRPC",
            Self::Delta => "DELTA_GRPC",
        }
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct Mesh {
    /// The addresses of this mesh. The control plane is on `.1`; the rest is the test's.
    pub net: Block,
    /// Where its logs are.
    pub run: Run,
    /// etcd.
    pub etcd: Process,
    /// The files by which etcd is spoken to, if that is over TLS.
    pub etcd_tls: Option<PathBuf>,
    /// config-api.
    pub api: Process,
    /// xds-pusher.
    pub pusher: Process,
    /// cert-issuer, if the mesh has identities.
    pub issuer: Option<Process>,
}

/// What is special about a mesh.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Further flags of the pusher.
    pub pusher: &'a [&'a str],
    /// Whether it has identities, and further flags of their issuer.
    pub issuer: Option<&'a [&'a str]>,
    /// Whether the services log everything there is to say.
    pub trace: bool,
    /// Makes the files of an etcd at this address that is spoken to over TLS: those of [`stack::etcd_over_tls`] and of
    /// [`stack::Access::Files`].
    pub etcd_tls: Option<fn(&Path, IpAddr) -> Result<()>>,
    /// What the services find in their environment.
    pub environment: &'a [(&'a str, String)],
}

impl Mesh {
    /// Starts etcd, config-api and a pusher, and waits until the latter two are ready.
    ///
    /// # Errors
    /// If a part does not start; the message holds the end of its log.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, Options::default()).await
    }

    /// The same with identities: an issuer with these flags, and mutual TLS between the parts.
    ///
    /// # Errors
    /// As [`Mesh::start`].
    pub async fn secure(name: &str, issuer: &[&str]) -> Result<Self> {
        let issuer = Some(issuer);
        Self::start_with(
            name,
            Options {
                issuer,
                ..Options::default()
            },
        )
        .await
    }

    /// The same with what is special about it.
    ///
    /// # Errors
    /// As [`Mesh::start`].
    pub async fn start_with(name: &str, options: Options<'_>) -> Result<Self> {
        let net = Block::claim()?;
        let run = Run::temporary(name)?;
        let etcd_tls = options.etcd_tls.map(|_| run.path("etcd-tls"));
        if let (Some(make), Some(directory)) = (options.etcd_tls, &etcd_tls) {
            std::fs::create_dir_all(directory)?;
            make(directory, net.ip(1))?;
        }
        let etcd = Self::start_etcd(&run, &net, etcd_tls.as_deref()).await?;
        let run = if options.trace { run.tracing() } else { run };
        let run = run.with_environment(options.environment);
        let store = Self::store_at(&net, etcd_tls.as_deref());
        let credentials = run.path(CREDENTIALS);
        let mut issuer = None;
        if let Some(flags) = options.issuer {
            stack::credentials(&run, &credentials, store).await?;
            issuer = Some(
                stack::issuer(
                    &run,
                    Self::issuer_settings(&net, store, &credentials, flags),
                )
                .await?,
            );
        }
        let trust = match issuer {
            Some(_) => Trust::Identities(&credentials),
            None => Trust::Plaintext,
        };
        let (api, pusher) = tokio::join!(
            stack::config_api(&run, "config-api", net.at(1, 8080), store, trust),
            stack::pusher(
                &run,
                Self::pusher_settings(&net, store, trust, options.pusher)
            ),
        );
        let mesh = Self {
            api: api?,
            pusher: pusher?,
            issuer,
            net,
            run,
            etcd,
            etcd_tls,
        };
        mesh.ready().await?;
        Ok(mesh)
    }

    /// How the services reach the store.
    pub fn store(&self) -> stack::Store<'_> {
        Self::store_at(&self.net, self.etcd_tls.as_deref())
    }

    fn store_at<'a>(net: &Block, tls: Option<&'a Path>) -> stack::Store<'a> {
        stack::Store {
            etcd: net.at(1, 2379),
            more: &[],
            prefix: PREFIX,
            access: tls.map_or(stack::Access::Plaintext, stack::Access::Files),
        }
    }

    async fn start_etcd(run: &Run, net: &Block, tls: Option<&Path>) -> Result<Process> {
        let (client, data) = (net.at(1, 2379), run.path("etcd"));
        match tls {
            None => stack::etcd(run, "etcd", client, &data).await,
            Some(directory) => stack::etcd_over_tls(run, client, &data, directory).await,
        }
    }

    fn pusher_settings<'a>(
        net: &Block,
        store: stack::Store<'a>,
        trust: Trust<'a>,
        flags: &'a [&'a str],
    ) -> stack::Pusher<'a> {
        stack::Pusher {
            name: "xds-pusher",
            listen: net.at(1, 18000),
            admin: net.at(1, 18001),
            store,
            trust,
            flags,
        }
    }

    fn issuer_settings<'a>(
        net: &Block,
        store: stack::Store<'a>,
        credentials: &'a Path,
        flags: &'a [&'a str],
    ) -> stack::Issuer<'a> {
        stack::Issuer {
            name: "cert-issuer",
            listen: net.at(1, 18010),
            admin: net.at(1, 18011),
            store,
            credentials,
            flags,
        }
    }

    /// Waits until the services say they are ready.
    ///
    /// # Errors
    /// If one does not in time; the message holds what its `/readyz` said and the end of its log.
    pub async fn ready(&self) -> Result<()> {
        let issuer = self.issuer.as_ref();
        let issuer = issuer.map(|issuer| (issuer, self.net.at(1, 18011)));
        let others = [
            (&self.api, self.api_address()),
            (&self.pusher, self.net.at(1, 18001)),
        ];
        for (process, address) in issuer.into_iter().chain(others) {
            process
                .until("/readyz to say 200", stack::PATIENCE, async || {
                    http::get(format!("http://{address}/readyz"))
                        .await?
                        .ok()
                        .map(|_| ())
                })
                .await?;
        }
        Ok(())
    }

    /// Starts the pusher again after it ended or was killed.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub async fn restart_pusher(&mut self) -> Result<()> {
        self.pusher = self.start_pusher(1, &[]).await?;
        Ok(())
    }

    /// Starts one more config-api, on address `n` of the mesh.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub async fn start_api(&self, n: u8) -> Result<Process> {
        let credentials = self.run.path(CREDENTIALS);
        let (name, listen) = (format!("config-api-{n}"), self.net.at(n, 8080));
        let trust = self.trust(&credentials);
        stack::config_api(&self.run, &name, listen, self.store(), trust).await
    }

    /// Starts one more issuer, on address `n` of the mesh.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub async fn start_issuer(&self, n: u8, flags: &[&str]) -> Result<Process> {
        let credentials = self.run.path(CREDENTIALS);
        let settings = stack::Issuer {
            name: &format!("cert-issuer-{n}"),
            listen: self.net.at(n, 18010),
            admin: self.net.at(n, 18011),
            ..Self::issuer_settings(&self.net, self.store(), &credentials, flags)
        };
        stack::issuer(&self.run, settings).await
    }

    fn trust<'a>(&self, credentials: &'a Path) -> Trust<'a> {
        match self.issuer {
            Some(_) => Trust::Identities(credentials),
            None => Trust::Plaintext,
        }
    }

    /// Starts one more pusher, on address `n` of the mesh.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub async fn start_pusher(&self, n: u8, flags: &[&str]) -> Result<Process> {
        self.start_pusher_through(n, self.net.at(1, 2379), flags)
            .await
    }

    /// The same as a group of its own, by which rules of the kernel know its packets.
    ///
    /// # Errors
    /// As [`Mesh::start_pusher`].
    pub async fn start_pusher_as(&self, n: u8, group: u32, flags: &[&str]) -> Result<Process> {
        let words = format!("setpriv --regid {group} --clear-groups --pdeathsig KILL --");
        let words = words.split(' ').map(str::to_owned);
        let run = self.run.by(words.collect());
        self.start_pusher_by(&run, n, self.net.at(1, 2379), flags)
            .await
    }

    /// The same by another way to etcd.
    ///
    /// # Errors
    /// As [`Mesh::start_pusher`].
    pub async fn start_pusher_through(
        &self,
        n: u8,
        etcd: SocketAddr,
        flags: &[&str],
    ) -> Result<Process> {
        self.start_pusher_by(&self.run, n, etcd, flags).await
    }

    async fn start_pusher_by(
        &self,
        run: &Run,
        n: u8,
        etcd: SocketAddr,
        flags: &[&str],
    ) -> Result<Process> {
        let credentials = self.run.path(CREDENTIALS);
        let trust = self.trust(&credentials);
        let name = match n {
            1 => "xds-pusher".to_owned(),
            n => format!("xds-pusher-{n}"),
        };
        let settings = stack::Pusher {
            name: &name,
            listen: self.net.at(n, 18000),
            admin: self.net.at(n, 18001),
            store: stack::Store {
                etcd,
                ..self.store()
            },
            ..Self::pusher_settings(&self.net, self.store(), trust, flags)
        };
        stack::pusher(run, settings).await
    }

    /// Stops the issuer and starts it again with these flags.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub async fn restart_issuer(&mut self, flags: &[&str]) -> Result<()> {
        if let Some(issuer) = &self.issuer {
            issuer.stop().await;
        }
        let credentials = self.run.path(CREDENTIALS);
        let settings = Self::issuer_settings(&self.net, self.store(), &credentials, flags);
        self.issuer = Some(stack::issuer(&self.run, settings).await?);
        self.ready().await
    }

    /// Starts etcd again, on the same data.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub async fn restart_etcd(&mut self) -> Result<()> {
        self.etcd = Self::start_etcd(&self.run, &self.net, self.etcd_tls.as_deref()).await?;
        Ok(())
    }

    /// Where config-api listens.
    pub fn api_address(&self) -> SocketAddr {
        self.net.at(1, 8080)
    }

    /// Calls config-api.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut request = http::client().request(
            method.clone(),
            format!("http://{}{path}", self.api_address()),
        );
        if let Some(body) = body {
            request = request.json(body);
        }
        http::send(request)
            .await
            .with_context(|| format!("{method} {path}"))
    }

    /// What the pusher's `/readyz` says.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn pusher_readyz(&self) -> Result<Answer> {
        http::get(format!("http://{}/readyz", self.net.at(1, 18001))).await
    }

    /// Applies documents (YAML), all or none. Returns the answer's body.
    ///
    /// # Errors
    /// If they are refused.
    pub async fn apply(&self, yaml: &str) -> Result<Value> {
        let request = http::client().post(format!("http://{}/v1/apply", self.api_address()));
        let request = request
            .header("content-type", "application/yaml")
            .body(yaml.to_owned());
        let answer = http::send(request).await.context("POST /v1/apply")?;
        answer
            .ok()
            .with_context(|| format!("applying\n{yaml}"))?
            .json()
    }

    /// The bootstrap config-api has for a workload.
    ///
    /// # Errors
    /// If there is none.
    pub async fn bootstrap(
        &self,
        namespace: &str,
        workload: &str,
        variant: Variant,
    ) -> Result<Value> {
        stack::bootstrap(
            self.api_address(),
            (namespace, workload),
            variant,
            self.net.at(1, 18000),
        )
        .await
    }

    /// Starts a workload's Envoy, admin on `.250` of the mesh at port 9900 + `number`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn envoy(
        &self,
        namespace: &str,
        workload: &str,
        variant: Variant,
        version: Version,
        number: u16,
    ) -> Result<Envoy> {
        let bootstrap = self.bootstrap(namespace, workload, variant).await?;
        let name = format!("envoy-{workload}");
        Envoy::start(
            &self.run,
            &name,
            version,
            bootstrap,
            self.net.at(250, 9900 + number),
        )
        .await
    }

    /// Waits until an answer satisfies `accept`, which says why not otherwise.
    ///
    /// # Errors
    /// If none does in time; the message holds the last reason.
    pub async fn until_answer(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
        limit: Duration,
        accept: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        wait::until("the right answer", limit, async || {
            let answer = http::send(request()).await?;
            if accept(&answer) {
                Ok(answer)
            } else {
                bail!("{}: {}", answer.status, answer.body)
            }
        })
        .await
    }
}
