//! The fast path follows what the overlay networks' namespaces hold. Bridges carry whatever it does not, so that nothing
//! waits for it and a failure is a matter of speed alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weft_kernel::{
    Attachment, FastPathCounters, FastPathEngine, FastPathError, FastPathReport, Netns, TunnelPackets, Xfrm,
};
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
    /// Whether they make room for IPsec of the host's own.
    yields: bool,
    /// They did.
    set_aside: Arc<AtomicBool>,
    /// Whether all networks were made ready for them.
    begun: AtomicBool,
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

fn is_encrypted_by_host(desired: &FastPath) -> bool {
    let packets = TunnelPackets {
        from: desired.vtep,
        to: desired.segments.values().flat_map(|segment| segment.remote.values().copied()).collect(),
        port: desired.port,
    };
    // Kernels without IPsec have no such socket.
    let Some(mut xfrm) = Netns::resolve(&desired.host).ok().and_then(|netns| Xfrm::open(&netns).ok()) else {
        return false;
    };
    xfrm.others_select(&packets).unwrap_or_else(|error| {
        tracing::warn!(%error, "whether the host's IPsec policies are for overlay networks");
        true
    })
}

impl FastPathLink {
    pub(super) fn new(run_dir: &Path, choice: OverlayEngineChoice, attachment: Option<Attachment>) -> Self {
        Self {
            folder: run_dir.join("bpf"),
            yields: choice == OverlayEngineChoice::Auto,
            set_aside: Arc::default(),
            begun: AtomicBool::default(),
            attachment,
            engine: Arc::default(),
        }
    }

    /// True once, where programs are wanted: networks that a daemon without them made are to be made ready.
    pub(super) fn begins(&self) -> bool {
        self.attachment.is_some() && !self.begun.swap(true, Ordering::Relaxed)
    }

    /// The wish, or none while the host's own IPsec is for these tunnels: programs' packets would pass it by.
    async fn unless_encrypted(&self, desired: FastPath) -> Option<FastPath> {
        if !self.yields {
            return Some(desired);
        }
        let set_aside = self.set_aside.clone();
        blocking(move || {
            let encrypted = is_encrypted_by_host(&desired);
            if set_aside.swap(encrypted, Ordering::Relaxed) != encrypted {
                match encrypted {
                    true => tracing::warn!(
                        "overlay networks go by bridges: the host's IPsec policies are for them"
                    ),
                    false => tracing::info!(
                        "overlay networks go by programs: no IPsec policy of the host's is for them"
                    ),
                }
            }
            (!encrypted).then_some(desired)
        })
        .await
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
        let wanted = match wanted.flatten() {
            Some(wanted) => self.fast_path.unless_encrypted(wanted).await,
            None => None,
        };
        match self.fast_path.reconcile(wanted).await {
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
        if !report.changed.is_empty() || !report.absent.is_empty() {
            tracing::debug!(changed = ?report.changed, absent = ?report.absent, "fast path");
        }
        self.note_programs(&report.repaired)
    }

    /// What somebody had damaged of programs, maps or attachments and was put right; gives their number.
    pub(super) fn note_programs(&self, repaired: &[String]) -> usize {
        for repair in repaired {
            tracing::warn!(kind = PROGRAM, %repair, "repaired");
        }
        if !repaired.is_empty() {
            let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
            *counters.repairs.entry(PROGRAM).or_default() += repaired.len() as u64;
        }
        repaired.len()
    }
}
