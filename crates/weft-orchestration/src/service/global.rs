//! One task on each node that fits.

use weft_wire::swarmkit::TaskState;

use super::pass::Pass;
use super::placement::{constraints_of, is_paused, is_ready, meets, must_leave};
use super::slot::Slot;

impl Pass<'_> {
    pub(super) fn global(&mut self) {
        self.watch_update();
        let constraints = constraints_of(&self.service);
        let mut kept: Vec<Slot> = Vec::new();
        let slots: Vec<Slot> = self.slots.keys().cloned().collect();
        for slot in slots {
            let node = self.node_of_slot(&slot);
            match node {
                None => self.ask_all(&slot, TaskState::Remove),
                Some(node) if must_leave(Some(node)) || !meets(&constraints, node) => {
                    self.ask_wanted(&slot, TaskState::Shutdown, false);
                }
                // Neither added to nor replaced, so what ended there stays so.
                Some(node) if is_paused(node) => self.ask_wanted(&slot, TaskState::Shutdown, true),
                Some(_) if self.is_occupied(&slot) => kept.push(slot),
                Some(_) => {}
            }
        }
        self.check_failures(&kept);
        for slot in &kept {
            self.restart_slot(slot);
        }
        self.update(&kept);
        for node in self.snapshot.nodes() {
            let slot = Slot::Node(node.id.clone());
            if is_ready(node) && meets(&constraints, node) && !self.is_occupied(&slot) {
                self.fill(&slot);
            }
        }
        self.start_ready();
        self.orphan_lost();
        self.reap();
    }

    pub(super) fn node_of_slot(&self, slot: &Slot) -> Option<&'_ weft_wire::swarmkit::Node> {
        match slot {
            Slot::Node(node) => self.snapshot.node(node).map(|node| &**node),
            Slot::Number(_) => None,
        }
    }

    pub(super) fn ask_all(&mut self, slot: &Slot, desired: TaskState) {
        for index in self.slot(slot).to_vec() {
            self.ask(index, desired);
        }
    }

    /// Asks of the slot's wanted tasks, or only of those that ended.
    pub(super) fn ask_wanted(&mut self, slot: &Slot, desired: TaskState, only_ended: bool) {
        for index in self.wanted(slot) {
            if !only_ended || self.tasks[index].has_ended() {
                self.ask(index, desired);
            }
        }
    }
}
