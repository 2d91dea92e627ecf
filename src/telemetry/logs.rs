//! Logs on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::TelemetryError;

/// What is logged unless the filter says otherwise. The libraries below report each failing connection themselves;
/// the node says the same in its own words, once. Failed exports are reported by [`super::Spans`].
const QUIET: &str = "info,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,opentelemetry=off";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One compact line for a person.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging for the whole process.
///
/// `filter` is a level, or `target=level` pairs, or both, separated by commas; it is added to a default that logs
/// `info` and keeps the libraries quiet. Empty means that default.
///
/// # Errors
/// When the filter cannot be read, or logging has been started before.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let subscriber = subscriber(format, filter, stderr().is_terminal(), stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::LogsStarted)
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colours_possible: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Of two directives for one target the later holds, so that the operator's own come last.
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{filter}"))
        .map_err(|error| TelemetryError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish()),
        // Asking for colours explicitly would overrule NO_COLOR, so only their absence is asked for.
        LogFormat::Text if colours_possible => Box::new(lines.compact().finish()),
        LogFormat::Text => Box::new(lines.compact().with_ansi(false).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::subscriber::with_default;

    use super::*;
    use crate::chat::Trace;
    use crate::telemetry::trace_field;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, act: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        with_default(subscriber(format, filter, false, move || writer.clone()).unwrap(), act);
        let bytes = page.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_about_a_sampled_message_carries_its_trace_id() {
        let trace = Trace { trace_id: [0xab; 16], span_id: [1; 8] };
        let text = logged(LogFormat::Json, "", || {
            tracing::info!(trace_id = trace_field(Some(trace)), "refused");
            tracing::info!(trace_id = trace_field(None), "refused");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["trace_id"], "ab".repeat(16));
        assert_eq!(lines[0]["message"], "refused");
        assert_eq!(lines[1].get("trace_id"), None);
    }

    #[test]
    fn libraries_are_quiet_until_asked_for() {
        let chatter = || {
            tracing::info!(target: "h2::codec", "frame");
            tracing::warn!(target: "h2::codec", "trouble");
            tracing::error!(target: "opentelemetry_sdk", "export failed");
            tracing::debug!(target: "clique::node", "detail");
        };
        let quiet = logged(LogFormat::Text, "", chatter);
        assert!(!quiet.contains("frame") && quiet.contains("trouble"), "{quiet}");
        assert!(!quiet.contains("export failed") && !quiet.contains("detail"), "{quiet}");

        let detailed = logged(LogFormat::Text, "debug", chatter);
        assert!(!detailed.contains("frame") && detailed.contains("detail"), "{detailed}");

        let asked = logged(LogFormat::Text, "h2=info", chatter);
        assert!(asked.contains("frame") && !asked.contains("detail"), "{asked}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused_with_advice() {
        let Err(error) = subscriber(LogFormat::Text, "clique=loud", false, stderr) else {
            panic!("the filter should be refused");
        };
        assert!(error.to_string().contains("target=level"), "{error}");
    }
}
