//! Output of services and tasks, gathered by the managers from the nodes they run on.

use std::io;

use bytes::Bytes;
use futures_util::StreamExt as _;
use prost_types::Timestamp;
use weft_engine::StreamKind;
use weft_wire::swarmkit::{
    LogAttr, LogMessage, LogSelector, LogStream, LogSubscriptionOptions, ServiceSpec, TaskSpec, task_spec,
};

use crate::containers::timestamp;
use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::frames;
use crate::request::Call;
use crate::response;
use crate::version::ApiVersion;

/// Details that tell where a line comes from; the managers' word counts, not the container's.
const NODE: &str = "com.docker.swarm.node.id";
const SERVICE: &str = "com.docker.swarm.service.id";
const TASK: &str = "com.docker.swarm.task.id";

/// The version that told framed streams by their content type.
const MULTIPLEXED_SINCE: ApiVersion = ApiVersion(1, 42);

pub(crate) async fn of_service(call: Call, term: String) -> ApiResult {
    check_streams(&call)?;
    let service = call.state.swarm.service(&term).await?;
    let tty = service.spec.as_ref().is_some_and(|spec: &ServiceSpec| has_tty(spec.task.as_ref()));
    let selector = LogSelector { service_ids: vec![service.id.clone()], ..LogSelector::default() };
    logs(call, selector, tty).await
}

pub(crate) async fn of_task(call: Call, term: String) -> ApiResult {
    check_streams(&call)?;
    let task = call.state.swarm.task(&term).await?;
    let selector = LogSelector { task_ids: vec![task.id.clone()], ..LogSelector::default() };
    logs(call, selector, has_tty(task.spec.as_ref())).await
}

/// Docker answers 500 here, unlike for containers.
fn check_streams(call: &Call) -> Result<(), ApiError> {
    if call.query.flag("stdout") || call.query.flag("stderr") {
        return Ok(());
    }
    Err(ApiError::system("Bad parameters: you must choose at least one stream"))
}

fn has_tty(spec: Option<&TaskSpec>) -> bool {
    match spec.and_then(|spec| spec.runtime.as_ref()) {
        Some(task_spec::Runtime::Container(container)) => container.tty,
        _ => false,
    }
}

async fn logs(call: Call, selector: LogSelector, tty: bool) -> ApiResult {
    let options = options(&call)?;
    let layout =
        Layout { details: call.query.flag("details"), timestamps: call.query.flag("timestamps"), tty };
    let content_type = frames::content_type(tty || call.version < MULTIPLEXED_SINCE);
    let messages = call.state.swarm.logs(selector, options).await?;
    let chunks = messages.map(move |message| match message {
        Ok(message) => Ok(layout.frame(&message)),
        // The head has gone out; Docker tells what is wrong in the stream.
        Err(error) => Ok::<_, io::Error>(frames::encode(
            StreamKind::Stderr,
            format!("Error grabbing logs: {error}\n").into(),
            tty,
        )),
    });
    Ok(response::stream(Some(content_type), chunks.take_until(call.state.events.ended())))
}

fn options(call: &Call) -> Result<LogSubscriptionOptions, ApiError> {
    let query = &call.query;
    let streams = [("stdout", LogStream::Stdout), ("stderr", LogStream::Stderr)];
    let wanted = streams.into_iter().filter(|(key, _)| query.flag(key)).map(|(_, stream)| stream.into());
    let since = timestamp(query.get("since"))?;
    Ok(LogSubscriptionOptions {
        streams: wanted.collect(),
        follow: query.flag("follow"),
        tail: tail(query.get("tail"))?,
        since: since.map(|(seconds, nanos)| Timestamp { seconds, nanos: nanos as i32 }),
    })
}

/// SwarmKit counts from the end with negative numbers, of which -1 is none; 0 is all.
fn tail(text: &str) -> Result<i64, ApiError> {
    if matches!(text, "" | "all") {
        return Ok(0);
    }
    let lines: i64 =
        text.parse().map_err(|_| ApiError::system("tail value must be a positive integer or \"all\""))?;
    if lines < 0 {
        return Err(ApiError::system("negative tail values not supported"));
    }
    Ok(-lines.saturating_add(1))
}

/// How lines are written.
#[derive(Clone, Copy)]
struct Layout {
    details: bool,
    timestamps: bool,
    tty: bool,
}

impl Layout {
    fn frame(self, message: &LogMessage) -> Bytes {
        let mut line = Vec::new();
        if self.timestamps {
            line.extend_from_slice(convert::rfc3339_fixed(message.timestamp.as_ref()).as_bytes());
            line.push(b' ');
        }
        if self.details {
            line.extend_from_slice(details(message).as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(&message.data);
        let kind = match message.stream() {
            LogStream::Stderr => StreamKind::Stderr,
            LogStream::Stdout | LogStream::Unknown => StreamKind::Stdout,
        };
        frames::encode(kind, line.into(), self.tty)
    }
}

fn details(message: &LogMessage) -> String {
    let context = message.context.clone().unwrap_or_default();
    let own = [(NODE, context.node_id), (SERVICE, context.service_id), (TASK, context.task_id)];
    let others = message.attrs.iter().filter(|a| !own.iter().any(|(key, _)| *key == a.key));
    let others = others.map(|LogAttr { key, value }| (key.as_str(), value.clone()));
    let pairs = others.chain(own.iter().map(|(key, value)| (*key, value.clone())));
    pairs.map(|(key, value)| format!("{}={}", escaped(key), escaped(&value))).collect::<Vec<_>>().join(",")
}

/// Go's `url.QueryEscape`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::LogContext;

    use super::*;

    fn message() -> LogMessage {
        LogMessage {
            context: Some(LogContext {
                service_id: "s".to_owned(),
                node_id: "n".to_owned(),
                task_id: "t".to_owned(),
            }),
            timestamp: Some(Timestamp { seconds: 1, nanos: 5 }),
            stream: LogStream::Stderr.into(),
            data: b"err 1\n".to_vec(),
            attrs: vec![
                LogAttr { key: "a b".to_owned(), value: "c,d".to_owned() },
                LogAttr { key: NODE.to_owned(), value: "forged".to_owned() },
            ],
        }
    }

    #[test]
    fn lines_look_as_recorded() {
        let plain = Layout { details: false, timestamps: false, tty: false };
        assert_eq!(&plain.frame(&message())[..], b"\x02\0\0\0\0\0\0\x06err 1\n");
        let full = Layout { details: true, timestamps: true, tty: true };
        assert_eq!(
            String::from_utf8(full.frame(&message()).to_vec()).unwrap(),
            "1970-01-01T00:00:01.000000005Z a+b=c%2Cd,com.docker.swarm.node.id=n,\
             com.docker.swarm.service.id=s,com.docker.swarm.task.id=t err 1\n"
        );
    }

    #[test]
    fn tails_count_from_the_end() {
        assert_eq!(tail("all").unwrap(), 0);
        assert_eq!(tail("0").unwrap(), -1);
        assert_eq!(tail("5").unwrap(), -6);
        assert_eq!(tail("-1").unwrap_err().message(), "negative tail values not supported");
        assert_eq!(tail("x").unwrap_err().message(), "tail value must be a positive integer or \"all\"");
    }
}
