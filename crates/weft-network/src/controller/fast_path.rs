//! The fast path follows what the overlay networks' namespaces hold. Bridges carry whatever it does not, so that nothing
//! waits for it and a failure is a matter of speed alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use weft_kernel::{Attachment, FastPathCounters, FastPathEngine, FastPathError, FastPathReport};
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
    /// How they are attached; none while they are not wanted.
    attachment: Option<Attachment>,
    engine: Arc<Mutex<Option<FastPathEngine>>>,
}

/// How programs that carry frames are attached; none where the option does not want them or the kernel cannot.
pub(super) async fn attachment(choice: OverlayEngineChoice) -> Result<Option<Attachment>, NetworkError> {
    let able = match choice {
        OverlayEngineChoice::Bridge => return Ok(None),
        OverlayEngineChoice::Auto | OverlayEngineChoice::Bpf => {
            blocking(FastPathEngine::probe_blocking).await
        }
    };
    match (able, choice) {
        (Ok(attachment), _) => Ok(Some(attachment)),
        (Err(error), OverlayEngineChoice::Bpf) => Err(NetworkError::NoFastPath(error)),
        (Err(error), _) => {
            tracing::info!(%error, "overlay networks go by bridges alone");
            Ok(None)
        }
    }
}

impl FastPathLink {
    pub(super) fn new(run_dir: &Path, attachment: Option<Attachment>) -> Self {
        Self { folder: run_dir.join("bpf"), attachment, engine: Arc::default() }
    }

    /// Nothing is made before something is to be carried, and nothing stays after that.
    async fn reconcile(&self, desired: Option<FastPath>) -> Result<FastPathReport, FastPathError> {
        let (folder, attachment, engine) = (self.folder.clone(), self.attachment, self.engine.clone());
        blocking(move || {
            let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
            if desired.is_none() && engine.is_none() && !folder.exists() {
                return Ok(FastPathReport::default());
            }
            let mut open = match (engine.take(), attachment) {
                (Some(open), _) => open,
                (None, Some(attachment)) => FastPathEngine::open_with_blocking(&folder, attachment)?,
                (None, None) => FastPathEngine::open_blocking(&folder)?,
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

    async fn counters(&self) -> FastPathCounters {
        let engine = self.engine.clone();
        blocking(move || {
            let engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
            engine.as_ref().and_then(|engine| engine.counters_blocking().ok()).unwrap_or_default()
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

    /// Frames that the programs saw, by what became of them; empty where programs are not wanted.
    pub async fn fast_path_counters(&self) -> BTreeMap<&'static str, u64> {
        match self.has_fast_path() {
            true => self.fast_path.counters().await.named().into(),
            false => BTreeMap::new(),
        }
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
