//! The access file: which subjects and groups have which role in which namespaces.
//!
//! *Invariant:* what the file does not grant is denied; there is no rule that takes away.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::{EVERY, Rights, Role};
use crate::identity::Subject;
use crate::k8s::names;

/// The group of everybody who proved an identity.
const EVERYBODY: &str = "system:authenticated";

/// Who has which role where.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grants {
    grants: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    role: Role,
    namespaces: Vec<String>,
}

impl Grants {
    /// Reads `grants: [{subjects, groups, role, namespaces}]`.
    ///
    /// # Errors
    /// Which grant is wrong, and the rule.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        for (index, grant) in file.grants.iter().enumerate() {
            let wrong = |why: String| Err(format!("grants[{index}]{why}"));
            if grant.subjects.is_empty() && grant.groups.is_empty() {
                return wrong(": names neither subjects nor groups, so it grants nothing".into());
            }
            if grant.namespaces.is_empty() {
                return wrong(".namespaces: is empty; name some, or [\"*\"] for every one".into());
            }
            if let Some(name) =
                (grant.namespaces.iter()).find(|n| *n != EVERY && !names::is_label(n))
            {
                return wrong(format!(
                    ".namespaces: {name:?} is neither the name of a namespace nor \"*\""
                ));
            }
        }
        Ok(file)
    }

    /// What a subject may do.
    pub(crate) fn rights(&self, subject: &Subject) -> Rights {
        let mut roles = BTreeMap::new();
        for grant in &self.grants {
            let in_group = |group: &String| group == EVERYBODY || subject.groups.contains(group);
            if !grant.subjects.contains(&subject.name) && !grant.groups.iter().any(in_group) {
                continue;
            }
            for namespace in &grant.namespaces {
                let role = roles.entry(namespace.clone()).or_insert(grant.role);
                *role = grant.role.max(*role);
            }
        }
        Rights::Held(Arc::new(roles))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = "
grants:
- {subjects: [alice], role: admin, namespaces: [shop]}
- {groups: [ops], role: editor, namespaces: ['*']}
- {groups: ['system:authenticated'], role: viewer, namespaces: [public]}
- {subjects: [alice], groups: [nobody], role: viewer, namespaces: [shop, pay]}
";

    #[test]
    fn roles_add_up_and_nothing_else_is_granted() {
        use Role::{Admin, Editor, Viewer};
        let grants = Grants::parse(FILE).unwrap();
        let rights = |name: &str, groups: &[&str]| {
            grants.rights(&Subject {
                name: name.into(),
                groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            })
        };
        let (alice, bob) = (rights("alice", &[]), rights("bob", &["ops", "x"]));
        for (rights, namespace, role) in [
            (&alice, Some("shop"), Some(Admin)),
            (&alice, Some("pay"), Some(Viewer)),
            (&alice, Some("public"), Some(Viewer)),
            (&alice, Some("other"), None),
            (&alice, None, None),
            (&bob, Some("shop"), Some(Editor)),
            (&bob, Some("public"), Some(Editor)),
            (&bob, None, Some(Editor)),
            // A subject is no group, and a group no subject.
            (&rights("ops", &["alice"]), Some("shop"), None),
        ] {
            assert_eq!(rights.role(namespace), role, "{rights:?} {namespace:?}");
        }
        assert_eq!(
            (alice.highest(), bob.highest()),
            (Some(Admin), Some(Editor))
        );
        assert_eq!(
            Grants::default().rights(&Subject::default()).highest(),
            None
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        for (grant, place) in [
            ("{role: admin, namespaces: [a]}", "grants[0]: names neither"),
            (
                "{subjects: [a], role: admin, namespaces: []}",
                "grants[0].namespaces",
            ),
            (
                "{subjects: [a], role: admin, namespaces: ['a*']}",
                "grants[0].namespaces",
            ),
            ("{subjects: [a], role: owner, namespaces: [a]}", "owner"),
            (
                "{subjects: [a], role: admin, namespaces: [a], deny: true}",
                "deny",
            ),
            ("{subjects: [a], role: admin}", "namespaces"),
        ] {
            let error = Grants::parse(&format!("grants: [{grant}]")).unwrap_err();
            assert!(error.contains(place), "{grant}: {error}");
        }
    }
}
