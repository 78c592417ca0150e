//! What a change would do to the configuration of the connected proxies, as the pushers compile it on a copy.
//!
//! *Invariant:* nobody sees of a proxy what they may not read of it by `/v1/proxies`.

use std::time::Duration;

use pusher_api::v1::{ClassPreview, PreviewRequest, PreviewedResource, ResourceChange};
use serde_json::{Value, json};

use super::batch::Planned;
use super::proxies::sees;
use crate::app::App;
use crate::identity::Caller;

/// How long a pusher may take to compile it.
const DEADLINE: Duration = Duration::from_secs(10);

/// How many proxies of a class are named.
const NAMED: usize = 10;

/// What the pushers say; who kept silent is warned about.
pub(super) async fn ask(
    app: &App,
    caller: &Caller,
    planned: &[Planned],
    warnings: &mut Vec<String>,
) -> Value {
    let changes = planned.iter().filter(|it| it.result != "unchanged");
    let changes = changes.map(|it| ResourceChange {
        group: it.key.kind.group().to_owned(),
        kind: it.key.kind.name().to_owned(),
        namespace: it.key.namespace.to_string(),
        name: it.key.name.to_string(),
        json: (it.after.as_ref()).map_or_else(String::new, |object| object.to_json().to_string()),
    });
    let request = PreviewRequest {
        changes: changes.collect(),
    };
    let answers = app
        .pushers
        .ask_within(DEADLINE, |mut pusher| {
            let request = request.clone();
            async move { pusher.preview(request).await }
        })
        .await;
    let told = answers.silent.iter().map(|it| {
        let (instance, reason) = (&it.instance, &it.reason);
        format!("the pusher {instance} did not answer, its proxies are not shown: {reason}")
    });
    warnings.extend(told);
    let classes = answers
        .answered
        .into_iter()
        .flat_map(|(_, answer)| answer.classes);
    let classes = merged(classes, &|id| sees(caller, id));
    let classes: Vec<Value> = classes.iter().map(class).collect();
    json!({"classes": classes, "silent": answers.silent})
}

/// Classes of several pushers that are one, without the proxies that must not be seen; the largest first.
fn merged(
    classes: impl Iterator<Item = ClassPreview>,
    sees: &dyn Fn(&str) -> bool,
) -> Vec<ClassPreview> {
    let mut all: Vec<ClassPreview> = Vec::new();
    for mut class in classes {
        class.proxies.retain(|id| sees(id));
        if class.proxies.is_empty() {
            continue;
        }
        let same =
            |it: &&mut ClassPreview| it.total == class.total && it.resources == class.resources;
        match all.iter_mut().find(same) {
            Some(known) => known.proxies.append(&mut class.proxies),
            None => all.push(class),
        }
    }
    for class in &mut all {
        class.proxies.sort();
        class.proxies.dedup();
    }
    all.sort_by_key(|class| std::cmp::Reverse(class.proxies.len()));
    all
}

fn class(class: &ClassPreview) -> Value {
    let resource = |it: &PreviewedResource| json!({"type": it.r#type, "name": it.name, "change": it.change, "diff": it.diff});
    let named: Vec<&String> = class.proxies.iter().take(NAMED).collect();
    let shown: Vec<Value> = class.resources.iter().map(resource).collect();
    json!({
        "proxies": {"count": class.proxies.len(), "ids": named},
        "more": (class.total as usize).saturating_sub(shown.len()),
        "resources": shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(proxies: &[&str], diff: &str) -> ClassPreview {
        let resource = PreviewedResource {
            diff: diff.into(),
            ..PreviewedResource::default()
        };
        ClassPreview {
            proxies: proxies.iter().map(|it| (*it).to_owned()).collect(),
            total: 1,
            resources: vec![resource],
        }
    }

    #[test]
    fn proxies_of_several_pushers_that_the_same_happens_to_stand_together() {
        let classes = [
            of(&["sidecar~a~1", "sidecar~b~1"], "x"),
            of(&["sidecar~a~3"], "y"),
            of(&["sidecar~a~2"], "x"),
            of(&["sidecar~b~4"], "z"),
        ];
        let merged = merged(classes.into_iter(), &|id| id.starts_with("sidecar~a~"));
        let proxies: Vec<&[String]> = merged.iter().map(|it| &it.proxies[..]).collect();
        assert_eq!(proxies[0], ["sidecar~a~1", "sidecar~a~2"]);
        assert_eq!(proxies[1], ["sidecar~a~3"]);
        assert_eq!(proxies.len(), 2);
    }
}
