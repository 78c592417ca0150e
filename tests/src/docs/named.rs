//! What documents name, and whether it exists: commands and their flags, variables, paths of the API, metrics, files and headings.
//!
//! *Invariant:* what exists is asked of the programs and of the repository; the tables here hold only what is not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::blocks::{ANYTHING, blocks};
use super::programs::Program;
use super::{links, prose, words};

/// Flags of other programs.
const FOREIGN_FLAGS: [&str; 4] = [
    "--client-cert-auth",
    "--drain-time-s",
    "--quota-backend-bytes",
    "--trusted-ca-file",
];

/// Paths below `/v1` that are not config-api's: of the issuer, and of OTLP.
const OTHER_PATHS: [&str; 4] = ["/v1/x509-svid", "/v1/jwt-svid", "/v1/bundle", "/v1/traces"];

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// This workspace's programs by name.
    pub programs: BTreeMap<String, Program>,
    /// Environment variables that begin with `WEFT_`, beside those of the programs.
    pub variables: BTreeSet<String>,
    /// The paths of config-api below `/v1`, with their methods in capitals.
    pub paths: BTreeMap<String, BTreeSet<String>>,
    /// Metrics.
    pub metrics: BTreeSet<String>,
}

impl Named {
    /// What a document of the repository names that does not exist: where, and which.
    ///
    /// # Errors
    /// If it cannot be read as a document.
    pub fn missing(&self, root: &Path, name: &str, document: &str) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for block in blocks(document).with_context(|| name.to_owned())? {
            for words in words::commands(&block.commands) {
                self.command(&words)
                    .unwrap_or_else(|why| wrong.push(format!("{name}:{}: {why}", block.line)));
            }
        }
        for prose::Span { line, text } in prose::spans(document).with_context(|| name.to_owned())? {
            let ours = words::commands(&text);
            let outcome = ours.iter().try_for_each(|words| self.command(words));
            let outcome = outcome.and_then(|()| self.flag(&text));
            let outcome = outcome.and_then(|()| self.method(&text));
            let outcome = outcome.and_then(|()| links::file(root, &text));
            outcome.unwrap_or_else(|why| wrong.push(format!("{name}:{line}: {why}")));
        }
        for (line, text) in (1..).zip(document.lines()) {
            let words = text.split(|c: char| c.is_whitespace() || "`\"'()|,".contains(c));
            for word in words {
                let outcome = self.path(word);
                let outcome = outcome.and_then(|()| self.variable(word));
                let outcome = outcome.and_then(|()| self.metric(word));
                outcome.unwrap_or_else(|why| wrong.push(format!("{name}:{line}: {why}")));
            }
            for link in text.split("](").skip(1) {
                let link = link.split(')').next().unwrap_or_default();
                links::leads(root, name, document, link)
                    .unwrap_or_else(|why| wrong.push(format!("{name}:{line}: {why}")));
            }
        }
        Ok(wrong)
    }

    fn command(&self, words: &[String]) -> Result<(), String> {
        let Some((program, words)) = words.split_first() else {
            return Ok(());
        };
        let known = program.rsplit('/').next().unwrap_or_default();
        // What follows `ARGS=` is for the program that `make up` runs.
        let args = words.iter().find_map(|word| word.strip_prefix("ARGS="));
        let (known, words) = match args {
            Some(args) if known == "make" => {
                let args = args.split_whitespace().map(str::to_owned);
                ("weft-up", args.collect())
            }
            _ => (known, words.to_vec()),
        };
        let Some(known) = self.programs.get(known) else {
            return Ok(());
        };
        let takes = known.takes(&words);
        takes.map_err(|error| format!("{program} {}: {error}", words.join(" ")))
    }

    /// A flag on its own, such as `--file`.
    fn flag(&self, span: &str) -> Result<(), String> {
        let name = span.split([' ', '=', '[']).next().unwrap_or_default();
        let known = |name| self.programs.values().any(|program| program.has(name));
        if !name.starts_with("--") || FOREIGN_FLAGS.contains(&name) || known(name) {
            return Ok(());
        }
        Err(format!("no program has {name}"))
    }

    /// A request, such as `GET /v1/shards`.
    fn method(&self, span: &str) -> Result<(), String> {
        let Some((method, path)) = span.split_once(" /v1/") else {
            return Ok(());
        };
        let path = format!("/v1/{path}");
        let known = self.paths.iter().filter(|(known, _)| fits(known, &path));
        let methods: BTreeSet<_> = known.flat_map(|(_, methods)| methods).collect();
        let requests = method.chars().all(|c| c.is_ascii_uppercase());
        if !requests || methods.is_empty() || methods.contains(&method.to_owned()) {
            return Ok(());
        }
        Err(format!("{path} takes {methods:?} and no {method}"))
    }

    fn path(&self, word: &str) -> Result<(), String> {
        let foreign = ["/apis/", "/weft/v1/", "/src/"];
        let Some(at) = word.find("/v1/") else {
            return Ok(());
        };
        if foreign.iter().any(|foreign| word.contains(foreign)) {
            return Ok(());
        }
        let known = self.paths.keys().map(String::as_str).chain(OTHER_PATHS);
        if { known }.any(|known| fits(known, &word[at..])) {
            return Ok(());
        }
        Err(format!("the API has no {}", &word[at..]))
    }

    fn variable(&self, word: &str) -> Result<(), String> {
        let Some(at) = word.find("WEFT_") else {
            return Ok(());
        };
        let name = word[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = name.into_iter().next().unwrap_or_default();
        let of_programs = |program: &Program| program.variables().contains(name);
        if self.variables.contains(name) || self.programs.values().any(of_programs) {
            return Ok(());
        }
        Err(format!("nothing reads {name}"))
    }

    fn metric(&self, word: &str) -> Result<(), String> {
        let Some(at) = word.find("weft_") else {
            return Ok(());
        };
        let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let name = word[at..]
            .split(|c: char| !part(c))
            .next()
            .unwrap_or_default();
        let base = ["_bucket", "_sum", "_count"].iter();
        let base = base.fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
        // `weft_…` is the beginning of a credential.
        if name == "weft_" || self.metrics.contains(name) || self.metrics.contains(base) {
            return Ok(());
        }
        Err(format!("there is no metric {name}"))
    }
}

/// Whether a path is one of a template: `/v1/proxies/{id}`. `…` stands for any part.
fn fits(template: &str, path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.trim_end_matches(['.', ':', ';', '/', ANYTHING]);
    let (known, parts): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    let fits = |(known, part): (&&str, &&str)| known.starts_with('{') || known == part;
    known.len() == parts.len() && known.iter().zip(&parts).all(fits)
}

#[cfg(test)]
mod tests;
