#![allow(clippy::unwrap_used)]
use super::*;
use crate::input::Text;
use crate::manifest;
use crate::status::Status;
use serde_json::json;

const SHOP: &str = "kind: Gateway\nmetadata: {name: shop}\n---\nkind: VirtualService\nmetadata:\n  name: reviews\nspec:\n  hosts: []\n  http:\n  - timeout: soon\n";

fn told(causes: &serde_json::Value, text: &str) -> String {
    let documents = manifest::documents(&[Text {
        name: "shop.yaml".into(),
        text: text.into(),
    }])
    .unwrap();
    let body = json!({"kind": "Status", "message": "2 documents are invalid", "details": {"causes": causes}});
    let status = Status::of(422, body.to_string().as_bytes());
    placed(client::Error::Refused(Box::new(status)).into(), &documents).to_string()
}

#[test]
fn each_cause_leads_to_its_line() {
    let causes = json!([
        {"field": "items[1].spec.http[0].timeout", "message": "\"soon\" is not a duration"},
        {"field": "items[1].spec.hosts", "message": "is empty"},
        {"field": "items[7].spec", "message": "odd"},
    ]);
    insta::assert_snapshot!(told(&causes, SHOP));
}

#[test]
fn of_a_single_document_the_field_alone_is_enough() {
    let causes = json!([{"field": "metadata.name", "message": "is too long"}]);
    let text = SHOP.split_once("---\n").unwrap().1;
    assert_eq!(
        told(&causes, text),
        "nothing was changed because of an error\n  shop.yaml:3: VirtualService reviews: metadata.name: is too long"
    );
}

#[test]
fn a_refusal_without_causes_stays_as_it_is() {
    assert_eq!(told(&json!([]), SHOP), "2 documents are invalid");
}

#[test]
fn a_warning_leads_to_its_document() {
    let documents = manifest::documents(&[Text {
        name: "shop.yaml".into(),
        text: SHOP.into(),
    }])
    .unwrap();
    let told = |text| placed_warning(text, &documents);
    assert_eq!(
        told("items[1] VirtualService default/reviews: unknown field \"x\""),
        "shop.yaml:4: VirtualService default/reviews: unknown field \"x\""
    );
    for text in [
        "items[9] x: y",
        "items[x] y",
        "VirtualService default/reviews: the host x is unknown",
    ] {
        assert_eq!(told(text), text);
    }
}
