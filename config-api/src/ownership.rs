//! Which namespace may declare a host: decided against everything that is stored, and still true when it is written.
//!
//! A ServiceEntry that others can see claims its hosts for its namespace; one that only its own namespace sees claims
//! nothing. A host `<service>.<namespace>.<domain>` belongs to that namespace by its name. The root namespace may declare
//! every host. See `docs/decisions/020-who-owns-a-host.md`.
//!
//! *Invariant:* a claim is committed only if no ServiceEntry was written after the revision it was checked at.

use std::collections::{BTreeMap, BTreeSet};

use model::mesh::Exports;
use model::mesh::host::covering;
use model::{Key, Kind, Object, Resource, Spec};
use store::Op;

use crate::app::App;
use crate::http::status::{Cause, Result, Status};
use crate::view::View;

/// A change of one resource: what is there, and what shall be.
pub(crate) struct Change<'a> {
    pub(crate) key: &'a Key,
    pub(crate) before: Option<&'a Object>,
    pub(crate) after: Option<&'a Object>,
    /// Put before the names of fields: the place among several documents.
    pub(crate) place: String,
}

/// Refuses changes that claim a host of another namespace. Returns what the transaction must demand so that this stays true;
/// nothing if nothing new is claimed.
pub(crate) async fn check(app: &App, changes: &[Change<'_>]) -> Result<Option<Op>> {
    if changes
        .iter()
        .all(|change| change.key.kind != Kind::ServiceEntry)
    {
        return Ok(None);
    }
    let view = app.fresh_view().await;
    let defaults = defaults(&view);
    let claims =
        |object: Option<&Object>| object.map(|o| claimed(o, &defaults)).unwrap_or_default();
    let mut others = Others {
        view: &view,
        defaults: &defaults,
        written: changes.iter().map(|change| change.key).collect(),
        beside: BTreeMap::new(),
    };
    for change in changes {
        for host in claims(change.after) {
            others.beside.entry(host).or_default().push(change.key);
        }
    }
    let (mut new, mut refusals) = (false, Vec::new());
    for change in changes {
        let had = claims(change.before);
        for host in claims(change.after).difference(&had) {
            new = true;
            let exempt = *change.key.namespace == *app.config.root_namespace;
            if let Some(owner) = others
                .owner(host, &change.key.namespace)
                .filter(|_| !exempt)
            {
                refusals.push((change, cause(change, host, &owner)));
            }
        }
    }
    if let Some((first, _)) = refusals.first() {
        let key = first.key;
        let causes = refusals.iter().map(|(_, cause)| cause.clone()).collect();
        return Err(Status::invalid(key.kind, &key.name, causes));
    }
    Ok(new.then_some(Op::Guard {
        kind: Kind::ServiceEntry,
        since: view.revision,
    }))
}

/// Who else claims a host.
struct Others<'a> {
    view: &'a View,
    defaults: &'a [String],
    /// What is about to be replaced or deleted, and counts no more as it is.
    written: BTreeSet<&'a Key>,
    /// What is claimed by the changes themselves.
    beside: BTreeMap<String, Vec<&'a Key>>,
}

/// Whose a host is, and why.
struct Owner {
    namespace: String,
    why: String,
}

impl Others<'_> {
    /// The namespace that owns a host, if that is not `namespace`.
    fn owner(&self, host: &str, namespace: &str) -> Option<Owner> {
        let domain = format!(".{}", self.view.mesh.domain());
        let named = host
            .strip_suffix(&domain)
            .and_then(|rest| rest.rsplit_once('.'));
        if let Some((_, by_name)) = named
            && by_name != namespace
        {
            return Some(Owner {
                namespace: by_name.into(),
                why: "as its name says".into(),
            });
        }
        let mut read = BTreeSet::new();
        let mut mesh = self.view.mesh.view(&mut read);
        covering(host).find_map(|pattern| {
            let stored = mesh
                .services(&pattern)
                .filter(|s| {
                    !self.written.contains(&s.entry) && self.claims(&s.exports, s.namespace())
                })
                .map(|s| &s.entry);
            let beside = self.beside.get(&pattern).into_iter().flatten().copied();
            let other = stored
                .chain(beside)
                .find(|key| *key.namespace != *namespace)?;
            Some(Owner {
                namespace: other.namespace.to_string(),
                why: format!(
                    "by its ServiceEntry {:?}, which has {pattern:?}",
                    &*other.name
                ),
            })
        })
    }

    fn claims(&self, exports: &Exports, namespace: &str) -> bool {
        reaches_others(exports, namespace, self.defaults)
    }
}

fn cause(change: &Change<'_>, host: &str, owner: &Owner) -> Cause {
    Cause {
        reason: "FieldValueInvalid",
        message: format!(
            "Invalid value: {host:?}: the namespace {0:?} owns this host, {1}, and only {0:?} may declare it for others; declare it \
             there, or for {2:?} alone with exportTo: [\".\"]",
            owner.namespace, owner.why, change.key.namespace
        ),
        field: format!("{}spec.hosts", change.place),
    }
}

/// The hosts that an object claims.
fn claimed(object: &Object, defaults: &[String]) -> BTreeSet<String> {
    // What cannot be decoded is no part of the mesh.
    let Ok(Resource {
        metadata,
        spec: Spec::ServiceEntry(entry),
    }) = object.decode()
    else {
        return BTreeSet::new();
    };
    let exports = Exports::new(&entry.export_to, &metadata.namespace);
    if !reaches_others(&exports, &metadata.namespace, defaults) {
        return BTreeSet::new();
    }
    entry
        .hosts
        .iter()
        .map(|host| host.to_ascii_lowercase())
        .collect()
}

fn reaches_others(exports: &Exports, namespace: &str, defaults: &[String]) -> bool {
    match exports {
        Exports::All => true,
        Exports::Only(names) => names.iter().any(|name| **name != *namespace),
        Exports::Unsaid if defaults.is_empty() => true,
        Exports::Unsaid => reaches_others(&Exports::new(defaults, namespace), namespace, &[]),
    }
}

/// The mesh's `exportTo` of services that do not say.
fn defaults(view: &View) -> Vec<String> {
    let mut read = BTreeSet::new();
    let config = view.mesh.view(&mut read).mesh_config();
    config
        .map(|config| config.default_service_export_to.clone())
        .unwrap_or_default()
}
