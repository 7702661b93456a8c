//! API versions and the gate that refuses those out of range.

use std::fmt;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::error::ApiError;
use crate::response::{Body, full};

/// `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion(pub(crate) u16, pub(crate) u16);

impl ApiVersion {
    /// The oldest that Docker Engine 28 serves.
    pub(crate) const MIN: Self = Self(1, 24);
    /// That of Docker Engine 28.5.
    pub(crate) const MAX: Self = Self(1, 51);

    /// Reads `1.47`. Anything that consists of digits and dots is a version to Docker.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Why a version is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unserved {
    TooNew(ApiVersion),
    TooOld(ApiVersion),
}

/// The gate.
pub(crate) fn check(version: ApiVersion) -> Result<(), Unserved> {
    if version > ApiVersion::MAX {
        return Err(Unserved::TooNew(version));
    }
    if version < ApiVersion::MIN {
        return Err(Unserved::TooOld(version));
    }
    Ok(())
}

impl Unserved {
    /// Too new is JSON; too old is plain text, which clients of that age can show.
    pub(crate) fn into_response(self) -> Response<Body> {
        match self {
            Self::TooNew(version) => ApiError::invalid(format!(
                "client version {version} is too new. Maximum supported API version is {}",
                ApiVersion::MAX
            ))
            .into_response(),
            Self::TooOld(version) => {
                let text = format!(
                    "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version\n",
                    ApiVersion::MIN
                );
                let mut response = Response::new(full(text));
                *response.status_mut() = StatusCode::BAD_REQUEST;
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
                headers.insert(
                    HeaderName::from_static("x-content-type-options"),
                    HeaderValue::from_static("nosniff"),
                );
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_open_from_1_24_to_1_51() {
        let at = |text| check(ApiVersion::parse(text).unwrap());
        assert_eq!(at("1.24"), Ok(()));
        assert_eq!(at("1.51"), Ok(()));
        assert_eq!(at("1.52"), Err(Unserved::TooNew(ApiVersion(1, 52))));
        assert_eq!(at("2.0"), Err(Unserved::TooNew(ApiVersion(2, 0))));
        assert_eq!(at("1.23"), Err(Unserved::TooOld(ApiVersion(1, 23))));
    }

    #[test]
    fn what_is_no_version_is_none() {
        for bad in ["", "x", "1.", "1.2.3", "1.99999"] {
            assert_eq!(ApiVersion::parse(bad), None, "{bad}");
        }
    }
}
