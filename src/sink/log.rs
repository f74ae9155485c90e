//! Formats of log lines: one event is one line of text, or one JSON document on one line.

use super::{Notation, acts, line};
use std::fmt;
use std::io::{self, Stderr, Stdout};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer, format};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Destination of JSON lines.
pub fn stdout() -> Stdout {
    io::stdout()
}

/// Destination of text lines.
pub fn stderr() -> Stderr {
    super::end_passing();
    io::stderr()
}

/// Formats an event as a line of text.
#[derive(Debug, Clone, Copy)]
pub struct TextLine {
    /// Whether the level is coloured.
    pub colours: bool,
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        let inner = format().with_target(false).with_level(false).without_time();
        inner.format_event(context, Writer::new(&mut text), event)?;
        SystemTime.format_time(&mut writer)?;
        let level = *event.metadata().level();
        match colour(level).filter(|_| self.colours) {
            Some(colour) => write!(writer, " \u{1b}[{colour}m{level:>5}\u{1b}[0m ")?,
            None => write!(writer, " {level:>5} ")?,
        }
        writeln!(writer, "{}", line(text.trim_end_matches('\n')))
    }
}

/// The ANSI colour code of a level.
fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

/// Formats an event as a JSON document on one line.
#[derive(Debug, Clone)]
pub struct JsonLine(Format<Json>);

impl Default for JsonLine {
    fn default() -> Self {
        Self(format().json().with_current_span(false))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writeln!(writer, "{}", Notation::Json.escape(text.trim_end_matches('\n'), acts))
    }
}
