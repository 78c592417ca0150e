//! The spans of a push: one for the whole, one for each class with one for each type, and one for each proxy that is named
//! with what it was sent and what it said.
//!
//! *Invariant:* a span is made when everything of it is known, with the times at which it happened.

use std::collections::BTreeMap;
use std::time::SystemTime;

use telemetry::trace::{self, Context, KeyValue, SpanKind, TraceContextExt};

use super::count;
use super::rounds::{Class, End, Named, OfType, Pushed, Report};

/// How many proxies one event names.
const TOGETHER: usize = 200;

/// Makes the spans.
pub(super) fn emit(report: &Report) {
    let missing = report.ended(End::Missing);
    let refused = report.ended(End::Nacked);
    let policies = &report.origin.policies;
    let mut attributes = policies.attributes();
    attributes.push(KeyValue::new("mesh.revision", report.origin.revision));
    let all = report.classes.values().map(|class| class.ended);
    attributes.extend(numbers(all));
    let types = report
        .classes
        .values()
        .flat_map(|class| class.types.values());
    attributes.extend(sizes(types));
    let span = trace::span("push", SpanKind::Producer)
        .with_start_time(report.began)
        .with_attributes(attributes)
        .with_links(report.origin.links.clone());
    let push = trace::start(span, &report.origin.parent);
    policies.name(&push);
    if refused + missing > 0 {
        trace::failed(
            &push,
            format!("{refused} proxies refused it, {missing} did not answer"),
        );
    }
    let mut classes = BTreeMap::new();
    for (id, class) in &report.classes {
        classes.insert(*id, of_class(report, *id, class, &push));
    }
    for named in &report.named {
        let class = classes.get(&named.class).unwrap_or(&push);
        proxy(report, named, class);
    }
    for (end, nodes) in &report.others {
        for some in nodes.chunks(TOGETHER) {
            let named = vec![
                KeyValue::new("proxy.outcome", outcome(*end)),
                KeyValue::new("proxy.ids", some.join(" ")),
            ];
            push.span()
                .add_event_with_timestamp("proxies", report.ended, named);
        }
    }
    push.span().end_with_timestamp(report.ended);
}

/// How many proxies there are, and how many ended how.
fn numbers(ended: impl Iterator<Item = [usize; 5]>) -> [KeyValue; 6] {
    let mut sums = [0; 5];
    for ended in ended {
        for (sum, number) in sums.iter_mut().zip(ended) {
            *sum += number;
        }
    }
    let [acked, nacked, gone, missing, cut] = sums.map(count);
    [
        KeyValue::new("proxies.total", count(sums.iter().sum())),
        KeyValue::new("proxies.acked", acked),
        KeyValue::new("proxies.nacked", nacked),
        KeyValue::new("proxies.disconnected", gone),
        KeyValue::new("proxies.missing", missing),
        KeyValue::new("proxies.cut_short", cut),
    ]
}

fn of_class(report: &Report, id: u64, class: &Class, push: &Context) -> Context {
    let mut attributes = vec![
        KeyValue::new("mesh.revision", report.origin.revision),
        KeyValue::new("proxies.class", i64::try_from(id).unwrap_or(i64::MAX)),
    ];
    attributes.extend(numbers(std::iter::once(class.ended)));
    attributes.extend(sizes(class.types.values()));
    let cx = started("push class", report.began, attributes, push);
    for (ty, of) in &class.types {
        let mut attributes = vec![
            KeyValue::new("xds.type", *ty),
            KeyValue::new("mesh.revision", report.origin.revision),
            KeyValue::new("proxies.total", count(of.proxies)),
            KeyValue::new("proxies.nacked", count(of.refused)),
        ];
        attributes.extend(sizes([of]));
        let span = started("push type", of.first, attributes, &cx);
        span.span().end_with_timestamp(of.last);
    }
    cx.span()
        .end_with_timestamp(class.last.unwrap_or(report.ended));
    cx
}

fn proxy(report: &Report, named: &Named, class: &Context) {
    let attributes = vec![
        KeyValue::new("proxy.id", named.node.to_string()),
        KeyValue::new("mesh.revision", report.origin.revision),
        KeyValue::new("proxy.outcome", outcome(named.end)),
    ];
    let cx = started("proxy", report.began, attributes, class);
    match named.end {
        End::Acked | End::Gone | End::CutShort => {}
        End::Nacked => trace::failed(&cx, "it refused what it was sent"),
        End::Missing => trace::failed(&cx, "it did not answer in time"),
    }
    for pushed in &named.pushed {
        response(report, named, pushed, &cx);
    }
    cx.span().end_with_timestamp(named.at);
}

/// What was sent of one type, and below it the answer.
fn response(report: &Report, named: &Named, pushed: &Pushed, proxy: &Context) {
    let policies = &report.origin.policies;
    let mut about = policies.attributes();
    about.extend([
        KeyValue::new("proxy.id", named.node.to_string()),
        KeyValue::new("xds.type", pushed.ty),
        KeyValue::new("mesh.revision", report.origin.revision),
    ]);
    let mut attributes = about.clone();
    attributes.extend([
        KeyValue::new("xds.version", pushed.version.clone()),
        KeyValue::new("xds.responses", count(pushed.responses)),
        KeyValue::new("xds.resources", count(pushed.resources)),
        KeyValue::new("xds.removed", count(pushed.removed)),
        KeyValue::new("xds.bytes", count(pushed.bytes)),
    ]);
    let cx = started("push response", pushed.sent, attributes, proxy);
    let end = pushed.answered.unwrap_or(named.at);
    if pushed.answered.is_some() || pushed.refusal.is_some() {
        let name = if pushed.refusal.is_some() {
            "NACK"
        } else {
            "ACK"
        };
        let answer = started(name, end, about, &cx);
        if let Some(reason) = &pushed.refusal {
            policies.name(&answer);
            let reason = KeyValue::new("xds.nack.reason", reason.clone());
            answer.span().set_attribute(reason);
            trace::failed(&answer, "NACK");
            trace::failed(&cx, "NACK");
        }
        answer.span().end_with_timestamp(end);
    }
    cx.span().end_with_timestamp(end);
}

fn started(
    name: &'static str,
    at: SystemTime,
    attributes: Vec<KeyValue>,
    parent: &Context,
) -> Context {
    let span = trace::span(name, SpanKind::Internal)
        .with_start_time(at)
        .with_attributes(attributes);
    trace::start(span, parent)
}

fn sizes<'a>(types: impl IntoIterator<Item = &'a OfType>) -> [KeyValue; 4] {
    let mut sums = [0; 4];
    for of in types {
        sums[0] += of.responses;
        sums[1] += of.resources;
        sums[2] += of.removed;
        sums[3] += of.bytes;
    }
    let [responses, resources, removed, bytes] = sums.map(count);
    [
        KeyValue::new("xds.responses", responses),
        KeyValue::new("xds.resources", resources),
        KeyValue::new("xds.removed", removed),
        KeyValue::new("xds.bytes", bytes),
    ]
}

fn outcome(end: End) -> &'static str {
    match end {
        End::Acked => "ACK",
        End::Nacked => "NACK",
        End::Gone => "disconnected",
        End::Missing => "missing",
        End::CutShort => "cut short",
    }
}
