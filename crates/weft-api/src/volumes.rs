//! `/volumes`: local ones.

use serde_json::{Value, json};
use weft_engine::{Volume, VolumeWish};

use bollard_stubs::models::VolumeCreateRequest;

use crate::convert;
use crate::error::ApiResult;
use crate::request::Call;
use crate::response::{created, no_content, ok};

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(&["dangling", "driver", "label", "label!", "name"])?;
    let volumes = call.state.engine.volumes().list();
    let shown = volumes.iter().filter(|volume| {
        filters.any("name", |name| volume.name.contains(name))
            && filters.any("driver", |driver| driver == DRIVER)
            && filters.labels_match(&volume.labels)
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

pub(crate) async fn prune(call: Call) -> ApiResult {
    let filters = call.query.filters(&["all", "label", "label!"])?;
    let named_too = filters.flag("all")?.unwrap_or_default();
    let volumes = call.state.engine.volumes().list();
    let chosen = volumes.iter().filter(|v| (named_too || v.anonymous) && filters.labels_match(&v.labels));
    // One in use is refused, and stays.
    let deleted = chosen.filter(|v| call.state.engine.remove_volume(&v.name, false).is_ok());
    let deleted: Vec<&str> = deleted.map(|v| v.name.as_str()).collect();
    call.state.events.publish_prune("volume", 0);
    ok(&json!({ "VolumesDeleted": deleted, "SpaceReclaimed": 0 }))
}
