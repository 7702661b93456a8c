//! Where a service's tasks failed lately.
//!
//! A node on which a service fails again and again should not get the next try. The snapshot shows the failed
//! tasks, but the history that is kept of a slot is shorter than what counts here; so they are remembered beyond
//! their removal. A new leader only knows what the snapshot shows, and may try such a node a few times more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::{Task, TaskState, TaskStatus};

use super::node_state::state_of;
use crate::Snapshot;

/// How long a failure counts (SwarmKit's).
const MEMORY: Duration = Duration::from_secs(5 * 60);
/// How many failures within [`MEMORY`] put a node behind those with fewer (SwarmKit's).
const TOO_MANY: usize = 5;

/// A service and the version of its spec: a changed spec gets a fresh start everywhere.
pub(super) type SpecKey = (String, u64);

/// Failures by spec and node, each with its time by task.
#[derive(Debug, Clone, Default)]
pub(super) struct RecentFailures {
    by_spec: BTreeMap<SpecKey, BTreeMap<String, BTreeMap<String, SystemTime>>>,
}

impl RecentFailures {
    /// Forgets what is too old, and adds what the snapshot shows of these services.
    pub(super) fn learn(&mut self, snapshot: &dyn Snapshot, services: &BTreeSet<&str>, now: SystemTime) {
        self.forget_old(now);
        let counts = |task: &Task| {
            matches!(state_of(task), TaskState::Failed | TaskState::Rejected) && !task.node_id.is_empty()
        };
        let tasks = services.iter().flat_map(|service| snapshot.tasks_of_service(service));
        for task in tasks.filter(|task| counts(task)) {
            let at = task.status.as_ref().and_then(failed_at).map_or(now, |at| at.min(now));
            if is_recent(at, now) {
                let nodes = self.by_spec.entry(spec_key(task)).or_default();
                nodes.entry(task.node_id.clone()).or_default().entry(task.id.clone()).or_insert(at);
            }
        }
    }

    fn forget_old(&mut self, now: SystemTime) {
        self.by_spec.retain(|_, nodes| {
            nodes.retain(|_, tasks| {
                tasks.retain(|_, at| is_recent(*at, now));
                !tasks.is_empty()
            });
            !nodes.is_empty()
        });
    }

    /// How much a node is to be avoided: the number of failures once there are too many of them, else 0.
    pub(super) fn penalty(&self, spec: &SpecKey, node: &str) -> usize {
        let count = self.by_spec.get(spec).and_then(|nodes| nodes.get(node)).map_or(0, BTreeMap::len);
        if count < TOO_MANY { 0 } else { count }
    }
}

pub(super) fn spec_key(task: &Task) -> SpecKey {
    (task.service_id.clone(), task.spec_version.map_or(0, |version| version.index))
}

/// By the managers' clock where they noted it, else by the node's.
fn failed_at(status: &TaskStatus) -> Option<SystemTime> {
    status.applied_at.or(status.timestamp).and_then(|at| SystemTime::try_from(at).ok())
}

fn is_recent(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).map_or(true, |age| age < MEMORY)
}
