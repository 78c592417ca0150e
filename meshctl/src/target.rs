//! What an argument such as `vs`, `virtualservices.networking.istio.io` or `gateway/shop` names.
//!
//! Input is text from the command line, output a [`Target`] with its place in the API.
//! *Invariant:* nothing here asks the server; an unknown kind is an error with the nearest known name.

use model::Kind;
use similar::get_close_matches;

/// A type of resource that people can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// One of Weft's kinds.
    Kind(Kind),
    /// Namespaces: they exist by being used, so they can only be read.
    Namespace,
}

impl Resource {
    /// The name of one, as it prefixes names in output: `virtualservice.networking.istio.io`.
    pub(crate) fn qualified(self) -> String {
        match self {
            Self::Kind(kind) => format!("{}.{}", kind.singular(), kind.group()),
            Self::Namespace => "namespace".into(),
        }
    }

    /// The kind as written in `kind:`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Namespace => "Namespace",
        }
    }

    /// The kind, for what cannot be done to a namespace.
    ///
    /// # Errors
    /// If this is `namespaces`.
    pub(crate) fn kind(self, verb: &'static str) -> Result<Kind, Error> {
        match self {
            Self::Kind(kind) => Ok(kind),
            Self::Namespace => Err(Error::Namespaces(verb)),
        }
    }

    /// Whether it lives in a namespace.
    pub(crate) fn namespaced(self) -> bool {
        matches!(self, Self::Kind(_))
    }

    /// The path of the collection, or of one, as segments. No namespace: across all of them.
    pub(crate) fn path(self, namespace: Option<&str>, name: Option<&str>) -> Vec<String> {
        let mut path: Vec<&str> = match self {
            Self::Kind(kind) => vec!["apis", kind.group(), kind.versions()[0]],
            Self::Namespace => vec!["api", "v1"],
        };
        if let (true, Some(namespace)) = (self.namespaced(), namespace) {
            path.extend(["namespaces", namespace]);
        }
        path.push(match self {
            Self::Kind(kind) => kind.plural(),
            Self::Namespace => "namespaces",
        });
        path.extend(name);
        path.into_iter().map(str::to_owned).collect()
    }
}

/// A collection, or one resource in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: Resource,
    pub(crate) name: Option<String>,
}

/// Why arguments name nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No kind is called so.
    #[error("there is no kind {text:?}{}", match nearest { Some(n) => format!("; did you mean {n:?}?"), None => format!("\nkinds: {}", names()) })]
    UnknownKind {
        text: String,
        nearest: Option<String>,
    },
    /// `kind/name` beside something else.
    #[error("{0:?} is not of the form KIND/NAME, as the other arguments are")]
    Mixed(String),
    /// `vs/`, `/reviews`.
    #[error("{0:?} lacks a kind or a name; write KIND/NAME, such as virtualservice/reviews")]
    Incomplete(String),
    /// A name was needed.
    #[error("which {0}? Give a name: KIND NAME or KIND/NAME")]
    NameMissing(&'static str),
    /// Something that can only be done to policy.
    #[error("cannot {0} a namespace: namespaces exist by being used")]
    Namespaces(&'static str),
}

/// The targets of `KIND[,KIND] [NAME…]`, `KIND/NAME…`, or `all`.
///
/// # Errors
/// If a kind is unknown or the forms are mixed.
pub(crate) fn targets(arguments: &[String]) -> Result<Vec<Target>, Error> {
    let [first, names @ ..] = arguments else {
        return Ok(Vec::new());
    };
    if arguments.iter().any(|a| a.contains('/')) {
        return arguments.iter().map(|a| slashed(a)).collect();
    }
    let mut resources = Vec::new();
    for text in first.split(',').filter(|t| !t.is_empty()) {
        if text == "all" {
            resources.extend(
                Kind::ALL
                    .into_iter()
                    .filter(|k| k.supported())
                    .map(Resource::Kind),
            );
        } else {
            resources.push(resource(text)?);
        }
    }
    let targets = |resource| match names {
        [] => vec![Target {
            resource,
            name: None,
        }],
        _ => names
            .iter()
            .map(|n| Target {
                resource,
                name: Some(n.clone()),
            })
            .collect(),
    };
    Ok(resources.into_iter().flat_map(targets).collect())
}

/// The targets of a command that needs names.
///
/// # Errors
/// As [`targets`], and if a name is missing.
pub(crate) fn named(arguments: &[String]) -> Result<Vec<(Resource, String)>, Error> {
    let with_name = |t: Target| {
        t.name
            .map(|n| (t.resource, n))
            .ok_or(Error::NameMissing(t.resource.name()))
    };
    targets(arguments)?.into_iter().map(with_name).collect()
}

/// The resource type a word names: kind, plural, singular or short name in any case, with or without its group.
///
/// # Errors
/// If there is none.
pub(crate) fn resource(text: &str) -> Result<Resource, Error> {
    let lower = text.to_ascii_lowercase();
    let (word, group) = match lower.split_once('.') {
        Some((word, group)) => (word, Some(group)),
        None => (lower.as_str(), None),
    };
    if group.is_none() && ["namespace", "namespaces", "ns"].contains(&word) {
        return Ok(Resource::Namespace);
    }
    let of_group = |kind: Kind| match group {
        None => true,
        Some(group) => {
            group == kind.group()
                || group
                    .split_once('.')
                    .is_some_and(|(v, g)| kind.versions().contains(&v) && g == kind.group())
        }
    };
    let called = |kind: Kind| {
        kind.singular() == word || kind.plural() == word || kind.short_names().contains(&word)
    };
    Kind::ALL
        .into_iter()
        .find(|k| called(*k) && of_group(*k))
        .map(Resource::Kind)
        .ok_or_else(|| Error::UnknownKind {
            text: text.to_owned(),
            nearest: nearest(
                word,
                Kind::ALL
                    .iter()
                    .flat_map(|k| [k.singular(), k.plural().to_owned()])
                    .chain(["namespaces".to_owned()]),
            ),
        })
}

/// The one of `candidates` that is most like `word`, if one is like it at all.
pub(crate) fn nearest(word: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    let candidates: Vec<String> = candidates.into_iter().collect();
    let candidates: Vec<&str> = candidates.iter().map(String::as_str).collect();
    get_close_matches(word, &candidates, 1, 0.6)
        .first()
        .map(|s| (*s).to_owned())
}

fn slashed(text: &str) -> Result<Target, Error> {
    match text.split_once('/') {
        None => Err(Error::Mixed(text.to_owned())),
        Some((kind, name)) if kind.is_empty() || name.is_empty() || name.contains('/') => {
            Err(Error::Incomplete(text.to_owned()))
        }
        Some((kind, name)) => Ok(Target {
            resource: resource(kind)?,
            name: Some(name.to_owned()),
        }),
    }
}

fn names() -> String {
    let name = |k: &Kind| match k.short_names() {
        [] => k.plural().to_owned(),
        [short, ..] => format!("{} ({short})", k.plural()),
    };
    Kind::ALL
        .iter()
        .filter(|k| k.supported())
        .map(name)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;
