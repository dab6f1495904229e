//! The log's lines: an event as one JSON object for machines, or as text for people.
//!
//! Written by hand and not by the formatters of tracing-subscriber, as each request leaves an event (docs/adr/0016).

use std::cell::{Cell, RefCell};
use std::fmt::{self, Debug, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::config::LogFormat;

/// Writes each event as a line.
pub(super) struct Lines<W> {
    format: LogFormat,
    /// The level is coloured.
    colours: bool,
    write: W,
}

impl<W: Fn(&str)> Lines<W> {
    /// `write` takes each line with its line feed. Colours are for text only.
    pub(super) fn new(format: LogFormat, colours: bool, write: W) -> Self {
        Self {
            format,
            colours,
            write,
        }
    }
}

impl<S: Subscriber, W: Fn(&str) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static LINE: Cell<String> = const { Cell::new(String::new()) };
        }
        // Taken, and not borrowed, since formatting a value may log. A thread that ends has none any more.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        match self.format {
            LogFormat::Json => json(event, &mut line),
            LogFormat::Text => text(event, self.colours, &mut line),
        }
        (self.write)(&line);
        let _ = LINE.try_with(|kept| kept.set(line));
    }
}

fn json(event: &Event<'_>, line: &mut String) {
    let metadata = event.metadata();
    line.push_str("{\"timestamp\":\"");
    push_now(line);
    line.push_str("\",\"level\":\"");
    line.push_str(metadata.level().as_str());
    line.push_str("\",\"target\":");
    push_string(line, metadata.target());
    super::request_id(|id| {
        line.push_str(",\"request_id\":");
        push_string(line, id);
    });
    event.record(&mut JsonFields(line));
    line.push_str("}\n");
}

struct JsonFields<'a>(&'a mut String);

impl JsonFields<'_> {
    fn key(&mut self, field: &Field) {
        self.0.push_str(",\"");
        let name = field.name();
        // What a library calls so must not stand twice in one object.
        if matches!(name, "timestamp" | "level" | "target" | "request_id") {
            self.0.push_str("field_");
        }
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn display(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        // Writing to a string doesn't fail, and what a value's own formatting says doesn't matter here.
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for JsonFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.key(field);
        self.0.push('"');
        let line = &mut *self.0;
        let escape = Escape::String;
        let _ = write!(Escaped { line, escape }, "{value:?}");
        self.0.push('"');
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.key(field);
        push_string(self.0, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for infinity.
        if value.is_finite() {
            self.display(field, value);
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.display(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.display(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.display(field, value);
    }
}

fn text(event: &Event<'_>, colours: bool, line: &mut String) {
    let metadata = event.metadata();
    push_now(line);
    line.push(' ');
    push_level(line, metadata, colours);
    line.push(' ');
    line.push_str(metadata.target());
    line.push(':');
    event.record(&mut TextFields(line));
    super::request_id(|id| {
        line.push_str(" request_id=");
        push_escaped(line, id, Escape::Control);
    });
    line.push('\n');
}

fn push_level(line: &mut String, metadata: &Metadata<'_>, colours: bool) {
    // ECMA-48, "select graphic rendition".
    let colour = match *metadata.level() {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    let level = metadata.level().as_str();
    let _ = if colours {
        write!(line, "\u{1b}[{colour}m{level:>5}\u{1b}[0m")
    } else {
        write!(line, "{level:>5}")
    };
}

struct TextFields<'a>(&'a mut String);

impl Visit for TextFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push(' ');
        if field.name() != "message" {
            self.0.push_str(field.name());
            self.0.push('=');
        }
        let line = &mut *self.0;
        let escape = Escape::Control;
        let _ = write!(Escaped { line, escape }, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.0.push(' ');
            self.0.push_str(field.name());
            self.0.push('=');
            push_string(self.0, value);
        }
    }
}

/// Escapes what is written into it.
struct Escaped<'a> {
    line: &'a mut String,
    escape: Escape,
}

/// What can't stand in a line as it is.
#[derive(Clone, Copy)]
enum Escape {
    /// What can't stand in a JSON string (RFC 8259, section 7).
    String,
    /// Only what would end the line or move the cursor of a terminal.
    Control,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.line, text, self.escape);
        Ok(())
    }
}

fn push_string(line: &mut String, text: &str) {
    line.push('"');
    push_escaped(line, text, Escape::String);
    line.push('"');
}

