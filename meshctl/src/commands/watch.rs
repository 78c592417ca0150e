//! `meshctl get --watch`: what is there, then every change as it happens.
//!
//! *Invariant:* a watch that the server ends is resumed where it stopped, so that no change is shown twice or missed; only
//! when that revision is gone is everything shown anew.

use serde_json::Value;

use super::{Context, get};
use crate::cli::{Get, GetForm};
use crate::client::{self, Request, TABLE};
use crate::error::{Error, Exit};
use crate::render::resources::{self, Layout};
use crate::render::{self, items, text};
use crate::status::Status;
use crate::style::{Cell, Style, Tone, Widths};
use crate::target::Target;

pub(super) async fn run(
    context: &mut Context<'_>,
    get: &Get,
    target: &Target,
) -> Result<Exit, Error> {
    let mut printer = Printer {
        form: get.output,
        layout: get::layout(get, target.resource),
        style: context.out.style,
        widths: Widths::with_first("MODIFIED"),
        started: get.no_headers,
    };
    loop {
        let list = context.send(request(context, get, target)).await?.body;
        let entries = if printer.tabular() {
            &list["rows"]
        } else {
            &list["items"]
        };
        for entry in items(entries) {
            context.out.text(&printer.entry("ADDED", &list, entry))?;
        }
        let mut revision = Some(text(&list["metadata"]["resourceVersion"]));
        while let Some(from) = revision {
            revision = follow(context, request(context, get, target), from, &mut printer).await?;
        }
    }
}

/// One watch from a revision on. Returns where to resume; `None` if that revision is gone and only a new list helps.
async fn follow(
    context: &mut Context<'_>,
    request: Request,
    from: String,
    printer: &mut Printer,
) -> Result<Option<String>, Error> {
    let mut last = from;
    let mut watch = match context
        .client
        .watch(request.with("watch", "true").with("resourceVersion", &last))
        .await
    {
        Err(error) if error.refusal().is_some_and(|s| s.code == 410) => return Ok(None),
        opened => opened?,
    };
    while let Some(event) = watch.next().await? {
        let (kind, object) = (text(&event["type"]), &event["object"]);
        if kind == "ERROR" {
            let code = object["code"]
                .as_u64()
                .and_then(|c| u16::try_from(c).ok())
                .unwrap_or(500);
            let refused =
                client::Error::Refused(Box::new(Status::of(code, object.to_string().as_bytes())));
            return if code == 410 {
                Ok(None)
            } else {
                Err(refused.into())
            };
        }
        let entries = if printer.tabular() {
            items(&object["rows"])
        } else {
            std::slice::from_ref(object)
        };
        for entry in entries {
            let metadata = if printer.tabular() {
                &entry["object"]["metadata"]
            } else {
                &entry["metadata"]
            };
            last = Some(text(&metadata["resourceVersion"]))
                .filter(|r| !r.is_empty())
                .unwrap_or(last);
            if kind != "BOOKMARK" {
                context.out.text(&printer.entry(&kind, object, entry))?;
            }
        }
    }
    Ok(Some(last))
}

/// The list of everything a target selects; of a name too, because only a collection can be watched.
fn request(context: &Context<'_>, get: &Get, target: &Target) -> Request {
    let collection = Target {
        name: None,
        ..target.clone()
    };
    let request = get::request(context, get, &collection);
    let accept = matches!(get.output, GetForm::Table | GetForm::Wide).then_some(TABLE);
    let request = Request { accept, ..request };
    match &target.name {
        Some(name) => request.with("fieldSelector", format!("metadata.name={name}")),
        None => request,
    }
}

/// Writes entries one by one: rows of one table, or objects.
struct Printer {
    form: GetForm,
    layout: Layout,
    style: Style,
    widths: Widths,
    /// Whether the header is out.
    started: bool,
}

impl Printer {
    fn tabular(&self) -> bool {
        matches!(self.form, GetForm::Table | GetForm::Wide)
    }

    /// An entry as text: a row of `table`, or an object.
    fn entry(&mut self, event: &str, table: &Value, entry: &Value) -> String {
        match self.form {
            GetForm::Json => render::json(entry),
            GetForm::Yaml => format!("---\n{}", render::yaml(entry)),
            GetForm::Name => get::name(entry),
            GetForm::Table | GetForm::Wide => self.row(event, table, entry),
        }
    }

    fn row(&mut self, event: &str, table: &Value, row: &Value) -> String {
        let tone = match event {
            "ADDED" => Tone::Good,
            "DELETED" => Tone::Bad,
            _ => Tone::Warn,
        };
        let cells = std::iter::once(Cell::toned(tone, event)).chain(resources::cells(
            table,
            row,
            &self.layout,
        ));
        let header: Vec<String> = std::iter::once("EVENT".to_owned())
            .chain(resources::header(table, &self.layout))
            .collect();
        let header = (!std::mem::replace(&mut self.started, true)).then_some(header.as_slice());
        self.style
            .continued(header, vec![cells.collect()], &mut self.widths)
    }
}

#[cfg(test)]
mod tests;
