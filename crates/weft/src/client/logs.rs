//! `logs`.

use clap::Args;
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use tokio_util::io::StreamReader;

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::stream;

#[derive(Debug, Args)]
pub(super) struct Logs {
    container: String,
    #[arg(short, long)]
    follow: bool,
    #[arg(short, long)]
    timestamps: bool,
    /// Number of lines from the end
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// Only since this time: RFC 3339, seconds, or how long ago, for example 10m
    #[arg(long)]
    since: Option<String>,
    /// Only until this time
    #[arg(long)]
    until: Option<String>,
    /// With what the log driver was told to add
    #[arg(long)]
    details: bool,
}

impl Logs {
    pub(super) async fn execute(&self, daemon: &Daemon) -> Outcome {
        let name = escape(&self.container);
        let mut call = Call::get(format!("/containers/{name}/logs"))
            .query("stdout", 1)
            .query("stderr", 1)
            .query("tail", &self.tail)
            .query_if(self.follow, "follow", 1)
            .query_if(self.timestamps, "timestamps", 1)
            .query_if(self.details, "details", 1);
        for (key, time) in [("since", &self.since), ("until", &self.until)] {
            if let Some(time) = time {
                call = call.query(key, moment(time)?);
            }
        }
        let container = daemon.json(Call::get(format!("/containers/{name}/json"))).await?;
        let response = daemon.call(call).await?;
        let reader =
            StreamReader::new(BodyDataStream::new(response.into_body()).map_err(std::io::Error::other));
        stream::print(reader, container["Config"]["Tty"] == true).await?;
        Ok(0)
    }
}

/// A moment as the API wants it, seconds with a fraction, from what docker takes: RFC 3339 with or without a zone or a time,
/// seconds since 1970, or how long ago (`1h30m`).
pub(super) fn moment(text: &str) -> Result<String, ClientError> {
    let bad = || {
        ClientError::Usage(format!(
            "invalid time {text:?}: want RFC 3339, seconds since 1970, or how long ago, for example 10m"
        ))
    };
    if text.chars().all(|c| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    if let Some(ago) = duration(text) {
        return jiff::Timestamp::now().checked_sub(ago).map(api_time).map_err(|_| bad());
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(api_time(at));
    }
    // Without a zone it is the user's.
    let local: jiff::civil::DateTime = text.parse().map_err(|_| bad())?;
    Ok(api_time(local.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| bad())?.timestamp()))
}

fn api_time(at: jiff::Timestamp) -> String {
    format!("{}.{:09}", at.as_second(), at.subsec_nanosecond())
}

/// Go's form of a duration: `1h30m`, `90s`, `500ms`.
fn duration(text: &str) -> Option<jiff::SignedDuration> {
    let (mut rest, mut milliseconds) = (text, 0_i64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let (unit, length) = match &rest[digits..] {
            unit if unit.starts_with("ms") => (1, 2),
            unit if unit.starts_with('h') => (3_600_000, 1),
            unit if unit.starts_with('m') => (60_000, 1),
            unit if unit.starts_with('s') => (1000, 1),
            _ => return None,
        };
        milliseconds = milliseconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + length..];
    }
    (!text.is_empty()).then(|| jiff::SignedDuration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_all_of_dockers_forms() {
        assert_eq!(moment("1700000000.5").unwrap(), "1700000000.5");
        assert_eq!(moment("2023-11-14T22:13:20Z").unwrap(), "1700000000.000000000");
        assert_eq!(moment("2023-11-14T22:13:20.5+00:00").unwrap(), "1700000000.500000000");
        assert_eq!(duration("1h30m5s"), Some(jiff::SignedDuration::from_secs(5405)));
        assert!(duration("10").is_none() && duration("").is_none() && duration("1y").is_none());
        assert!(moment("2023-11-14").is_ok() && moment("2023-11-14T10:00:00").is_ok());
        assert!(moment("yesterday").is_err());
    }
}
