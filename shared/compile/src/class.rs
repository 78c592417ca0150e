//! Which proxies share their outbound configuration: what of a proxy can make a difference to it, and nothing else.
//!
//! *Invariant:* two proxies of one class get the same bytes for everything but what arrives at their own workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::mesh::{View, workload_labels};
use model::{Key, Spec};

use crate::security;
use crate::{Interception, Proxy, Role};

/// The label or annotation of a WorkloadEntry that says how traffic reaches its sidecar: `explicit` or `transparent`.
const INTERCEPTION: &str = "weft.mesh/interception";

/// What decides the outbound configuration of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Class {
    pub(crate) role: Role,
    pub(crate) namespace: Arc<str>,
    pub(crate) interception: Interception,
    /// The Sidecar in force.
    pub(crate) sidecar: Option<Key>,
    /// The Gateways that select it, the oldest first.
    pub(crate) gateways: Vec<Key>,
    /// The security policies that hold for it, if it is a gateway; those of a sidecar concern what arrives only.
    pub(crate) policies: Vec<Key>,
    /// Of the workload's labels those that a policy looks at.
    pub(crate) labels: BTreeMap<String, String>,
    /// The workload's locality: `region/zone/subzone`.
    pub(crate) locality: String,
    /// The workload's address if it is one of loopback's. Envoys that share a host have different ones and bind them
    /// rather than every address: two that bind the same port would silently share its connections.
    pub(crate) own: Option<Arc<str>>,
}

/// The labels of a proxy's workload; those it claims itself if there is no WorkloadEntry.
pub(crate) fn labels(proxy: &Proxy, view: &mut View<'_, '_>) -> BTreeMap<String, String> {
    let workload = view.workload(&proxy.namespace, &proxy.workload);
    workload.map_or_else(
        || proxy.labels.clone(),
        |workload| workload_labels(workload),
    )
}

/// The class of a proxy.
pub(crate) fn of(proxy: &Proxy, view: &mut View<'_, '_>) -> Class {
    let workload = view.workload(&proxy.namespace, &proxy.workload);
    let labels = labels(proxy, view);
    let locality = match workload.map(|workload| &workload.spec) {
        Some(Spec::WorkloadEntry(entry)) => entry.locality.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let own = match workload.map(|workload| &workload.spec) {
        Some(Spec::WorkloadEntry(entry)) => entry.address.as_deref().filter(|address| {
            let ip = address.parse::<std::net::IpAddr>();
            ip.is_ok_and(|ip| ip.is_loopback())
        }),
        _ => None,
    };
    let wished = workload.and_then(|workload| {
        let metadata = &workload.metadata;
        metadata
            .annotations
            .get(INTERCEPTION)
            .or_else(|| metadata.labels.get(INTERCEPTION))
            .cloned()
    });
    let interception = proxy.interception.unwrap_or(match wished.as_deref() {
        Some("transparent") => Interception::Transparent,
        _ => Interception::Explicit,
    });
    let read = view.proxy_labels();
    Class {
        role: proxy.role,
        namespace: proxy.namespace.clone(),
        interception: if proxy.role == Role::Gateway {
            Interception::Explicit
        } else {
            interception
        },
        sidecar: (proxy.role == Role::Sidecar)
            .then(|| view.sidecar(&proxy.namespace, &labels))
            .flatten(),
        gateways: if proxy.role == Role::Gateway {
            view.gateways(&labels)
        } else {
            Vec::new()
        },
        policies: if proxy.role == Role::Gateway {
            security::policies(&proxy.namespace, &labels, view)
        } else {
            Vec::new()
        },
        labels: labels
            .into_iter()
            .filter(|(key, _)| read.contains(key))
            .collect(),
        locality,
        own: own.map(Into::into),
    }
}
