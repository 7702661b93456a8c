//! `/volumes`: local ones.

use serde_json::{Value, json};
use weft_engine::Volume;

use bollard_stubs::models::VolumeCreateRequest;

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::{created, no_content, ok};
use crate::version::ApiVersion;

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(&["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.flag("dangling")?;
    let volumes = call.state.engine.volumes().list();
    let is_dangling = |volume: &Volume| call.state.engine.volume_users(&volume.name).is_empty();
    let shown = volumes.iter().filter(|volume| {
        dangling.is_none_or(|wanted| wanted == is_dangling(volume))
            && filters.any("name", |name| volume.name.contains(name))
            && filters.any("driver", |driver| driver == DRIVER)
            && filters.labels_match(&volume.labels)
    });
    ok(&json!({ "Volumes": shown.map(shape).collect::<Vec<_>>(), "Warnings": Value::Null }))
}

/// The first version that prunes volumes with a name only if asked to.
const ANONYMOUS_ONLY: ApiVersion = ApiVersion(1, 42);
/// The only driver.
const DRIVER: &str = "local";

pub(crate) fn shape(volume: &Volume) -> Value {
    json!({
        "CreatedAt": volume.created,
        "Driver": DRIVER,
        "Labels": if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) },
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": Value::Null,
        "Scope": "local",
    })
}

pub(crate) async fn create(mut call: Call) -> ApiResult {
    let request: VolumeCreateRequest = call.json().await?;
    let driver = request.driver.filter(|d| !d.is_empty()).unwrap_or_else(|| DRIVER.to_owned());
    if driver != DRIVER {
        return Err(ApiError::not_found(format!(
            "error looking up volume plugin {driver}: plugin {driver:?} not found"
        )));
    }
    if request.driver_opts.is_some_and(|options| !options.is_empty()) {
        return Err(ApiError::not_implemented("a volume with driver options"));
    }
    let labels = convert::labels(request.labels);
    created(&shape(&call.state.engine.volumes().create(request.name.as_deref(), labels)?))
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
    let named_too = filters.flag("all")?.unwrap_or(call.version < ANONYMOUS_ONLY);
    let volumes = call.state.engine.volumes().list();
    let chosen = volumes.iter().filter(|v| (named_too || v.anonymous) && filters.labels_match(&v.labels));
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for volume in chosen {
        let bytes = call.state.engine.volumes().size(&volume.name);
        // One in use is refused, and stays.
        if call.state.engine.remove_volume(&volume.name, false).is_ok() {
            deleted.push(volume.name.as_str());
            reclaimed += bytes;
        }
    }
    call.state.events.publish_prune("volume", reclaimed);
    ok(&json!({ "VolumesDeleted": deleted, "SpaceReclaimed": reclaimed }))
}
