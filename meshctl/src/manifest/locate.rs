//! Finds the line on which a field of a YAML document is written.
//!
//! Input is the document's text and a path such as `spec.http[2].route[0].weight`, output a line.
//! *Invariant:* nothing here fails: what cannot be found is told by the nearest parent that can.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The shape of a document: where keys and items are.
enum Node {
    Leaf,
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

/// The line, from 1, of the longest part of `path` that exists; `None` if not even its first step does.
pub(super) fn line(text: &str, path: &str) -> Option<usize> {
    let root = serde_saphyr::from_str::<Node>(text).ok()?;
    let (mut node, mut found) = (&root, None);
    for step in steps(path) {
        let next = match (node, &step) {
            (Node::Map(entries), Step::Key(key)) => entries
                .iter()
                .find(|(k, _)| k.value == *key)
                .map(|(k, v)| (k.referenced.line(), &v.value)),
            (Node::List(items), Step::Index(i)) => {
                items.get(*i).map(|v| (v.referenced.line(), &v.value))
            }
            _ => None,
        };
        let Some((line, child)) = next else { break };
        found = Some(line as usize);
        node = child;
    }
    found
}

enum Step {
    Key(String),
    Index(usize),
}

/// `a.b[2].c` and `a["x.y"]` as steps.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.trim_start_matches('.');
        if let Some(bracket) = rest.strip_prefix('[') {
            let Some(end) = bracket.find(']') else { break };
            let inner = bracket[..end].trim_matches(['"', '\'']);
            steps.push(
                inner
                    .parse()
                    .map_or_else(|_| Step::Key(inner.to_owned()), Step::Index),
            );
            rest = &bracket[end + 1..];
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Key(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    steps
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
}
