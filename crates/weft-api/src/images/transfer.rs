//! What pulls and pushes have in common: credentials, and an answer that tells how they get on.

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use weft_engine::{EngineError, Progress, ProgressSink, RegistryAuth};

use crate::containers::{progress_line, stream_error};
use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response;

const AUTH_HEADER: &str = "x-registry-auth";

type Outcome = Result<(), EngineError>;
type Task = AbortOnDropHandle<Outcome>;
type Lines = mpsc::UnboundedReceiver<Progress>;

/// Credentials of the request. As with Docker a header that cannot be read is as good as none: the registry will say.
pub(crate) fn auth(call: &Call) -> RegistryAuth {
    let header = call.headers.get(AUTH_HEADER).and_then(|value| value.to_str().ok());
    header.and_then(RegistryAuth::from_header).unwrap_or_default()
}

/// A failure before the first line has a status of its own; a later one is a line of the stream. The work ends with
/// the connection.
pub(super) async fn answer<F>(work: impl FnOnce(ProgressSink) -> F) -> ApiResult
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let (progress, mut lines) = mpsc::unbounded_channel();
    let task = AbortOnDropHandle::new(tokio::spawn(work(progress)));
    let Some(first) = lines.recv().await else {
        finished(task).await?;
        return Ok(response::stream(Some("application/json"), stream::empty()));
    };
    let chunks = stream::unfold((Some(first), Some((lines, task))), |(first, going)| async move {
        if let Some(first) = first {
            return Some((Ok(line(&first)), (None, going)));
        }
        let (mut lines, task): (Lines, Task) = going?;
        if let Some(next) = lines.recv().await {
            return Some((Ok(line(&next)), (None, Some((lines, task)))));
        }
        let error = finished(task).await.err()?;
        Some((Ok(progress_line(&stream_error(error.message()))), (None, None)))
    });
    Ok(response::stream(Some("application/json"), chunks))
}

async fn finished(task: Task) -> Result<(), ApiError> {
    match task.await {
        Ok(outcome) => outcome.map_err(ApiError::from),
        Err(error) => Err(ApiError::system(format!("the transfer ended: {error}"))),
    }
}

fn line(progress: &Progress) -> Bytes {
    let mut bytes = serde_json::to_vec(progress).unwrap_or_default();
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}
