//! A client to test with: it speaks both variants to a [`Session`] and remembers what it was sent.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use prost::Message as _;

use super::*;

/// A response as the client reads it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) ty: ResourceType,
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) control_plane: String,
    /// Name and version or, in state of the world, name and content hash.
    pub(crate) resources: Vec<Resource>,
    pub(crate) removed: Vec<String>,
    /// Heartbeats: names without content.
    pub(crate) beats: Vec<String>,
    pub(crate) ttls: usize,
    pub(crate) type_urls: Vec<String>,
}

impl Seen {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.resources.iter().map(|r| &**r.name()).collect()
    }
}

pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) variant: Variant,
    pub(crate) now: Instant,
    /// State of the world: all names, by type.
    pub(crate) names: BTreeMap<ResourceType, Vec<String>>,
    /// The last nonce, by type.
    pub(crate) nonces: BTreeMap<ResourceType, String>,
    greeted: bool,
}

pub(crate) fn node() -> Node {
    Node {
        id: "node".into(),
        ..Default::default()
    }
}

impl Client {
    pub(crate) fn new(variant: Variant) -> Self {
        Self::with(variant, Options::default())
    }
    pub(crate) fn with(variant: Variant, options: Options) -> Self {
        let now = Instant::now();
        let session = Session::new(variant, options, now);
        Self {
            session,
            variant,
            now,
            names: BTreeMap::new(),
            nonces: BTreeMap::new(),
            greeted: false,
        }
    }
    pub(crate) fn node(&mut self) -> Option<Node> {
        (!std::mem::replace(&mut self.greeted, true)).then(node)
    }
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        self.session.on_snapshot(Arc::new(snapshot.clone()));
    }
    pub(crate) fn later(&mut self, by: Duration) {
        self.now += by;
    }
    /// All responses there are now; none is answered.
    pub(crate) fn receive(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        while let Some(response) = self.session.poll(self.now) {
            let seen = read(self.variant, &response);
            self.nonces.insert(seen.ty, seen.nonce.clone());
            all.push(seen);
            assert!(all.len() < 1000, "the session never comes to rest");
        }
        all
    }
    /// The only response there is now.
    pub(crate) fn one(&mut self) -> Seen {
        let mut all = self.receive();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
    pub(crate) fn silent(&mut self) {
        let all = self.receive();
        assert!(all.is_empty(), "{all:?}");
    }
    /// Subscribes to names on top of what there is (an empty list in the first request: the wildcard).
    pub(crate) fn subscribe(&mut self, ty: ResourceType, names: &[&str]) {
        let mut list = self.names.get(&ty).cloned().unwrap_or_default();
        list.extend(names.iter().map(|n| (*n).to_owned()));
        match self.variant {
            Variant::Sotw => self.list(ty, &list.iter().map(String::as_str).collect::<Vec<_>>()),
            Variant::Delta => self.delta(pb::DeltaDiscoveryRequest {
                type_url: ty.type_url().into(),
                resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
                ..Default::default()
            }),
        }
        self.names.insert(ty, list);
    }
    pub(crate) fn unsubscribe(&mut self, ty: ResourceType, names: &[&str]) {
        let mut list = self.names.get(&ty).cloned().unwrap_or_default();
        list.retain(|n| !names.contains(&n.as_str()));
        match self.variant {
            Variant::Sotw => self.list(ty, &list.iter().map(String::as_str).collect::<Vec<_>>()),
            Variant::Delta => self.delta(pb::DeltaDiscoveryRequest {
                type_url: ty.type_url().into(),
                resource_names_unsubscribe: names.iter().map(|n| (*n).to_owned()).collect(),
                ..Default::default()
            }),
        }
        self.names.insert(ty, list);
    }
    /// State of the world: a request with exactly this list, and the last nonce.
    pub(crate) fn list(&mut self, ty: ResourceType, names: &[&str]) {
        let nonce = self.nonces.get(&ty).cloned().unwrap_or_default();
        self.names
            .insert(ty, names.iter().map(|n| (*n).to_owned()).collect());
        self.sotw(pb::DiscoveryRequest {
            type_url: ty.type_url().into(),
            resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
            response_nonce: nonce,
            ..Default::default()
        });
    }
    pub(crate) fn sotw(&mut self, request: pb::DiscoveryRequest) {
        let node = self.node();
        self.session
            .on_request(&pb::DiscoveryRequest { node, ..request })
            .unwrap();
    }
    pub(crate) fn delta(&mut self, request: pb::DeltaDiscoveryRequest) {
        let node = self.node();
        self.session
            .on_delta_request(&pb::DeltaDiscoveryRequest { node, ..request })
            .unwrap();
    }
    /// Reconnects with what an earlier stream left (delta).
    pub(crate) fn resume(&mut self, ty: ResourceType, names: &[&str], held: &[&Resource]) {
        let versions: HashMap<String, String> = held
            .iter()
            .map(|r| (r.name().to_string(), r.version().to_string()))
            .collect();
        self.delta(pb::DeltaDiscoveryRequest {
            type_url: ty.type_url().into(),
            resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
            initial_resource_versions: versions,
            ..Default::default()
        });
    }
    pub(crate) fn ack(&mut self, seen: &Seen) {
        self.answer(seen, None);
    }
    pub(crate) fn nack(&mut self, seen: &Seen, error: &str) {
        self.answer(seen, Some(error));
    }
    fn answer(&mut self, seen: &Seen, error: Option<&str>) {
        let error_detail = error.map(|message| envoy_types::pb::google::rpc::Status {
            code: 13,
            message: message.into(),
            ..Default::default()
        });
        match self.variant {
            Variant::Sotw => {
                let resource_names = self.names.get(&seen.ty).cloned().unwrap_or_default();
                self.sotw(pb::DiscoveryRequest {
                    type_url: seen.ty.type_url().into(),
                    version_info: if error.is_some() {
                        String::new()
                    } else {
                        seen.version.clone()
                    },
                    resource_names,
                    response_nonce: seen.nonce.clone(),
                    error_detail,
                    ..Default::default()
                });
            }
            Variant::Delta => self.delta(pb::DeltaDiscoveryRequest {
                type_url: seen.ty.type_url().into(),
                response_nonce: seen.nonce.clone(),
                error_detail,
                ..Default::default()
            }),
        }
    }
    /// ACKs whatever comes until nothing comes; all of it.
    pub(crate) fn settle(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let now = self.receive();
            if now.is_empty() {
                return all;
            }
            now.iter().for_each(|seen| self.ack(seen));
            all.extend(now);
            assert!(all.len() < 1000, "the session never comes to rest");
        }
    }
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.session.take_events()
    }
    pub(crate) fn refused(&mut self) -> Vec<String> {
        let events = self.events().into_iter();
        events
            .filter_map(|e| {
                if let Event::Refused { name, .. } = e {
                    Some(name.to_string())
                } else {
                    None
                }
            })
            .collect()
    }
}

