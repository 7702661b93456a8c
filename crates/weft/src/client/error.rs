//! What can go wrong between the client and a daemon.

use std::path::PathBuf;

/// An error that ends a command; its text is all that the user sees.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "Cannot connect to the daemon at {host}: {source}. Is weftd running? Start it with 'weftd' as root, or name another with -H"
    )]
    Connect { host: String, source: std::io::Error },
    #[error("TLS with the daemon: {path}: {reason}")]
    Tls { path: PathBuf, reason: String },
    #[error("{0:?} is not a daemon address: want unix:///path/to/socket or tcp://address:port")]
    BadHost(String),
    #[error("Error response from daemon: {message}")]
    Daemon { status: u16, message: String },
    #[error("{0}")]
    Usage(String),
    #[error("speak HTTP with the daemon: {0}")]
    Http(#[from] hyper::Error),
    #[error("build the request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the daemon's answer is not the JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// How a command ends when nothing went wrong: with the container's own status where there is one.
pub(super) type Outcome = Result<u8, ClientError>;

/// The status with which a command ends that failed here and not in a container.
pub(super) const EXIT_CLIENT_ERROR: u8 = 1;
/// As docker: `run` could not even start the container.
pub(super) const EXIT_RUN_ERROR: u8 = 125;
