use serde_json::json;

use super::warnings;
use crate::Kind;

#[test]
fn matches_behind_wider_ones_are_unreachable() {
    let table = [
        (
            json!({"uri": {"prefix": "/a"}}),
            json!({"uri": {"prefix": "/ab"}}),
            true,
        ),
        (
            json!({"uri": {"prefix": "/a"}}),
            json!({"uri": {"exact": "/a/b"}}),
            true,
        ),
        (
            json!({"uri": {"prefix": "/a"}}),
            json!({"uri": {"exact": "/a/b"}, "method": {"exact": "GET"}}),
            true,
        ),
        (
            json!({"uri": {"prefix": "/a"}, "name": "x"}),
            json!({"uri": {"prefix": "/a"}, "name": "y"}),
            true,
        ),
        (
            json!({"uri": {"regex": "/a.*"}}),
            json!({"uri": {"regex": "/a.*"}}),
            true,
        ),
        (
            json!({"port": 80}),
            json!({"port": 80, "uri": {"exact": "/"}}),
            true,
        ),
        (json!({"port": 80}), json!({"port": 81}), false),
        (
            json!({"uri": {"prefix": "/ab"}}),
            json!({"uri": {"prefix": "/a"}}),
            false,
        ),
        (
            json!({"uri": {"exact": "/a"}}),
            json!({"uri": {"prefix": "/a"}}),
            false,
        ),
        (
            json!({"uri": {"prefix": "/a"}, "method": {"exact": "GET"}}),
            json!({"uri": {"prefix": "/a"}}),
            false,
        ),
        (
            json!({"uri": {"prefix": "/a"}}),
            json!({"uri": {"prefix": "/A"}, "ignoreUriCase": true}),
            false,
        ),
    ];
    for (first, second, shadowed) in table {
        let to = json!([{"destination": {"host": "reviews"}}]);
        let http = json!([{"match": [first], "route": to}, {"match": [second], "route": to}]);
        let found = warnings(
            Kind::VirtualService,
            "new",
            &json!({"hosts": ["x.shop.example"], "http": http}),
        );
        let expected =
            "spec.http[1].match[0]: is never reached: spec.http[0].match[0] matches first";
        assert_eq!(
            found.iter().any(|w| w == expected),
            shadowed,
            "{first} {second}"
        );
        assert!(shadowed || found.is_empty(), "{found:?}");
    }
}
