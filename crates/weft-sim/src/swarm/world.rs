//! One run.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use weft_orchestration::{Allocator, Change, Dirty, Proposal, Snapshot as _};
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::node_status::State;
use weft_wire::swarmkit::{Cluster, ClusterSpec, Network, OrchestrationConfig, Service, Task};

use super::leader::Leader;
use super::objects::{self, NETWORK, at, node_state, state};
use super::rules;
use super::store::{Refused, Store};
use super::worker::Worker;
use crate::Failure;

/// Virtual milliseconds between two looks at everything.
pub(super) const TICK: u64 = 50;
/// How often nodes are judged.
const JUDGE: u64 = 1000;
/// A node that was not heard for so long is down.
const SILENCE: u64 = 8000;

/// The size and the times of a run. The seed decides the rest.
#[derive(Debug, Clone)]
pub struct SwarmPlan {
    /// Decides everything.
    pub seed: u64,
    /// Worker nodes.
    pub nodes: usize,
    /// Most services at one time.
    pub services: usize,
    /// Most replicas of each.
    pub replicas: u64,
    /// Faults and wishes last this long.
    pub storm: Duration,
}

impl SwarmPlan {
    /// The usual run.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3 + (seed % 5) as usize,
            services: 5,
            replicas: 6,
            storm: Duration::from_secs(120),
        }
    }
}

/// Virtual time after the last fault and wish within which everything runs: six replicas updated one by one, each
/// with a stop, a start and a failed attempt with its delay, beside monitoring.
pub fn bound() -> Duration {
    Duration::from_secs(180)
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Transactions that took effect.
    pub commits: u64,
    /// Transactions that were refused, and computed again.
    pub refused: u64,
    /// Leaders that were deposed.
    pub leaders: u64,
    /// Of them, with a transaction on its way that took effect all the same.
    pub in_doubt: u64,
    /// Nodes that died.
    pub crashes: u64,
    /// Nodes that were cut off.
    pub cuts: u64,
    /// What users asked for.
    pub wishes: u64,
    /// Tasks that had to wait for an address.
    pub exhausted: u64,
}

/// A run that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwarmOutcome {
    /// How much happened.
    pub counts: SwarmCounts,
    /// Virtual time from the last disturbance until all was as wished.
    pub settled: Duration,
}

/// A transaction that was proposed.
struct Proposed {
    transaction: Proposal,
    decided: u64,
}

pub(super) struct World {
    pub(super) plan: SwarmPlan,
    pub(super) rng: StdRng,
    pub(super) now: u64,
    pub(super) store: Store,
    pub(super) workers: BTreeMap<String, Worker>,
    pub(super) counts: SwarmCounts,
    leader: Option<Leader>,
    proposed: Option<Proposed>,
    wake: Option<SystemTime>,
    /// When there is a leader again.
    election: u64,
    /// Whether disturbances are over.
    pub(super) is_calm: bool,
}

/// Runs one seed.
pub fn run(plan: &SwarmPlan) -> Result<SwarmOutcome, Failure> {
    let mut world = World::new(plan);
    let outcome = world.live();
    outcome.map_err(|what| Failure { seed: plan.seed, at_ms: world.now, what })
}

impl World {
    fn new(plan: &SwarmPlan) -> Self {
        let mut world = Self {
            plan: plan.clone(),
            rng: StdRng::seed_from_u64(plan.seed),
            now: 0,
            store: Store::new(),
            workers: BTreeMap::new(),
            counts: SwarmCounts::default(),
            leader: None,
            proposed: None,
            wake: None,
            election: 0,
            is_calm: false,
        };
        world.store.objects.set_now(at(0));
        world.store.objects.put_cluster(Cluster {
            id: "swarm".to_owned(),
            spec: Some(ClusterSpec {
                orchestration: Some(OrchestrationConfig { task_history_retention_limit: 3 }),
                ..ClusterSpec::default()
            }),
            ..Cluster::default()
        });
        for number in 1..=plan.nodes {
            let id = format!("n{number}");
            world.store.objects.put_node(objects::node(&id, State::Ready, Availability::Active));
            world.workers.insert(id, Worker { is_up: true, ..Worker::default() });
        }
        world
    }

    fn live(&mut self) -> Result<SwarmOutcome, String> {
        self.elect()?;
        self.make_networks()?;
        let storm = self.plan.storm.as_millis() as u64;
        while self.now < storm {
            self.disturb()?;
            self.tick()?;
        }
        self.calm()?;
        let last = self.now;
        loop {
            self.tick()?;
            let settled = Duration::from_millis(self.now - last);
            match rules::unfinished(self) {
                None => return Ok(SwarmOutcome { counts: self.counts, settled }),
                Some(what) if settled > bound() => return Err(format!("not settled: {what}")),
                Some(_) => {}
            }
        }
    }

    fn make_networks(&mut self) -> Result<(), String> {
        // The second one is small enough to be full at times.
        for (name, subnet, ingress) in [("ingress", "10.0.0.0/24", true), (NETWORK, "10.0.1.0/27", false)] {
            let spec = objects::network(name, subnet, ingress);
            let allocator = self.leader.as_mut().map(Leader::allocator).ok_or("no leader")?;
            let allocation =
                Allocator::network(allocator, name, &spec, &self.store.taken).map_err(|e| e.to_string())?;
            for claim in &allocation.claims {
                self.store.claim(claim, name);
            }
            let mut network = Network { id: name.to_owned(), spec: Some(spec), ..Network::default() };
            allocation.write_to(&mut network);
            self.store.objects.put_network(network);
        }
        Ok(())
    }

