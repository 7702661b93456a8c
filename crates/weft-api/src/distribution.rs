//! Registries and builds. What is not built here says so.

use serde_json::{Map, Value, json};
use weft_engine::{RegistryAuth, ServedPlatform};

use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::ok;

pub(crate) async fn inspect(call: Call, name: String) -> ApiResult {
    let served = call.state.engine.images().distribution(&name, &crate::images::auth(&call)).await?;
    ok(&json!({
        "Descriptor": { "mediaType": served.media_type, "digest": served.digest, "size": served.size },
        "Platforms": served.platforms.iter().map(platform).collect::<Vec<_>>(),
    }))
}

/// Empty fields are left out, as Go does.
fn platform(platform: &ServedPlatform) -> Value {
    let fields =
        [("architecture", &platform.architecture), ("os", &platform.os), ("variant", &platform.variant)];
    let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
    Value::Object(given.map(|(key, value)| (key.to_owned(), json!(value))).collect::<Map<_, _>>())
}

/// `docker login`: asks the registry whether it takes the password. The client keeps it.
pub(crate) async fn auth(mut call: Call) -> ApiResult {
    let auth: RegistryAuth = call.json().await?;
    let token = call.state.engine.images().login(&auth).await?;
    ok(&json!({ "IdentityToken": token, "Status": "Login Succeeded" }))
}

pub(crate) async fn search(_: Call) -> ApiResult {
    Err(ApiError::not_implemented("searching registries"))
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
