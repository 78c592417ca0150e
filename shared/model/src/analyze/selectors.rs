//! Sidecars: selectors that select nobody, and Sidecars for the same workloads.
//!
//! *Invariant:* whether a selected workload has a proxy that is connected is not looked at.

use super::Analysis;
use crate::spec::{Labels, Sidecar, WorkloadSelector};
use crate::validate::Path;
use crate::{Kind, Spec};

impl Analysis<'_, '_> {
    pub(super) fn sidecar(&mut self, spec: &Sidecar, path: &Path) {
        let own = labels(spec.workload_selector.as_ref());
        if let Some(selector) = own {
            let namespace = self.resource.key().namespace;
            if !self.view.selects_some(&namespace, selector) {
                let text = format!(
                    "selects no workload of the namespace {:?}",
                    self.namespace()
                );
                self.warn(&path.at("workloadSelector"), text);
            }
        }
        let same = self.others(Kind::Sidecar).find(|other| {
            matches!(&other.spec, Spec::Sidecar(other) if labels(other.workload_selector.as_ref()) == own)
        });
        if let Some(key) = same.map(|other| other.key()) {
            let whom = own.map_or("every workload of the namespace", |_| "the same workloads");
            let text = format!("{key} is for {whom} too; the older one holds alone");
            self.warn(&path.at("workloadSelector"), text);
        }
    }
}

fn labels(selector: Option<&WorkloadSelector>) -> Option<&Labels> {
    selector
        .map(|selector| &selector.labels)
        .filter(|labels| !labels.is_empty())
}
