//! What can go wrong between this node and the managers.

use std::path::PathBuf;

use tonic::Status;
use weft_identity::CertificateError;
use weft_types::{Classified, ErrorKind};

/// Why the agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What was kept on disk cannot be read, or the directory cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No manager is known, neither by the caller nor on disk.
    #[error("no manager of the swarm is known")]
    NoManager,
}

impl Classified for AgentError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::System
    }
}

/// Why the agent's state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no state of an agent.
    #[error("{} is not the state of an agent", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

/// Why a session with the dispatcher ended. The agent opens another one after a pause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("no manager of the swarm is known")]
    NoManager,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the manager did not answer {call} in time")]
    Timeout { call: &'static str },
    #[error("rpc error: code = {:?} desc = {}", status.code(), status.message())]
    Refused { call: &'static str, status: Status },
    #[error("the manager closed {stream}")]
    Closed { stream: &'static str },
}

impl SessionError {
    pub(crate) fn refused(call: &'static str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Refused { call, status }
    }

    /// Whether the manager no longer knows the session: the next one must begin without its id.
    pub(crate) fn forgets_session(&self) -> bool {
        matches!(self, Self::Refused { status, .. }
            if matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::NotFound))
    }
}
