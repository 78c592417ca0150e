//! A response: the bytes of its resources, shared with all other streams, between a few of its own.
//!
//! *Invariant:* no resource is encoded or copied here.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Options, Variant};
use crate::{Resource, ResourceType, wire};

/// One resource in a response.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Plain(Resource),
    /// With its time to live.
    Ttl(Resource),
    /// Its time to live, without the content.
    Heartbeat(Resource),
}

impl Entry {
    pub(super) fn new(resource: &Resource, heartbeats: bool) -> Self {
        if heartbeats && resource.ttl().is_some() {
            Self::Ttl(resource.clone())
        } else {
            Self::Plain(resource.clone())
        }
    }
    /// The resource, if its content is in the response.
    pub(super) fn resource(&self) -> Option<&Resource> {
        match self {
            Self::Plain(resource) | Self::Ttl(resource) => Some(resource),
            Self::Heartbeat(_) => None,
        }
    }
}

/// A response that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Response {
    ty: ResourceType,
    revision: i64,
    version: Arc<str>,
    nonce: Arc<str>,
    resources: Vec<Resource>,
    removed: Vec<Arc<str>>,
    chunks: Vec<Bytes>,
}

impl Response {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        options: &Options,
        variant: Variant,
        ty: ResourceType,
        revision: i64,
        version: &str,
        nonce: &str,
        entries: &[Entry],
        removed: Vec<Arc<str>>,
    ) -> Self {
        let mut head = BytesMut::new();
        wire::put_field(&mut head, 1, version.as_bytes());
        let mut chunks = vec![head.freeze()];
        for entry in entries {
            entry.write(variant, &mut chunks);
        }
        let mut tail = BytesMut::new();
        wire::put_field(&mut tail, 4, ty.type_url().as_bytes());
        wire::put_field(&mut tail, 5, nonce.as_bytes());
        let mut control_plane = BytesMut::new();
        wire::put_field(&mut control_plane, 1, options.control_plane.as_bytes());
        match variant {
            Variant::Sotw => wire::put_field(&mut tail, 6, &control_plane),
            Variant::Delta => {
                removed
                    .iter()
                    .for_each(|name| wire::put_field(&mut tail, 6, name.as_bytes()));
                wire::put_field(&mut tail, 7, &control_plane);
            }
        }
        chunks.push(tail.freeze());
        let resources = entries
            .iter()
            .filter_map(Entry::resource)
            .cloned()
            .collect();
        Self {
            ty,
            revision,
            version: version.into(),
            nonce: nonce.into(),
            resources,
            removed,
            chunks,
        }
    }

    /// The type of all resources in it.
    pub fn ty(&self) -> ResourceType {
        self.ty
    }
    /// The revision of the snapshot it leads to.
    pub fn revision(&self) -> i64 {
        self.revision
    }
    /// The version of the type that the client then holds.
    pub fn version(&self) -> &str {
        &self.version
    }
    /// The nonce that an ACK or a NACK of it carries.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }
    /// The resources in it.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }
    /// The names it says are no more, or do not exist.
    pub fn removed(&self) -> &[Arc<str>] {
        &self.removed
    }
    /// Its bytes, as [`chunks`](Self::chunks) has them.
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }
    /// Its bytes: a `DiscoveryResponse` or a `DeltaDiscoveryResponse`, in pieces.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }
}

impl Entry {
    fn write(&self, variant: Variant, out: &mut Vec<Bytes>) {
        let (resource, body) = match (self, variant) {
            (Self::Plain(resource), Variant::Sotw) => return out.push(resource.sotw_wire()),
            (Self::Plain(resource), Variant::Delta) => return out.push(resource.delta_wire()),
            (Self::Ttl(resource), _) => (resource, resource.sotw_wire()),
            (Self::Heartbeat(resource), _) => (resource, Bytes::new()),
        };
        // A `discovery.v3.Resource`: name, version and time to live here, the `Any` with the content behind.
        let mut inner = BytesMut::new();
        wire::put_field(&mut inner, 3, resource.name().as_bytes());
        wire::put_field(&mut inner, 1, resource.version().as_bytes());
        wire::put_field(&mut inner, 6, &duration(resource.ttl().unwrap_or_default()));
        let len = inner.len() + body.len();
        let mut head = BytesMut::new();
        match variant {
            Variant::Delta => wire::put_head(&mut head, 2, len),
            Variant::Sotw => {
                let mut any = BytesMut::new();
                wire::put_field(
                    &mut any,
                    1,
                    b"type.googleapis.com/envoy.service.discovery.v3.Resource",
                );
                wire::put_head(&mut any, 2, len);
                wire::put_head(&mut head, 2, any.len() + len);
                head.extend_from_slice(&any);
            }
        }
        head.extend_from_slice(&inner);
        out.push(head.freeze());
        if !body.is_empty() {
            out.push(body);
        }
    }
}

/// A `google.protobuf.Duration`.
fn duration(of: Duration) -> BytesMut {
    let mut out = BytesMut::new();
    for (tag, value) in [(1, of.as_secs()), (2, u64::from(of.subsec_nanos()))] {
        if value != 0 {
            wire::put_varint(&mut out, tag << 3);
            wire::put_varint(&mut out, value);
        }
    }
    out
}
