//! Registries and builds: neither is built here. Each answer says so, and what to do instead.

use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::ok;

pub(crate) async fn inspect(_: Call, name: String) -> ApiResult {
    Err(ApiError::not_implemented(&format!("asking registries about images ({name})")))
}

pub(crate) async fn auth(_: Call) -> ApiResult {
    Err(ApiError::not_implemented("logging in to registries"))
}

pub(crate) async fn search(_: Call) -> ApiResult {
    Err(ApiError::not_implemented("searching registries"))
}

pub(crate) async fn push(call: Call, name: String) -> ApiResult {
    call.state.engine.images().inspect(&name)?;
    Err(ApiError::not_implemented("pushing images"))
}

pub(crate) async fn build(_: Call) -> ApiResult {
    Err(ApiError::not_implemented("building images"))
}

pub(crate) async fn session(_: Call) -> ApiResult {
    Err(ApiError::not_implemented("build sessions"))
}

/// `docker system prune` needs this answer to get to its end.
pub(crate) async fn build_prune(_: Call) -> ApiResult {
    ok(&json!({ "CachesDeleted": Value::Null, "SpaceReclaimed": 0 }))
}
