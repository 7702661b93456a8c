//! How the state changes: one change at a time is noted, and the kernel follows.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedMutexGuard, oneshot};
use tracing::field;
use weft_types::{ContainerId, NetworkId};

use super::Controller;
use super::connect::Look;
use super::dataplane::blocking;
use crate::error::NetworkError;
use crate::plans;
use crate::state::State;

/// What becomes of a change that the kernel does not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFailure {
    TakeBack,
    Stand,
    /// It stands, and the caller hears of it.
    StandAndTell,
    /// It stands, and the caller does not wait for the kernel.
    StandBehind,
}

/// Which namespaces a change concerns.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched {
    pub(super) host: bool,
    pub(super) overlays: BTreeSet<NetworkId>,
    pub(super) sandboxes: BTreeSet<ContainerId>,
    /// Networks on which services or their tasks changed: balancers and, on the ingress network, the routing mesh.
    pub(super) services: BTreeSet<NetworkId>,
}

impl Touched {
    /// Everything there is, before and after.
    pub(super) fn all(state: &State) -> Self {
        Self {
            host: true,
            overlays: state.networks().filter(|n| n.overlay().is_some()).map(|n| n.id.clone()).collect(),
            sandboxes: state.sandboxes.keys().cloned().collect(),
            services: BTreeSet::new(),
        }
    }

    /// With networks whose services changed.
    pub(super) fn and(mut self, services: BTreeSet<NetworkId>) -> Self {
        self.services.extend(services);
        self
    }
}

