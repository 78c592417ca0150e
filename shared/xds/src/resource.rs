//! One Envoy resource: encoded once, named, versioned by its content, with the references it makes.
//!
//! *Invariant:* once made, a resource never changes, and its bytes are never copied: all streams share them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::google::protobuf::Any;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Message, Ref, ResourceType, json, refs, wire};

/// An encoded resource. Cheap to clone: the bytes are shared.
///
/// Two are equal if type, name and version are: a version is a function of content.
#[derive(Clone)]
pub struct Resource(Arc<Inner>);

struct Inner {
    ty: ResourceType,
    name: Arc<str>,
    version: Arc<str>,
    refs: Arc<[Ref]>,
    ttl: Option<Duration>,
    /// The message.
    body: Bytes,
    /// A `resources` entry of a delta response; its tail is that of a state-of-the-world response.
    wire: Bytes,
    /// Where that tail starts.
    tail: usize,
    /// Of name and version: what the version of a set is summed up from.
    digest: u64,
}

/// Why something cannot be a resource.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The type URL is of no type that this server speaks.
    #[error("{0:?} is no type of resource; known are {known}", known = ResourceType::ALL.map(ResourceType::type_url).join(", "))]
    UnknownType(String),
    /// It has no name.
    #[error("a resource of type {0} needs a name")]
    NoName(ResourceType),
    /// The bytes are no such message.
    #[error("the bytes are no message of type {ty}")]
    Decode {
        /// The type they should be of.
        ty: ResourceType,
        /// What is wrong with them.
        source: prost::DecodeError,
    },
    /// The JSON is no such message.
    #[error("the JSON is no message of type {ty}: {message}")]
    Json {
        /// The type it should be of.
        ty: ResourceType,
        /// What is wrong with it, and where.
        message: String,
    },
}

impl Resource {
    /// Encodes a message deterministically; its version is a hash of its content.
    pub fn new<M: Message>(message: &M) -> Self {
        Self::encode(M::TYPE, message.name(), None, message.encode_to_vec(), None)
    }

    /// Encodes a message deterministically, with the caller's version: two contents of one name need two versions.
    pub fn with_version<M: Message>(message: &M, version: &str) -> Self {
        Self::encode(
            M::TYPE,
            message.name(),
            Some(version),
            message.encode_to_vec(),
            None,
        )
    }

    /// A resource from an `Any` of one of the types.
    ///
    /// # Errors
    /// Its type is unknown, its bytes are no such message, or it has no name.
    pub fn from_any(any: &Any) -> Result<Self, ResourceError> {
        let ty = ResourceType::from_type_url(&any.type_url)
            .ok_or_else(|| ResourceError::UnknownType(any.type_url.clone()))?;
        json::check(ty, &any.value)?;
        Self::from_bytes(ty, any.value.clone())
    }

    /// A resource from the JSON form of its message, as in an Envoy configuration file.
    ///
    /// # Errors
    /// It is no such message (an unknown field is an error that names it), or it has no name.
    pub fn from_json(ty: ResourceType, value: &serde_json::Value) -> Result<Self, ResourceError> {
        Self::from_bytes(ty, json::parse(ty, value)?)
    }

    fn from_bytes(ty: ResourceType, bytes: Vec<u8>) -> Result<Self, ResourceError> {
        let name = wire::string(&bytes, 1).to_owned();
        if name.is_empty() {
            return Err(ResourceError::NoName(ty));
        }
        Ok(Self::encode(ty, &name, None, bytes, None))
    }

