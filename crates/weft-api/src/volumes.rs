//! `/volumes`: local ones.

use serde_json::{Value, json};
use weft_engine::{Volume, VolumeWish};

use bollard_stubs::models::VolumeCreateRequest;

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::networks::like;
use crate::request::Call;
use crate::response::{created, no_content, ok};
use crate::version::ApiVersion;

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.switch("dangling")?;
    let engine = &call.state.engine;
    let volumes = engine.volumes().list();
    let shown = volumes.iter().filter(|volume| {
        filters.any("name", |name| like(name, &volume.name))
            && filters.any("driver", |driver| driver == DRIVER)
            && filters.labels_match(&volume.labels)
            && dangling.is_none_or(|wanted| engine.volume_users(&volume.name).is_empty() == wanted)
    });
    ok(&json!({ "Volumes": shown.map(shape).collect::<Vec<_>>(), "Warnings": Value::Null }))
}
/// The only driver.
const DRIVER: &str = "local";

pub(crate) fn shape(volume: &Volume) -> Value {
    json!({
        "CreatedAt": volume.created,
        "Driver": DRIVER,
        "Labels": if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) },
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": if volume.options.is_empty() { Value::Null } else { json!(volume.options) },
        "Scope": "local",
    })
}

pub(crate) async fn create(mut call: Call) -> ApiResult {
    let request: VolumeCreateRequest = call.json().await?;
    let wish = VolumeWish {
        driver: request.driver.unwrap_or_default(),
        labels: convert::labels(request.labels),
        options: request.driver_opts.unwrap_or_default().into_iter().collect(),
    };
    created(&shape(&call.state.engine.volumes().create(request.name.as_deref(), wish)?))
}

pub(crate) async fn inspect(call: Call, name: String) -> ApiResult {
    ok(&shape(&call.state.engine.volumes().get(&name)?))
}

pub(crate) async fn remove(call: Call, name: String) -> ApiResult {
    call.state.engine.remove_volume(&name, call.query.flag("force"))?;
    no_content()
}

/// From here on prunes take volumes without a name only, unless asked for all.
const ANONYMOUS_ONLY_SINCE: ApiVersion = ApiVersion(1, 42);

pub(crate) async fn prune(call: Call) -> ApiResult {
    let filters = call.query.filters(&["all", "label", "label!"])?;
    let named_too = filters.switch("all")?.unwrap_or(call.version < ANONYMOUS_ONLY_SINCE);
    let engine = call.state.engine.clone();
    // Walks through the files of all that go: beside the event loop.
    let pruned = tokio::task::spawn_blocking(move || {
        let (mut deleted, mut reclaimed) = (Vec::new(), 0);
        for volume in engine.volumes().list() {
            let chosen = (named_too || volume.is_anonymous()) && filters.labels_match(&volume.labels);
            if !chosen || !engine.volume_users(&volume.name).is_empty() {
                continue;
            }
            let (_, size) = engine.volume_usage(&volume);
            // One that has come into use meanwhile is refused, and stays.
            if engine.remove_volume(&volume.name, false).is_ok() {
                deleted.push(volume.name);
                reclaimed += size;
            }
        }
        (deleted, reclaimed)
    });
    let (deleted, reclaimed) = pruned.await.map_err(|error| ApiError::system(error.to_string()))?;
    call.state.events.publish_prune("volume", reclaimed);
    ok(&json!({ "VolumesDeleted": deleted, "SpaceReclaimed": reclaimed }))
}
