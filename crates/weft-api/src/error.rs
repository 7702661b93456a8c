//! Every failure of a request, and the one map from its class to an HTTP status.

use hyper::{Response, StatusCode};
use weft_types::{Classified, ErrorKind};

use crate::response::{Body, json};

/// A request failed: what the user reads, and the class that decides the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    kind: ErrorKind,
    message: String,
}

/// Answer of a handler.
pub(crate) type ApiResult = Result<Response<Body>, ApiError>;

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// Docker answers 500 where Go's number parser refused a value.
    pub(crate) fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(ErrorKind::NotImplemented, format!("{what} is not implemented by this version of Weft"))
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let status = status(self.kind);
        if status == StatusCode::NOT_MODIFIED {
            return crate::response::empty(status);
        }
        tracing::debug!(status = status.as_u16(), message = self.message, "request refused");
        json(status, &serde_json::json!({ "message": self.message }))
    }
}

impl<E: Classified> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }
}

/// Docker's choice (moby `daemon/server/httpstatus`).
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
