//! Resources as they are answered: in the version asked for, plain, as metadata only, or as rows of a Table.
//!
//! *Invariant:* nothing here changes what is stored; a status is put in only on the way out.

use jiff::Timestamp;
use model::Object;
use serde_json::{Value, json};

use super::target::Collection;

/// The object in the collection's version, with its status if it has one.
pub(crate) fn object(of: &Collection, object: &Object, status: Option<Value>) -> Value {
    let mut json = object.to_json();
    json["apiVersion"] = of.api_version().into();
    if let Some(status) = status {
        json["status"] = status;
    }
    json
}

/// Its metadata only.
pub(crate) fn partial(object: &Object) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.metadata})
}

/// What goes with each row of a Table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowObject {
    None,
    Metadata,
    Object,
}

/// A Table of these objects; `metadata` is the list's own.
pub(crate) fn table(
    of: &Collection,
    objects: &[(&Object, Option<Value>)],
    with: RowObject,
    metadata: &Value,
) -> Value {
    let columns = super::columns::of(of.kind);
    let now = Timestamp::now();
    let rows: Vec<Value> = objects
        .iter()
        .map(|(o, status)| {
            let json = object(of, o, status.clone());
            let cells: Vec<Value> = columns.iter().map(|c| c.cell(&json, now)).collect();
            let mut row = json!({"cells": cells});
            match with {
                RowObject::None => {}
                RowObject::Metadata => row["object"] = partial(o),
                RowObject::Object => row["object"] = json,
            }
            row
        })
        .collect();
    let definitions: Vec<Value> = columns
        .iter()
        .map(super::columns::Column::definition)
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}
