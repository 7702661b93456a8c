//! Services that are gone or going: their tasks stop, then they are removed.

use weft_wire::swarmkit::TaskState;

use super::pass::Pass;

impl Pass<'_> {
    /// Asks all tasks to go; the service object follows the last of them if it is still there.
    pub(super) fn remove_all(&mut self, is_service_there: bool) {
        for index in 0..self.tasks.len() {
            self.ask(index, TaskState::Remove);
        }
        self.orphan_lost();
        self.reap();
        if is_service_there && (0..self.tasks.len()).all(|index| self.is_removed(index)) {
            self.remove_service();
        }
    }
}
