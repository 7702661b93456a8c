//! Answers: JSON as Go's encoder writes it (one line, with a line feed), nothing, or a stream.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::error::{ApiError, ApiResult};

/// Body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// 200 without a body.
pub(crate) fn ok_empty() -> ApiResult {
    Ok(empty(StatusCode::OK))
}

/// 204.
pub(crate) fn no_content() -> ApiResult {
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A JSON line.
pub(crate) fn line(value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match line(value) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
        // Only maps with keys that are no strings fail; ours have none.
        Err(error) => ApiError::system(format!("encode the answer: {error}")).into_response(),
    }
}

/// 200 with JSON.
pub(crate) fn ok(value: &impl Serialize) -> ApiResult {
    Ok(json(StatusCode::OK, value))
}

/// 201 with JSON.
pub(crate) fn created(value: &impl Serialize) -> ApiResult {
    Ok(json(StatusCode::CREATED, value))
}

/// 200 with bytes that come as they come. The head is sent at once.
pub(crate) fn stream<S>(content_type: Option<&'static str>, chunks: S) -> Response<Body>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let mut response = Response::new(StreamBody::new(chunks.map(|c| c.map(Frame::data))).boxed_unsync());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
