//! File system work of noticeable length, beside the event loop.

use crate::error::EngineError;

/// Runs it on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(EngineError::Refused(format!("internal error: {error}"))),
    }
}
