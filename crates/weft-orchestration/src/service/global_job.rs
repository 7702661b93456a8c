//! One task that completes on each node that fits.

use weft_wire::swarmkit::{Node, TaskState};

use super::pass::Pass;
use super::placement::{constraints_of, is_ready, meets, must_leave};
use super::replicated_job::Progress;
use super::slot::Slot;

impl Pass<'_> {
    pub(super) fn global_job(&mut self) {
        self.end_older_iterations();
        let constraints = constraints_of(&self.service);
        let slots: Vec<Slot> = self.slots.keys().cloned().collect();
        for slot in &slots {
            match self.node_of_slot(slot) {
                None => self.ask_all(slot, TaskState::Remove),
                Some(node) if must_leave(Some(node)) || !meets(&constraints, node) => self.stop_slot(slot),
                Some(_) => self.restart_job(slot),
            }
        }
        let fits = |node: &Node| is_ready(node) && meets(&constraints, node);
        let ready: Vec<Slot> = (self.snapshot.nodes().filter(|node| fits(node)))
            .map(|node| Slot::Node(node.id.clone()))
            .collect();
        for slot in &ready {
            if self.progress(slot) == Progress::Open {
                self.create(slot, TaskState::Complete);
            }
        }
        self.start_ready();
        self.orphan_lost();
        self.reap();
    }
}
