#![allow(clippy::unwrap_used)]

use compile::Settings;
use model::{Kind, Metadata, Object};
use serde_json::{Value, json};
use store::{Plan, Prior};
use xds::ResourceType;

use super::*;

const NODES: [&str; 3] = ["sidecar~shop~a", "sidecar~shop~b", "sidecar~shop~c"];

fn object(kind: Kind, name: &str, spec: Value) -> Object {
    let metadata = Metadata {
        name: name.into(),
        namespace: "shop".into(),
        uid: "u".into(),
        ..Metadata::default()
    };
    Object {
        kind,
        metadata,
        spec,
    }
}

/// A VirtualService that answers with a text.
fn routes(name: &str, text: &str) -> Object {
    let host = format!("{name}.shop.svc.cluster.local");
    let answer = json!({"directResponse": {"status": 200, "body": {"string": text}}});
    let spec = json!({"hosts": [host], "http": [answer]});
    object(Kind::VirtualService, name, spec)
}

fn service(name: &str) -> Object {
    let spec = json!({
        "hosts": [format!("{name}.shop.svc.cluster.local")], "location": "MESH_INTERNAL", "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "endpoints": [{"address": "127.0.0.9"}],
    });
    object(Kind::ServiceEntry, name, spec)
}

fn puts(objects: &[Object]) -> Vec<Change> {
    let put = |object: &Object| Change::Put(Arc::new(object.decode().unwrap()));
    objects.iter().map(put).collect()
}

fn rollout(before: &Object, phase: Phase, proxies: &[&str]) -> Active {
    let id = Uuid::from_u128(2);
    let rollout = Rollout {
        id,
        revision: Revision(2),
        written: Revision(2),
        who: "me".into(),
        started: String::new(),
        plan: Plan {
            first: 1,
            rollback: true,
            deadline_seconds: 60,
        },
        priors: vec![Prior {
            key: before.key(),
            before: Some(before.clone()),
        }],
        phase,
        proxies: proxies.iter().map(|it| (*it).to_owned()).collect(),
        reason: String::new(),
        since: String::new(),
    };
    Active::from([(id, Arc::new(rollout))])
}

fn proxy(id: &str) -> Proxy {
    let node = xds::pb::envoy::config::core::v3::Node {
        id: id.into(),
        ..Default::default()
    };
    Proxy::from_node(&node).unwrap()
}

struct Fixture {
    views: Views,
    ids: Vec<ProxyId>,
    revision: i64,
}

impl Fixture {
    fn of(objects: &[Object], active: Active) -> Self {
        let mut views = Views::new(Compiler::new(Settings::default()));
        views.apply(Revision(1), puts(objects), active);
        let ids = NODES.map(|id| views.connect(proxy(id)));
        Self {
            views,
            ids: ids.into(),
            revision: 1,
        }
    }

    fn start() -> Self {
        let objects = [
            service("x"),
            service("y"),
            routes("x", "old"),
            routes("y", "old"),
        ];
        Self::of(&objects, Active::new())
    }

    fn apply(&mut self, objects: &[Object], active: Active) -> Outcome {
        self.revision += 1;
        (self.views).apply(Revision(self.revision), puts(objects), active)
    }

    fn connect(&mut self, id: &str) -> ProxyId {
        self.views.connect(proxy(id))
    }

    /// Which proxies are told a text.
    fn told(&self, text: &str) -> Vec<bool> {
        let told = |id: &ProxyId| {
            let snapshot = self.views.snapshot(*id).unwrap();
            let mut routes = snapshot.iter(ResourceType::Route);
            routes.any(|it| it.to_json().to_string().contains(text))
        };
        self.ids.iter().map(told).collect()
    }
}

fn same(one: &Snapshot, other: &Snapshot) -> bool {
    (ResourceType::ALL.into_iter()).all(|ty| one.diff(other, ty).is_empty())
}

#[test]
fn the_first_get_it_and_then_the_others() {
    let mut mesh = Fixture::start();
    let (old, new) = (routes("x", "old"), routes("x", "fresh"));
    let chosen = |phase| rollout(&old, phase, &NODES[1..2]);
    let out = mesh.apply(&[new], rollout(&old, Phase::Choosing, &[]));
    assert!(out.changed.is_empty());
    assert_eq!(mesh.told("fresh"), [false, false, false]);
    let id = *mesh.views.active().keys().next().unwrap();
    assert_eq!(mesh.views.affected(id), NODES.map(Arc::from));

    let out = mesh.apply(&[], chosen(Phase::First));
    assert!(out.regrouped);
    assert_eq!(mesh.told("fresh"), [false, true, false]);

    // What is no part of it flows to all, in the meantime as ever.
    let out = mesh.apply(&[routes("y", "other")], chosen(Phase::First));
    assert_eq!((out.changed.len(), out.regrouped), (3, false));
    assert_eq!(mesh.told("other"), [true, true, true]);
    assert_eq!(mesh.told("fresh"), [false, true, false]);
    mesh.apply(&[], chosen(Phase::Stopped));
    assert_eq!(mesh.told("fresh"), [false, true, false]);

    let out = mesh.apply(&[], Active::new());
    assert_eq!(out.changed, BTreeSet::from([mesh.ids[0], mesh.ids[2]]));
    assert_eq!(mesh.told("fresh"), [true, true, true]);
    assert!(mesh.views.first().is_none());
}

