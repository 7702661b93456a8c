//! A container's log as the managers want it: lines with their time.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use weft_engine::{Engine, EngineError, LogOptions, StreamKind};
use weft_wire::swarmkit::{LogStream, LogSubscriptionOptions};

use crate::task::runtime::LogLine;

/// Lines that may wait for a slow reader.
const DEPTH: usize = 64;

/// Begins to read.
pub(super) async fn read(
    engine: &Engine,
    container: &str,
    options: &LogSubscriptionOptions,
) -> Result<mpsc::Receiver<LogLine>, EngineError> {
    let mut stream = engine.logs(container, wanted(options)).await?;
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        while let Some(Ok((kind, bytes))) = stream.output.next().await {
            if sender.send(line(kind, &bytes)).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The subscription's options as the engine's.
fn wanted(options: &LogSubscriptionOptions) -> LogOptions {
    let streams: Vec<LogStream> = options.streams().collect();
    let wants = |stream| streams.is_empty() || streams.contains(&stream);
    LogOptions {
        stdout: wants(LogStream::Stdout),
        stderr: wants(LogStream::Stderr),
        follow: options.follow,
        timestamps: true,
        details: false,
        since: options.since.as_ref().map(|since| (since.seconds, u32::try_from(since.nanos).unwrap_or(0))),
        until: None,
        tail: tail(options.tail),
    }
}

/// SwarmKit counts from -1: 0 means all lines, -1 none, -2 the last one, and so on.
fn tail(tail: i64) -> Option<usize> {
    (tail < 0).then(|| usize::try_from(-(tail + 1)).unwrap_or(usize::MAX))
}

/// A line with its time in front.
fn line(kind: StreamKind, bytes: &Bytes) -> LogLine {
    let stream = match kind {
        StreamKind::Stderr => LogStream::Stderr,
        StreamKind::Stdin | StreamKind::Stdout => LogStream::Stdout,
    };
    let split = bytes.iter().position(|byte| *byte == b' ');
    let stamped = split.and_then(|at| Some((at, time(std::str::from_utf8(&bytes[..at]).ok()?)?)));
    match stamped {
        Some((at, time)) => LogLine { stream, time: Some(time), data: bytes.slice(at + 1..) },
        None => LogLine { stream, time: None, data: bytes.clone() },
    }
}

fn time(text: &str) -> Option<SystemTime> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    let nanos = u64::try_from(parsed.as_nanosecond()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_count_from_minus_one() {
        assert_eq!([0, -1, -2, -11].map(tail), [None, Some(0), Some(1), Some(10)]);
    }

    #[test]
    fn a_lines_time_is_taken_off() {
        let read = line(StreamKind::Stderr, &Bytes::from_static(b"1970-01-01T00:00:02.5Z a b\n"));
        assert_eq!(read.stream, LogStream::Stderr);
        assert_eq!(read.time, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(2500)));
        assert_eq!(&read.data[..], b"a b\n");
        assert_eq!(line(StreamKind::Stdout, &Bytes::from_static(b"odd")).time, None);
    }
}
