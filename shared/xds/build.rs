//! Finds the descriptors of the Envoy API that the `envoy-types` crate was generated from, and derives from them what
//! the library needs at run time: the descriptor set itself (for JSON), and a small table of where maps, `Any`s and
//! references to other resources can be (for deterministic bytes and for `Resource::refs`).
//!
//! `envoy-types` ships its descriptor set as a file but exports no path to it; `cargo metadata` knows where the very
//! version that is being compiled lies, be it in a registry, vendored or patched.
//!
//! *Invariant:* no path is assumed that cargo did not report.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// One message of the API: tag of a field → what the field is (`None`: nothing that concerns us inside).
type Fields = BTreeMap<u32, Field>;

enum Field {
    /// A message, by full name.
    Message(String),
    /// A map: the full name of its entry.
    Map(String),
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let bytes = fs::read(descriptors()).expect("envoy-types ships src/generated/types.bin");
    let set = FileDescriptorSet::decode(bytes.as_slice()).expect("types.bin is a descriptor set");
    let mut messages = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(file.package(), message, &mut messages);
        }
    }
    fs::write(out.join("schema.rs"), table(&messages)).expect("OUT_DIR is writable");
    fs::write(out.join("types.bin"), bytes).expect("OUT_DIR is writable");
}

/// The path of the descriptor set.
fn descriptors() -> PathBuf {
    // Cargo describes the whole workspace, and may not have fetched yet what other members need.
    let metadata = metadata(&["--offline"]).or_else(|_| metadata(&[]));
    let metadata = metadata.unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let manifest = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|p| p["name"] == "envoy-types"))
        .and_then(|package| package["manifest_path"].as_str())
        .expect("envoy-types is a dependency of this crate");
    Path::new(manifest)
        .with_file_name("src")
        .join("generated/types.bin")
}

fn metadata(arguments: &[&str]) -> Result<serde_json::Value, String> {
    let var = |name: &str| env::var(name).expect("cargo sets CARGO, TARGET and CARGO_MANIFEST_DIR");
    let output = Command::new(var("CARGO"))
        .args(["metadata", "--format-version", "1", "--filter-platform"])
        .arg(var("TARGET"))
        .arg("--manifest-path")
        .arg(Path::new(&var("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .args(arguments)
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
}

fn collect(scope: &str, message: &DescriptorProto, into: &mut BTreeMap<String, Fields>) {
    let name = format!("{scope}.{}", message.name());
    let entries: BTreeSet<String> = message
        .nested_type
        .iter()
        .filter(|nested| nested.options.as_ref().is_some_and(|o| o.map_entry()))
        .map(|nested| format!("{name}.{}", nested.name()))
        .collect();
    let fields = message
        .field
        .iter()
        .filter(|field| field.r#type() == Type::Message)
        .map(|field| {
            let of = field.type_name().trim_start_matches('.').to_owned();
            let kind = if entries.contains(&of) {
                Field::Map(of)
            } else {
                Field::Message(of)
            };
            (field.number().unsigned_abs(), kind)
        })
        .collect();
    for nested in &message.nested_type {
        collect(&name, nested, into);
    }
    into.insert(name, fields);
}

/// Messages that make a reference themselves; `src/refs.rs` says which field is what.
const REFERRING: &[&str] = &[
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.core.v3.GrpcService.EnvoyGrpc",
    "envoy.config.core.v3.HttpUri",
    "envoy.config.listener.v3.Filter",
    "envoy.config.listener.v3.ListenerFilter",
    "envoy.config.route.v3.RouteAction",
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
    "envoy.config.route.v3.ScopedRouteConfiguration",
    "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
    "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
];

/// The table, with only those messages in which a map, an `Any` or a reference can be reached.
fn table(messages: &BTreeMap<String, Fields>) -> String {
    for name in REFERRING {
        assert!(
            messages.contains_key(*name),
            "the Envoy API no longer has {name}"
        );
    }
    let mut keep: BTreeSet<&str> = REFERRING.iter().copied().collect();
    keep.insert("google.protobuf.Any");
    loop {
        let before = keep.len();
        for (name, fields) in messages {
            let reaches = fields.values().any(|field| match field {
                Field::Map(_) => true,
                Field::Message(of) => keep.contains(of.as_str()),
            });
            if reaches {
                keep.insert(name);
            }
        }
        if keep.len() == before {
            break;
        }
    }
    let index: BTreeMap<&str, usize> = keep
        .iter()
        .enumerate()
        .map(|(i, name)| (*name, i))
        .collect();
    let mut out = format!("pub(crate) static SCHEMA: [Message; {}] = [\n", keep.len());
    for name in &keep {
        let mut fields = String::new();
        for (tag, field) in &messages[*name] {
            let (map, of) = match field {
                Field::Map(of) => (true, of),
                Field::Message(of) => (false, of),
            };
            let of = index.get(of.as_str());
            if map || of.is_some() {
                let of = of.map_or("NONE".to_owned(), ToString::to_string);
                write!(fields, "Field {{ tag: {tag}, map: {map}, of: {of} }}, ")
                    .expect("a String takes all");
            }
        }
        writeln!(
            out,
            "    Message {{ name: {name:?}, fields: &[{fields}] }},"
        )
        .expect("a String takes all");
    }
    out.push_str("];\n");
    out
}
