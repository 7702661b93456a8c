//! Streams of containers: attach, logs, and the end awaited by `wait`.

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use weft_engine::{AttachOptions, LogOptions, WaitCondition};

use crate::error::{ApiError, ApiResult};
use crate::frames;
use crate::hijack::{self, BareHeaders};
use crate::request::Call;
use crate::response;
use crate::version::ApiVersion;
use crate::websocket::{self, Handshake};

/// Wording of Docker for logs without a stream.
const NO_STREAM: &str = "Bad parameters: you must choose at least one stream";

/// The first version in which a web socket has the streams that are asked for.
const CHOSEN_STREAMS: ApiVersion = ApiVersion(1, 42);

pub(crate) async fn attach(call: Call, id: String) -> ApiResult {
    let options = AttachOptions {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
    };
    let streams = call.state.engine.attach(&id, options).await?;
    let mut response = hijack::answer(call, streams.tty, std::future::ready(streams)).await?;
    response.extensions_mut().insert(BareHeaders);
    Ok(response)
}

pub(crate) async fn attach_websocket(call: Call, id: String) -> ApiResult {
    let handshake = Handshake::of(&call)?;
    // Older clients get all streams, whatever they ask for.
    let wants = |stream| call.version < CHOSEN_STREAMS || call.query.flag(stream);
    let options = AttachOptions {
        stdin: wants("stdin"),
        stdout: wants("stdout"),
        stderr: wants("stderr"),
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
    };
    let streams = call.state.engine.attach(&id, options).await?;
    let mut response = websocket::answer(call, handshake, streams)?;
    response.extensions_mut().insert(BareHeaders);
    Ok(response)
}

pub(crate) async fn logs(call: Call, id: String) -> ApiResult {
    let options = log_options(&call)?;
    let log = call.state.engine.logs(&id, options).await?;
    let tty = log.tty;
    let chunks = log.output.map(move |chunk| chunk.map(|(kind, payload)| frames::encode(kind, payload, tty)));
    Ok(response::stream(Some(frames::content_type(tty)), chunks))
}

fn log_options(call: &Call) -> Result<LogOptions, ApiError> {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid(NO_STREAM));
    }
    Ok(LogOptions {
        stdout,
        stderr,
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        since: timestamp(query.get("since"))?,
        until: timestamp(query.get("until"))?,
        // What is no number means all, as Docker has it.
        tail: query.get("tail").parse().ok(),
    })
}

/// `seconds[.nanoseconds]` since the epoch; 0 is no limit.
pub(crate) fn timestamp(text: &str) -> Result<Option<(i64, u32)>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let refused =
        |part: &str| ApiError::system(format!("strconv.ParseInt: parsing {part:?}: invalid syntax"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| refused(seconds))?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().map_err(|_| refused(fraction))?;
    Ok(Some((seconds, nanos)).filter(|at| *at != (0, 0)))
}

/// The head of the answer goes out at once: `docker run` starts the container only when it has seen it.
pub(crate) async fn wait(call: Call, id: String) -> ApiResult {
    let condition = match call.query.get("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    };
    let ended = call.state.engine.wait(&id, condition)?;
    let body = futures_util::stream::once(async move {
        let result = ended.await;
        // Why a start failed is told by the answer to the start; Docker repeats it here no more.
        let answer = json!({ "StatusCode": result.status_code });
        response::line(&answer).map_err(std::io::Error::other)
    });
    Ok(response::stream(Some("application/json"), body))
}

/// The body of an error inside a stream whose head has gone out with 200.
pub(crate) fn stream_error(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

/// A line of a progress stream; Docker ends them with CR LF.
pub(crate) fn progress_line(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push_str("\r\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_fractions() {
        assert_eq!(timestamp("").unwrap(), None);
        assert_eq!(timestamp("0").unwrap(), None);
        assert_eq!(timestamp("5.25").unwrap(), Some((5, 250_000_000)));
        assert_eq!(timestamp("5.000000001").unwrap(), Some((5, 1)));
        assert_eq!(
            timestamp("abc").unwrap_err().message(),
            "strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
    }
}
