//! `/containers/{id}/archive`, `/containers/{id}/export` and `/containers/{id}/changes`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use weft_engine::{ExtractOptions, PathStat};

use crate::error::{ApiError, ApiResult};
use crate::lent::lend;
use crate::request::Call;
use crate::response::{self, Body, ok_empty};

/// What is at the path: JSON in base64.
const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

pub(crate) async fn path_stat(call: Call, id: String) -> ApiResult {
    let stat = call.state.engine.path_stat(&id, path(&call)?).await?;
    with_stat(ok_empty()?, &stat)
}

pub(crate) async fn archive(call: Call, id: String) -> ApiResult {
    let (stat, bytes) = call.state.engine.archive(&id, path(&call)?).await?;
    with_stat(response::stream(Some("application/x-tar"), bytes), &stat)
}

pub(crate) async fn extract(call: Call, id: String) -> ApiResult {
    let options = ExtractOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let (path, engine) = (path(&call)?.to_owned(), call.state.engine.clone());
    let (body, back) = lend(call.into_byte_stream());
    if let Err(error) = engine.extract(&id, &path, options, body).await {
        back.drain().await;
        return Err(error.into());
    }
    ok_empty()
}

pub(crate) async fn export(call: Call, id: String) -> ApiResult {
    let bytes = call.state.engine.export(&id).await?;
    Ok(response::stream(Some("application/octet-stream"), bytes))
}

pub(crate) async fn changes(call: Call, id: String) -> ApiResult {
    let changes = call.state.engine.changes(&id).await?;
    // Docker's encoder knows no empty list here.
    if changes.is_empty() { response::ok(&serde_json::Value::Null) } else { response::ok(&changes) }
}

fn path(call: &Call) -> Result<&str, ApiError> {
    call.query.some("path").ok_or_else(|| ApiError::invalid("bad parameter: path cannot be empty"))
}

fn with_stat(mut response: Response<Body>, stat: &PathStat) -> ApiResult {
    let value = header(stat).map_err(|error| ApiError::system(format!("encode the path's kind: {error}")))?;
    response.headers_mut().insert(PATH_STAT, value);
    Ok(response)
}

fn header(stat: &PathStat) -> Result<HeaderValue, Box<dyn std::error::Error>> {
    Ok(HeaderValue::from_str(&BASE64_STANDARD.encode(serde_json::to_vec(stat)?))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded of 28.5.2 for `docker cp c1:/tmp/h -`.
    #[test]
    fn the_header_is_dockers() {
        let stat = PathStat {
            name: "h".to_owned(),
            size: 3,
            mode: 493,
            mtime: "2026-11-21T01:35:37Z".to_owned(),
            link_target: String::new(),
        };
        let wanted = "eyJuYW1lIjoiaCIsInNpemUiOjMsIm1vZGUiOjQ5MywibXRpbWUiOiIyMDI2LTExLTIxVDAxOjM1OjM3WiIsImxpbmtUYXJnZXQiOiIifQ==";
        assert_eq!(header(&stat).unwrap(), wanted);
    }
}
