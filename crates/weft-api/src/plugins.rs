//! `/plugins`: there are none.

use serde_json::json;

use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::ok;

pub(crate) async fn list(_: Call) -> ApiResult {
    ok(&json!([]))
}

pub(crate) async fn inspect(_: Call, name: String) -> ApiResult {
    Err(ApiError::not_found(format!("plugin {name:?} not found")))
}