fn push_escaped(line: &mut String, text: &str, escape: Escape) {
    let special = |character: char| match character {
        '"' | '\\' => matches!(escape, Escape::String),
        _ => character.is_control(),
    };
    let mut rest = text;
    while let Some(at) = rest.find(special) {
        let (plain, from) = rest.split_at(at);
        line.push_str(plain);
        let mut characters = from.chars();
        match characters.next() {
            Some('\n') => line.push_str("\\n"),
            Some('\r') => line.push_str("\\r"),
            Some('\t') => line.push_str("\\t"),
            Some(mark @ ('"' | '\\')) => line.extend(['\\', mark]),
            Some(control) => {
                let _ = write!(line, "\\u{:04x}", u32::from(control));
            }
            None => {}
        }
        rest = characters.as_str();
    }
    line.push_str(rest);
}

/// The time as RFC 3339 has it, in UTC, with microseconds.
fn push_now(line: &mut String) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    push_time(line, now.as_secs(), now.subsec_micros());
}

fn push_time(line: &mut String, seconds: u64, micros: u32) {
    thread_local! {
        /// A second, and all of its text up to the fraction: most lines share it with the one before.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let _ = SECOND.try_with(|second| {
        let mut second = second.borrow_mut();
        if second.0 != seconds {
            let time = i64::try_from(seconds).ok();
            let time = time.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
            let time = time.unwrap_or_default().format("%Y-%m-%dT%H:%M:%S");
            *second = (seconds, time.to_string());
        }
        line.push_str(&second.1);
    });
    let _ = write!(line, ".{micros:06}Z");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&lines);
        let write = move |line: &str| sink.lock().unwrap().push_str(line);
        let subscriber = Registry::default().with(Lines::new(format, false, write));
        tracing::subscriber::with_default(subscriber, work);
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    fn without_time(line: &str) -> &str {
        let (time, rest) = line.split_at("2026-01-02T03:04:05.000006Z".len());
        DateTime::parse_from_rfc3339(time).unwrap();
        rest
    }

    fn event() {
        tracing::warn!(
            target: "some::target",
            text = "a \"quoted\"\nline \u{1b}[31m\u{9b}",
            count = 3,
            negative = -4_i64,
            yes = true,
            ratio = 0.25,
            infinite = f64::INFINITY,
            absent = None::<u64>,
            shown = %"d\r",
            debugged = ?Some("x\t"),
            level = "theirs",
            "what {} said",
            "it"
        );
    }

    #[test]
    fn an_event_is_one_json_object() {
        let line = logged(LogFormat::Json, event);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let object: Value = serde_json::from_str(&line).unwrap();
        without_time(&format!("{} ", object["timestamp"].as_str().unwrap()));
        let expected = json!({
            "timestamp": object["timestamp"],
            "level": "WARN",
            "target": "some::target",
            "message": "what it said",
            "text": "a \"quoted\"\nline \u{1b}[31m\u{9b}",
            "count": 3,
            "negative": -4,
            "yes": true,
            "ratio": 0.25,
            "infinite": "inf",
            "shown": "d\r",
            "debugged": "Some(\"x\\t\")",
            "field_level": "theirs",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn an_event_is_one_line_of_text() {
        let line = logged(LogFormat::Text, event);
        assert_eq!(
            without_time(&line),
            "  WARN some::target: what it said text=\"a \\\"quoted\\\"\\nline \\u001b[31m\\u009b\" count=3 \
             negative=-4 yes=true ratio=0.25 infinite=inf shown=d\\r debugged=Some(\"x\\t\") level=\"theirs\"\n"
        );
    }

    #[test]
    fn the_time_is_that_of_rfc_3339() {
        let time = |seconds, micros| {
            let mut line = String::new();
            push_time(&mut line, seconds, micros);
            line
        };
        assert_eq!(time(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(951_782_400, 42), "2000-02-29T00:00:00.000042Z");
        assert_eq!(time(951_782_400, 999_999), "2000-02-29T00:00:00.999999Z");
        assert_eq!(time(1_795_510_800, 7), "2026-11-24T09:00:00.000007Z");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_json_and_stays_on_its_line(text in any::<String>()) {
            let line = logged(LogFormat::Json, || tracing::info!(text));
            prop_assert!(!line.trim_end_matches('\n').contains(char::is_control));
            let object: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(object["text"].as_str(), Some(text.as_str()));
            let line = logged(LogFormat::Text, || tracing::info!(text));
            prop_assert!(!line.trim_end_matches('\n').contains(char::is_control));
        }
    }
}
