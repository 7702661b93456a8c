//! What can go wrong between us and the kernel.

use std::io;
use std::path::PathBuf;

use weft_plan::Op;
use weft_types::{Classified, ErrorKind};

/// A namespace could not be made, opened, entered or removed. Nothing was changed unless said so.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There already is a namespace, or another file, at the path.
    #[error("network namespace {path}: already exists")]
    Exists {
        /// Where it should have been pinned.
        path: PathBuf,
    },
    /// The path is no namespace.
    #[error("{path} is not a network namespace")]
    NotANamespace {
        /// What was opened.
        path: PathBuf,
    },
    /// A step failed.
    #[error("network namespace {path}: {step}")]
    Step {
        /// The namespace.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Reading from the kernel failed, or no connection to it could be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Entering or opening the namespace failed.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A socket to the kernel could not be made.
    #[error("netlink socket in {namespace}")]
    Socket {
        /// The namespace.
        namespace: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("{request}: {message}")]
    Refused {
        /// What was asked.
        request: String,
        /// The kernel's words: error name and, where given, its explanation.
        message: String,
        /// The error number.
        errno: i32,
    },
    /// The connection to the kernel broke off.
    #[error("{request}: no answer from the kernel")]
    NoAnswer {
        /// What was asked.
        request: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `nft` could not be run.
    #[error("cannot run nft; the package nftables must be installed")]
    NftMissing {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `nft` refused.
    #[error("nft {what}: {message}")]
    Nft {
        /// What was asked.
        what: String,
        /// What `nft` said.
        message: String,
    },
    /// The kernel has no IPVS.
    #[error("{request}: this kernel has no IPVS (module ip_vs)")]
    NoIpvs {
        /// What was asked.
        request: String,
    },
    /// A TAP device could not be made.
    #[error("{request}: /dev/net/tun")]
    Tap {
        /// What was asked.
        request: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A setting could not be read or written.
    #[error("setting {key}")]
    Sysctl {
        /// Its name.
        key: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A foreign interface has the name of one of ours.
    #[error(
        "{request}: an interface of that name, not made by Weft, is in the way: remove it, or stop what uses it"
    )]
    InTheWay {
        /// What was asked.
        request: String,
    },
    /// An interface that an operation needs is not there.
    #[error("interface {name} does not exist")]
    NoLink {
        /// Its name.
        name: String,
    },
    /// The far end of a veth pair is not there.
    #[error("interface {name} is missing: it comes with its other end, which was not made")]
    Awaited {
        /// Its name.
        name: String,
    },
}

impl KernelError {
    /// The kernel's error number, if it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket { source, .. }
            | Self::NoAnswer { source, .. }
            | Self::Sysctl { source, .. }
            | Self::Tap { source, .. }
            | Self::NftMissing { source } => source.raw_os_error(),
            Self::Netns(NetnsError::Step { source, .. }) => source.raw_os_error(),
            _ => None,
        }
    }
}

/// One operation that failed; the others were still tried.
#[derive(Debug, thiserror::Error)]
#[error("{op}")]
pub struct ApplyError {
    /// What should have been done.
    pub op: Box<Op>,
    /// Why it was not.
    #[source]
    pub source: KernelError,
}

impl Classified for NetnsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::NotANamespace { .. } => ErrorKind::InvalidParameter,
            Self::Step { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Step { .. } => ErrorKind::System,
        }
    }
}

impl Classified for KernelError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Netns(error) => error.kind(),
            _ => ErrorKind::System,
        }
    }
}

impl Classified for ApplyError {
    fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}
