//! The table of `meshctl shards`.

use serde_json::Value;

use super::{items, text};
use crate::style::{Cell, Style};

/// Every replica, those that did not answer as well.
pub(crate) fn table(answer: &Value, style: Style) -> String {
    let count = |value: &Value| Cell::from(items(value).len().to_string());
    let answered = items(&answer["shards"]).iter().map(|shard| {
        let watching = match shard["watching"].as_bool() {
            Some(true) => "yes",
            _ => "NO",
        };
        vec![
            text(&shard["instance"]).into(),
            text(&shard["addresses"]["grpc"]).into(),
            text(&shard["revision"]).into(),
            watching.to_owned().into(),
            text(&shard["streams"]).into(),
            count(&shard["nodes"]),
            count(&shard["misplaced"]),
            text(&shard["passedStreams"]).into(),
            text(&shard["queued"]).into(),
        ]
    });
    let silent = items(&answer["silent"]).iter().map(|silent| {
        let unknown = || Cell::from("-".to_owned());
        let mut row = vec![
            text(&silent["instance"]).into(),
            text(&silent["address"]).into(),
            unknown(),
            Cell::from("SILENT".to_owned()),
        ];
        row.extend(std::iter::repeat_with(unknown).take(5));
        row
    });
    let heads = [
        "INSTANCE",
        "ADDRESS",
        "REVISION",
        "WATCHING",
        "STREAMS",
        "PROXIES",
        "MISPLACED",
        "PASSED ON",
        "QUEUED",
    ];
    style.table(&heads, answered.chain(silent).collect())
}
