//! What a pull or push tells while it goes on, in the lines of Docker's progress stream.

use serde::Serialize;
use tokio::sync::mpsc;

/// Where lines of progress go. Nobody has to listen.
pub type ProgressSink = mpsc::UnboundedSender<Progress>;

/// One line; its JSON is Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// `Pulling fs layer`, `Digest: sha256:…`, …; empty on a line that is for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Bytes done; present and empty on lines about layers that have no amount.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub detail: Option<ProgressDetail>,
    /// The amounts as a bar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Layer or tag that the line is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What came of it, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Pushed>,
}

/// What was pushed under a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pushed {
    /// The tag.
    pub tag: String,
    /// Digest of the manifest, `sha256:…`.
    pub digest: String,
    /// Length of the manifest in bytes.
    pub size: u64,
}

/// Bytes done of bytes to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ProgressDetail {
    /// Done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// To do.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Progress {
    pub(super) fn message(status: impl Into<String>) -> Self {
        Self { status: status.into(), detail: None, progress: None, id: None, aux: None }
    }

    pub(super) fn about(id: &str, status: impl Into<String>) -> Self {
        Self { id: Some(id.to_owned()), ..Self::message(status) }
    }

    pub(super) fn layer(id: &str, status: impl Into<String>) -> Self {
        Self { detail: Some(ProgressDetail::default()), ..Self::about(id, status) }
    }

    pub(super) fn aux(pushed: Pushed) -> Self {
        Self { detail: Some(ProgressDetail::default()), aux: Some(pushed), ..Self::message("") }
    }

    pub(super) fn amount(id: &str, status: &str, current: u64, total: u64) -> Self {
        Self {
            detail: Some(ProgressDetail { current, total }),
            progress: Some(bar(current, total)),
            ..Self::about(id, status)
        }
    }
}

/// `[=====>      ]  1.2MB/5MB`, fifty characters wide.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: usize = 50;
    if total == 0 || current > total {
        return format!("{:>8}", human_size(current));
    }
    let done = ((current as f64 / total as f64 * 100.0) as usize / 2).min(WIDTH);
    let (done, rest) = ("=".repeat(done), " ".repeat(WIDTH - done));
    format!("[{done}>{rest}] {:>8}/{}", human_size(current), human_size(total))
}

/// Four significant digits, powers of a thousand.
fn human_size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = 3usize.saturating_sub(if value >= 1.0 { value.log10() as usize } else { 0 });
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let json = |line: &Progress| serde_json::to_string(line).unwrap();
        assert_eq!(
            json(&Progress::amount("68d29ff19520", "Downloading", 36445, 1_083_528)),
            r#"{"status":"Downloading","progressDetail":{"current":36445,"total":1083528},"progress":"[=\u003e                                                 ]  36.45kB/1.084MB","id":"68d29ff19520"}"#
                .replace("\\u003e", ">")
        );
        assert_eq!(
            json(&Progress::amount("a", "Extracting", 1_083_528, 1_083_528)),
            r#"{"status":"Extracting","progressDetail":{"current":1083528,"total":1083528},"progress":"[==================================================>]  1.084MB/1.084MB","id":"a"}"#
        );
        assert_eq!(
            json(&Progress::layer("a", "Pulling fs layer")),
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#
        );
        assert_eq!(json(&Progress::message("Digest: d")), r#"{"status":"Digest: d"}"#);
        let pushed = Pushed { tag: "t".to_owned(), digest: "d".to_owned(), size: 1 };
        assert_eq!(
            json(&Progress::aux(pushed)),
            r#"{"progressDetail":{},"aux":{"Tag":"t","Digest":"d","Size":1}}"#
        );
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (1000, "1kB"), (32768, "32.77kB"), (120_000_000, "120MB")]
        {
            assert_eq!(human_size(bytes), text);
        }
    }
}
