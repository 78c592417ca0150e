//! The status of a resource: what validation against the rest, compilation and the proxies say of it.
//!
//! *Invariant:* a status is made when it is read; silence of a pusher is `Unknown`, never `True`.

use std::collections::{BTreeSet, HashMap};

use model::{Key, Kind, Object};
use pusher_api::v1::{
    ListResourceStatusRequest, ListResourceStatusResponse, Refusal, ResourceStatus,
};
use serde_json::{Value, json};
use store::{Phase, Rollout};

use crate::pushers::{Answers, Pushers};

/// What the pushers say of some resources.
pub(crate) struct Said(Answers<ListResourceStatusResponse>);

/// Which resources to ask about; an empty string means any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Said {
    /// Asks every live pusher.
    pub(crate) async fn ask(pushers: &Pushers, about: About<'_>) -> Self {
        let request = ListResourceStatusRequest {
            kind: about.kind.into(),
            namespace: about.namespace.into(),
            name: about.name.into(),
        };
        Self(
            pushers
                .ask(|mut pusher| {
                    let request = request.clone();
                    async move { pusher.list_resource_status(request).await }
                })
                .await,
        )
    }

    fn statuses(&self) -> impl Iterator<Item = &ResourceStatus> {
        self.0
            .answered
            .iter()
            .flat_map(|(_, answer)| &answer.statuses)
    }

    /// What was said, by resource.
    pub(crate) fn by_key(&self) -> HashMap<Key, Vec<&ResourceStatus>> {
        let mut map: HashMap<Key, Vec<&ResourceStatus>> = HashMap::new();
        for status in self.statuses() {
            if let Some(key) = key(status) {
                map.entry(key).or_default().push(status);
            }
        }
        map
    }

    /// The status of an object of which this was said.
    pub(crate) fn of(
        &self,
        object: &Object,
        said: &[&ResourceStatus],
        local: &[String],
        delivery: Option<Value>,
    ) -> Option<Value> {
        let mut conditions = Vec::from_iter(analysis(local));
        conditions.extend(delivery);
        if !self.0.answered.is_empty() || !self.0.silent.is_empty() {
            conditions.extend([self.compiled(said), self.accepted(said)]);
        }
        status(object, &conditions)
    }

    fn compiled(&self, said: &[&ResourceStatus]) -> Value {
        let warnings: BTreeSet<&str> = said
            .iter()
            .flat_map(|s| &s.warnings)
            .map(String::as_str)
            .collect();
        if !warnings.is_empty() {
            return condition(
                "Compiled",
                "False",
                "LeftOut",
                &Vec::from_iter(warnings).join("; "),
            );
        }
        match self.0.answered.is_empty() {
            true => condition("Compiled", "Unknown", "NoAnswer", &self.silence()),
            false => condition("Compiled", "True", "Complete", ""),
        }
    }

    fn accepted(&self, said: &[&ResourceStatus]) -> Value {
        let refused: u32 = said.iter().map(|s| s.refused_by).sum();
        if refused > 0 {
            let example = said
                .iter()
                .flat_map(|s| &s.examples)
                .next()
                .map(told)
                .unwrap_or_default();
            return condition(
                "Accepted",
                "False",
                "Refused",
                &format!("refused by {refused} proxies: {example}"),
            );
        }
        match self.0.silent.is_empty() {
            true => condition("Accepted", "True", "NotRefused", ""),
            false => condition("Accepted", "Unknown", "NoAnswer", &self.silence()),
        }
    }

    fn silence(&self) -> String {
        let names: Vec<String> = self
            .0
            .silent
            .iter()
            .map(|s| format!("{} did not answer: {}", s.instance, s.reason))
            .collect();
        names.join("; ")
    }

    /// What was said, as core/v1 events.
    pub(crate) fn events(&self, uid: impl Fn(&Key) -> Option<String>) -> Vec<Value> {
        let mut events = Vec::new();
        for status in self.statuses() {
            let Some(key) = key(status) else { continue };
            let uid = uid(&key);
            for warning in &status.warnings {
                events.push(event(
                    &key,
                    uid.as_deref(),
                    "LeftOut",
                    warning,
                    1,
                    events.len(),
                ));
            }
            for refusal in &status.examples {
                events.push(event(
                    &key,
                    uid.as_deref(),
                    "Refused",
                    &told(refusal),
                    status.refused_by,
                    events.len(),
                ));
            }
        }
        events
    }
}

/// The status without a word from the pushers.
pub(crate) fn local(
    object: &Object,
    warnings: &[String],
    delivery: Option<Value>,
) -> Option<Value> {
    let conditions = analysis(warnings).into_iter().chain(delivery);
    status(object, &Vec::from_iter(conditions))
}