#[test]
fn who_never_had_it_sees_nothing_of_its_end() {
    let mut mesh = Fixture::start();
    let (old, new) = (routes("x", "old"), routes("x", "fresh"));
    let before = mesh.views.snapshot(mesh.ids[2]).unwrap();
    mesh.apply(&[new], rollout(&old, Phase::First, &NODES[..1]));
    assert_eq!(mesh.told("fresh"), [true, false, false]);
    let out = mesh.apply(&[old], Active::new());
    assert_eq!(out.changed, BTreeSet::from([mesh.ids[0]]));
    assert_eq!(mesh.told("fresh"), [false, false, false]);
    assert!(same(&before, &mesh.views.snapshot(mesh.ids[2]).unwrap()));
}

#[test]
fn a_start_in_the_middle_leads_to_the_same() {
    let (old, new) = (routes("x", "old"), routes("x", "fresh"));
    let first = || rollout(&old, Phase::First, &NODES[2..]);
    let mut mesh = Fixture::start();
    mesh.apply(std::slice::from_ref(&new), first());
    let all = [service("x"), service("y"), new, routes("y", "old")];
    let again = Fixture::of(&all, first());
    for (one, other) in mesh.ids.iter().zip(&again.ids) {
        let one = mesh.views.snapshot(*one).unwrap();
        assert!(same(&one, &again.views.snapshot(*other).unwrap()));
    }
    assert_eq!(again.told("fresh"), [false, false, true]);
}

#[test]
fn what_both_have_is_compiled_once() {
    let mut mesh = Fixture::start();
    let (old, new) = (routes("x", "old"), routes("x", "fresh"));
    let first = || rollout(&old, Phase::First, &NODES[..1]);
    mesh.apply(&[new], first());
    let runs = |mesh: &Fixture| {
        let stable = mesh.views.stable.as_ref().unwrap();
        stable.compiler.counters().units_recompiled
    };
    let before = runs(&mesh);
    let out = mesh.apply(&[routes("y", "other"), service("z")], first());
    assert!(out.applied.counters.units_recompiled > 0);
    assert_eq!(runs(&mesh), before);
    assert_eq!(mesh.told("other"), [true, true, true]);
    // What reads what is held back is compiled for each.
    let mut moved = service("x");
    moved.spec["ports"][0]["number"] = json!(81);
    mesh.apply(&[moved], first());
    assert!(runs(&mesh) > before);
    // A proxy whose like is not known is compiled for once as well, but for that.
    let full = |mesh: &Fixture| mesh.views.full().counters().units_recompiled;
    let before = (runs(&mesh), full(&mesh));
    mesh.connect("sidecar~other~d");
    let spent = (runs(&mesh) - before.0, full(&mesh) - before.1);
    assert!(0 < spent.0 && spent.0 < spent.1, "{spent:?}");
}

#[test]
fn only_those_it_concerns_are_held_back() {
    let own = |text| {
        let mut routes = routes("x", text);
        routes.spec["exportTo"] = json!(["."]);
        routes
    };
    let mut mesh = Fixture::start();
    let elsewhere = mesh.connect("sidecar~other~d");
    mesh.apply(&[own("old")], Active::new());
    let held_back = |phase, first: &[&str]| rollout(&own("old"), phase, first);
    mesh.apply(&[own("fresh")], held_back(Phase::Choosing, &[]));
    let held = |mesh: &Fixture| mesh.views.held();
    assert_eq!(held(&mesh), BTreeSet::from(NODES.map(Arc::from)));
    assert!(!mesh.views.holds_back_from(elsewhere));
    mesh.apply(&[], held_back(Phase::First, &NODES[1..2]));
    assert_eq!(
        held(&mesh),
        BTreeSet::from([NODES[0], NODES[2]].map(Arc::from))
    );
    // Who comes while it is under way is judged alike.
    let late = mesh.connect("sidecar~shop~e");
    assert!(mesh.views.holds_back_from(late));
    let late = mesh.connect("sidecar~other~f");
    assert!(!mesh.views.holds_back_from(late));
    mesh.apply(&[], Active::new());
    assert!(held(&mesh).is_empty());
}
