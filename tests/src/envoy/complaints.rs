//! What an Envoy may say at level warning without it being a defect.
//!
//! *Invariant:* a line is excused by an entry with a reason, or it is a complaint.

/// Fragments of explained lines, each with the reason.
const EXPLAINED: [(&str, &str); 10] = [
    (
        "no configured limit to the number of allowed active downstream connections",
        "a test's Envoy has no flood to fear",
    ),
    (
        "No overload action is configured",
        "as above: no overload manager",
    ),
    (
        "Unable to use runtime singleton for feature",
        "Envoy asks before its runtime is loaded",
    ),
    (
        "gRPC config stream to weft-xds closed",
        "a pusher was stopped, killed or not up yet; Envoy reconnects",
    ),
    (
        "gRPC config stream to weft-issuer closed",
        "an issuer was stopped, or the Envoy itself is",
    ),
    (
        "gRPC config stream closed",
        "as above, in the words of older Envoys",
    ),
    ("StreamAggregatedResources gRPC config stream", "as above"),
    ("DeltaAggregatedResources gRPC config stream", "as above"),
    ("caught SIGTERM", "the harness stops it"),
    ("caught ENVOY_SIGTERM", "as above"),
];

/// The lines at level warning or above of an Envoy's log that nothing explains.
pub fn unexplained(log: &str) -> Vec<String> {
    let grave = log.lines().filter(|line| {
        let mut brackets = line
            .split('[')
            .skip(1)
            .filter_map(|part| part.split(']').next());
        brackets.any(|word| matches!(word, "warning" | "error" | "critical"))
    });
    let unexplained = grave.filter(|line| {
        !EXPLAINED
            .iter()
            .any(|(fragment, _)| line.contains(fragment))
    });
    unexplained.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unexplained_warnings_are_complaints() {
        let log = "[2026-11-21 01:00:00.000][7][info][main] [source/server.cc:1] starting\n\
                   [2026-11-21 01:00:00.000][7][warning][main] [source/server.cc:1] caught ENVOY_SIGTERM\n\
                   [2026-11-21 01:00:00.000][7][warning][misc] [source/message.cc:1] Deprecated field: 'x'\n\
                   [2026-11-21 01:00:00.000][7][critical][main] [source/server.cc:1] error\n";
        let found = unexplained(log);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("Deprecated field"));
    }
}
