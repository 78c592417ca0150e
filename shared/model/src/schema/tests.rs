#![allow(clippy::unwrap_used)]

use super::*;

/// `kubectl explain` and structural schemas follow `properties`, `items` and `additionalProperties`, nothing else.
fn explainable(schema: &Value, path: &str) -> usize {
    let map = schema.as_object().unwrap();
    let free = map.contains_key("x-kubernetes-preserve-unknown-fields");
    assert!(free || map["type"].is_string(), "{path} has no type");
    for word in ["$ref", "anyOf", "allOf", "not"] {
        assert!(!map.contains_key(word), "{path} hides behind {word}");
    }
    for one in map
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let words: Vec<_> = one.as_object().unwrap().keys().collect();
        assert_eq!(
            words,
            ["required"],
            "{path}: a field is only in an alternative"
        );
        let name = one["required"][0].as_str().unwrap();
        assert!(map["properties"][name].is_object(), "{path}.{name}");
    }
    let mut fields = 0;
    for (name, field) in map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = format!("{path}.{name}");
        let meaning = field["description"].as_str().unwrap_or_default();
        assert!(!meaning.is_empty(), "{path} is not described");
        fields += 1 + explainable(field, &path);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = map.get(word).filter(|inner| inner.is_object()) {
            fields += explainable(inner, &format!("{path}[]"));
        }
    }
    fields
}

#[test]
fn every_field_is_reached_by_its_name() {
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.supported());
    let fields: usize = kinds
        .map(|kind| explainable(schema(kind).unwrap(), kind.name()))
        .sum();
    assert!(fields > 300, "{fields}");
}

#[test]
fn a_choice_shows_its_fields_and_a_list_of_values_its_meanings() {
    let of = |kind, pointer: &str| schema(kind).unwrap().pointer(pointer).unwrap();
    let uri = of(
        Kind::VirtualService,
        "/properties/http/items/properties/match/items/properties/uri",
    );
    let fields: Vec<_> = uri["properties"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["exact", "prefix", "regex"]);
    assert_eq!(uri["oneOf"][1], json!({"required": ["prefix"]}));
    assert_eq!(uri["nullable"], true);
    assert_eq!(uri["description"], "The path, without the query.");
    let location = of(Kind::ServiceEntry, "/properties/location");
    assert_eq!(location["enum"], json!(["MESH_EXTERNAL", "MESH_INTERNAL"]));
    let meaning = location["description"].as_str().unwrap();
    assert!(
        meaning.ends_with("MESH_INTERNAL: Part of the mesh."),
        "{meaning}"
    );
}
