//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`.

mod events;
mod host;
mod info;

pub(crate) use events::events;
pub(crate) use host::go_arch;
pub(crate) use info::info;

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA};
use serde_json::{Value, json};
use weft_engine::ListOptions;

use crate::error::ApiResult;
use crate::request::Call;
use crate::response::{full, ok};
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
    let images = call.state.engine.images().list(true, &Default::default())?;
    let containers =
        call.state.engine.list(&ListOptions { all: true, size: true, ..ListOptions::default() })?;
    let layers: i64 = images.iter().map(|image| image.size).sum();
    let mut images = serde_json::to_value(images).unwrap_or_default();
    for image in images.as_array_mut().into_iter().flatten() {
        image["Containers"] = uses(image, &containers).into();
    }
    ok(&json!({
        "LayersSize": layers,
        "Images": images,
        "Containers": containers,
        "Volumes": crate::volumes::with_usage(&call).await,
        "BuildCache": [],
    }))
}

fn uses(image: &Value, containers: &[bollard_stubs::models::ContainerSummary]) -> usize {
    let id = image.get("Id").and_then(Value::as_str);
    containers.iter().filter(|c| c.image_id.as_deref() == id).count()
}
