//! The protobuf wire format, as much of it as deterministic bytes and references need: a reader of fields, a writer
//! that sorts map entries, and the table that `build.rs` derives from Envoy's API.
//!
//! prost encodes a `HashMap` in random order, so two processes (or two calls) would disagree on the bytes, and so on
//! the version, of equal messages. [`canonical`] sorts the entries of every map, also inside of `Any`s of known types;
//! all else is copied as it is.
//!
//! *Invariant:* nothing here can fail or panic: bytes that are not a message of the type are copied unchanged.

use bytes::{BufMut, Bytes};

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// How deep messages may be nested to be looked into, `Any`s counted: prost itself reads no deeper, and the stack is finite.
const DEPTH: usize = 100;

/// No message of the table.
pub(crate) const NONE: u16 = u16::MAX;

/// What a message of the API may hold that concerns us.
pub(crate) struct Message {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

/// A field that is a map, or a message in which one of our concerns can be reached.
pub(crate) struct Field {
    tag: u32,
    map: bool,
    of: u16,
}

/// The message of the table with this full name.
pub(crate) fn message(name: &str) -> Option<&'static Message> {
    SCHEMA
        .binary_search_by(|m| m.name.cmp(name))
        .ok()
        .map(|i| &SCHEMA[i])
}

/// The message of the table that a type URL names.
pub(crate) fn by_url(url: &[u8]) -> Option<&'static Message> {
    let name = url.rsplit(|b| *b == b'/').next()?;
    message(std::str::from_utf8(name).ok()?)
}

impl Message {
    fn field(&self, tag: u32) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.tag == tag)
    }
    /// The message that a field holds, if it is of the table.
    pub(crate) fn inner(&self, tag: u32) -> Option<&'static Message> {
        self.field(tag).and_then(|f| SCHEMA.get(usize::from(f.of)))
    }
    fn is_any(&self) -> bool {
        self.name == "google.protobuf.Any"
    }
}

/// One field as it is on the wire.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) tag: u32,
    /// The payload of a length-delimited field.
    pub(crate) payload: Option<&'a [u8]>,
    raw: &'a [u8],
}

/// The fields of a message; ends early, with `rest` left, where the bytes are no message.
pub(crate) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
    fn read(&self) -> Option<(Item<'a>, &'a [u8])> {
        let start = self.rest;
        let (key, mut rest) = varint(start)?;
        let tag = u32::try_from(key >> 3).ok()?;
        let mut payload = None;
        match key & 7 {
            0 => rest = varint(rest)?.1,
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            2 => {
                let (len, after) = varint(rest)?;
                let len = usize::try_from(len).ok()?;
                payload = Some(after.get(..len)?);
                rest = &after[len..];
            }
            _ => return None,
        }
        let raw = &start[..start.len() - rest.len()];
        Some((Item { tag, payload, raw }, rest))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;
    fn next(&mut self) -> Option<Item<'a>> {
        let (item, rest) = self.read()?;
        self.rest = rest;
        Some(item)
    }
}

/// The payload of a length-delimited field; the last one wins, as protobuf has it.
pub(crate) fn payload(bytes: &[u8], tag: u32) -> Option<&[u8]> {
    Items::new(bytes)
        .filter(|i| i.tag == tag)
        .filter_map(|i| i.payload)
        .last()
}

/// A string field; empty if it is not there.
pub(crate) fn string(bytes: &[u8], tag: u32) -> &str {
    payload(bytes, tag)
        .and_then(|p| std::str::from_utf8(p).ok())
        .unwrap_or_default()
}

/// The message with the entries of every map in order.
pub(crate) fn canonical(of: &Message, bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len());
    sort(of, bytes, &mut out, DEPTH);
    debug_assert_eq!(out.len(), bytes.len(), "sorting keeps the length");
    out.into()
}

fn sort(of: &Message, bytes: &[u8], out: &mut Vec<u8>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else {
        return out.extend_from_slice(bytes);
    };
    if of.is_any() {
        return sort_any(bytes, out, depth);
    }
    let mut items = Items::new(bytes).peekable();
    let mut read = 0;
    while let Some(item) = items.next() {
        read += item.raw.len();
        let Some(field) = of.field(item.tag).filter(|_| item.payload.is_some()) else {
            out.extend_from_slice(item.raw);
            continue;
        };
        let mut entries = vec![rewritten(field, item, depth)];
        while field.map
            && let Some(more) = items.next_if(|next| next.tag == item.tag && next.payload.is_some())
        {
            read += more.raw.len();
            entries.push(rewritten(field, more, depth));
        }
        entries.sort_unstable();
        entries
            .iter()
            .for_each(|entry| out.extend_from_slice(entry));
    }
    out.extend_from_slice(&bytes[read..]);
}

fn rewritten(field: &Field, item: Item<'_>, depth: usize) -> Vec<u8> {
    match (SCHEMA.get(usize::from(field.of)), item.payload) {
        (Some(inner), Some(payload)) => {
            let head = item.raw.len() - payload.len();
            let mut out = Vec::with_capacity(item.raw.len());
            out.extend_from_slice(&item.raw[..head]);
            sort(inner, payload, &mut out, depth);
            out
        }
        _ => item.raw.to_vec(),
    }
}

fn sort_any(bytes: &[u8], out: &mut Vec<u8>, depth: usize) {
    let Some(inner) = by_url(payload(bytes, 1).unwrap_or_default()) else {
        return out.extend_from_slice(bytes);
    };
    let mut read = 0;
    for item in Items::new(bytes) {
        read += item.raw.len();
        match item.payload.filter(|_| item.tag == 2) {
            Some(payload) => {
                out.extend_from_slice(&item.raw[..item.raw.len() - payload.len()]);
                sort(inner, payload, out, depth);
            }
            None => out.extend_from_slice(item.raw),
        }
    }
    out.extend_from_slice(&bytes[read..]);
}

/// Calls `visit` with every message of the table inside of `bytes`, `Any`s opened, outermost first. It says whether to look
/// inside of the message too.
pub(crate) fn walk(
    of: &'static Message,
    bytes: &[u8],
    visit: &mut impl FnMut(&'static Message, &[u8]) -> bool,
) {
    walk_to(DEPTH, of, bytes, visit);
}

fn walk_to(
    depth: usize,
    of: &'static Message,
    bytes: &[u8],
    visit: &mut impl FnMut(&'static Message, &[u8]) -> bool,
) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    if of.is_any() {
        if let (Some(inner), Some(value)) = (
            by_url(payload(bytes, 1).unwrap_or_default()),
            payload(bytes, 2),
        ) {
            walk_to(depth, inner, value, visit);
        }
        return;
    }
    if !visit(of, bytes) {
        return;
    }
    for item in Items::new(bytes) {
        if let (Some(inner), Some(payload)) = (of.inner(item.tag), item.payload) {
            walk_to(depth, inner, payload, visit);
        }
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends the key and the length of a length-delimited field.
pub(crate) fn put_head(out: &mut impl BufMut, tag: u32, len: usize) {
    put_varint(out, u64::from(tag) << 3 | 2);
    put_varint(out, len as u64);
}

/// Appends a length-delimited field, unless it is empty.
pub(crate) fn put_field(out: &mut impl BufMut, tag: u32, payload: &[u8]) {
    if !payload.is_empty() {
        put_head(out, tag, payload.len());
        out.put_slice(payload);
    }
}

#[cfg(test)]
mod tests;
