//! Query parameters, decoded once and read by name.
//!
//! *Invariant:* a parameter that is present and malformed is an error, never a default.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use model::Revision;

use super::status::{Result, Status};

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Status;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|e| Status::bad_request(format!("the query: {e}")))
    }
}

/// `fieldValidation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

impl Params {
    /// The value of `name`, if given and not empty. Of several, the last.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    /// A boolean, false if absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.tristate(name)?.unwrap_or(false))
    }

    /// A boolean that may be absent.
    pub(crate) fn tristate(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some("true" | "1" | "True" | "TRUE") => Ok(Some(true)),
            Some("false" | "0" | "False" | "FALSE") => Ok(Some(false)),
            Some(other) => Err(invalid(name, other, "must be true or false")),
        }
    }

    /// A whole number of at least zero.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>> {
        self.get(name)
            .map(|v| {
                v.parse()
                    .map_err(|_| invalid(name, v, "must be a whole number, 0 or more"))
            })
            .transpose()
    }

    /// A number of seconds.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<Duration>> {
        Ok(self.number(name)?.map(|s| Duration::from_secs(s.into())))
    }

    /// `resourceVersion`; zero stands for "any".
    pub(crate) fn resource_version(&self) -> Result<Option<Revision>> {
        self.get("resourceVersion")
            .map(parse_resource_version)
            .transpose()
    }

    /// `dryRun=All`.
    pub(crate) fn dry_run(&self) -> Result<bool> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(invalid("dryRun", other, "must be All or absent")),
        }
    }

    /// `fieldValidation`, strict by default.
    pub(crate) fn field_validation(&self) -> Result<FieldValidation> {
        match self.get("fieldValidation") {
            None | Some("Strict") => Ok(FieldValidation::Strict),
            Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => Err(invalid(
                "fieldValidation",
                other,
                "must be Strict, Warn or Ignore",
            )),
        }
    }
}

/// A `resourceVersion` as written by this API: a decimal revision.
pub(crate) fn parse_resource_version(text: &str) -> Result<Revision> {
    text.parse::<i64>()
        .ok()
        .filter(|r| *r >= 0)
        .map(Revision)
        .ok_or_else(|| {
            invalid(
                "resourceVersion",
                text,
                "must be a revision that this API gave out, a whole number",
            )
        })
}

/// 400 for a query parameter.
pub(crate) fn invalid(name: &str, value: &str, rule: &str) -> Status {
    Status::bad_request(format!("query parameter {name}: {value:?} {rule}"))
}
