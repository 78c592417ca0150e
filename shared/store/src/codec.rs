//! Resources and change records to and from the JSON that etcd holds.
//!
//! *Invariant:* a stored resource never carries its own `resourceVersion`; that is where it is read from etcd.

#[cfg(test)]
mod tests;

use model::{Key, Kind, Metadata, Object, Revision};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::keys::{Layout, Place};
use crate::kv::KeyValue;
use crate::{Author, ChangeRecord, Deed, Edit, Phase, Plan, Prior, Rollout, Turn, Undecodable};

/// A resource as it is in etcd.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

/// A change record as it is in etcd.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
    time: String,
    #[serde(flatten)]
    author: Author,
    /// What changed, for people: `VirtualService default/reviews`.
    keys: Vec<String>,
    edits: Vec<StoredEdit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    liveness: Vec<Turn>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deeds: Vec<Deed>,
}

#[derive(Serialize, Deserialize)]
struct StoredEdit {
    kind: String,
    group: String,
    namespace: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Stored>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Stored>,
}

/// A rollout as it is in etcd.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRollout {
    who: String,
    started: String,
    plan: Plan,
    edits: Vec<StoredEdit>,
    phase: Phase,
    proxies: Vec<String>,
    reason: String,
    since: String,
}

/// The value to store for a resource.
pub(crate) fn encode(object: &Object) -> Vec<u8> {
    let stored = stored(
        object,
        Metadata {
            resource_version: None,
            ..object.metadata.clone()
        },
    );
    serde_json::to_vec(&stored).expect("JSON values and strings always serialize")
}

/// The resource at a key under `config/`.
pub(crate) fn decode(layout: &Layout, kv: &KeyValue) -> Result<Object, Undecodable> {
    let key = match layout.place(&kv.key) {
        Place::Config(key) => key,
        _ => None,
    };
    let undecodable = |error: String| Undecodable {
        etcd_key: kv.key.clone(),
        key: key.clone(),
        revision: Revision(kv.modified),
        error,
    };
    let Some(key) = &key else {
        return Err(undecodable(
            "the key is not <group>/<Kind>/<namespace>/<name> of a known kind".into(),
        ));
    };
    let stored: Stored =
        serde_json::from_slice(&kv.value).map_err(|e| undecodable(e.to_string()))?;
    let mut object = object(stored).map_err(undecodable)?;
    if object.key() != *key {
        return Err(undecodable(format!(
            "it holds {}, but the key says {key}",
            object.key()
        )));
    }
    object.metadata.resource_version = Some(kv.modified.to_string());
    Ok(object)
}

/// The value to store for a change record.
pub(crate) fn encode_record(record: &ChangeRecord) -> Vec<u8> {
    let keys = record.edits.iter().map(|edit| edit.key.to_string());
    let turns = record
        .liveness
        .iter()
        .map(|turn| format!("liveness {}/{}", turn.namespace, turn.name));
    let deeds = (record.deeds.iter()).map(|it| format!("{} {}/{}", it.kind, it.namespace, it.name));
    let edits = record.edits.iter().map(|edit| StoredEdit {
        kind: edit.key.kind.name().into(),
        group: edit.key.kind.group().into(),
        namespace: edit.key.namespace.to_string(),
        name: edit.key.name.to_string(),
        before: edit.before.as_ref().map(recorded),
        after: edit.after.as_ref().map(recorded),
    });
    let stored = StoredRecord {
        time: record.time.clone(),
        author: record.author.clone(),
        keys: keys.chain(turns).chain(deeds).collect(),
        edits: edits.collect(),
        liveness: record.liveness.clone(),
        deeds: record.deeds.clone(),
    };
    serde_json::to_vec(&stored).expect("JSON values and strings always serialize")
}

