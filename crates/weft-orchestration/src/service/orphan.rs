//! Tasks of which nobody knows what became of them.

use std::time::Duration;

use super::pass::Pass;
use super::placement::is_down;
use super::time::time_of;

/// How long a node may be down before its tasks are given up (SwarmKit `dispatcher.go`, `defaultNodeDownPeriod`).
const NODE_DOWN_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

impl Pass<'_> {
    /// Marks tasks whose node was removed, or has been down for a day.
    pub(super) fn orphan_lost(&mut self) {
        for index in 0..self.tasks.len() {
            let entry = &self.tasks[index];
            if !entry.may_run() || entry.task.node_id.is_empty() {
                continue;
            }
            let Some(node) = self.node_of(index) else {
                self.orphan(index);
                continue;
            };
            if !is_down(node) {
                continue;
            }
            // Going down was a change of the node's object, and while it is down there are few others.
            let changed = time_of(node.meta.as_ref().and_then(|meta| meta.updated_at.as_ref()));
            let Some(changed) = changed else { continue };
            match self.pending(changed, NODE_DOWN_PERIOD) {
                None => self.orphan(index),
                Some(end) => self.look_again(end),
            }
        }
    }
}