impl Controller {
    /// One change: edited on a copy, saved, brought into the kernel; taken back if that fails. Once begun it is carried
    /// to the end, also when the caller stops waiting: requests are given up when their client hangs up.
    pub(super) async fn change<R>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<(R, Touched), NetworkError>,
    ) -> Result<R, NetworkError> {
        self.change_with(OnFailure::TakeBack, edit).await
    }

    /// A change that states a fact, or takes something away: it stands, whatever the kernel says. The audit goes on
    /// trying.
    pub(super) async fn note_change<R>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<(R, Touched), NetworkError>,
    ) -> Result<R, NetworkError> {
        self.change_with(OnFailure::Stand, edit).await
    }

    /// As [`Controller::note_change`], for what goes: the caller hears once it is saved, and the kernel follows before the
    /// next change. Taking a link away takes the kernel 20 ms, in which it waits for its readers.
    pub(super) async fn note_departure<R>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<(R, Touched), NetworkError>,
    ) -> Result<R, NetworkError> {
        self.change_with(OnFailure::StandBehind, edit).await
    }

    /// A fact that others wait for: it stands, and they hear whether the kernel follows.
    pub(super) async fn state_fact<R>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<(R, Touched), NetworkError>,
    ) -> Result<R, NetworkError> {
        self.change_with(OnFailure::StandAndTell, edit).await
    }

    pub(super) async fn change_with<R>(
        &self,
        on_failure: OnFailure,
        edit: impl FnOnce(&mut State) -> Result<(R, Touched), NetworkError>,
    ) -> Result<R, NetworkError> {
        let settled = self.settled().await;
        let before = self.state.load_full();
        let mut after = State::clone(&before);
        let (value, touched) = edit(&mut after)?;
        let Some(this) = Weak::upgrade(&self.this) else { return Err(NetworkError::Stopped) };
        self.departing.store(false, Ordering::Release);
        let (saved, is_saved) = oneshot::channel();
        let mut commit = tokio::spawn(async move {
            let _settled = settled;
            this.commit(before, after, touched, on_failure, saved).await
        });
        let finished = tokio::select! {
            Ok(()) = is_saved, if on_failure == OnFailure::StandBehind => return Ok(value),
            finished = &mut commit => finished,
        };
        match finished {
            Ok(committed) => committed.map(|()| value),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(NetworkError::Stopped),
            },
        }
    }

    /// Waits until the state shows every change: one whose caller gave up may be under way. To be called with the turn.
    pub(super) async fn noted(&self) {
        // Of a departure the state shows everything, though the kernel may still be at it.
        if !self.departing.load(Ordering::Acquire) {
            drop(self.settled().await);
        }
    }

    /// Waits until no change is under way whose caller gave up.
    pub(super) async fn settled(&self) -> OwnedMutexGuard<()> {
        self.committing.clone().lock_owned().await
    }

    pub(super) async fn commit(
        &self,
        before: Arc<State>,
        mut after: State,
        touched: Touched,
        on_failure: OnFailure,
        saved_now: oneshot::Sender<()>,
    ) -> Result<(), NetworkError> {
        let begin = std::time::Instant::now();
        self.open_resolvers(&mut after).await;
        let resolved = begin.elapsed();
        let after = Arc::new(after);
        self.save(&after, &before).await?;
        let saved = begin.elapsed();
        self.state.store(after.clone());
        self.departing.store(on_failure == OnFailure::StandBehind, Ordering::Release);
        // Who does not listen waits for the end.
        let _ = saved_now.send(());
        let touched = touched.and(self.refresh_peers());
        let outcome = self.converge(&before, &after, &touched).await;
        match &outcome {
            Ok(()) => {}
            Err(error) if on_failure == OnFailure::TakeBack => {
                tracing::warn!(%error, cause = error.source().map(field::display), "change taken back");
                self.take_back(&before, &after, &touched).await;
                return outcome;
            }
            Err(error) => {
                tracing::error!(%error, cause = error.source().map(field::display), "not all brought into the kernel");
            }
        }
        let converged = begin.elapsed();
        self.settle_helper().await;
        let settled = begin.elapsed();
        self.tell_local();
        self.save_word(&after, &before).await;
        tracing::debug!(?touched, ?resolved, ?saved, ?converged, ?settled, kept = ?begin.elapsed(), "change committed");
        if on_failure == OnFailure::StandAndTell { outcome } else { Ok(()) }
    }

    pub(super) async fn take_back(&self, before: &Arc<State>, after: &Arc<State>, touched: &Touched) {
        self.state.store(before.clone());
        self.refresh_peers();
        if let Err(error) = self.save(before, after).await {
            tracing::error!(%error, "old state not saved");
        }
        if let Err(error) = self.converge(after, before, touched).await {
            tracing::warn!(%error, "taking back left something; the audit goes on");
        }
        self.push_helper();
    }

    pub(super) async fn save(&self, state: &Arc<State>, before: &Arc<State>) -> Result<(), NetworkError> {
        let (store, state, before) = (self.store.clone(), state.clone(), before.clone());
        blocking(move || store.save(&state, Some(&before))).await
    }

    /// Last of all: see [`Store::save_word`].
    pub(super) async fn save_word(&self, state: &Arc<State>, before: &Arc<State>) {
        let (store, state, before) = (self.store.clone(), state.clone(), before.clone());
        if let Err(error) = blocking(move || store.save_word(&state, Some(&before))).await {
            tracing::warn!(%error, cause = error.source().map(field::display), "the managers' word not kept");
        }
    }

    /// Makes the kernel follow `state`. `before` says what there was, for what has to go. Goes on after a failure, so
    /// that what does not depend on it stands, and gives the first.
    pub(super) async fn converge(
        &self,
        before: &State,
        state: &State,
        touched: &Touched,
    ) -> Result<(), NetworkError> {
        let mut outcome = Ok(());
        let mut note = |result: Result<(), NetworkError>| {
            if let Err(error) = &result {
                tracing::debug!(%error, "not converged");
            }
            if outcome.is_ok() {
                outcome = result;
            }
        };
        let moves = self.follow_services(state, &touched.services);
        let mesh_changed = state
            .ingress()
            .is_some_and(|mesh| touched.overlays.contains(&mesh.id) || touched.services.contains(&mesh.id));
        let uplinks = |state: &State| plans::uplinks(state, &self.around);
        let uplinks_changed = !touched.overlays.is_empty() && uplinks(before) != uplinks(state);
        let host = touched.host || mesh_changed || uplinks_changed;
        self.tell_helper_ahead(state, touched, host);
        for container in &touched.sandboxes {
            // The namespace must be there before a veth pair can reach into it.
            if let Some(sandbox) = state.sandboxes.get(container).filter(|s| s.has_namespace()) {
                let path = self.around.paths.sandbox_netns(&sandbox.id);
                note(self.dataplane.at(&path).await.map(|_| ()));
            }
        }
        // A daemon whose programs came with it finds networks without the ends that the host's plan waits for.
        let all = (host && self.fast_path.begins()).then(|| Touched::all(state).overlays);
        for id in all.as_ref().unwrap_or(&touched.overlays).union(&touched.overlays) {
            note(self.converge_overlay(state, id).await);
        }
        if host {
            let mesh = self.mesh_plan(state);
            let want = self.host_plan(state, mesh.clone());
            note(self.dataplane.reconcile("the host's network", self.dataplane.host(), &want).await);
            self.follow_mesh(mesh.as_ref()).await;
        }
        for container in &touched.sandboxes {
            note(self.converge_sandbox(before, state, container).await);
        }
        if !touched.overlays.is_empty() {
            // Without it the bridges carry all, so nobody has to hear of a failure.
            self.follow_fast_path(state).await;
        }
        note(self.follow_connect(state, Look::AtTheWish).await.map(drop));
        note(self.move_balancers(state, &moves, &touched.sandboxes).await);
        outcome
    }

    pub(super) async fn converge_overlay(&self, state: &State, id: &NetworkId) -> Result<(), NetworkError> {
        let path = self.around.paths.overlay_netns(id);
        let peers = self.peers.load_full();
        match state.network(id).and_then(|n| plans::overlay(state, &self.around, n, &peers)) {
            Some(plan) => {
                let kernel = self.dataplane.at(&path).await?;
                self.dataplane.reconcile(&format!("overlay network {id}"), &kernel, &plan.plan()).await
            }
            None if path.exists() => self.dataplane.remove(&path).await,
            None => Ok(()),
        }
    }

    pub(super) async fn converge_sandbox(
        &self,
        before: &State,
        state: &State,
        container: &ContainerId,
    ) -> Result<(), NetworkError> {
        match (state.sandboxes.get(container), before.sandboxes.get(container)) {
            (Some(sandbox), old) => {
                if sandbox.has_namespace() {
                    let kernel = self.dataplane.at(&self.around.paths.sandbox_netns(&sandbox.id)).await?;
                    let want = self.sandbox_state(state, sandbox);
                    self.dataplane.reconcile("the container's network", &kernel, &want).await?;
                }
                self.write_files(state, sandbox, old.map(|old| (before, old)))
            }
            (None, Some(old)) => {
                self.remove_files(old);
                if old.has_namespace() {
                    self.dataplane.remove(&self.around.paths.sandbox_netns(&old.id)).await?;
                }
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }
}