/// The change record of this id; every resource it left behind gets the record's revision.
pub(crate) fn decode_record(id: Uuid, kv: &KeyValue) -> Result<ChangeRecord, Undecodable> {
    let undecodable = |error: String| Undecodable {
        etcd_key: kv.key.clone(),
        key: None,
        revision: Revision(kv.modified),
        error,
    };
    let stored: StoredRecord =
        serde_json::from_slice(&kv.value).map_err(|e| undecodable(e.to_string()))?;
    let edits = stored
        .edits
        .into_iter()
        .map(|edit| -> Result<Edit, String> {
            let key = key_of(&edit)?;
            let mut after = edit.after.map(object).transpose()?;
            if let Some(after) = &mut after {
                after.metadata.resource_version = Some(kv.created.to_string());
            }
            Ok(Edit {
                key,
                before: edit.before.map(object).transpose()?,
                after,
            })
        });
    Ok(ChangeRecord {
        id,
        revision: Revision(kv.created),
        time: stored.time,
        author: stored.author,
        edits: edits.collect::<Result<_, _>>().map_err(undecodable)?,
        liveness: stored.liveness,
        deeds: stored.deeds,
    })
}

/// The value to store for a rollout.
pub(crate) fn encode_rollout(rollout: &Rollout) -> Vec<u8> {
    let edits = rollout.priors.iter().map(|prior| StoredEdit {
        kind: prior.key.kind.name().into(),
        group: prior.key.kind.group().into(),
        namespace: prior.key.namespace.to_string(),
        name: prior.key.name.to_string(),
        before: prior.before.as_ref().map(recorded),
        after: None,
    });
    let stored = StoredRollout {
        who: rollout.who.clone(),
        started: rollout.started.clone(),
        plan: rollout.plan.clone(),
        edits: edits.collect(),
        phase: rollout.phase,
        proxies: rollout.proxies.clone(),
        reason: rollout.reason.clone(),
        since: rollout.since.clone(),
    };
    serde_json::to_vec(&stored).expect("JSON values and strings always serialize")
}

/// The rollout of this id.
pub(crate) fn decode_rollout(id: Uuid, kv: &KeyValue) -> Result<Rollout, Undecodable> {
    let undecodable = |error: String| Undecodable {
        etcd_key: kv.key.clone(),
        key: None,
        revision: Revision(kv.modified),
        error,
    };
    let stored: StoredRollout =
        serde_json::from_slice(&kv.value).map_err(|e| undecodable(e.to_string()))?;
    let priors = stored.edits.into_iter().map(|edit| {
        let key = key_of(&edit)?;
        let before = edit.before.map(object).transpose()?;
        Ok(Prior { key, before })
    });
    let priors = priors.collect::<Result<_, String>>().map_err(undecodable)?;
    Ok(Rollout {
        id,
        revision: Revision(kv.created),
        written: Revision(kv.modified),
        who: stored.who,
        started: stored.started,
        plan: stored.plan,
        priors,
        phase: stored.phase,
        proxies: stored.proxies,
        reason: stored.reason,
        since: stored.since,
    })
}

fn key_of(edit: &StoredEdit) -> Result<Key, String> {
    let kind = Kind::ALL
        .into_iter()
        .find(|k| k.group() == edit.group && k.name() == edit.kind);
    let kind = kind.ok_or_else(|| format!("there is no kind {} in {}", edit.kind, edit.group))?;
    Ok(Key::new(kind, edit.namespace.as_str(), edit.name.as_str()))
}

/// Only the author of a change record.
pub(crate) fn decode_author(kv: &KeyValue) -> Option<Author> {
    serde_json::from_slice(&kv.value).ok()
}

fn stored(object: &Object, metadata: Metadata) -> Stored {
    Stored {
        api_version: object.kind.api_version(),
        kind: object.kind.name().into(),
        metadata,
        spec: object.spec.clone(),
    }
}

/// A resource as a change record keeps it. A private key is sealed before it gets here; one that is not is left out.
fn recorded(object: &Object) -> Stored {
    let mut stored = stored(object, object.metadata.clone());
    if let Some(spec) = stored
        .spec
        .as_object_mut()
        .filter(|_| object.kind.is_secret())
    {
        spec.shift_remove("privateKey");
    }
    stored
}

fn object(stored: Stored) -> Result<Object, String> {
    let Stored {
        api_version,
        kind,
        metadata,
        spec,
    } = stored;
    let kind = api_version
        .split_once('/')
        .and_then(|(group, version)| Kind::from_gvk(group, version, &kind))
        .ok_or_else(|| format!("there is no kind {kind} in {api_version}"))?;
    Ok(Object {
        kind,
        metadata,
        spec,
    })
}
