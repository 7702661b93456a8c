//! What others do to our namespaces is repaired right away: the kernel tells that something changed.
//!
//! The periodic audit stays: it finds what the kernel tells nobody, such as settings, and makes namespaces that are gone.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use weft_plan::{NamespaceRef, NamespaceState};

use crate::controller::Controller;
use crate::controller::audit::Place;
use crate::error::NetworkError;
use crate::plans;
use crate::watchers::Watchers;

/// Between two looks which namespaces there are.
const FOLLOW: Duration = Duration::from_millis(300);
/// Between two tries to look at a namespace while a change is under way.
const BUSY: Duration = Duration::from_millis(20);
/// So many tries leave time for a repair within a second.
const BUSY_TRIES: usize = 15;

async fn ended(stopped: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl Controller {
    pub(super) fn start_watch(self: &Arc<Self>) {
        if !self.config.watch_kernel {
            return;
        }
        let controller = Arc::downgrade(self);
        let mut stopped = self.stopped.subscribe();
        tokio::spawn(async move {
            let mut watchers = Watchers::new();
            let mut tick = tokio::time::interval(FOLLOW);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = ended(&mut stopped) => return,
                    _ = tick.tick() => {
                        let Some(controller) = Weak::upgrade(&controller) else { return };
                        watchers.follow(controller.places());
                    }
                    place = watchers.changed() => {
                        let Some(controller) = Weak::upgrade(&controller) else { return };
                        if let Err(error) = controller.look_at(&place).await {
                            tracing::warn!(%place, %error, "audit failed");
                        }
                    }
                }
            }
        });
    }

    /// All namespaces that are listened to, with their files.
    fn places(&self) -> Vec<(Place, NamespaceRef)> {
        let (state, paths) = (self.state.load(), &self.around.paths);
        let used = super::swarm::used(&state);
        let overlays = used.iter().map(|id| paths.overlay_netns(id));
        let sandboxes = state.sandboxes.values().filter(|sandbox| sandbox.has_namespace());
        let pinned = overlays.chain(sandboxes.map(|sandbox| paths.sandbox_netns(&sandbox.id)));
        let pinned = pinned.map(|path| (Place::Pinned(path.clone()), NamespaceRef::at(path)));
        std::iter::once((Place::Host, self.around.host.clone())).chain(pinned).collect()
    }

    /// Compares and repairs one namespace, once no change is under way: a change makes a namespace as it shall be by
    /// itself, and nobody waits for us.
    async fn look_at(&self, place: &Place) -> Result<(), NetworkError> {
        let _turn = self.quiet_turn().await;
        let _settled = self.settled().await;
        let Some(want) = self.desired_at(place) else { return Ok(()) };
        let kernel = match place {
            Place::Host => self.dataplane.host().clone(),
            // One that is gone is the periodic audit's business.
            Place::Pinned(path) if !path.exists() => return Ok(()),
            Place::Pinned(path) => self.dataplane.at(path).await?,
        };
        let report = kernel.reconcile(&want).await?;
        self.note(place, &report.done, report.failed.len());
        if !report.done.is_empty() {
            // A port that was made again is another one to programs.
            self.follow_fast_path(&self.state.load_full()).await;
        }
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).looks += 1;
        Ok(())
    }

    /// A turn when nobody else wants one, or in line after a while.
    async fn quiet_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        for _ in 0..BUSY_TRIES {
            match self.turn.try_lock() {
                Ok(turn) => return turn,
                Err(_) => tokio::time::sleep(BUSY).await,
            }
        }
        self.turn.lock().await
    }

    /// What one namespace shall hold; none if it is no longer ours.
    fn desired_at(&self, place: &Place) -> Option<NamespaceState> {
        let (state, paths) = (self.state.load_full(), &self.around.paths);
        let path = match place {
            Place::Host => return Some(self.host_plan(&state, self.mesh_plan(&state))),
            Place::Pinned(path) => path,
        };
        if let Some(network) = state.networks().find(|network| paths.overlay_netns(&network.id) == *path) {
            let peers = self.peers.load_full();
            return Some(plans::overlay(&state, &self.around, network, &peers)?.plan());
        }
        let mut own = state.sandboxes.values().filter(|sandbox| sandbox.has_namespace());
        let sandbox = own.find(|sandbox| paths.sandbox_netns(&sandbox.id) == *path)?;
        Some(self.sandbox_state(&state, sandbox))
    }
}
