//! What a change would do to the configuration of the connected proxies: compiled on a copy, shown by class.
//!
//! *Invariant:* nothing that is served is touched; secrets are redacted as everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use compile::{Change, Compiler};
use model::{Key, Kind, Metadata, Object};
use pusher_api::v1::{ClassPreview, PreviewRequest, PreviewedResource, ResourceChange};
use serde_json::Value;
use similar::TextDiff;
use xds::{Resource, ResourceType, Snapshot};

/// How many resources of a class are shown.
const RESOURCES: usize = 50;
/// How many lines a diff has at most.
const LINES: usize = 200;
/// How many bytes a diff has at most.
const BYTES: usize = 32 * 1024;

/// The changes that are asked for.
pub(super) fn changes(request: &PreviewRequest) -> Result<Vec<Change>, String> {
    request.changes.iter().map(change).collect()
}

fn change(asked: &ResourceChange) -> Result<Change, String> {
    let ResourceChange {
        group,
        kind,
        namespace,
        name,
        json,
    } = asked;
    let found = Kind::ALL
        .into_iter()
        .find(|it| it.name() == kind && it.group() == group);
    let kind = found.ok_or_else(|| format!("there is no kind {kind} in {group}"))?;
    let key = Key::new(kind, namespace.as_str(), name.as_str());
    if json.is_empty() {
        return Ok(Change::Delete(key));
    }
    let wrong = |error: &dyn std::fmt::Display| format!("{key}: {error}");
    let mut json: Value = serde_json::from_str(json).map_err(|e| wrong(&e))?;
    let metadata: Metadata =
        serde_json::from_value(json["metadata"].take()).map_err(|e| wrong(&e))?;
    let object = Object {
        kind,
        metadata,
        spec: json["spec"].take(),
    };
    let resource = object.decode().map_err(|e| wrong(&e))?;
    Ok(Change::Put(Arc::new(resource)))
}

/// What becomes of each proxy, by what: proxies with the same differences stand together, the most first.
pub(super) fn preview(before: &Compiler, changes: Vec<Change>) -> Vec<ClassPreview> {
    let mut after = before.clone();
    let applied = after.apply(before.revision(), changes);
    let mut classes: BTreeMap<Vec<Difference>, Vec<String>> = BTreeMap::new();
    for id in applied.changed {
        let (Some(old), Some(new), Some(node)) =
            (before.snapshot(id), after.snapshot(id), before.node(id))
        else {
            continue;
        };
        let differences = differences(&old, &new);
        if !differences.is_empty() {
            classes
                .entry(differences)
                .or_default()
                .push(node.to_string());
        }
    }
    let mut classes: Vec<ClassPreview> = (classes.into_iter())
        .map(|(differences, mut proxies)| {
            proxies.sort();
            proxies.dedup();
            ClassPreview {
                proxies,
                total: u32::try_from(differences.len()).unwrap_or(u32::MAX),
                resources: differences
                    .iter()
                    .take(RESOURCES)
                    .map(Difference::show)
                    .collect(),
            }
        })
        .collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.proxies.len()));
    classes
}

/// A resource that differs; equal if type, name and both contents are.
struct Difference {
    ty: ResourceType,
    name: Arc<str>,
    before: Option<Resource>,
    after: Option<Resource>,
}

impl Difference {
    fn versions(&self) -> (ResourceType, &str, Option<&Arc<str>>, Option<&Arc<str>>) {
        (
            self.ty,
            &self.name,
            self.before.as_ref().map(Resource::version),
            self.after.as_ref().map(Resource::version),
        )
    }

    fn show(&self) -> PreviewedResource {
        let text = |it: &Option<Resource>| {
            it.as_ref()
                .map(|it| format!("{:#}\n", it.to_json()))
                .unwrap_or_default()
        };
        let change = match (&self.before, &self.after) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        PreviewedResource {
            r#type: self.ty.short().to_owned(),
            name: self.name.to_string(),
            change: change.to_owned(),
            diff: unified(&text(&self.before), &text(&self.after)),
        }
    }
}

impl PartialEq for Difference {
    fn eq(&self, other: &Self) -> bool {
        self.versions() == other.versions()
    }
}

impl Eq for Difference {}

impl PartialOrd for Difference {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Difference {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.versions().cmp(&other.versions())
    }
}

fn differences(old: &Snapshot, new: &Snapshot) -> Vec<Difference> {
    let mut differences = Vec::new();
    for ty in ResourceType::ALL {
        for name in old.diff(new, ty) {
            differences.push(Difference {
                ty,
                before: old.get(ty, &name).cloned(),
                after: new.get(ty, &name).cloned(),
                name,
            });
        }
    }
    differences
}

/// A unified diff, cut where it gets too long.
fn unified(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let whole = diff.unified_diff().context_radius(3).to_string();
    let mut text = String::new();
    let lines = whole.lines().count();
    for (n, line) in whole.lines().enumerate() {
        if n == LINES || text.len() + line.len() > BYTES {
            text += &format!("… {} more lines\n", lines - n);
            break;
        }
        text += line;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_diff_is_cut_and_says_so() {
        let long: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let text = unified("", &long);
        assert!(text.lines().count() == LINES + 1, "{text}");
        assert!(text.ends_with("more lines\n"), "{text}");
        assert_eq!(unified("a\n", "a\n"), "");
        assert_eq!(unified("a\nb\n", "a\nc\n"), "@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
    }
}
