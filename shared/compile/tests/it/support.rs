//! Policy from YAML to changes, and proxies.

use std::sync::Arc;

use compile::{Change, Compiler, EnvoyVersion, Interception, Proxy, Role, Settings};
use model::{Kind, Metadata, Object, Options, Revision, Treat, check, documents};
use serde_json::Value;

/// A resource from its Kubernetes form; every rule of the model must hold.
pub(crate) fn resource(mut document: Value) -> model::Resource {
    let (group, version) = document["apiVersion"]
        .as_str()
        .unwrap()
        .split_once('/')
        .unwrap();
    let kind = Kind::from_gvk(group, version, document["kind"].as_str().unwrap()).unwrap();
    let mut metadata: Metadata = serde_json::from_value(document["metadata"].take()).unwrap();
    if metadata.namespace.is_empty() {
        metadata.namespace = "default".into();
    }
    let spec = document["spec"].take();
    let name = metadata.name.clone();
    let object = Object {
        kind,
        metadata,
        spec,
    };
    // What has no effect yet may be stored where a warning was asked for.
    let options = Options {
        unsupported: Treat::Warn,
        ..Options::default()
    };
    check(object, options)
        .unwrap_or_else(|errors| panic!("{kind} {name}: {errors:#?}"))
        .resource
}

/// The changes that put every document of a text.
pub(crate) fn puts(text: &str) -> Vec<Change> {
    documents(text)
        .unwrap()
        .into_iter()
        .map(|document| Change::Put(Arc::new(resource(document))))
        .collect()
}

/// A proxy by node id, of the current Envoy, with explicit interception.
pub(crate) fn proxy(id: &str) -> Proxy {
    let parts: Vec<&str> = id.split('~').collect();
    Proxy {
        id: id.into(),
        role: if parts[0] == "gateway" {
            Role::Gateway
        } else {
            Role::Sidecar
        },
        namespace: parts[1].into(),
        workload: parts[2].into(),
        envoy: EnvoyVersion::CURRENT,
        interception: Some(Interception::Explicit),
        labels: Default::default(),
    }
}

/// A compiler of these changes.
pub(crate) fn compiler(changes: Vec<Change>) -> Compiler {
    let mut compiler = Compiler::new(Settings::default());
    compiler.apply(Revision(1), changes);
    compiler
}
