//! `meshctl authz check`: what the policies make of a call.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Context;
use crate::cli::{Authorization, CheckCall};
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::authz;

pub(super) async fn run(context: &mut Context<'_>, what: &Authorization) -> Result<Exit, Error> {
    let Authorization::Check(check) = what;
    let body = call(check, context.namespace());
    let request = Request::of(Method::POST, &["v1", "authz", "check"]).body(body);
    let answer = context.send(request).await?.body;
    match check.output.structured() {
        Some(form) => context.out.value(&answer, form)?,
        None => {
            let text = authz::verdicts(&answer, context.out.style);
            context.out.text(&text)?;
        }
    }
    Ok(if authz::all_allowed(&answer) {
        Exit::Success
    } else {
        Exit::Failure
    })
}

/// The call as the server takes it; what was not said is absent.
pub(super) fn call(check: &CheckCall, namespace: &str) -> Value {
    let claims: Map<String, Value> = check.claims.iter().cloned().collect();
    let said = json!({
        "namespace": namespace, "from": check.from, "fromIp": check.from_ip, "to": check.to,
        "method": check.method, "path": check.path, "host": check.host, "headers": check.headers,
        "claims": (!claims.is_empty()).then_some(claims),
    });
    let Value::Object(mut said) = said else {
        unreachable!("it is an object")
    };
    said.retain(|_, value| !value.is_null());
    said.into()
}
