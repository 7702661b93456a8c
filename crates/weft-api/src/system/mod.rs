//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`.

mod events;
mod host;
mod info;

pub(crate) use events::events;
pub(crate) use host::go_arch;
pub(crate) use info::info;

use bollard_stubs::models::ContainerSummary;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA};
use serde_json::{Map, Value, json};
use weft_engine::{Engine, ListOptions};

use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::{full, ok};
use crate::state::ApiState;
use crate::swarm_backend::{LocalNodeState, SwarmStatus};
use crate::version::ApiVersion;

/// Clients negotiate by it. `Builder-Version: 1` keeps the command line from looking for BuildKit.
pub(crate) async fn ping(call: Call, with_body: bool) -> ApiResult {
    let mut response = Response::new(full(if with_body { "OK" } else { "" }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(
        HeaderName::from_static("swarm"),
        HeaderValue::from_static(swarm_header(&call.state.swarm.status())),
    );
    Ok(response)
}

fn swarm_header(status: &SwarmStatus) -> &'static str {
    match (status.state, status.control_available) {
        (LocalNodeState::Active, true) => "active/manager",
        (LocalNodeState::Active, false) => "active/worker",
        (state, _) => state.as_str(),
    }
}

pub(crate) async fn version(call: Call) -> ApiResult {
    let version = &call.state.system.version;
    let kernel = host::kernel_version();
    let arch = go_arch();
    ok(&json!({
        "Platform": { "Name": "Weft" },
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": ApiVersion::MAX.to_string(),
                "Arch": arch,
                "BuildTime": "",
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "KernelVersion": kernel,
                "MinAPIVersion": ApiVersion::MIN.to_string(),
                "Os": "linux",
            },
        }],
        "Version": version,
        "ApiVersion": ApiVersion::MAX.to_string(),
        "MinAPIVersion": ApiVersion::MIN.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": kernel,
        "BuildTime": "",
    }))
}

pub(crate) async fn disk_usage(call: Call) -> ApiResult {
    let wanted = call.query.all("type").to_vec();
    if let Some(unknown) = wanted.iter().find(|kind| !USAGE_KINDS.contains(&kind.as_str())) {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let state = call.state.clone();
    // Walks through all files of containers and volumes: beside the event loop.
    let measured = tokio::task::spawn_blocking(move || measure(&state, &wanted)).await;
    ok(&measured.map_err(|error| ApiError::system(error.to_string()))??)
}

fn measure(state: &ApiState, wanted: &[String]) -> Result<Value, ApiError> {
    let wants = |kind: &str| wanted.is_empty() || wanted.iter().any(|w| w == kind);
    let mut usage = Map::new();
    let containers = state.engine.list(&ListOptions { all: true, size: true, ..ListOptions::default() })?;
    if wants("image") {
        usage.insert("LayersSize".to_owned(), state.engine.images().layers_size().into());
        usage.insert("Images".to_owned(), images(state, &containers)?);
    }
    if wants("container") {
        let mut containers = serde_json::to_value(&containers).unwrap_or_default();
        containers.as_array_mut().into_iter().flatten().for_each(crate::containers::shape::summary);
        usage.insert("Containers".to_owned(), containers);
    }
    if wants("volume") {
        usage.insert("Volumes".to_owned(), volumes(&state.engine).into());
    }
    if wants("build-cache") {
        usage.insert("BuildCache".to_owned(), Value::Array(Vec::new()));
    }
    Ok(usage.into())
}

/// What may be asked for by itself.
const USAGE_KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

fn images(state: &ApiState, containers: &[ContainerSummary]) -> Result<Value, ApiError> {
    let mut images = state.engine.images().list(true, &Default::default())?;
    state.engine.images().measure_shared(&mut images);
    let mut images = serde_json::to_value(images).unwrap_or_default();
    for image in images.as_array_mut().into_iter().flatten() {
        crate::images::summary(image);
        // Only here does Docker's encoder see lists that were never made.
        for list in ["RepoTags", "RepoDigests"] {
            if image[list].as_array().is_some_and(Vec::is_empty) {
                image[list] = Value::Null;
            }
        }
        image["Containers"] = uses(image, containers).into();
    }
    Ok(images)
}

fn volumes(engine: &Engine) -> Vec<Value> {
    let with_usage = |volume: &weft_engine::Volume| {
        let mut shape = crate::volumes::shape(volume);
        let (users, size) = engine.volume_usage(volume);
        shape["UsageData"] = json!({ "RefCount": users, "Size": size });
        shape
    };
    engine.volumes().list().iter().map(with_usage).collect()
}

fn uses(image: &Value, containers: &[ContainerSummary]) -> usize {
    let id = image.get("Id").and_then(Value::as_str);
    containers.iter().filter(|c| c.image_id.as_deref() == id).count()
}
