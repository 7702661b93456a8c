//! `/exec` and the creation of execs.

use bollard_stubs::models::{ExecConfig, ExecStartConfig};
use serde_json::{Value, json};
use weft_engine::ExecStartOptions;

use crate::containers::terminal_size;
use crate::error::{ApiError, ApiResult};
use crate::hijack;
use crate::request::Call;
use crate::response::{created, ok, ok_empty};

pub(crate) async fn create(mut call: Call, container: String) -> ApiResult {
    let config: ExecConfig = call.json().await?;
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    let id = call.state.engine.exec_create(&container, config).await?;
    created(&json!({ "Id": id }))
}

pub(crate) async fn start(mut call: Call, id: String) -> ApiResult {
    let config: ExecStartConfig = call.json().await?;
    let console_size = config.console_size.as_deref().and_then(|size| match *size {
        [height, width] => Some((u16::try_from(height).ok()?, u16::try_from(width).ok()?)),
        _ => None,
    });
    let engine = call.state.engine.clone();
    if config.detach.unwrap_or_default() {
        engine.exec_start(&id, ExecStartOptions { detach: true, console_size }).await?;
        return ok_empty();
    }
    let tty = engine.exec_startable(&id)?;
    hijack::answer(call, tty, async move { engine.exec_start_told(&id, console_size).await }).await
}

pub(crate) async fn resize(call: Call, id: String) -> ApiResult {
    let (height, width) = terminal_size(&call)?;
    call.state.engine.exec_resize(&id, height, width).await?;
    ok_empty()
}

pub(crate) async fn inspect(call: Call, id: String) -> ApiResult {
    let exec = call.state.engine.exec_inspect(&id)?;
    let mut exec = serde_json::to_value(exec).unwrap_or_default();
    if let Some(map) = exec.as_object_mut() {
        // Always sent; `null` while there is no exit code.
        map.entry("ExitCode").or_insert(Value::Null);
        map.entry("DetachKeys").or_insert_with(|| "".into());
        map.entry("CanRemove").or_insert(false.into());
    }
    ok(&exec)
}
