//! `/volumes`: named volumes are not built; there are none.

use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::ok;

pub(crate) async fn list(call: Call) -> ApiResult {
    call.query.filters(&["dangling", "driver", "label", "label!", "name"])?;
    ok(&json!({ "Volumes": [], "Warnings": Value::Null }))
}

pub(crate) async fn create(_: Call) -> ApiResult {
    Err(ApiError::not_implemented("creating named volumes"))
}

pub(crate) async fn inspect(_: Call, name: String) -> ApiResult {
    Err(ApiError::not_found(format!("get {name}: no such volume")))
}

pub(crate) async fn remove(_: Call, name: String) -> ApiResult {
    Err(ApiError::not_found(format!("get {name}: no such volume")))
}

pub(crate) async fn prune(call: Call) -> ApiResult {
    call.query.filters(&["all", "label", "label!"])?;
    ok(&json!({ "VolumesDeleted": [], "SpaceReclaimed": 0 }))
}
