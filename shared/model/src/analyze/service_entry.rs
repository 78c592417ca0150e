//! ServiceEntries: workloads that are not there, hosts and addresses that another one has.
//!
//! *Invariant:* none of this keeps the other hosts of the ServiceEntry from working.

use super::Analysis;
use crate::spec::{Resolution, ServiceEntry};
use crate::validate::Path;

impl Analysis<'_, '_> {
    pub(super) fn service_entry(&mut self, spec: &ServiceEntry, path: &Path) {
        let own = self.resource.key();
        for (path, host) in path.each("hosts", &spec.hosts) {
            let host = host.to_ascii_lowercase();
            let seen = self.view.service(&own.namespace, &host);
            if let Some(other) =
                seen.filter(|seen| seen.entry != own && *seen.entry.namespace == *own.namespace)
            {
                let text = format!(
                    "{} of this namespace is older and has the host too; this one has no effect for it",
                    other.entry
                );
                self.warn(&path, text);
            }
        }
        for (path, address) in path.each("addresses", &spec.addresses) {
            if !self.view.owns_address(&own, address) {
                self.warn(
                    &path,
                    "belongs to an older ServiceEntry; connections to it go there",
                );
            }
        }
        let selects = spec.workload_selector.is_some() && spec.resolution != Resolution::None;
        let first = spec.hosts.first().map(|host| host.to_ascii_lowercase());
        if let Some(service) =
            first.and_then(|host| self.view.service_of_entry(&own, &host).cloned())
            && selects
            && self.view.endpoints(&service).is_empty()
        {
            let text = format!(
                "selects no live WorkloadEntry of the namespace {:?}; requests find no endpoint",
                &*own.namespace
            );
            self.warn(&path.at("workloadSelector"), text);
        }
    }
}