/// That not every proxy gets it yet, and why.
pub(crate) fn delivery(rollout: &Rollout) -> Value {
    let at = rollout.revision;
    let (reason, how) = match rollout.phase {
        Phase::Stopped => ("Stopped", format!("stopped: {}", rollout.reason)),
        Phase::First => ("Gradual", format!("{} first", rollout.proxies.join(", "))),
        _ => ("Gradual", "who gets it first is being chosen".to_owned()),
    };
    let message = format!(
        "revision {at} is delivered gradually; {how}; `meshctl rollout continue {at}` or `abort {at}` ends it"
    );
    condition("Delivered", "False", reason, &message)
}

fn analysis(warnings: &[String]) -> Option<Value> {
    (!warnings.is_empty())
        .then(|| condition("PassedAnalysis", "False", "Warnings", &warnings.join("; ")))
}

fn status(object: &Object, conditions: &[Value]) -> Option<Value> {
    (!conditions.is_empty()).then(
        || json!({"observedGeneration": object.metadata.generation, "conditions": conditions}),
    )
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

fn told(refusal: &Refusal) -> String {
    format!(
        "{}: {} {:?}: {}",
        refusal.proxy, refusal.r#type, refusal.resource, refusal.error
    )
}

fn key(status: &ResourceStatus) -> Option<Key> {
    let kind = Kind::ALL.into_iter().find(|k| k.name() == status.kind)?;
    Some(Key::new(
        kind,
        status.namespace.as_str(),
        status.name.as_str(),
    ))
}

fn event(
    key: &Key,
    uid: Option<&str>,
    reason: &str,
    message: &str,
    count: u32,
    index: usize,
) -> Value {
    // Asked for at this moment, and true at this moment.
    let time = crate::k8s::write::now();
    json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {
            "name": format!("{}.{}.{index}", key.name, reason.to_ascii_lowercase()), "namespace": key.namespace,
            "creationTimestamp": time,
        },
        "involvedObject": {
            "kind": key.kind.name(), "apiVersion": key.kind.api_version(), "namespace": key.namespace,
            "name": key.name, "uid": uid,
        },
        "reason": reason, "message": message, "type": "Warning", "count": count,
        "firstTimestamp": time, "lastTimestamp": time, "source": {"component": "xds-pusher"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pushers::Silent;

    fn object() -> Object {
        let metadata = model::Metadata {
            name: "a".into(),
            namespace: "b".into(),
            ..model::Metadata::default()
        };
        Object {
            kind: Kind::VirtualService,
            metadata,
            spec: json!({}),
        }
    }

    fn conditions(status: &Value) -> Vec<(String, String)> {
        let list = status["conditions"].as_array().cloned().unwrap_or_default();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        list.iter()
            .map(|c| (text(&c["type"]), text(&c["status"])))
            .collect()
    }

    fn pair(kind: &str, status: &str) -> (String, String) {
        (kind.into(), status.into())
    }

    #[test]
    fn silence_is_not_success() {
        let silent = Silent {
            instance: "p".into(),
            address: "x".into(),
            reason: "away".into(),
        };
        let said = Said(Answers {
            answered: Vec::new(),
            silent: vec![silent],
        });
        let status = said.of(&object(), &[], &[], None).unwrap_or_default();
        assert_eq!(
            conditions(&status),
            [pair("Compiled", "Unknown"), pair("Accepted", "Unknown")]
        );
    }

    #[test]
    fn a_refusal_shows_and_nothing_at_all_shows_nothing() {
        let nobody = Said(Answers {
            answered: Vec::new(),
            silent: Vec::new(),
        });
        assert_eq!(nobody.of(&object(), &[], &[], None), None);
        let refusal = Refusal {
            proxy: "sidecar~b~c".into(),
            r#type: "RDS".into(),
            ..Refusal::default()
        };
        let status = ResourceStatus {
            kind: "VirtualService".into(),
            namespace: "b".into(),
            name: "a".into(),
            refused_by: 3,
            examples: vec![refusal],
            ..ResourceStatus::default()
        };
        let answer = ListResourceStatusResponse {
            statuses: vec![status],
            ..ListResourceStatusResponse::default()
        };
        let member = store::Member {
            instance: "p".into(),
            addresses: std::collections::BTreeMap::new(),
            since: model::Revision(1),
        };
        let said = Said(Answers {
            answered: vec![(member, answer)],
            silent: Vec::new(),
        });
        let by_key = said.by_key();
        let status = said
            .of(
                &object(),
                &by_key[&object().key()],
                &["dangling".into()],
                None,
            )
            .unwrap_or_default();
        let expected = [
            pair("PassedAnalysis", "False"),
            pair("Compiled", "True"),
            pair("Accepted", "False"),
        ];
        assert_eq!(conditions(&status), expected);
        let events = said.events(|_| Some("uid".into()));
        assert_eq!(
            (events.len(), &events[0]["involvedObject"]["uid"]),
            (1, &json!("uid"))
        );
    }
}
