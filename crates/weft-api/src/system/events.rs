//! `GET /events`: what is remembered since a time, then what happens, until a time or for ever.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::containers::timestamp;
use crate::error::{ApiError, ApiResult};
use crate::event_hub::{ApiEvent, since_epoch};
use crate::filters::Filters;
use crate::request::Call;
use crate::response::{self, line};

pub(crate) async fn events(call: Call) -> ApiResult {
    // Docker passes over keys that it does not know.
    let filters = Filters::parse(call.query.get("filters"))?;
    let (since, until) = (moment(call.query.get("since"))?, moment(call.query.get("until"))?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.query.get("since"),
            call.query.get("until")
        )));
    }
    let (history, live) = call.state.events.subscribe();
    let wants_past = since.is_some() || until.is_some();
    let past = history.into_iter().filter(move |event| {
        wants_past && since.is_none_or(|s| event.time >= s) && until.is_none_or(|u| event.time <= u)
    });
    let now = since_epoch(SystemTime::now());
    let end = until.and_then(|until| end(until, now));
    let shown = stream::iter(past.collect::<Vec<_>>())
        .chain(live_events(live, end))
        .take_until(call.state.events.ended());
    let lines = shown.filter_map(move |event| {
        let wanted = matches(&event, &filters);
        async move { wanted.then(|| encode(&event)) }
    });
    Ok(response::stream(Some("application/json"), lines))
}

fn moment(text: &str) -> Result<Option<Duration>, ApiError> {
    let at = timestamp(text)?;
    Ok(at.map(|(seconds, nanos)| Duration::new(u64::try_from(seconds).unwrap_or(0), nanos)))
}

/// When the clock shows `until`, both since the epoch; none if it never will.
fn end(until: Duration, now: Duration) -> Option<Instant> {
    Instant::now().checked_add(until.saturating_sub(now))
}

fn encode(event: &ApiEvent) -> io::Result<Bytes> {
    line(&event.to_json()).map_err(io::Error::other)
}

/// Until `end`, or until the hub is gone.
fn live_events(
    receiver: broadcast::Receiver<ApiEvent>,
    end: Option<Instant>,
) -> impl Stream<Item = ApiEvent> {
    stream::unfold(receiver, move |mut receiver| async move {
        loop {
            let received = match end {
                Some(end) => tokio::time::timeout_at(end, receiver.recv()).await.ok()?,
                None => receiver.recv().await,
            };
            match received {
                Ok(event) => return Some((event, receiver)),
                Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "a slow client lost events"),
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

/// Docker's rules: an object matches by the beginning of its id or name, actions also by what stands before their colon.
fn matches(event: &ApiEvent, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let is = |wanted: &str| !wanted.is_empty() && (event.id.starts_with(wanted) || name.starts_with(wanted));
    let action = event.action.split(':').next().unwrap_or_default();
    let of_type = |key: &str| !filters.has(key) || (event.typ == key && filters.any(key, is));
    let image = |wanted: &str| {
        event.id == wanted
            || name == wanted
            || event.attributes.get("image").is_some_and(|image| image == wanted)
    };
    filters.any("type", |wanted| event.typ == wanted)
        && filters.any("event", |wanted| event.action == wanted || action == wanted)
        && filters.any("scope", |wanted| event.scope == wanted)
        && ["container", "network", "volume", "node", "service", "secret", "config", "plugin", "daemon"]
            .iter()
            .all(|key| of_type(key))
        && filters.any("image", image)
        && filters.labels_match(&event.attributes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_time_that_no_clock_will_show_is_no_end() {
        let until = moment("9223372036854775807.999999999").unwrap().unwrap();
        assert!(end(until, Duration::ZERO).is_none());
        assert!(end(Duration::from_secs(5), Duration::from_secs(9)).is_some());
    }

    fn start() -> ApiEvent {
        ApiEvent {
            typ: "container",
            action: "exec_create: sh".to_owned(),
            id: "abcdef".to_owned(),
            attributes: BTreeMap::from([("name".to_owned(), "web".to_owned())]),
            scope: "local",
            time: Duration::ZERO,
        }
    }

    #[test]
    fn filters_narrow_by_type_action_object_and_label() {
        let at = |text: &str| matches(&start(), &Filters::parse(text).unwrap());
        for yes in [
            "",
            r#"{"type":["container"]}"#,
            r#"{"event":["exec_create"]}"#,
            r#"{"container":["web"]}"#,
            r#"{"container":["abcd"]}"#,
            r#"{"label":["name=web"]}"#,
        ] {
            assert!(at(yes), "{yes}");
        }
        for no in [
            r#"{"type":["network"]}"#,
            r#"{"event":["start"]}"#,
            r#"{"container":["db"]}"#,
            r#"{"network":["web"]}"#,
            r#"{"scope":["swarm"]}"#,
        ] {
            assert!(!at(no), "{no}");
        }
    }
}
