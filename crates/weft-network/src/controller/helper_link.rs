//! The way to the helper.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::HelperLaunch;
use crate::controller::Controller;
use crate::state::State;

pub(super) struct HelperLink {
    _launch: HelperLaunch,
    _dir: PathBuf,
}

impl HelperLink {
    pub(super) fn new(launch: HelperLaunch, dir: PathBuf) -> Self {
        Self { _launch: launch, _dir: dir }
    }
    pub(super) async fn stop(&self, _keep_running: bool) {}
}

impl Controller {
    pub(super) fn start_helper(self: &Arc<Self>) {}
    pub(super) fn push_helper(&self) {}
    pub(super) async fn open_resolvers(&self, _state: &mut State) {}
}
