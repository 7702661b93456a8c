//! `events`.

use clap::Args;
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use super::connection::{Call, Daemon};
use super::error::Outcome;
use super::stream;
use super::system::text;
use super::template::Template;

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Only what matches, for example type=container or event=start (repeatable)
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Also those since this time: RFC 3339, seconds, or how long ago, for example 10m
    #[arg(long)]
    since: Option<String>,
    /// End with this time
    #[arg(long)]
    until: Option<String>,
    /// json, or a template of Go's
    #[arg(long, value_name = "format")]
    format: Option<String>,
}

impl Events {
    pub(super) async fn execute(&self, daemon: &Daemon) -> Outcome {
        let template = match self.format.as_deref() {
            None | Some("" | "json") => None,
            Some(template) => Some(Template::parse(template)?),
        };
        let mut call = Call::get("/events").filters(&self.filter)?;
        for (name, time) in [("since", &self.since), ("until", &self.until)] {
            if let Some(time) = time {
                call = call.query(name, super::logs::moment(time)?);
            }
        }
        let body = BodyDataStream::new(daemon.call(call).await?.into_body()).map_err(std::io::Error::other);
        let mut lines = StreamReader::new(body).lines();
        while let Some(line) = lines.next_line().await? {
            match (&template, self.format.as_deref()) {
                (Some(template), _) => stream::line(&template.render(&serde_json::from_str(&line)?)?),
                (None, Some("json")) => stream::line(&line),
                (None, _) => stream::line(&sentence(&serde_json::from_str(&line)?)),
            }
        }
        Ok(0)
    }
}

/// docker's line: time, kind, what happened, to whom, and what is known of it.
fn sentence(event: &Value) -> String {
    let nanoseconds = event["timeNano"].as_i64().unwrap_or(0);
    let time = jiff::Timestamp::from_nanosecond(nanoseconds.into())
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string());
    let actor = &event["Actor"];
    let attributes = actor["Attributes"].as_object().into_iter().flatten();
    let attributes: Vec<String> = attributes.map(|(key, value)| format!("{key}={}", text(value))).collect();
    let mut line = format!(
        "{} {} {} {}",
        time.unwrap_or_default(),
        text(&event["Type"]),
        text(&event["Action"]),
        text(&actor["ID"])
    );
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_reads_like_dockers() {
        let event = json!({
            "Type": "container", "Action": "start", "timeNano": 1_700_000_000_000_000_001_i64,
            "Actor": {"ID": "abc", "Attributes": {"name": "c1", "image": "busybox"}},
        });
        let line = sentence(&event);
        assert!(line.contains(".000000001"), "{line}");
        assert!(line.ends_with(" container start abc (image=busybox, name=c1)"), "{line}");
    }
}
