//! Logs: text on a terminal, JSON elsewhere; each line with the ids of the trace and the span that it belongs to.

use std::fmt;
use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use opentelemetry_otlp::ExporterBuildError;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{DefaultFields, Format as Lines, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::trace::{self, Traces};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text if standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// The flags of logging, flattened into a service's own.
#[derive(Args, Clone, Debug)]
pub struct LogOptions {
    /// What to log: a level, or directives such as `info,xds=debug`
    #[arg(long, env = "WEFT_LOG", default_value = "info", global = true)]
    pub log: String,
    /// How log lines look
    #[arg(long, env = "WEFT_LOG_FORMAT", default_value = "auto", global = true)]
    pub log_format: Format,
}

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `--log` holds no valid directives.
    #[error("--log {directives:?} is not a level or a list of target=level directives")]
    Directives {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has a subscriber already.
    #[error("logging was started twice")]
    Twice,
    /// The `OTEL_*` variables.
    #[error("traces cannot be exported as the OTEL_* variables say: {0}")]
    Traces(#[from] ExporterBuildError),
}

/// Starts logging to standard error, and tracing as the `OTEL_*` variables say. The process must have a default TLS provider, and
/// runs in tokio.
///
/// # Errors
/// If the directives cannot be parsed, logging was started before, or the variables name what cannot be exported to.
pub fn init(options: &LogOptions, service: &'static str) -> Result<Traces, InitError> {
    let filter = EnvFilter::try_new(&options.log).map_err(|source| InitError::Directives {
        directives: options.log.clone(),
        source,
    })?;
    // Its news are that it began; what goes wrong it warns of.
    let filter = match options.log.contains("opentelemetry") {
        true => filter,
        false => filter.add_directive(QUIET.parse().expect("it is a directive")),
    };
    let json = match options.log_format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if json {
        builder
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines::new())
            .try_init()
    } else {
        builder.fmt_fields(TextFields).try_init()
    };
    started.map_err(|_| InitError::Twice)?;
    Ok(Traces::start(service)?)
}

/// What is logged of OpenTelemetry unless `--log` says.
const QUIET: &str = "opentelemetry=warn";

/// JSON with `trace_id` and `span_id` beside the rest.
struct JsonLines(Lines<Json>);

impl JsonLines {
    fn new() -> Self {
        let lines = tracing_subscriber::fmt::format().json();
        Self(lines.flatten_event(true).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(span) = trace::current() else {
            return self.0.format_event(cx, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(cx, Writer::new(&mut line), event)?;
        let line = line.trim_end().trim_end_matches('}');
        let (trace, span) = (span.trace_id(), span.span_id());
        writeln!(
            writer,
            r#"{line},"trace_id":"{trace}","span_id":"{span}"}}"#
        )
    }
}

/// Fields in text, the ids after the others.
struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        DefaultFields::new().format_fields(writer.by_ref(), fields)?;
        match trace::current() {
            None => Ok(()),
            Some(span) => write!(
                writer,
                " trace_id={} span_id={}",
                span.trace_id(),
                span.span_id()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing::subscriber::with_default;

    use super::*;
    use crate::trace::Carried;

    /// What is logged, in and out of a trace.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(subscriber: impl FnOnce(Buffer) -> Box<dyn Subscriber + Send + Sync>) -> Vec<String> {
        let buffer = Buffer::default();
        with_default(subscriber(buffer.clone()), || {
            tracing::info!(a = "}", "outside");
            let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            let carried = Carried {
                traceparent: Some(parent.into()),
                tracestate: None,
            };
            let _inside = carried.context().attach();
            tracing::info!(a = "}", "inside");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn lines_of_json_hold_the_ids() {
        let lines = logged(|buffer| {
            let builder = tracing_subscriber::fmt()
                .fmt_fields(JsonFields::new())
                .event_format(JsonLines::new());
            Box::new(builder.with_writer(move || buffer.clone()).finish())
        });
        let lines: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0].get("trace_id"), None);
        assert_eq!(
            (&lines[1]["message"], &lines[1]["a"]),
            (&json!("inside"), &json!("}"))
        );
        assert_eq!(lines[1]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(lines[1]["span_id"], "00f067aa0ba902b7");
    }

    #[test]
    fn lines_of_text_hold_the_ids() {
        let lines = logged(|buffer| {
            let builder = tracing_subscriber::fmt().fmt_fields(TextFields);
            Box::new(builder.with_writer(move || buffer.clone()).finish())
        });
        assert!(!lines[0].contains("trace_id"), "{lines:?}");
        let ids = "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7";
        assert!(lines[1].ends_with(ids), "{lines:?}");
    }
}
