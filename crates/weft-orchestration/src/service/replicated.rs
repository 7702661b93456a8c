//! So many tasks, wherever there is room.

use std::collections::HashMap;

use weft_wire::swarmkit::TaskState;

use super::pass::Pass;
use super::slot::Slot;

impl Pass<'_> {
    pub(super) fn replicated(&mut self, replicas: u64) {
        self.watch_update();
        let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
        let (mut kept, dead): (Vec<Slot>, Vec<Slot>) =
            self.slots.keys().cloned().partition(|slot| self.is_occupied(slot));
        if kept.len() > replicas {
            kept = self.in_order_of_keeping(kept);
            for slot in kept.split_off(replicas) {
                self.clear_slot(&slot);
            }
            kept.sort();
        }
        self.check_failures(&kept);
        for slot in &kept {
            self.restart_slot(slot);
        }
        let added = free_numbers(&kept, replicas - kept.len());
        for slot in dead.iter().filter(|slot| !added.contains(slot)) {
            self.clear_slot(slot);
        }
        for slot in &added {
            self.fill(slot);
        }
        self.update(&kept);
        self.start_ready();
        self.orphan_lost();
        self.reap();
    }

    /// Whether the slot counts as a replica: something is to run in it, or ran as often as its policy allows.
    pub(super) fn is_occupied(&self, slot: &Slot) -> bool {
        !self.wanted(slot).is_empty() || self.gave_up(slot)
    }

    /// A task for a slot that has none. Where one was lost rather than asked to go, the rules of restarts hold.
    pub(super) fn fill(&mut self, slot: &Slot) {
        let was_lost = self.slot(slot).iter().any(|index| self.tasks[*index].desired != TaskState::Remove);
        self.create(slot, if was_lost { TaskState::Ready } else { TaskState::Running });
    }

    /// Slots of which nothing is left to want.
    fn clear_slot(&mut self, slot: &Slot) {
        for index in self.slot(slot).to_vec() {
            self.ask(index, TaskState::Remove);
        }
    }

    /// Scaling down takes from the nodes with most tasks of the service, then what does not run, then the highest
    /// numbers; slots amid an update or without a node go first (SwarmKit `replicated/slot.go`).
    fn in_order_of_keeping(&self, mut slots: Vec<Slot>) -> Vec<Slot> {
        slots.sort_by_key(|slot| (!self.runs(slot), slot.clone()));
        let mut of_node: HashMap<&str, usize> = HashMap::new();
        let nth_on_its_node: HashMap<Slot, usize> = (slots.iter())
            .map(|slot| {
                let nth = match self.only_node(slot) {
                    Some(node) => {
                        let count = of_node.entry(node).or_default();
                        *count += 1;
                        *count
                    }
                    None => usize::MAX,
                };
                (slot.clone(), nth)
            })
            .collect();
        slots.sort_by_key(|slot| nth_on_its_node[slot]);
        slots
    }

    fn runs(&self, slot: &Slot) -> bool {
        self.wanted(slot).into_iter().any(|index| self.tasks[index].state == TaskState::Running)
    }

    /// The node of the slot's task if it has one task, and that a node.
    fn only_node(&self, slot: &Slot) -> Option<&str> {
        let wanted = self.wanted(slot);
        let last = || self.slot(slot).last().copied();
        let only = match wanted.as_slice() {
            [] => last(),
            [only] => Some(*only),
            _ => None,
        };
        only.map(|index| self.tasks[index].task.node_id.as_str()).filter(|node| !node.is_empty())
    }
}

/// The lowest numbers that are not in use.
fn free_numbers(used: &[Slot], count: usize) -> Vec<Slot> {
    (1..).map(Slot::Number).filter(|slot| used.binary_search(slot).is_err()).take(count).collect()
}