pub(crate) fn read(variant: Variant, response: &Response) -> Seen {
    let bytes: Bytes = response.chunks().concat().into();
    let mut seen = Seen {
        ty: response.ty(),
        nonce: String::new(),
        version: String::new(),
        control_plane: String::new(),
        resources: Vec::new(),
        removed: Vec::new(),
        beats: Vec::new(),
        ttls: 0,
        type_urls: Vec::new(),
    };
    let control_plane;
    match variant {
        Variant::Sotw => {
            let message = pb::DiscoveryResponse::decode(bytes).unwrap();
            (seen.nonce, seen.version) = (message.nonce, message.version_info);
            seen.type_urls.push(message.type_url);
            control_plane = message.control_plane;
            for any in message.resources {
                if any.type_url.ends_with("discovery.v3.Resource") {
                    let wrapped = pb::Resource::decode(any.value.as_slice()).unwrap();
                    wrapper(&mut seen, wrapped);
                } else {
                    content(&mut seen, &any);
                }
            }
        }
        Variant::Delta => {
            let message = pb::DeltaDiscoveryResponse::decode(bytes).unwrap();
            (seen.nonce, seen.version) = (message.nonce, message.system_version_info);
            seen.type_urls.push(message.type_url);
            control_plane = message.control_plane;
            seen.removed = message.removed_resources;
            message
                .resources
                .into_iter()
                .for_each(|resource| wrapper(&mut seen, resource));
        }
    }
    seen.control_plane = control_plane.unwrap().identifier;
    seen
}

fn wrapper(seen: &mut Seen, resource: pb::Resource) {
    seen.ttls += usize::from(resource.ttl.is_some());
    match resource.resource {
        None => seen.beats.push(resource.name),
        Some(any) => {
            content(seen, &any);
            let last = seen.resources.last().unwrap();
            assert_eq!(
                (&**last.name(), &**last.version()),
                (&*resource.name, &*resource.version)
            );
        }
    }
}

fn content(seen: &mut Seen, any: &envoy_types::pb::google::protobuf::Any) {
    seen.type_urls.push(any.type_url.clone());
    seen.resources.push(Resource::from_any(any).unwrap());
}
