//! What can go wrong with the fast path. The bridges carry everything meanwhile.

use std::io;
use std::path::PathBuf;

use weft_types::{Classified, ErrorKind};

use crate::{KernelError, NetnsError};

/// The fast path, or a part of it, could not be read, changed or taken away. What had been done before stays, and the
/// next reconciliation goes on from there; traffic takes the bridges where programs are missing.
#[derive(Debug, thiserror::Error)]
pub enum FastPathError {
    /// This kernel cannot carry it.
    #[error("this kernel has no fast path: {reason}")]
    Unsupported {
        /// What is missing, in words.
        reason: String,
    },
    /// Programs could not be loaded.
    #[error("load the programs {programs}: {reason}")]
    Load {
        /// Which.
        programs: &'static str,
        /// The loader's words, with the last lines of the kernel's verifier where it refused.
        reason: String,
    },
    /// A map, program or link of BPF could not be reached.
    #[error("{what}: {reason}")]
    Object {
        /// What was being done.
        what: String,
        /// The library's words.
        reason: String,
    },
    /// The folder of pinned objects could not be mounted, read or changed.
    #[error("{step} {path}")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Interfaces or filters could not be read or changed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A map is full: so many stations were asked for.
    #[error("{wished} stations do not fit the fast path's {room}; those left out take the bridges")]
    Full {
        /// How many there should be.
        wished: usize,
        /// How many there can be.
        room: usize,
    },
}

impl Classified for FastPathError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Netns(error) => error.kind(),
            Self::Kernel(error) => error.kind(),
            _ => ErrorKind::System,
        }
    }
}
