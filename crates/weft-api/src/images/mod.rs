//! `/images`.

mod older;
mod pull;
mod push;
mod transfer;

pub(crate) use push::push;
pub(crate) use transfer::auth;

use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use serde_json::{Value, json};

use weft_engine::CommitOptions;

use crate::containers::{progress_line, stream_error};
use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::{self, Body, ok};

/// Filters that `docker images` knows.
const LIST_FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(LIST_FILTERS)?;
    if let Some(bad) =
        filters.get("dangling").iter().find(|v| !matches!(v.as_str(), "0" | "1" | "true" | "false"))
    {
        return Err(ApiError::invalid(format!("invalid filter 'dangling=[{bad}]'")));
    }
    let images = call.state.engine.images().list(call.query.flag("all"), &filters.into_map())?;
    let mut images = serde_json::to_value(images).unwrap_or_default();
    for image in images.as_array_mut().into_iter().flatten() {
        summary(image);
        older::listed(call.version, image);
    }
    ok(&images)
}

/// Keys that Docker always sends: `null` or empty where it has nothing.
pub(crate) fn inspected(image: &mut Value) {
    let Some(map) = image.as_object_mut() else { return };
    for key in ["Parent", "Comment", "DockerVersion", "Author"] {
        map.entry(key).or_insert_with(|| "".into());
    }
    map.entry("RepoDigests").or_insert_with(|| json!([]));
    map.entry("RepoTags").or_insert_with(|| json!([]));
    let config = map.entry("Config").or_insert_with(|| json!({}));
    if let Some(config) = config.as_object_mut() {
        for key in ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"] {
            config.entry(key).or_insert(Value::Null);
        }
        for key in ["User", "WorkingDir"] {
            config.entry(key).or_insert_with(|| "".into());
        }
        if config["Volumes"].as_object().is_some_and(serde_json::Map::is_empty) {
            config.insert("Volumes".to_owned(), Value::Null);
        }
    }
}

/// The same of a list's entry.
pub(crate) fn summary(image: &mut Value) {
    if let Some(map) = image.as_object_mut() {
        if map.get("Labels").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
            map.insert("Labels".to_owned(), Value::Null);
        }
        for later in ["Manifests", "Descriptor", "VirtualSize"] {
            map.remove(later);
        }
    }
}

pub(crate) async fn inspect(call: Call, name: String) -> ApiResult {
    let mut image = serde_json::to_value(call.state.engine.images().inspect(&name)?).unwrap_or_default();
    inspected(&mut image);
    older::inspected(older::reader(call.version, &call.headers), &mut image);
    ok(&image)
}

pub(crate) async fn history(call: Call, name: String) -> ApiResult {
    let steps = call.state.engine.images().history(&name)?;
    let mut steps = serde_json::to_value(steps).unwrap_or_default();
    for step in steps.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if step.get("Tags").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            step.insert("Tags".to_owned(), Value::Null);
        }
    }
    ok(&steps)
}

/// `fromSrc`: import of a root file system. `fromImage`: pull.
pub(crate) async fn create(call: Call) -> ApiResult {
    if call.query.some("fromImage").is_some() {
        return pull::pull(call).await;
    }
    match call.query.get("fromSrc") {
        "-" => import(call).await,
        "" => Err(ApiError::invalid("fromSrc or fromImage is needed")),
        source => Err(ApiError::not_implemented(&format!("importing from {source}"))),
    }
}

async fn import(call: Call) -> ApiResult {
    let query = call.query.clone();
    let engine = call.state.engine.clone();
    let reference = query.some("repo").map(|repo| match query.some("tag") {
        Some(tag) => format!("{repo}:{tag}"),
        None => repo.to_owned(),
    });
    let changes = query.all("changes").to_vec();
    let body = call.into_byte_stream();
    let id = engine.images().import(body, reference.as_deref(), query.some("message"), &changes).await?;
    Ok(progress([json!({ "status": id })]))
}

pub(crate) async fn load(call: Call) -> ApiResult {
    let engine = call.state.engine.clone();
    let loaded = engine.images().load(call.into_byte_stream()).await;
    // Docker has sent its head by the time it reads the archive, so a broken one is an error inside the stream.
    Ok(match loaded {
        Ok(lines) => progress(lines.into_iter().map(|line| json!({ "stream": format!("{line}\n") }))),
        Err(error) => progress([stream_error(&error.to_string())]),
    })
}

fn progress(lines: impl IntoIterator<Item = Value>) -> Response<Body> {
    let lines: Vec<std::io::Result<Bytes>> = lines.into_iter().map(|line| Ok(progress_line(&line))).collect();
    response::stream(Some("application/json"), stream::iter(lines))
}

pub(crate) async fn save(call: Call, name: String) -> ApiResult {
    archive(&call, &[name]).await
}

pub(crate) async fn save_many(call: Call) -> ApiResult {
    archive(&call, call.query.all("names")).await
}

async fn archive(call: &Call, names: &[String]) -> ApiResult {
    let archive = call.state.engine.images().save(names).await?;
    Ok(response::stream(Some("application/x-tar"), archive))
}

pub(crate) async fn tag(call: Call, name: String) -> ApiResult {
    let tag = call.query.some("tag").unwrap_or("latest");
    call.state.engine.images().tag(&name, call.query.get("repo"), tag)?;
    Ok(response::empty(hyper::StatusCode::CREATED))
}

pub(crate) async fn remove(call: Call, name: String) -> ApiResult {
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    ok(&call.state.engine.images().remove(&name, force, no_prune)?)
}

pub(crate) async fn prune(call: Call) -> ApiResult {
    let filters = call.query.filters(&["dangling", "label", "label!", "until"])?;
    filters.flag("dangling")?;
    let (deleted, reclaimed) = call.state.engine.images().prune(&filters.into_map())?;
    call.state.events.publish_prune("image", reclaimed);
    let deleted = if deleted.is_empty() { Value::Null } else { json!(deleted) };
    ok(&json!({ "ImagesDeleted": deleted, "SpaceReclaimed": reclaimed }))
}

pub(crate) async fn commit(mut call: Call) -> ApiResult {
    let config = call.optional_json::<Value>().await?.filter(|config| !config.is_null());
    let text = |key: &str| call.query.get(key).to_owned();
    let options = CommitOptions {
        repo: text("repo"),
        tag: text("tag"),
        comment: text("comment"),
        author: text("author"),
        pause: call.query.all("pause").is_empty() || call.query.flag("pause"),
        changes: call.query.all("changes").to_vec(),
        config,
    };
    let id = call.state.engine.commit(call.query.get("container"), options).await?;
    response::created(&json!({ "Id": id }))
}
