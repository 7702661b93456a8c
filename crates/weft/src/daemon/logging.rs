//! Structured logs on standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Overrides the level per module, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "WEFT_LOG";

/// Starts logging for this process; later calls change nothing.
pub(crate) fn start(level: tracing::Level, json: bool) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::from_level(level).into())
        .with_env_var(FILTER_VARIABLE)
        .from_env_lossy()
        // Below warnings these two speak of every packet and every heartbeat.
        .add_directive_if_absent("openraft=warn")
        .add_directive_if_absent("h2=warn");
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let outcome = if json { builder.json().try_init() } else { builder.try_init() };
    if outcome.is_err() {
        tracing::debug!("logging was started before");
    }
}

trait DirectiveIfAbsent {
    fn add_directive_if_absent(self, directive: &str) -> Self;
}

impl DirectiveIfAbsent for EnvFilter {
    fn add_directive_if_absent(self, directive: &str) -> Self {
        let target = directive.split('=').next().unwrap_or(directive);
        if std::env::var(FILTER_VARIABLE).is_ok_and(|text| text.contains(target)) {
            return self;
        }
        match directive.parse() {
            Ok(parsed) => self.add_directive(parsed),
            Err(_) => self,
        }
    }
}
