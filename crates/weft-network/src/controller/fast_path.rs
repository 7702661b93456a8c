//! The fast path follows what the overlay networks' namespaces hold. Bridges carry whatever it does not, so that nothing
//! waits for it and a failure is a matter of speed alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use weft_kernel::{FastPathCounters, FastPathEngine, FastPathError, FastPathReport};
use weft_plan::FastPath;

use super::Controller;
use super::dataplane::{PROGRAM, blocking};
use crate::error::NetworkError;
use crate::overlay_engine::OverlayEngineChoice;
use crate::plans;
use crate::state::State;

/// The programs of this node, once they are needed.
#[derive(Debug)]
pub(super) struct FastPathLink {
    /// Where they outlive the daemon.
    folder: PathBuf,
    engine: Arc<Mutex<Option<FastPathEngine>>>,
}

/// Whether programs shall carry frames: the option says so, and the kernel can.
pub(super) async fn is_wanted(choice: OverlayEngineChoice) -> Result<bool, NetworkError> {
    let able = match choice {
        OverlayEngineChoice::Bridge => return Ok(false),
        OverlayEngineChoice::Auto | OverlayEngineChoice::Bpf => {
            blocking(FastPathEngine::probe_blocking).await
        }
    };
    match (able, choice) {
        (Ok(()), _) => Ok(true),
        (Err(error), OverlayEngineChoice::Bpf) => Err(NetworkError::NoFastPath(error)),
        (Err(error), _) => {
            tracing::info!(%error, "overlay networks go by bridges alone");
            Ok(false)
        }
    }
}

impl FastPathLink {
    pub(super) fn new(run_dir: &Path) -> Self {
        Self { folder: run_dir.join("bpf"), engine: Arc::default() }
    }

    /// Nothing is made before something is to be carried, and nothing stays after that.
    async fn reconcile(&self, desired: Option<FastPath>) -> Result<FastPathReport, FastPathError> {
        let (folder, engine) = (self.folder.clone(), self.engine.clone());
        blocking(move || {
            let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
            if desired.is_none() && engine.is_none() && !folder.exists() {
                return Ok(FastPathReport::default());
            }
            let mut open = match engine.take() {
                Some(open) => open,
                None => FastPathEngine::open_blocking(&folder)?,
            };
            if desired.is_none() {
                open.remove_blocking()?;
                return Ok(FastPathReport::default());
            }
            let report = open.reconcile_blocking(desired.as_ref());
            *engine = Some(open);
            report
        })
        .await
    }

    async fn counters(&self) -> Option<FastPathCounters> {
        let engine = self.engine.clone();
        blocking(move || {
            let engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
            engine.as_ref().and_then(|engine| engine.counters_blocking().ok())
        })
        .await
    }

    /// This node's containers are gone.
    pub(super) async fn end(&self) {
        if let Err(error) = self.reconcile(None).await {
            tracing::warn!(%error, "programs of the fast path left behind");
        }
    }
}

impl Controller {
    /// Whether programs carry frames past the bridges.
    pub fn has_fast_path(&self) -> bool {
        self.around.fast
    }

    /// What the programs counted; none where there are none.
    pub async fn fast_path_counters(&self) -> Option<FastPathCounters> {
        self.fast_path.counters().await
    }

    /// Has programs carry what `state` says. Says how much of it somebody else had damaged.
    pub(super) async fn follow_fast_path(&self, state: &State) -> usize {
        let wanted = self.around.fast.then(|| {
            plans::fast_path(state, &self.around, self.data_path_link().as_ref(), &self.peers.load())
        });
        match self.fast_path.reconcile(wanted.flatten()).await {
            Ok(report) => self.note_fast_path(&report),
            Err(error) => {
                tracing::warn!(%error, "overlay networks go by bridges alone for now");
                0
            }
        }
    }

    fn note_fast_path(&self, report: &FastPathReport) -> usize {
        for failure in &report.failed {
            tracing::warn!(%failure, "left to the bridges");
        }
        for repair in &report.repaired {
            tracing::warn!(kind = PROGRAM, %repair, "repaired");
        }
        if !report.changed.is_empty() || !report.absent.is_empty() {
            tracing::debug!(changed = ?report.changed, absent = ?report.absent, "fast path");
        }
        if !report.repaired.is_empty() {
            let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
            *counters.repairs.entry(PROGRAM).or_default() += report.repaired.len() as u64;
        }
        report.repaired.len()
    }
}
