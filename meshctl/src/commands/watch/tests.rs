use super::*;
use serde_json::json;

#[test]
fn rows_carry_their_event_and_stay_in_their_columns() {
    let table = json!({"columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Age"}]});
    let row = |name: &str| json!({"cells": [name, "1s"], "object": {"metadata": {"name": name}}});
    let mut printer = Printer {
        form: GetForm::Table,
        layout: Layout::default(),
        style: Style { colour: false },
        widths: Widths::with_first("MODIFIED"),
        started: false,
    };
    let events = [
        ("ADDED", "reviews"),
        ("MODIFIED", "a-much-longer-name"),
        ("DELETED", "b"),
    ];
    let text: String = events
        .map(|(event, name)| printer.entry(event, &table, &row(name)))
        .concat();
    insta::assert_snapshot!(text);
}
