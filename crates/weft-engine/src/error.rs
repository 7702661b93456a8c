//! What can go wrong with images and containers. `Display` is what a user of the API reads: Docker's wording.

use std::io;
use std::path::PathBuf;

use crate::image::{PullError, PushError, RefusalCode, RegistryError};
use weft_types::{Classified, ErrorKind};

/// An operation on containers, execs, images or volumes failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing was changed.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Nothing was changed.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// The exec has no process (any more).
    #[error("NotFound: process does not exist {0}: not found")]
    NoSuchProcess(String),
    /// Nothing was changed.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Nothing was changed.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// There is nothing at this path of the container.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchFile {
        /// As it was asked for.
        path: String,
        /// As it was asked for.
        container: String,
    },
    /// Several containers have ids with this prefix.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousPrefix(String),
    /// The request is malformed; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// The request is well formed but the daemon refuses or fails to parse a part of it with a 500, as Docker does.
    #[error("{0}")]
    Refused(String),
    /// The object's state forbids the operation.
    #[error("{0}")]
    Conflict(String),
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The wanted name.
        name: String,
        /// Full id of its owner.
        id: String,
    },
    /// No such volume driver.
    #[error("error looking up volume plugin {0}: plugin \"{0}\" not found")]
    NoSuchPlugin(String),
    /// The container is not running.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The state already is as asked for.
    #[error("{0}")]
    NotModified(String),
    /// What was asked for is not built.
    #[error("{0}")]
    NotImplemented(String),
    /// The process could not be started: exit code as a shell gives it (126 cannot execute, 127 not found, 128 else).
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: weft create failed: unable to start container process: {reason}"
    )]
    Start {
        /// What the runtime said.
        reason: String,
        /// Exit code that the container gets.
        exit_code: i64,
    },
    /// An exec could not be started.
    #[error("OCI runtime exec failed: exec failed: unable to start container process: {reason}")]
    ExecStart {
        /// What the runtime said.
        reason: String,
        /// Exit code that the exec gets.
        exit_code: i64,
    },
    /// The network part failed; nothing of the container runs.
    #[error("{prefix}{source}")]
    Network {
        /// Text before the network's own, empty or ending in `": "`.
        prefix: &'static str,
        /// What the network said.
        source: crate::network::NetworkFailure,
    },
    /// `action: source`, with the class of the source.
    #[error("{action}: {source}")]
    Context {
        /// What was being done.
        action: String,
        /// Why it failed.
        source: Box<EngineError>,
    },
    /// An image could not be pulled.
    #[error(transparent)]
    Pull(PullFailure),
    /// An image could not be pushed.
    #[error(transparent)]
    Push(PushFailure),
    /// A registry did not take credentials.
    #[error(transparent)]
    Login(LoginFailure),
    /// A file of ours could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was being done, for example `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An archive, manifest or configuration is not what it claims to be.
    #[error("{what}: {detail}")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// What is wrong in it.
        detail: String,
    },
    /// The shim did not answer as agreed.
    #[error("shim of container {container}: {detail}")]
    Shim {
        /// Which container.
        container: String,
        /// What happened.
        detail: String,
    },
}

impl EngineError {
    /// Turns an [`io::Error`] of a file operation into an engine error.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn pull(error: PullError) -> Self {
        Self::Pull(PullFailure(Box::new(error)))
    }

    pub(crate) fn push(error: PushError) -> Self {
        Self::Push(PushFailure(Box::new(error)))
    }

    pub(crate) fn login(error: RegistryError) -> Self {
        Self::Login(LoginFailure(Box::new(error)))
    }

    /// The same error with what was being done in front.
    pub(crate) fn context(self, action: impl Into<String>) -> Self {
        Self::Context { action: action.into(), source: Box::new(self) }
    }
}

/// Why an image could not be pulled, in Docker's words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PullFailure(Box<PullError>);

/// Why an image could not be pushed, in Docker's words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PushFailure(Box<PushError>);

/// Why a login failed, in Docker's words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LoginFailure(Box<RegistryError>);

impl Classified for LoginFailure {
    fn kind(&self) -> ErrorKind {
        let unauthorized = |error: &RegistryError| {
            matches!(error, RegistryError::Refused { code: RefusalCode::Unauthorized, .. })
        };
        match &*self.0 {
            RegistryError::NoToken { source, .. } if unauthorized(source) => ErrorKind::Unauthorized,
            _ => ErrorKind::System,
        }
    }
}

impl Classified for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchProcess(_)
            | Self::NoSuchFile { .. }
            | Self::NoSuchImage(_)
            | Self::NoSuchPlugin(_)
            | Self::NoSuchVolume(_) => ErrorKind::NotFound,
            Self::AmbiguousPrefix(_) | Self::Invalid(_) => ErrorKind::InvalidParameter,
            Self::Conflict(_) | Self::NameTaken { .. } | Self::NotRunning(_) => ErrorKind::Conflict,
            Self::NotModified(_) => ErrorKind::NotModified,
            Self::NotImplemented(_) => ErrorKind::NotImplemented,
            Self::Start { exit_code: 126 | 127, .. } | Self::ExecStart { exit_code: 126 | 127, .. } => {
                ErrorKind::InvalidParameter
            }
            Self::Network { source, .. } => source.kind,
            Self::Context { source, .. } => source.kind(),
            Self::Pull(failure) => failure.0.kind(),
            Self::Login(failure) => failure.kind(),
            Self::Push(_)
            | Self::Refused(_)
            | Self::Start { .. }
            | Self::ExecStart { .. }
            | Self::File { .. }
            | Self::Malformed { .. }
            | Self::Shim { .. } => ErrorKind::System,
        }
    }
}
