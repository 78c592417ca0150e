#![allow(clippy::unwrap_used)]
use super::*;

const PLAIN: Style = Style { colour: false };

#[test]
fn a_field_is_explained_with_or_without_spec_and_indices() {
    let short = page("vs.http.route", PLAIN).unwrap();
    assert!(
        short.starts_with(
            "VirtualService (networking.istio.io/v1)\nspec.http[].route <[]object>\n\n"
        ),
        "{short}"
    );
    assert!(
        short.contains("\nFIELD ") && short.contains("\nweight "),
        "{short}"
    );
    for same in [
        "VirtualService.spec.http.route",
        "virtualservices.spec.http[0].route[]",
    ] {
        assert_eq!(page(same, PLAIN).unwrap(), short, "{same}");
    }
}

#[test]
fn what_does_not_exist_has_a_nearest_name() {
    let told = |wanted| page(wanted, PLAIN).unwrap_err().to_string();
    assert_eq!(
        told("vs.http.rout"),
        r#"VirtualService.spec.http[] has no field "rout"; did you mean "route"?"#
    );
    assert_eq!(told("vz"), target::resource("vz").unwrap_err().to_string());
    assert_eq!(told("envoyfilter"), "EnvoyFilter is not supported yet");
    assert_eq!(
        told("ns"),
        "cannot explain a namespace: namespaces exist by being used"
    );
}

/// Every field of every kind, by walking the pages themselves.
#[test]
fn every_field_of_every_kind_is_explained() {
    let mut explained = 0;
    for kind in Kind::ALL.into_iter().filter(|k| k.supported()) {
        let schema = model::schema(kind).unwrap();
        let mut open = vec![String::new()];
        while let Some(wanted) = open.pop() {
            let page =
                explain(kind, schema, &wanted, PLAIN).unwrap_or_else(|e| panic!("{wanted}: {e}"));
            explained += 1;
            let rows = page
                .lines()
                .skip_while(|l| !l.starts_with("FIELD "))
                .skip(1);
            open.extend(
                rows.filter_map(|l| l.split_whitespace().next())
                    .map(|field| format!("{wanted}.{field}")),
            );
            assert!(open.len() < 10_000, "the schema of {kind} does not end");
        }
    }
    assert!(explained > 300, "{explained}");
}
