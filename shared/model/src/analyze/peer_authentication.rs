//! PeerAuthentications that hold for nobody: in the root namespace with a selector, with a selector that selects nobody,
//! younger than another for the same workloads.
//!
//! *Invariant:* two different selectors are not compared: whether both select one workload is a matter of workloads.

use super::Analysis;
use crate::mesh::Age;
use crate::spec::{Labels, PeerAuthentication};
use crate::validate::Path;
use crate::{Kind, Spec};

impl Analysis<'_, '_> {
    pub(super) fn peer_authentication(&mut self, spec: &PeerAuthentication, path: &Path) {
        let (own, selector) = (labels(spec), path.at("selector"));
        if let Some(labels) = own {
            let root = self.mesh.root_namespace();
            if self.namespace() == &**root {
                let text = format!(
                    "holds for nobody: in the root namespace {root} policies are for the whole mesh; remove the selector, or put \
                     the policy into the workloads' namespace"
                );
                return self.warn(&selector, text);
            }
            let namespace = self.resource.key().namespace;
            if !self.view.selects_some(&namespace, labels) {
                let text = format!("selects no workload of the namespace {namespace:?}");
                self.warn(&selector, text);
            }
        }
        let mine = Age::new(Kind::PeerAuthentication, &self.resource.metadata);
        let older = self.others(Kind::PeerAuthentication).find(|other| {
            matches!(&other.spec, Spec::PeerAuthentication(spec) if labels(spec) == own)
                && Age::new(Kind::PeerAuthentication, &other.metadata) < mine
        });
        if let Some(key) = older.map(|other| other.key()) {
            let text = format!(
                "the older {key} is for the same workloads, and holds alone; merge the two"
            );
            self.warn(&selector, text);
        }
    }
}

fn labels(spec: &PeerAuthentication) -> Option<&Labels> {
    spec.selector
        .as_ref()
        .map(|selector| &selector.match_labels)
        .filter(|labels| !labels.is_empty())
}
