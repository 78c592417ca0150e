//! `meshctl get`: lists and single resources, in every form.
//!
//! *Invariant:* nothing is written before everything that was asked for has been read.

use serde_json::{Value, json};

use super::{Context, hint, watch};
use crate::cli::{Get, GetForm};
use crate::client::{Request, TABLE};
use crate::error::{Error, Exit};
use crate::output::Structured;
use crate::render::resources::{self, Layout};
use crate::render::{items, text};
use crate::target::{self, Resource, Target};

/// How many resources one request brings.
const PAGE: &str = "500";

pub(super) async fn run(context: &mut Context<'_>, get: &Get) -> Result<Exit, Error> {
    let targets = target::targets(&get.targets)?;
    if get.all_namespaces && targets.iter().any(|t| t.name.is_some()) {
        return Err(Error::Usage(
            "a resource cannot be named across all namespaces; leave the name or -A away".into(),
        ));
    }
    if get.watch {
        let [target] = targets.as_slice() else {
            return Err(Error::Usage(
                "only one kind, or one resource of it, can be watched at a time".into(),
            ));
        };
        return watch::run(context, get, target).await;
    }
    match get.output {
        GetForm::Json => structured(context, get, &targets, Structured::Json).await,
        GetForm::Yaml => structured(context, get, &targets, Structured::Yaml).await,
        GetForm::Name => names(context, get, &targets).await,
        GetForm::Table | GetForm::Wide => tables(context, get, &targets).await,
    }
}

/// The request for a target, or for one page of it.
pub(super) fn request(context: &Context<'_>, get: &Get, target: &Target) -> Request {
    let namespace = (!get.all_namespaces).then(|| context.namespace());
    let mut request = Request::get(&target.resource.path(namespace, target.name.as_deref()));
    if let Some(selector) = get.selector.as_ref().filter(|_| target.name.is_none()) {
        request = request.with("labelSelector", selector);
    }
    request
}

/// How tables look for these arguments.
pub(super) fn layout(get: &Get, resource: Resource) -> Layout {
    Layout {
        wide: get.output == GetForm::Wide,
        namespace: get.all_namespaces && resource.namespaced(),
        prefix: None,
        headless: get.no_headers,
    }
}

/// The answer for a target: an object, or the whole list, page by page. `entries` is where its elements are.
async fn read(
    context: &mut Context<'_>,
    get: &Get,
    target: &Target,
    entries: &str,
    accept: Option<&'static str>,
) -> Result<Value, Error> {
    let mut whole: Option<Value> = None;
    let mut next = String::new();
    loop {
        let mut request = Request {
            accept,
            ..request(context, get, target)
        };
        if target.name.is_none() {
            request = request.with("limit", PAGE);
            if !next.is_empty() {
                request = request.with("continue", &next);
            }
        }
        let mut page = match context.send(request).await {
            Ok(answer) => answer.body,
            Err(error) => {
                return Err(hint::not_found(context, context.namespace(), target, error).await);
            }
        };
        next = text(&page["metadata"]["continue"]);
        match (&mut whole, page[entries].take()) {
            (Some(whole), Value::Array(more)) => whole[entries]
                .as_array_mut()
                .into_iter()
                .for_each(|a| a.extend(more.clone())),
            (Some(_), _) => {}
            (none, first) => {
                if !first.is_null() {
                    page[entries] = first;
                }
                *none = Some(page);
            }
        }
        if target.name.is_some() || next.is_empty() {
            return Ok(whole.unwrap_or_default());
        }
    }
}

async fn tables(context: &mut Context<'_>, get: &Get, targets: &[Target]) -> Result<Exit, Error> {
    let mut kinds: Vec<Resource> = Vec::new();
    for target in targets {
        if !kinds.contains(&target.resource) {
            kinds.push(target.resource);
        }
    }
    let mut tables = Vec::new();
    for kind in &kinds {
        let mut table: Option<Value> = None;
        for target in targets.iter().filter(|t| t.resource == *kind) {
            let mut more = read(context, get, target, "rows", Some(TABLE)).await?;
            match &mut table {
                None => table = Some(more),
                Some(table) => {
                    let rows = table["rows"].as_array_mut();
                    rows.into_iter()
                        .for_each(|r| r.extend(items(&more["rows"].take()).to_vec()));
                }
            }
        }
        let prefix = (kinds.len() > 1).then(|| kind.qualified());
        let layout = Layout {
            prefix,
            ..layout(get, *kind)
        };
        let text = resources::table(&table.unwrap_or_default(), &layout, context.out.style);
        tables.extend((!text.is_empty()).then_some(text));
    }
    if tables.is_empty() {
        match get.all_namespaces || !kinds.iter().any(|k| k.namespaced()) {
            true => context.out.note("No resources found."),
            false => context.out.note(&format!(
                "No resources found in namespace {}.",
                context.namespace()
            )),
        }
    }
    context.out.text(&tables.join("\n"))?;
    Ok(Exit::Success)
}

/// The objects of all targets.
async fn objects(
    context: &mut Context<'_>,
    get: &Get,
    targets: &[Target],
) -> Result<Vec<Value>, Error> {
    let mut objects = Vec::new();
    for target in targets {
        let mut answer = read(context, get, target, "items", None).await?;
        match (&target.name, answer["items"].take()) {
            (None, Value::Array(items)) => {
                objects.extend(items.into_iter().map(|item| typed(item, target.resource)))
            }
            (None, _) => {}
            (Some(_), _) => {
                answer.as_object_mut().map(|o| o.shift_remove("items"));
                objects.push(answer);
            }
        }
    }
    Ok(objects)
}

/// An object that says what it is: items of a list need not.
fn typed(item: Value, resource: Resource) -> Value {
    let api_version = match resource {
        Resource::Kind(kind) => kind.api_version(),
        Resource::Namespace => "v1".into(),
    };
    let mut object = json!({"apiVersion": api_version, "kind": resource.name()});
    if let (Some(object), Value::Object(item)) = (object.as_object_mut(), item) {
        object.extend(item);
    }
    object
}

async fn structured(
    context: &mut Context<'_>,
    get: &Get,
    targets: &[Target],
    form: Structured,
) -> Result<Exit, Error> {
    let mut objects = objects(context, get, targets).await?;
    let single = matches!(targets, [Target { name: Some(_), .. }]);
    let value = if single {
        objects.remove(0)
    } else {
        json!({"apiVersion": "v1", "kind": "List", "items": objects})
    };
    context.out.value(&value, form)?;
    Ok(Exit::Success)
}

async fn names(context: &mut Context<'_>, get: &Get, targets: &[Target]) -> Result<Exit, Error> {
    let objects = objects(context, get, targets).await?;
    let lines: Vec<String> = objects.iter().map(name).collect();
    context.out.text(&lines.concat())?;
    Ok(Exit::Success)
}

/// `virtualservice.networking.istio.io/reviews` and a line break.
pub(super) fn name(object: &Value) -> String {
    let kind = text(&object["kind"]).to_ascii_lowercase();
    let group = text(&object["apiVersion"])
        .split_once('/')
        .map(|(group, _)| format!(".{group}"))
        .unwrap_or_default();
    format!("{kind}{group}/{}\n", text(&object["metadata"]["name"]))
}
