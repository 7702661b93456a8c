//! Which services to look at, and when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use rand::RngCore;
use weft_wire::swarmkit::{Service, service_spec::Mode};

use super::pass::Pass;
use super::running_since::RunningSince;
use super::slot::{is_everywhere, mode_of};
use crate::{Change, Dirty, Snapshot};

/// Turns services into tasks.
///
/// The cost of a call is in proportion to the tasks of the services that are looked at, not to the swarm.
#[derive(Debug, Default)]
pub struct Orchestrator {
    has_looked: bool,
    /// When to look again, by service.
    wakes: BTreeMap<String, SystemTime>,
    /// Services whose last look asked for changes: were they refused, nobody else would tell.
    unconfirmed: BTreeSet<String>,
    /// Of services under update.
    running: HashMap<String, RunningSince>,
}

impl Orchestrator {
    /// One that knows nothing yet: its first call looks at everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to write so that tasks follow services and nodes, added to `out` to be proposed as one transaction.
    ///
    /// Call it after each commit that made something dirty, at the returned time, and again after a refusal (what
    /// was dirty then need not be named again: whatever a proposal touched is looked at until it shows no change).
    /// One proposal at a time: a second call before the first one's fate is known would create tasks twice. The
    /// store's time for what it creates must not be before `now`.
    pub fn reconcile(
        &mut self,
        snapshot: &dyn Snapshot,
        dirty: &Dirty,
        now: SystemTime,
        rng: &mut dyn RngCore,
        out: &mut Vec<Change>,
    ) -> Option<SystemTime> {
        for id in self.concerned(snapshot, dirty, now) {
            let before = out.len();
            let wake = self.look_at(snapshot, &id, now, rng, out);
            match wake {
                Some(at) => self.wakes.insert(id.clone(), at),
                None => self.wakes.remove(&id),
            };
            if out.len() > before {
                self.unconfirmed.insert(id);
            } else {
                self.unconfirmed.remove(&id);
            }
        }
        self.has_looked = true;
        self.wakes.values().min().copied()
    }

    fn concerned(&self, snapshot: &dyn Snapshot, dirty: &Dirty, now: SystemTime) -> BTreeSet<String> {
        if dirty.all || !self.has_looked {
            let services = snapshot.services().map(|service| service.id.clone());
            // Also what services that are gone left behind.
            let of_tasks = snapshot.tasks().map(|task| task.service_id.clone());
            return services.chain(of_tasks).filter(|id| !id.is_empty()).collect();
        }
        let due = self.wakes.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone());
        let mut ids: BTreeSet<String> = due.collect();
        ids.extend(self.unconfirmed.iter().cloned());
        ids.extend(dirty.services.iter().filter(|id| !id.is_empty()).cloned());
        for node in &dirty.nodes {
            let here = snapshot.tasks_of_node(node).map(|task| task.service_id.clone());
            ids.extend(here.filter(|id| !id.is_empty()));
        }
        if !dirty.nodes.is_empty() {
            let everywhere = snapshot.services().filter(|service| is_everywhere(service));
            ids.extend(everywhere.map(|service| service.id.clone()));
        }
        ids
    }

    fn look_at(
        &mut self,
        snapshot: &dyn Snapshot,
        id: &str,
        now: SystemTime,
        rng: &mut dyn RngCore,
        out: &mut Vec<Change>,
    ) -> Option<SystemTime> {
        let running = self.running.remove(id).unwrap_or_default();
        let stored = snapshot.service(id);
        let gone = Service { id: id.to_owned(), ..Service::default() };
        let service = stored.map_or(&gone, |service| &**service);
        let mut pass = Pass::new(snapshot, service, running, now, rng);
        if stored.is_none() || service.pending_delete {
            pass.remove_all(stored.is_some());
        } else {
            match mode_of(service) {
                Some(Mode::Replicated(replicated)) => pass.replicated(replicated.replicas),
                Some(Mode::Global(_)) => pass.global(),
                Some(Mode::ReplicatedJob(job)) => pass.replicated_job(*job),
                Some(Mode::GlobalJob(_)) => pass.global_job(),
                // A mode that this version does not know: its tasks are left as they are.
                None => {}
            }
        }
        let (wake, running) = pass.finish(out);
        if !running.is_empty() {
            self.running.insert(id.to_owned(), running);
        }
        wake
    }
}
