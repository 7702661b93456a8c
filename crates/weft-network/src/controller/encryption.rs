//! What encrypts here, and what the helper says of encrypted paths, kept for users.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Instant;

use weft_kernel::{Tap, Xfrm};
use weft_plan::EncryptionEngine;
use weft_types::NetworkId;

use super::Controller;
use super::dataplane::blocking;
use crate::config::ControllerConfig;
use crate::encryption::{EncryptedPath, EncryptionChoice, EncryptionReport, EncryptionSetting};
use crate::error::NetworkError;
use crate::plans;

/// A path that is new is without keys for a moment: so many words in turn say that it fails.
const TIMES: u32 = 3;

/// The last word, and when it came.
#[derive(Debug, Default)]
pub(super) struct Known {
    told: Option<(Instant, EncryptionReport)>,
    /// Paths that failed in the last words, and in how many of them.
    troubles: BTreeMap<IpAddr, u32>,
}

/// How this node encrypts; none: it does not, or has nothing to do it with.
pub(super) async fn setting(config: &ControllerConfig) -> Result<Option<EncryptionSetting>, NetworkError> {
    let (Some(port), Some(_)) = (config.encryption_port, &config.helper) else { return Ok(None) };
    let choice = config.encryption_engine;
    let engine = blocking(move || choice.engine(has_kernel_esp, Tap::is_available())).await;
    if engine.is_none() && choice == EncryptionChoice::Kernel {
        return Err(NetworkError::NoKernelEncryption);
    }
    tracing::info!(engine = engine.map_or("none", EncryptionEngine::name), wished = %choice, "networks are encrypted");
    Ok(engine.map(|engine| EncryptionSetting { port, engine, queues: config.encryption_queues }))
}

fn has_kernel_esp() -> bool {
    Xfrm::probe().unwrap_or_else(|error| {
        tracing::debug!(%error, "the kernel's ESP");
        false
    })
}

impl Controller {
    /// What encrypts networks here; none: nothing does.
    pub fn encryption_engine(&self) -> Option<EncryptionEngine> {
        self.around.encryption.map(|setting| setting.engine)
    }

    /// The paths that carry an encrypted network, by the other nodes' addresses; none: it is not encrypted.
    pub fn encrypted_paths(&self, network: &NetworkId) -> Option<Vec<EncryptedPath>> {
        let state = self.state.load();
        let network = state.network(network).filter(|n| n.overlay().is_some_and(|spec| spec.encrypted))?;
        let on_it = plans::overlay(&state, &self.around, network, &self.peers.load());
        let on_it = on_it.map(|plan| plan.forwarding().map(|(_, _, vtep)| vtep).collect::<Vec<_>>());
        let on_it = on_it.unwrap_or_default();
        let known = self.encryption.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((then, report)) = &known.told else { return Some(Vec::new()) };
        let paths = report.paths.iter().filter(|path| on_it.contains(&path.address));
        let mut paths: Vec<_> = paths.map(|path| path.later(then.elapsed())).collect();
        paths.sort_by_key(|path| path.address);
        Some(paths)
    }

    /// All paths of this node, and what was dropped; nothing where nothing is encrypted.
    pub fn encryption(&self) -> EncryptionReport {
        let known = self.encryption.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((then, report)) = &known.told else { return EncryptionReport::default() };
        let paths = report.paths.iter().map(|path| path.later(then.elapsed())).collect();
        EncryptionReport { paths, dropped: report.dropped.clone() }
    }

    /// Warns of paths that fail, and says when they are well again.
    pub(super) fn note_encryption(&self, report: EncryptionReport) {
        let mut known = self.encryption.lock().unwrap_or_else(PoisonError::into_inner);
        let mut troubles = BTreeMap::new();
        for (peer, why) in report.paths.iter().filter_map(|path| Some((path.address, path.trouble()?))) {
            let times = 1 + known.troubles.remove(&peer).unwrap_or_default();
            if times == TIMES {
                tracing::warn!(%peer, why, "encrypted path fails: do ESP and its UDP port pass between the nodes?");
            }
            troubles.insert(peer, times);
        }
        for peer in known.troubles.iter().filter(|(_, times)| **times >= TIMES).map(|(peer, _)| peer) {
            tracing::info!(%peer, "encrypted path is well");
        }
        known.troubles = troubles;
        known.told = Some((Instant::now(), report));
    }
}
