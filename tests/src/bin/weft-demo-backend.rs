//! A demo service: echoes what it receives, as JSON; with `--tcp` a TCP echo.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use weft_tests::backend::tcp::TcpEcho;
use weft_tests::backend::tls::Identity;
use weft_tests::backend::{Backend, Settings};

/// A demo service for a mesh: answers every request with what it received, as JSON.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The name of the service, echoed in every answer.
    #[arg(long, default_value = "demo")]
    service: String,
    /// The version of the service, echoed in every answer.
    #[arg(long, default_value = "v1")]
    service_version: String,
    /// Serve TLS with a self-signed certificate for this name; may be repeated.
    #[arg(long, value_name = "NAME")]
    tls: Vec<String>,
    /// Call this URL for every request and include the answer; may be repeated.
    #[arg(long, value_name = "NAME=URL")]
    call: Vec<String>,
    /// Make those calls through this HTTP proxy.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Echo bytes over TCP instead of serving HTTP.
    #[arg(long, conflicts_with_all = ["tls", "call"])]
    tcp: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listening = || format!("listening on {} (--listen moves it)", args.listen);
    if args.tcp {
        TcpEcho::start(args.listen, &args.service)
            .await
            .with_context(listening)?
            .forever()
            .await;
        return Ok(());
    }
    let names: Vec<&str> = args.tls.iter().map(String::as_str).collect();
    let calls = args.call.iter().map(|call| {
        let (name, url) = call
            .split_once('=')
            .with_context(|| format!("--call {call}: write NAME=URL"))?;
        Ok((name.to_owned(), url.to_owned()))
    });
    let settings = Settings {
        calls: calls.collect::<anyhow::Result<_>>()?,
        tls: if names.is_empty() {
            None
        } else {
            Some(Identity::self_signed(&names)?)
        },
        service: args.service,
        version: args.service_version,
        proxy: args.proxy,
    };
    Backend::start(args.listen, settings)
        .await
        .with_context(listening)?
        .forever()
        .await;
    Ok(())
}
