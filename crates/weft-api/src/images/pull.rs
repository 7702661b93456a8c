//! `POST /images/create?fromImage=`.

use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use weft_engine::{EngineError, PullOptions, PullProgress, RegistryAuth};

use crate::containers::{progress_line, stream_error};
use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::{self, Body};

const AUTH_HEADER: &str = "x-registry-auth";

/// Credentials of the request. As with Docker a header that cannot be read is as good as none: the registry will say.
pub(crate) fn auth(call: &Call) -> RegistryAuth {
    let header = call.headers.get(AUTH_HEADER).and_then(|value| value.to_str().ok());
    header.and_then(RegistryAuth::from_header).unwrap_or_default()
}

/// A failure before the first line has a status of its own; a later one is a line of the stream. The pull ends with
/// the connection.
pub(super) async fn pull(call: Call) -> ApiResult {
    let image = call.query.get("fromImage").to_owned();
    let tag = call.query.some("tag").map(str::to_owned);
    let options = PullOptions { auth: auth(&call), platform: call.query.some("platform").map(str::to_owned) };
    let engine = call.state.engine.clone();
    let (progress, mut lines) = mpsc::unbounded_channel();
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let images = engine.images();
        match reference(&image, tag.as_deref()) {
            Some(reference) => images.pull(&reference, &options, &progress).await.map(|_| ()),
            None => images.pull_all(&image, &options, &progress).await,
        }
    }));
    match lines.recv().await {
        Some(first) => Ok(body(first, lines, task)),
        None => {
            finished(task).await?;
            Ok(response::stream(Some("application/json"), stream::empty()))
        }
    }
}

/// What is pulled: the tag may stand in either parameter and may be a digest; without any, all tags are meant.
fn reference(image: &str, tag: Option<&str>) -> Option<String> {
    let has_tag = image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    match tag {
        Some(digest) if digest.starts_with("sha256:") => Some(format!("{image}@{digest}")),
        Some(tag) if !has_tag => Some(format!("{image}:{tag}")),
        _ => has_tag.then(|| image.to_owned()),
    }
}

async fn finished(task: AbortOnDropHandle<Result<(), EngineError>>) -> Result<(), ApiError> {
    match task.await {
        Ok(outcome) => outcome.map_err(ApiError::from),
        Err(error) => Err(ApiError::system(format!("pull: {error}"))),
    }
}

type Pulling = (mpsc::UnboundedReceiver<PullProgress>, AbortOnDropHandle<Result<(), EngineError>>);

fn body(
    first: PullProgress,
    lines: mpsc::UnboundedReceiver<PullProgress>,
    task: AbortOnDropHandle<Result<(), EngineError>>,
) -> Response<Body> {
    let chunks = stream::unfold((Some(first), Some((lines, task))), |(first, pulling)| async move {
        if let Some(first) = first {
            return Some((Ok(line(&first)), (None, pulling)));
        }
        let (mut lines, task): Pulling = pulling?;
        if let Some(next) = lines.recv().await {
            return Some((Ok(line(&next)), (None, Some((lines, task)))));
        }
        let error = finished(task).await.err()?;
        Some((Ok(progress_line(&stream_error(error.message()))), (None, None)))
    });
    response::stream(Some("application/json"), chunks)
}

fn line(progress: &PullProgress) -> Bytes {
    let mut bytes = serde_json::to_vec(progress).unwrap_or_default();
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn tag_and_digest_come_in_either_parameter() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(reference("r:5000/a", Some("1")).as_deref(), Some("r:5000/a:1"));
        assert_eq!(reference("r:5000/a:1", None).as_deref(), Some("r:5000/a:1"));
        assert_eq!(reference("a", Some(&digest)), Some(format!("a@{digest}")));
        assert_eq!(reference("r:5000/a", None), None);
    }
}
