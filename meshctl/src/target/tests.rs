#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn args(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_kind_may_be_written_as_kubectl_and_istioctl_users_do() {
    for text in [
        "vs",
        "VS",
        "virtualservice",
        "virtualservices",
        "VirtualService",
        "VirtualServices",
        "virtualservices.networking.istio.io",
        "virtualservice.v1beta1.networking.istio.io",
        "vs.networking.istio.io",
    ] {
        assert_eq!(
            resource(text).unwrap(),
            Resource::Kind(Kind::VirtualService),
            "{text}"
        );
    }
    assert_eq!(resource("ns").unwrap(), Resource::Namespace);
    for text in [
        "vs.security.istio.io",
        "virtualservice.v7.networking.istio.io",
        "",
        ".",
    ] {
        assert!(resource(text).is_err(), "{text}");
    }
}

#[test]
fn every_kind_is_found_by_each_of_its_names() {
    for kind in Kind::ALL {
        for text in [kind.name(), kind.plural()]
            .iter()
            .chain(kind.short_names())
        {
            assert_eq!(resource(text), Ok(Resource::Kind(kind)), "{text}");
        }
    }
}

#[test]
fn an_unknown_kind_suggests_the_nearest_or_lists_them_all() {
    let message = |text| resource(text).unwrap_err().to_string();
    assert_eq!(
        message("virtualservce"),
        r#"there is no kind "virtualservce"; did you mean "virtualservice"?"#
    );
    assert_eq!(
        message("gatewayss"),
        r#"there is no kind "gatewayss"; did you mean "gateways"?"#
    );
    assert!(
        message("pods").starts_with("there is no kind \"pods\"\nkinds: serviceentries (se), "),
        "{}",
        message("pods")
    );
}

#[test]
fn targets_are_read_in_every_form() {
    let of = |text| {
        targets(&args(text))
            .map(|ts| {
                ts.iter()
                    .map(|t| format!("{} {}", t.resource.name(), t.name.as_deref().unwrap_or("*")))
                    .collect()
            })
            .map_err(|e| e.to_string())
    };
    let ok = |names: &[&str]| Ok(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    let err = |text: &str| Err::<Vec<String>, _>(text.to_owned());
    let cases = [
        ("", ok(&[])),
        ("vs", ok(&["VirtualService *"])),
        (
            "vs reviews ratings",
            ok(&["VirtualService reviews", "VirtualService ratings"]),
        ),
        (
            "vs,dr reviews",
            ok(&["VirtualService reviews", "DestinationRule reviews"]),
        ),
        (
            "vs/reviews gw/shop",
            ok(&["VirtualService reviews", "Gateway shop"]),
        ),
        (
            "vs/reviews gw",
            err(r#""gw" is not of the form KIND/NAME, as the other arguments are"#),
        ),
        (
            "vs/",
            err(r#""vs/" lacks a kind or a name; write KIND/NAME, such as virtualservice/reviews"#),
        ),
        (
            "vs/a/b",
            err(
                r#""vs/a/b" lacks a kind or a name; write KIND/NAME, such as virtualservice/reviews"#,
            ),
        ),
    ];
    for (text, want) in cases {
        assert_eq!(of(text), want, "{text}");
    }
    let all = targets(&args("all")).unwrap();
    assert!(
        all.iter()
            .any(|t| t.resource == Resource::Kind(Kind::Gateway))
    );
    assert!(
        all.iter()
            .all(|t| matches!(t.resource, Resource::Kind(k) if k.supported()))
    );
    assert_eq!(
        named(&args("vs")),
        Err(Error::NameMissing("VirtualService"))
    );
}

#[test]
fn paths_follow_the_kubernetes_conventions() {
    let path = |r: Resource, ns, name| r.path(ns, name).join("/");
    let vs = Resource::Kind(Kind::VirtualService);
    assert_eq!(
        path(vs, None, None),
        "apis/networking.istio.io/v1/virtualservices"
    );
    assert_eq!(
        path(vs, Some("shop"), Some("reviews")),
        "apis/networking.istio.io/v1/namespaces/shop/virtualservices/reviews"
    );
    assert_eq!(
        path(Resource::Namespace, Some("shop"), Some("x")),
        "api/v1/namespaces/x"
    );
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

/// One of the ways to call a kind.
fn called(kind: Kind, way: usize) -> String {
    let short = kind.short_names().first().copied();
    let word = match way % 4 {
        0 => kind.singular().to_string(),
        1 => kind.plural().to_string(),
        2 => kind.name().to_owned(),
        _ => short.map_or_else(|| kind.plural().to_string(), str::to_owned),
    };
    match way / 4 % 3 {
        0 => word,
        1 => format!("{word}.{}", kind.group()),
        _ => format!("{word}.{}.{}", kind.versions()[0], kind.group()),
    }
}

proptest! {
    #[test]
    fn any_arguments_are_answered(words in prop::collection::vec("\\PC{0,12}|(vs|all|gateway|ns|,|/|[.]|networking){0,5}", 0..4)) {
        if let Err(error) = targets(&words) {
            prop_assert!(!error.to_string().is_empty());
        }
        let _named = named(&words);
    }

    /// However a kind is called, it is found; with its group it is that kind and no other.
    #[test]
    fn a_kind_is_found_by_all_its_names(kind in kind(), way in 0..12usize) {
        let text = called(kind, way);
        let Ok(Resource::Kind(found)) = resource(&text) else {
            return Err(TestCaseError::fail(text));
        };
        prop_assert!(found == kind || !text.contains('.') && called(found, way) == text, "{} is {:?}", text, found);
        prop_assert_eq!(resource(&text.to_uppercase()), Ok(Resource::Kind(found)));
    }

    #[test]
    fn names_go_with_each_kind(kinds in prop::collection::vec(kind(), 1..3), names in prop::collection::vec("[a-z][a-z0-9-]{0,5}", 0..3)) {
        let qualified: Vec<String> = kinds.iter().map(|kind| called(*kind, 5)).collect();
        let arguments: Vec<String> = std::iter::once(qualified.join(",")).chain(names.clone()).collect();
        let expected: Vec<(Kind, Option<String>)> = kinds
            .iter()
            .flat_map(|kind| match names.as_slice() {
                [] => vec![(*kind, None)],
                names => names.iter().map(|name| (*kind, Some(name.clone()))).collect(),
            })
            .collect();
        let as_pair = |target: Target| (target.resource.kind("read").unwrap(), target.name);
        let found: Vec<_> = targets(&arguments).unwrap().into_iter().map(as_pair).collect();
        prop_assert_eq!(found, expected);
    }
}
