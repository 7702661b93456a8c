//! What goes wrong with a registry, in the words of Docker's client library.

use serde::Deserialize;

use super::transport::TransportError;
use crate::image::Digest;

/// A request to a registry failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// It never got an answer.
    #[error("{method} {url:?}: {source}")]
    Unreachable { method: &'static str, url: String, source: TransportError },
    /// The registry wants a password, and there is none.
    #[error("Head {0:?}: no basic auth credentials")]
    NoCredentials(String),
    /// The registry said no, with a code of the distribution specification.
    #[error("{}: {message}", .code.words())]
    Refused { code: RefusalCode, message: String },
    /// The registry takes no such password; the words are those of Docker's login.
    #[error("login attempt to {url} failed with status: {status}")]
    Login { url: String, status: String },
    /// The service that gives the registry's tokens says no.
    #[error("Get {url:?}: {source}")]
    NoToken { url: String, source: Box<RegistryError> },
    /// An answer outside the specification.
    #[error("unexpected status from {method} request to {url}: {status}")]
    Status { method: &'static str, url: String, status: String },
    /// An answer that is no document of the kind asked for.
    #[error("malformed answer from {url}: {detail}")]
    Malformed { url: String, detail: String },
    /// A document has another digest than asked for.
    #[error("manifest verification failed for digest {0}")]
    ManifestDigest(Digest),
}

/// Error codes of the distribution specification that make a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalCode {
    Unauthorized,
    Denied,
    ManifestUnknown,
    NameUnknown,
    BlobUnknown,
    TooManyRequests,
    Unknown,
}

impl RefusalCode {
    fn parse(code: &str) -> Self {
        match code {
            "UNAUTHORIZED" => Self::Unauthorized,
            "DENIED" => Self::Denied,
            "MANIFEST_UNKNOWN" => Self::ManifestUnknown,
            "NAME_UNKNOWN" => Self::NameUnknown,
            "BLOB_UNKNOWN" => Self::BlobUnknown,
            "TOOMANYREQUESTS" => Self::TooManyRequests,
            _ => Self::Unknown,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Denied => "denied",
            Self::ManifestUnknown => "manifest unknown",
            Self::NameUnknown => "name unknown",
            Self::BlobUnknown => "blob unknown",
            Self::TooManyRequests => "toomanyrequests",
            Self::Unknown => "unknown",
        }
    }

    /// What is said where the registry gave no reason.
    fn usual_message(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication required",
            Self::Denied => "requested access to the resource is denied",
            Self::ManifestUnknown => "manifest unknown",
            Self::NameUnknown => "repository name not known to registry",
            Self::BlobUnknown => "blob unknown to registry",
            Self::TooManyRequests => "too many requests",
            Self::Unknown => "unknown error",
        }
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl RegistryError {
    pub(super) fn refused(code: RefusalCode) -> Self {
        Self::Refused { code, message: code.usual_message().to_owned() }
    }

    /// From an error document, if the body is one.
    pub(super) fn from_body(body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        let first = body.errors.into_iter().next()?;
        let code = RefusalCode::parse(&first.code);
        let message = if first.message.is_empty() { code.usual_message().to_owned() } else { first.message };
        Some(Self::Refused { code, message })
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_passing(),
            Self::Refused { code, .. } => *code == RefusalCode::TooManyRequests,
            Self::Status { status, .. } => status.starts_with('5') || status.starts_with("429"),
            _ => false,
        }
    }
}
