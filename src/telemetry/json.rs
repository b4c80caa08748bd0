//! Log lines as JSON objects.
//!
//! With the level `debug` every call logs a line, so formatting adds to the cost of a call. Fields are written directly
//! into the line; the library's own format uses a serializer and several strings.

use std::fmt::{self, Debug, Write as _};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// Writes one object for each line: time, level, the fields of the event, target. Spans are not used.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        line.write_str(r#"{"timestamp":""#)?;
        SystemTime.format_time(&mut line)?;
        line.write_str(r#"","level":""#)?;
        line.write_str(metadata.level().as_str())?;
        line.write_char('"')?;
        let mut fields = Fields { line: line.by_ref(), written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        line.write_str(r#","target":"#)?;
        write_text(&mut line, metadata.target())?;
        line.write_str("}\n")
    }
}

/// Appends the fields of an event.
struct Fields<'a> {
    line: Writer<'a>,
    written: fmt::Result,
}

impl Fields<'_> {
    fn add(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let line = &mut self.line;
        self.written = self.written.and_then(|()| {
            line.write_char(',')?;
            write_text(line, field.name())?;
            line.write_char(':')?;
            value(line)
        });
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        let finite = value.is_finite();
        self.add(
            field,
            |line| {
                if finite { write!(line, "{value:?}") } else { line.write_str("null") }
            },
        );
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |line| write!(line, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |line| write!(line, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |line| write_text(line, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, |line| {
            line.write_char('"')?;
            write!(Escaped(line), "{value:?}")?;
            line.write_char('"')
        });
    }
}

fn write_text(line: &mut Writer<'_>, text: &str) -> fmt::Result {
    line.write_char('"')?;
    Escaped(line).write_str(text)?;
    line.write_char('"')
}

/// Escapes text for a JSON string (RFC 8259, section 7).
struct Escaped<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Most text needs no escapes. The check by bytes is much faster than by characters.
        if !text.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
            return self.0.write_str(text);
        }
        let mut rest = text;
        while let Some(place) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
            let (fine, special) = rest.split_at(place);
            self.0.write_str(fine)?;
            let mut special = special.chars();
            match special.next() {
                Some('\n') => self.0.write_str("\\n")?,
                Some('\r') => self.0.write_str("\\r")?,
                Some('\t') => self.0.write_str("\\t")?,
                Some(quoted @ ('"' | '\\')) => write!(self.0, "\\{quoted}")?,
                Some(control) => write!(self.0, "\\u{:04x}", u32::from(control))?,
                None => {}
            }
            rest = special.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tracing_subscriber::{Layer as _, fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_equals_that_of_the_library() {
        let (ours, theirs) = (Lines::default(), Lines::default());
        let layer = |lines: &Lines| tracing_subscriber::fmt::layer().with_writer(lines.clone());
        let subscriber = tracing_subscriber::registry().with(vec![
            layer(&ours).event_format(JsonLines).boxed(),
            layer(&theirs).json().flatten_event(true).boxed(),
        ]);
        tracing::subscriber::with_default(subscriber, || {
            let all: String =
                (0..=0x7f_u8).map(char::from).chain("äß€😀\u{2028}".chars()).collect();
            tracing::info!(rpc.method = "a/b", text = &*all, shown = %all, debug = ?all, "call ended");
            tracing::warn!(
                yes = true,
                whole = -7,
                large = u64::MAX,
                wide = 7_u128,
                "numbers {}",
                7
            );
            tracing::error!(part = 0.5, no = f64::NAN, none = None::<&str>, some = Some(7));
            let error = io::Error::other("it \"failed\"");
            tracing::debug!(error = &error as &dyn std::error::Error, "");
        });
        let parsed = |lines: &Lines| -> Vec<Value> {
            let lines = lines.0.lock().unwrap();
            let lines = str::from_utf8(&lines).unwrap().lines();
            lines.map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let (mut ours, mut theirs) = (parsed(&ours), parsed(&theirs));
        assert_eq!(ours.len(), 4);
        for line in ours.iter_mut().chain(&mut theirs) {
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
        }
        assert_eq!(ours, theirs);
    }
}
