//! Kubernetes `Status` objects, which is how config-api says no.
//!
//! Input is the body of an answer, output is what it says about which field.
//! *Invariant:* a body that is no `Status` still becomes one, so that nothing the server says is lost.

use serde::Deserialize;
use serde_json::Value;

/// What the server refused, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) message: String,
    pub(crate) reason: String,
    pub(crate) code: u16,
    pub(crate) details: Details,
}

/// What it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    pub(crate) causes: Vec<Cause>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The path of the field, such as `spec.http[2].route[0].weight`.
    pub(crate) field: String,
}

impl Status {
    /// The status in an answer of `code` with this body.
    pub(crate) fn of(code: u16, body: &[u8]) -> Self {
        let value = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let status = if value["kind"] == "Status" {
            Self::deserialize(value).ok()
        } else {
            None
        };
        let mut status = status.unwrap_or_else(|| Self {
            message: String::from_utf8_lossy(body)
                .trim()
                .chars()
                .take(500)
                .collect(),
            ..Self::default()
        });
        status.code = code;
        if status.message.is_empty() {
            status.message = format!("the server answered {code} without saying why");
        }
        status
    }

    /// The message, then the causes it does not already repeat, one per line.
    pub(crate) fn lines(&self) -> String {
        let mut text = self.message.clone();
        for cause in self
            .details
            .causes
            .iter()
            .filter(|c| self.details.causes.len() > 1 || !self.message.contains(&c.message))
        {
            text.push_str("\n  ");
            text.push_str(&cause.to_string());
        }
        text
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.message),
            field if self.message.starts_with(field) => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}

#[cfg(test)]
mod tests;
