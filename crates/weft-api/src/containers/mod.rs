//! `/containers`.

mod create;
mod files;
pub(crate) mod shape;
mod streams;

pub(crate) use create::create;
pub(crate) use files::{archive, changes, export, extract, path_stat};
pub(crate) use streams::{attach, attach_websocket, logs, progress_line, stream_error, timestamp, wait};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use weft_engine::{ListOptions, RemoveOptions, StopOptions};

use crate::error::{ApiError, ApiResult};
use crate::request::{Call, typed};
use crate::response::{self, no_content, ok, ok_empty};

/// Filters that `docker ps` knows.
const LIST_FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(LIST_FILTERS)?;
    if let Some(state) = filters.get("status").iter().find(|s| !STATES.contains(&s.as_str())) {
        return Err(ApiError::invalid(format!(
            "invalid filter 'status={state}': invalid value for state ({state}): must be one of {}",
            STATES.join(", ")
        )));
    }
    let limit = call.query.integer("limit")?.unwrap_or(0).max(0);
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        size: call.query.flag("size"),
        filters: filters.into_map(),
    };
    let containers = call.state.engine.list(&options)?;
    let mut containers = serde_json::to_value(containers).unwrap_or_default();
    containers.as_array_mut().into_iter().flatten().for_each(shape::summary);
    ok(&containers)
}

/// States by Docker's names, in its order.
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub(crate) async fn inspect(call: Call, id: String) -> ApiResult {
    let container = call.state.engine.inspect(&id, call.query.flag("size"))?;
    let mut container = serde_json::to_value(container).unwrap_or_default();
    shape::inspect(&mut container);
    ok(&container)
}

pub(crate) async fn start(call: Call, id: String) -> ApiResult {
    call.state.engine.start(&id).await?;
    no_content()
}

pub(crate) async fn stop(call: Call, id: String) -> ApiResult {
    call.state.engine.stop(&id, stop_options(&call)?).await?;
    no_content()
}

pub(crate) async fn restart(call: Call, id: String) -> ApiResult {
    call.state.engine.restart(&id, stop_options(&call)?).await?;
    no_content()
}

fn stop_options(call: &Call) -> Result<StopOptions, ApiError> {
    Ok(StopOptions {
        signal: call.query.some("signal").map(str::to_owned),
        timeout: call.query.integer("t")?,
    })
}

pub(crate) async fn kill(call: Call, id: String) -> ApiResult {
    call.state.engine.kill(&id, call.query.some("signal")).await?;
    no_content()
}

pub(crate) async fn pause(call: Call, id: String) -> ApiResult {
    call.state.engine.pause(&id).await?;
    no_content()
}

pub(crate) async fn unpause(call: Call, id: String) -> ApiResult {
    call.state.engine.unpause(&id).await?;
    no_content()
}

pub(crate) async fn rename(call: Call, id: String) -> ApiResult {
    call.state.engine.rename(&id, call.query.get("name")).await?;
    no_content()
}

pub(crate) async fn remove(call: Call, id: String) -> ApiResult {
    if call.query.flag("link") {
        return Err(ApiError::not_implemented("removing a link"));
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    call.state.engine.remove(&id, options).await?;
    no_content()
}

pub(crate) async fn resize(call: Call, id: String) -> ApiResult {
    let (height, width) = terminal_size(&call)?;
    call.state.engine.resize(&id, height, width).await?;
    ok_empty()
}

/// `h` and `w`, in Docker's words when they are no numbers.
pub(crate) fn terminal_size(call: &Call) -> Result<(u16, u16), ApiError> {
    let size = |key: &str, name: &str| {
        let text = call.query.get(key);
        text.parse::<u32>()
            .map(|n| u16::try_from(n).unwrap_or(u16::MAX))
            .map_err(|_| ApiError::invalid(format!("invalid resize {name} {text:?}: invalid syntax")))
    };
    Ok((size("h", "height")?, size("w", "width")?))
}

pub(crate) async fn top(call: Call, id: String) -> ApiResult {
    let processes = call.state.engine.top(&id, call.query.get("ps_args")).await?;
    ok(&processes)
}

pub(crate) async fn prune(call: Call) -> ApiResult {
    let filters = call.query.filters(&["label", "label!", "until"])?.into_map();
    let (deleted, reclaimed) = call.state.engine.prune(&filters).await?;
    call.state.events.publish_prune("container", reclaimed);
    let deleted = if deleted.is_empty() { Value::Null } else { json!(deleted) };
    ok(&json!({ "ContainersDeleted": deleted, "SpaceReclaimed": reclaimed }))
}

pub(crate) async fn update(mut call: Call, id: String) -> ApiResult {
    let body: Value = call.optional_json().await?.unwrap_or_else(|| json!({}));
    let policy = body.pointer("/RestartPolicy/Name").and_then(Value::as_str).unwrap_or_default();
    create::check_restart_policy(policy)?;
    call.state.engine.update(&id, typed(body)?).await?;
    ok(&json!({ "Warnings": Value::Null }))
}

pub(crate) async fn stats(call: Call, id: String) -> ApiResult {
    let stream = call.query.all("stream").is_empty() || call.query.flag("stream");
    let one_shot = call.query.flag("one-shot");
    if stream && one_shot {
        return Err(ApiError::invalid("cannot have stream=true and one-shot=true"));
    }
    if !stream {
        return ok(&call.state.engine.stats_once(&id, one_shot).await?);
    }
    let looks = call.state.engine.stats(&id)?;
    // Docker names no type for this stream.
    Ok(response::stream(None, looks.map(|look| response::line(&look).map_err(std::io::Error::other))))
}
