//! What a service tells of its update. The words are Docker's: clients show and wait for them.

use weft_wire::swarmkit::UpdateStatus;
use weft_wire::swarmkit::update_status::UpdateState;

use super::pass::Pass;
use super::rules::is_in;
use super::time::time_of;

impl Pass<'_> {
    /// Whether tasks are being replaced under the eyes of the failure action.
    pub(super) fn is_updating(&self) -> bool {
        is_in(&self.service, UpdateState::Updating) || self.is_rolling_back()
    }

    pub(super) fn is_rolling_back(&self) -> bool {
        is_in(&self.service, UpdateState::RollbackStarted)
    }

    pub(super) fn is_update_paused(&self) -> bool {
        is_in(&self.service, UpdateState::Paused) || is_in(&self.service, UpdateState::RollbackPaused)
    }

    pub(super) fn update_state(&self) -> Option<i32> {
        self.service.update_status.as_ref().map(|status| status.state)
    }

    /// As everybody sees it now.
    pub(super) fn stored_update_state(&self) -> Option<i32> {
        self.snapshot.service(&self.service.id)?.update_status.as_ref().map(|status| status.state)
    }

    pub(super) fn update_started(&self) -> Option<std::time::SystemTime> {
        time_of(self.service.update_status.as_ref()?.started_at.as_ref())
    }

    pub(super) fn begin_update(&mut self) {
        if self.service.update_status.is_some() {
            return;
        }
        self.service.to_mut().update_status = Some(UpdateStatus {
            state: UpdateState::Updating.into(),
            started_at: Some(self.now.into()),
            message: "update in progress".to_owned(),
            ..UpdateStatus::default()
        });
    }

    pub(super) fn complete_update(&mut self) {
        let (state, message) = match self.is_rolling_back() {
            true => (UpdateState::RollbackCompleted, "rollback completed"),
            false => (UpdateState::Completed, "update completed"),
        };
        self.set_update_state(state, message.to_owned());
        if let Some(status) = &mut self.service.to_mut().update_status {
            status.completed_at = Some(self.now.into());
        }
    }

    pub(super) fn pause_update(&mut self, message: String) {
        let state = match self.is_rolling_back() {
            true => UpdateState::RollbackPaused,
            false => UpdateState::Paused,
        };
        self.set_update_state(state, message);
    }

    /// Back to the spec before the update. False if there is none.
    pub(super) fn roll_back(&mut self, message: String) -> bool {
        if self.service.previous_spec.is_none() {
            return false;
        }
        self.set_update_state(UpdateState::RollbackStarted, message);
        let service = self.service.to_mut();
        service.spec = service.previous_spec.take();
        service.spec_version = service.previous_spec_version.take();
        self.running.clear();
        true
    }

    fn set_update_state(&mut self, state: UpdateState, message: String) {
        let status = self.service.to_mut().update_status.get_or_insert_default();
        status.state = state.into();
        status.message = message;
    }
}