    /// The same with a time to live: an Envoy that understands it drops the resource unless the server's heartbeats
    /// keep coming (rule C8).
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        let version = self.version().clone();
        Self::encode(
            self.ty(),
            self.name(),
            Some(&version),
            self.body().to_vec(),
            Some(ttl),
        )
    }

    fn encode(
        ty: ResourceType,
        name: &str,
        version: Option<&str>,
        bytes: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Self {
        let known = wire::message(ty.message_name());
        let bytes = match known {
            Some(message) => wire::canonical(message, &bytes),
            None => bytes.into(),
        };
        let refs = known.map_or_else(|| [].into(), |message| refs::refs(message, &bytes));
        Self::assemble(ty, name, version, &bytes, refs, ttl)
    }

    /// The resource whose message is that of these in turn, merged: protobuf merges messages whose encodings are joined,
    /// so repeated fields are appended to. Costs the copying of the bytes; the name is the first's.
    ///
    /// # Panics
    /// If there are none, or they are of different types.
    pub fn joined<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let parts: Vec<&Self> = parts.into_iter().collect();
        let first = parts.first().expect("something to join");
        assert!(
            parts.iter().all(|part| part.ty() == first.ty()),
            "resources of one type are joined"
        );
        let bytes = parts
            .iter()
            .map(|part| part.body().as_ref())
            .collect::<Vec<&[u8]>>()
            .concat();
        let refs: BTreeSet<&Ref> = parts.iter().flat_map(|part| part.refs()).collect();
        let refs = refs.into_iter().cloned().collect();
        Self::assemble(first.ty(), first.name(), None, &bytes, refs, first.ttl())
    }

    /// From canonical bytes.
    fn assemble(
        ty: ResourceType,
        name: &str,
        version: Option<&str>,
        bytes: &[u8],
        refs: Arc<[Ref]>,
        ttl: Option<Duration>,
    ) -> Self {
        let version: Arc<str> =
            version.map_or_else(|| format!("{:016x}", xxh3_64(bytes)).into(), Into::into);
        let mut any = BytesMut::with_capacity(bytes.len() + 96);
        wire::put_field(&mut any, 1, ty.type_url().as_bytes());
        wire::put_field(&mut any, 2, bytes);
        let mut inner = BytesMut::with_capacity(any.len() + 64);
        wire::put_field(&mut inner, 3, name.as_bytes());
        wire::put_field(&mut inner, 1, version.as_bytes());
        let before = inner.len();
        wire::put_head(&mut inner, 2, any.len());
        inner.put_slice(&any);
        let body = inner.len() - bytes.len();
        let mut out = BytesMut::with_capacity(inner.len() + 12);
        wire::put_head(&mut out, 2, inner.len());
        let head = out.len();
        out.put_slice(&inner);
        let wire = out.freeze();
        Self(Arc::new(Inner {
            ty,
            name: name.into(),
            digest: xxh3_64_with_seed(version.as_bytes(), xxh3_64(name.as_bytes())),
            version,
            refs,
            ttl,
            body: wire.slice(
                if bytes.is_empty() {
                    wire.len()
                } else {
                    head + body
                }..,
            ),
            tail: head + before,
            wire,
        }))
    }

    /// Its type.
    pub fn ty(&self) -> ResourceType {
        self.0.ty
    }
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }
    /// Its version.
    pub fn version(&self) -> &Arc<str> {
        &self.0.version
    }
    /// What it refers to, in order, each once.
    pub fn refs(&self) -> &[Ref] {
        &self.0.refs
    }
    /// The encoded message.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }
    /// How long it lives without a heartbeat, if not for ever.
    pub fn ttl(&self) -> Option<Duration> {
        self.0.ttl
    }
    /// The message as an `Any`.
    pub fn to_any(&self) -> Any {
        Any {
            type_url: self.ty().type_url().to_owned(),
            value: self.body().to_vec(),
        }
    }
    /// The message.
    ///
    /// # Errors
    /// `M` is not its type.
    pub fn decode<M: Message + Default>(&self) -> Result<M, ResourceError> {
        if M::TYPE != self.ty() {
            return Err(ResourceError::UnknownType(self.ty().type_url().to_owned()));
        }
        M::decode(self.body().clone()).map_err(|source| ResourceError::Decode {
            ty: M::TYPE,
            source,
        })
    }
    /// The message as JSON, key material and passwords redacted as Envoy's own `/config_dump` does.
    pub fn to_json(&self) -> serde_json::Value {
        json::redacted(self.ty(), self.body())
    }

    /// A `resources` entry of a delta response.
    pub(crate) fn delta_wire(&self) -> Bytes {
        self.0.wire.clone()
    }
    /// A `resources` entry of a state-of-the-world response.
    pub(crate) fn sotw_wire(&self) -> Bytes {
        self.0.wire.slice(self.0.tail..)
    }
    /// Hash of name and version.
    pub(crate) fn digest(&self) -> u64 {
        self.0.digest
    }
    /// What it refers to, of one type.
    pub(crate) fn refs_to(&self, ty: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        self.refs()
            .iter()
            .filter(move |r| r.ty == ty)
            .map(|r| &r.name)
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.ty(), self.version(), self.name())
                == (other.ty(), other.version(), other.name())
    }
}

impl Eq for Resource {}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}@{} ({} bytes)",
            self.ty(),
            self.name(),
            self.version(),
            self.body().len()
        )
    }
}

#[cfg(test)]
mod tests;
