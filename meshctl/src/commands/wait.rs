//! `meshctl wait` and `apply --wait`: until a revision has reached everyone, or it is known that it will not.
//!
//! *Invariant:* success is said only when the server said `reached`.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Context;
use crate::cli::{Form, Wait};
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::{rollout, text};

/// How long the server is asked to wait at once: so often progress is shown.
const STEP: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &mut Context<'_>, wait: &Wait) -> Result<Exit, Error> {
    let revision = wait.revision.to_string();
    until_reached(context, &revision, wait.timeout, wait.output).await
}

/// Waits, tells how far it is while it does, and what came of it.
pub(super) async fn until_reached(
    context: &mut Context<'_>,
    revision: &str,
    timeout: Duration,
    form: Option<Form>,
) -> Result<Exit, Error> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let step = left.min(STEP);
        let request = Request::get(&["v1", "rollouts", revision])
            .with("wait", format!("{}ms", step.as_millis()));
        let answer = context.client.send(request).await;
        if answer.is_err() {
            context.out.progress("");
        }
        let answer = answer?.body;
        if is_final(&answer) || left <= step {
            context.out.progress("");
            return tell(context, &answer, form);
        }
        context.out.progress(&rollout::progress(&answer));
    }
}

/// Whether waiting longer changes nothing: all have settled, or those who have not refuse it.
fn is_final(answer: &Value) -> bool {
    let count = |of: &str| answer[of]["count"].as_u64().unwrap_or_default();
    let done = count("settled") + count("refused");
    answer["reached"] == true
        || ["stopped", "rolledBack"].contains(&text(&answer["state"]).as_str())
        || text(&answer["state"]) == "refused" && Some(done) == answer["total"].as_u64()
}

fn tell(context: &mut Context<'_>, answer: &Value, form: Option<Form>) -> Result<Exit, Error> {
    match form {
        Some(form) => context.out.value(answer, form.into())?,
        None => (context.out).text(&rollout::outcome(answer, context.out.style))?,
    }
    Ok(match answer["reached"] == true {
        true => Exit::Success,
        false => Exit::Failure,
    })
}
