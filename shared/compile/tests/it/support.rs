//! Policy from YAML to changes, and proxies.

use std::sync::Arc;

use compile::{Change, Compiler, EnvoyVersion, Identities, Interception, Proxy, Role, Settings};
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
    let spec = match document["spec"].take() {
        Value::Null => Value::Object(Default::default()),
        spec => spec,
    };
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

/// A compiler of a case: the documents of a text, with what its comments say. `# trust-domain: <name>` gives the mesh
/// identities; `# mtls: <namespace>/<name> <port>…` says where a workload's proxy takes mutual TLS.
pub(crate) fn compiler(text: &str) -> Compiler {
    let comments =
        |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name));
    let trust_domain = comments("# trust-domain: ").next();
    let mut compiler = Compiler::new(Settings {
        identities: trust_domain.map(identities),
        ..Settings::default()
    });
    let taken = comments("# mtls: ").map(|line| {
        let mut words = line.split_whitespace();
        let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
        Change::Mtls {
            namespace: namespace.into(),
            name: name.into(),
            ports: words.map(|port| port.parse().unwrap()).collect(),
        }
    });
    compiler.apply(Revision(1), puts(text).into_iter().chain(taken));
    compiler
}

/// The identities of a trust domain.
pub(crate) fn identities(trust_domain: &str) -> Identities {
    Identities::new(trust_domain.parse().unwrap())
}
