//! Holds the direction between the crates: which of the workspace's packages each may depend on, directly.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each package may import of the workspace; development dependencies count as well.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("weft-model", &[]),
    ("weft-xds", &[]),
    ("weft-telemetry", &[]),
    ("weft-pusher-api", &[]),
    ("weft-issuer-api", &[]),
    ("weft-store", &["weft-model"]),
    (
        "weft-mtls",
        &[
            "weft-model",
            "weft-store",
            "weft-telemetry",
            "weft-issuer-api",
        ],
    ),
    ("weft-seal", &["weft-model"]),
    ("weft-compile", &["weft-model", "weft-xds"]),
    (
        "config-api",
        &[
            "weft-model",
            "weft-store",
            "weft-telemetry",
            "weft-mtls",
            "weft-pusher-api",
            "weft-seal",
        ],
    ),
    (
        "xds-pusher",
        &[
            "weft-model",
            "weft-store",
            "weft-telemetry",
            "weft-mtls",
            "weft-pusher-api",
            "weft-xds",
            "weft-compile",
        ],
    ),
    (
        "cert-issuer",
        &[
            "weft-model",
            "weft-store",
            "weft-telemetry",
            "weft-mtls",
            "weft-xds",
            "weft-issuer-api",
            "weft-seal",
        ],
    ),
    ("meshctl", &["weft-model"]),
    // The harness runs the services as processes; it may look at every library.
    (
        "weft-tests",
        &[
            "weft-model",
            "weft-store",
            "weft-telemetry",
            "weft-mtls",
            "weft-pusher-api",
            // Knows what must not be found anywhere.
            "cert-issuer",
            "weft-xds",
            "weft-compile",
        ],
    ),
];

#[test]
fn crates_depend_only_in_the_designed_direction() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<_, BTreeSet<_>> = ALLOWED
        .into_iter()
        .map(|(name, may)| (name, may.iter().copied().collect()))
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<_> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        allowed.keys().copied().collect(),
        "every package has its place in the layers"
    );
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            assert!(
                !names.contains(on) || on == name || allowed[name].contains(on),
                "{name} must not depend on {on}: see the layers in docs/ARCHITECTURE.md"
            );
        }
    }
}
