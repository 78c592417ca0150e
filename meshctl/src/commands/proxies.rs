//! `meshctl proxy-status` and `meshctl proxy-config`: what the pushers know of their proxies.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use crate::cli::{ProxyConfig, ProxyStatus, TableForm};
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::config::{self, Resource};
use crate::render::proxies::{self, Proxy};
use crate::render::{items, text};

pub(super) async fn status(context: &mut Context<'_>, status: &ProxyStatus) -> Result<Exit, Error> {
    let answer = list(context).await?;
    let proxies = parse(&answer)?;
    let chosen = match &status.proxy {
        Some(wanted) => Some(proxies::find(&proxies, wanted, context.namespace())?),
        None => None,
    };
    if let Some(form) = status.output.structured() {
        let value = match chosen {
            Some(proxy) => items(&answer["proxies"])
                .iter()
                .find(|p| p["id"] == proxy.id.as_str())
                .cloned()
                .unwrap_or_default(),
            None => answer,
        };
        context.out.value(&value, form)?;
        return Ok(Exit::Success);
    }
    let style = context.out.style;
    let text = match chosen {
        Some(proxy) => proxies::detail(proxy, style),
        None => proxies::table(&proxies, status.output == TableForm::Wide, style),
    };
    if text.is_empty() {
        context.out.note("No proxy is connected.");
    }
    context.out.text(&text)?;
    Ok(Exit::Success)
}

pub(super) async fn config(context: &mut Context<'_>, wanted: &ProxyConfig) -> Result<Exit, Error> {
    let proxies = parse(&list(context).await?)?;
    let proxy = proxies::find(&proxies, &wanted.proxy, context.namespace())?;
    let path = ["v1", "proxies", &proxy.id, "config"];
    let requests = match config::types_of(wanted.part) {
        [] => vec![Request::get(&path)],
        types => types
            .iter()
            .map(|t| Request::get(&path).with("type", *t))
            .collect(),
    };
    let mut found = Vec::new();
    for request in requests {
        found.extend(items(&context.send(request).await?.body["resources"]).to_vec());
    }
    if let Some(form) = wanted.output.structured() {
        context.out.value(&found.into(), form)?;
        return Ok(Exit::Success);
    }
    let resource = |r: &Value| Resource {
        kind: text(&r["type"]),
        name: text(&r["name"]),
        version: text(&r["version"]),
        body: r["resource"].clone(),
    };
    let resources: Vec<Resource> = found.iter().map(resource).collect();
    let table = config::table(
        wanted.part,
        &resources,
        wanted.output == TableForm::Wide,
        context.out.style,
    );
    if table.is_empty() {
        context.out.note(&format!(
            "{} has no {}.",
            proxy.id,
            config::name_of(wanted.part)
        ));
    }
    context.out.text(&table)?;
    Ok(Exit::Success)
}

/// What `/v1/proxies` answers; the server warns of pushers that kept silent.
async fn list(context: &mut Context<'_>) -> Result<Value, Error> {
    Ok(context.send(Request::get(&["v1", "proxies"])).await?.body)
}

fn parse(answer: &Value) -> Result<Vec<Proxy>, Error> {
    let proxies = if answer["proxies"].is_null() {
        json!([])
    } else {
        answer["proxies"].clone()
    };
    Vec::deserialize(proxies).map_err(|e| {
        Error::Failed(format!(
            "the server describes proxies in a way this meshctl does not know: {e}"
        ))
    })
}
