//! The fast path: BPF programs beside the bridges.

mod error;
mod report;

use std::path::Path;

use weft_plan::FastPath;

pub use error::FastPathError;
pub use report::{FastPathCounters, FastPathReport};

/// The fast path of a node: loaded programs, their maps, and where they are attached. All of it is pinned below a
/// folder and outlives this value: traffic goes on while the daemon is away.
#[derive(Debug)]
pub struct FastPathEngine {}

impl FastPathEngine {
    /// Whether this kernel can carry a fast path; the reason in words where not. Tries in a namespace that is thrown away.
    pub fn probe_blocking() -> Result<(), FastPathError> {
        Err(FastPathError::Unsupported { reason: "this build has no programs".to_owned() })
    }

    /// Adopts what a former daemon pinned below `folder`, where a file system for BPF objects is mounted, or begins anew.
    pub fn open_blocking(_folder: &Path) -> Result<Self, FastPathError> {
        Self::probe_blocking()?;
        Ok(Self {})
    }

    /// Makes maps and attachments as wished; none: nothing is carried. Interfaces that are not there (yet) are left to
    /// the bridges and named in the report.
    pub fn reconcile_blocking(
        &mut self,
        _desired: Option<&FastPath>,
    ) -> Result<FastPathReport, FastPathError> {
        Ok(FastPathReport::default())
    }

    /// What the programs counted.
    pub fn counters_blocking(&self) -> Result<FastPathCounters, FastPathError> {
        Ok(FastPathCounters::default())
    }

    /// Takes everything away: attachments, programs, maps, the mount.
    pub fn remove_blocking(self) -> Result<(), FastPathError> {
        Ok(())
    }
}
