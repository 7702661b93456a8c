//! In which order the nodes that fit get tasks.
//!
//! Nodes hang in a tree: one level per placement preference, a branch per value of the label it names. A task goes
//! down the branch with the fewest tasks of the service, level by level, and there to the node with the fewest.
//! So counts differ by at most one wherever there is room. A branch without a fitting node is none.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use weft_wire::swarmkit::{Task, placement_preference::Preference};

use super::constraint::LabelKey;
use super::node_state::{CountedService, NodeStates};

/// What a node is compared by; the least is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Failures of late, if there were too many.
    penalty: usize,
    tasks_of_service: u32,
    tasks: u32,
    node: usize,
}

/// What a branch is compared by; the least is taken.
#[derive(Debug)]
struct Branch {
    tasks_of_service: u64,
    /// Of its fitting nodes, to choose between branches equal so far.
    tasks: u64,
    nodes: u64,
    /// Makes the order total.
    position: usize,
    tree: Tree,
}

impl Branch {
    fn key(&self) -> (u64, u64, usize) {
        (self.tasks_of_service, self.tasks * 1024 / self.nodes.max(1), self.position)
    }
}

impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Branch {}

impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Branch {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Debug)]
enum Tree {
    Branches(BinaryHeap<Reverse<Branch>>),
    Nodes(BinaryHeap<Reverse<Candidate>>),
}

/// The nodes that fit the tasks of one service, and the order to take them in.
#[derive(Debug)]
pub(super) struct Spread {
    service: Option<CountedService>,
    tree: Tree,
}

impl Spread {
    /// `penalty` is none for nodes that do not fit.
    pub(super) fn new(
        service: Option<CountedService>,
        preferences: &[LabelKey],
        nodes: &NodeStates<'_>,
        penalty: impl Fn(usize) -> Option<usize>,
    ) -> Self {
        let tree = build(service, preferences, nodes, &(0..nodes.len()).collect::<Vec<_>>(), &penalty);
        Self { service, tree }
    }

    /// Gives the next node to `place`, which answers whether it fits another task. None if no node is left.
    pub(super) fn place_next(
        &mut self,
        nodes: &mut NodeStates<'_>,
        place: impl FnOnce(&mut NodeStates<'_>, usize) -> bool,
    ) -> Option<usize> {
        place_in(&mut self.tree, self.service, nodes, place)
    }
}

/// The label keys that a task shall be spread over, outermost first. Others than labels are passed over.
pub(super) fn preferences(task: &Task) -> Vec<LabelKey> {
    let placement = task.spec.as_ref().and_then(|spec| spec.placement.as_ref());
    placement
        .map_or(&[][..], |placement| &placement.preferences)
        .iter()
        .filter_map(|preference| preference.preference.as_ref())
        .filter_map(|Preference::Spread(over)| LabelKey::parse(&over.spread_descriptor))
        .collect()
}

fn build(
    service: Option<CountedService>,
    preferences: &[LabelKey],
    nodes: &NodeStates<'_>,
    members: &[usize],
    penalty: &impl Fn(usize) -> Option<usize>,
) -> Tree {
    let Some((key, rest)) = preferences.split_first() else {
        let fitting =
            members.iter().filter_map(|&node| Some(Reverse(candidate(service, nodes, node, penalty(node)?))));
        return Tree::Nodes(fitting.collect());
    };
    let mut by_value: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &node in members {
        by_value.entry(key.value_of(nodes.get(node).node)).or_default().push(node);
    }
    let branches = by_value.into_values().enumerate().filter_map(|(position, members)| {
        let fitting: Vec<usize> = members.iter().copied().filter(|&node| penalty(node).is_some()).collect();
        // Tasks on nodes that do not fit count too: they are there.
        let tasks_of_service =
            members.iter().map(|&node| u64::from(nodes.tasks_of_service(node, service))).sum();
        let tasks = fitting.iter().map(|&node| u64::from(nodes.get(node).active_tasks)).sum();
        let tree = build(service, rest, nodes, &members, penalty);
        let branch = Branch { tasks_of_service, tasks, nodes: fitting.len() as u64, position, tree };
        (!fitting.is_empty()).then_some(Reverse(branch))
    });
    Tree::Branches(branches.collect())
}

fn candidate(
    service: Option<CountedService>,
    nodes: &NodeStates<'_>,
    node: usize,
    penalty: usize,
) -> Candidate {
    let tasks_of_service = nodes.tasks_of_service(node, service);
    Candidate { penalty, tasks_of_service, tasks: nodes.get(node).active_tasks, node }
}

fn place_in(
    tree: &mut Tree,
    service: Option<CountedService>,
    nodes: &mut NodeStates<'_>,
    place: impl FnOnce(&mut NodeStates<'_>, usize) -> bool,
) -> Option<usize> {
    match tree {
        Tree::Nodes(heap) => {
            let Reverse(best) = heap.pop()?;
            if place(nodes, best.node) {
                heap.push(Reverse(candidate(service, nodes, best.node, best.penalty)));
            }
            Some(best.node)
        }
        Tree::Branches(heap) => {
            let Reverse(mut branch) = heap.pop()?;
            let node = place_in(&mut branch.tree, service, nodes, place);
            branch.tasks_of_service += 1;
            branch.tasks += 1;
            if !is_empty(&branch.tree) {
                heap.push(Reverse(branch));
            }
            node
        }
    }
}

fn is_empty(tree: &Tree) -> bool {
    match tree {
        Tree::Nodes(heap) => heap.is_empty(),
        Tree::Branches(heap) => heap.is_empty(),
    }
}
