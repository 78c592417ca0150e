//! The layout of keys, there and back.

#![allow(clippy::unwrap_used)]

use model::{Key, Kind};
use proptest::prelude::*;

use super::*;

#[test]
fn keys_read_well() {
    let layout = Layout::new("/weft/v1/");
    let key = Key::new(Kind::VirtualService, "default", "reviews");
    let config = "/weft/v1/config/networking.istio.io/VirtualService/default/reviews";
    assert_eq!(layout.config(&key), config);
    assert_eq!(layout.down("shop", "w1"), "/weft/v1/liveness/shop/w1");
    assert_eq!(
        layout.member("xds-pusher", "i1"),
        "/weft/v1/members/xds-pusher/i1"
    );
    assert_eq!(layout.epoch(), "/weft/v1/epoch");
    assert_eq!(
        layout.record(Uuid::nil()),
        "/weft/v1/changes/00000000-0000-0000-0000-000000000000"
    );
    assert_eq!(layout.place(config), Place::Config(Some(key)));
    assert_eq!(layout.place(&layout.record(Uuid::nil())), Place::Record);
    assert_eq!(
        layout.record_id(&layout.record(Uuid::max())),
        Some(Uuid::max())
    );
}

#[test]
fn what_is_not_ours_is_told_apart() {
    let layout = Layout::new("/weft/v1");
    for unknown in [
        "/weft/v1/config/",
        "/weft/v1/config/networking.istio.io/VirtualService/default",
        "/weft/v1/config/networking.istio.io/VirtualService/default/a/b",
        "/weft/v1/config/networking.istio.io/VirtualService//a",
        "/weft/v1/config/security.istio.io/VirtualService/default/a",
        "/weft/v1/config/networking.istio.io/virtualservices/default/a",
    ] {
        assert_eq!(layout.place(unknown), Place::Config(None), "{unknown}");
    }
    for other in [
        "",
        "/",
        "/weft/v1",
        "/weft/v10/epoch",
        "/weft/v1/epoch/x",
        "/weft/v1/liveness/a",
        "/weft/v1/members/a/b",
    ] {
        assert_eq!(layout.place(other), Place::Other, "{other}");
    }
}

proptest! {
    #[test]
    fn a_resource_is_found_where_it_is_put(kind in 0..Kind::ALL.len(), namespace in "[^/]{1,20}", name in "[^/]{1,20}") {
        let layout = Layout::new("/weft/v1");
        let key = Key::new(Kind::ALL[kind], namespace.as_str(), name.as_str());
        let at = layout.config(&key);
        for scope in [
            Scope::default(),
            Scope { kind: Some(key.kind), namespace: None },
            Scope { kind: Some(key.kind), namespace: Some(key.namespace.clone()) },
        ] {
            let span = layout.configs(&scope);
            prop_assert!(span.start <= at && at < span.end, "{:?} {}", span, at);
        }
        prop_assert_eq!(layout.place(&at), Place::Config(Some(key)));
    }

    #[test]
    fn any_key_has_a_place(rest in "(config|changes|liveness|members|epoch)?(/.{0,10}){0,6}") {
        let layout = Layout::new("/weft/v1");
        for etcd_key in [rest.clone(), format!("/weft/v1/{rest}")] {
            layout.place(&etcd_key);
            layout.record_id(&etcd_key);
        }
    }
}
