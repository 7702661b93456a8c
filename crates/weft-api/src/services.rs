//! `/services`, `/secrets`, `/configs`: a manager has none and makes none yet; other nodes refuse as Docker does.

use serde_json::json;

use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::ok;

/// What is kept in the swarm's store for services.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Secret,
    Config,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

/// Only managers know; the others say why they do not.
async fn must_be_manager(call: &Call) -> Result<(), ApiError> {
    call.state.swarm.cluster().await?;
    Ok(())
}

pub(crate) async fn list(call: Call) -> ApiResult {
    call.query.filters(&["id", "label", "mode", "name", "runtime"])?;
    must_be_manager(&call).await?;
    ok(&json!([]))
}

pub(crate) async fn create(call: Call) -> ApiResult {
    must_be_manager(&call).await?;
    Err(ApiError::not_implemented("creating services"))
}

pub(crate) async fn inspect(call: Call, id: String) -> ApiResult {
    must_be_manager(&call).await?;
    Err(ApiError::not_found(format!("service {id} not found")))
}

pub(crate) async fn logs(call: Call, id: String) -> ApiResult {
    must_be_manager(&call).await?;
    if !call.query.flag("stdout") && !call.query.flag("stderr") {
        return Err(ApiError::system("Bad parameters: you must choose at least one stream"));
    }
    Err(ApiError::not_found(format!("service {id} not found")))
}

pub(crate) async fn store_list(call: Call, _: Kind) -> ApiResult {
    call.query.filters(&["id", "label", "name", "names"])?;
    must_be_manager(&call).await?;
    ok(&json!([]))
}

pub(crate) async fn store_create(call: Call, kind: Kind) -> ApiResult {
    must_be_manager(&call).await?;
    Err(ApiError::not_implemented(match kind {
        Kind::Secret => "creating secrets",
        Kind::Config => "creating configs",
    }))
}

pub(crate) async fn store_inspect(call: Call, kind: Kind, id: String) -> ApiResult {
    must_be_manager(&call).await?;
    Err(ApiError::not_found(format!("{} {id} not found", kind.word())))
}