    /// The leader is gone; another one comes after a while.
    pub(super) fn depose(&mut self) -> Result<(), String> {
        if self.leader.take().is_none() {
            return Ok(());
        }
        self.counts.leaders += 1;
        self.election = self.now + self.rng.random_range(500..4000);
        // What was on its way may have reached a majority.
        if let Some(proposed) = self.proposed.take()
            && self.rng.random_bool(0.5)
        {
            self.counts.in_doubt += 1;
            self.decide(&proposed.transaction)?;
        }
        Ok(())
    }

    fn elect(&mut self) -> Result<(), String> {
        self.leader = Some(Leader::new(&self.store).map_err(|error| error.to_string())?);
        self.wake = None;
        Ok(())
    }

    /// A moment passes.
    fn tick(&mut self) -> Result<(), String> {
        self.now += TICK;
        if self.leader.is_none() && self.now >= self.election {
            self.elect()?;
        }
        self.work();
        if self.leader.is_some() {
            if self.now.is_multiple_of(JUDGE) {
                self.judge();
            }
            self.exchange();
            self.lead()?;
        }
        Ok(())
    }

    /// The leader's turn.
    fn lead(&mut self) -> Result<(), String> {
        let news = self.store.objects.take_dirty();
        if let Some(leader) = &mut self.leader {
            leader.dirty.merge(news);
        }
        if let Some(proposed) = self.proposed.take_if(|proposed| proposed.decided <= self.now) {
            if !self.decide(&proposed.transaction)? {
                self.counts.refused += 1;
            } else if let Some(leader) = &mut self.leader {
                leader.dirty = Dirty::default();
                leader.dirty.merge(self.store.objects.take_dirty());
                // Others may have written since it was computed: whoever they were, all is looked at again.
                leader.dirty.all = true;
            }
        }
        let is_due = self.wake.is_some_and(|wake| wake <= at(self.now));
        let Some(leader) = &mut self.leader else { return Ok(()) };
        if self.proposed.is_some() || (leader.dirty.is_empty() && !is_due) {
            return Ok(());
        }
        let (transaction, wake) = leader.compute(&self.store, at(self.now), &mut self.rng);
        self.wake = wake;
        if transaction.is_empty() {
            leader.dirty = Dirty::default();
            return Ok(());
        }
        // Mostly a disk's time, now and then that of a slow one.
        let slow = !self.is_calm && self.rng.random_bool(0.05);
        let took = self.rng.random_range(0..if slow { 3000 } else { 2 * TICK });
        self.proposed = Some(Proposed { transaction, decided: self.now + took });
        Ok(())
    }

    /// True if the transaction took effect.
    fn decide(&mut self, transaction: &Proposal) -> Result<bool, String> {
        match self.store.commit(transaction, at(self.now)) {
            Ok(()) => {
                self.counts.commits += 1;
                let waits = |change: &&Change| matches!(change, Change::CreateTask(task) | Change::UpdateTask(task) if is_starved(task));
                self.counts.exhausted += transaction.changes.iter().filter(waits).count() as u64;
                rules::check(self)?;
                Ok(true)
            }
            Err(Refused::OutOfDate) => Ok(false),
            Err(Refused::Wrong(what)) => Err(what),
        }
    }

    /// Nodes that are not heard are down, those that are, are ready.
    fn judge(&mut self) {
        for (id, worker) in &mut self.workers {
            if worker.is_connected() {
                worker.heard = self.now;
            }
            let wanted = if self.now - worker.heard > SILENCE { State::Down } else { State::Ready };
            let Some(node) = self.store.objects.node(id) else { continue };
            if node_state(node) != wanted {
                let availability = objects::availability(node);
                self.store.objects.set_now(at(self.now));
                self.store.objects.put_node(objects::node(id, wanted, availability));
            }
        }
    }

    /// Assignments go out and reports come in, late at times.
    fn exchange(&mut self) {
        for (id, worker) in &mut self.workers {
            if !worker.is_connected() || self.rng.random_bool(0.5) {
                continue;
            }
            for (task, work) in &worker.work {
                self.store.report(id, task, work.state, at(self.now));
            }
            let objects = &self.store.objects;
            let is_job = |task: &Task| objects.service(&task.service_id).is_some_and(|it| rules::is_job(it));
            let assigned = objects.tasks_of_node(id).filter(|task| state(task) >= Assigned);
            worker.assign(assigned.map(|task| (task.as_ref(), is_job(task))));
        }
    }

    /// Nodes get on with their tasks, and sometimes fail to.
    fn work(&mut self) {
        for worker in self.workers.values_mut().filter(|worker| worker.is_up) {
            let ids: Vec<String> = worker.work.keys().cloned().collect();
            for id in ids {
                if self.rng.random_bool(0.3) {
                    let fails = !self.is_calm && self.rng.random_bool(0.003);
                    worker.step(&id, fails);
                }
            }
        }
    }

    pub(super) fn write(&mut self, service: Service) {
        self.counts.wishes += 1;
        self.store.put_service(service, at(self.now));
    }
}

use weft_wire::swarmkit::TaskState::Assigned;

fn is_starved(task: &Task) -> bool {
    task.status.as_ref().is_some_and(|status| status.err.contains("address"))
}
