//! What changes in a run, and how its parts get at it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use super::disk::SimulatedDisk;
use super::host::Life;
use super::outcome::Counts;
use super::world::{NEAR, World};
use crate::clock;
use crate::consensus::RaftConsensus;

/// Everything that changes in a run, beside the managers themselves.
pub(super) struct State {
    pub(super) rng: StdRng,
    pub(super) counts: Counts,
    pub(super) hosts: Vec<Host>,
    /// Ways that are shut, each as often as it was shut.
    pub(super) shut: HashMap<(usize, usize), usize>,
    pub(super) loss: f64,
    pub(super) slowest: Duration,
    /// Whether the disturbances are over.
    pub(super) rests: bool,
    /// A change of members is under way.
    pub(super) changing: bool,
    /// The host that is no member.
    pub(super) spare: Option<usize>,
    /// A host that was taken out, while its manager stops.
    pub(super) retiring: Option<usize>,
    /// Tasks that must be there at the end.
    pub(super) kept: VecDeque<String>,
    pub(super) unique: u64,
}

/// A machine: its disk stays, its manager comes and goes.
pub(super) struct Host {
    pub(super) disk: SimulatedDisk,
    pub(super) life: Option<Life>,
    /// Its manager is being opened.
    pub(super) starting: bool,
    /// Seconds that its calendar is wrong.
    pub(super) wall_offset: i64,
}

impl World {
    pub(super) fn later(self: &Arc<Self>, time: Duration, act: impl FnOnce(&Self) + Send + 'static) {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            act(&world);
        });
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.state().counts);
    }

    pub(super) fn number(&self, range: std::ops::Range<u64>) -> u64 {
        self.state().rng.random_range(range)
    }

    pub(super) fn short_while(&self) -> Duration {
        Duration::from_millis(self.number(1..300))
    }

    /// A text that nobody else gets.
    pub(super) fn unique(&self) -> String {
        let mut state = self.state();
        state.unique += 1;
        state.unique.to_string()
    }

    pub(super) fn hosts(&self) -> usize {
        self.plan.members + 1
    }

    pub(super) fn any_host(&self) -> usize {
        self.number(0..self.hosts() as u64) as usize
    }

    /// The host of an address.
    pub(super) fn host_at(address: &str) -> usize {
        address.parse().expect("addresses here are numbers")
    }

    /// How long a message takes, unless it is lost.
    pub(super) fn way(&self, from: usize, to: usize) -> Option<Duration> {
        let mut state = self.state();
        let (loss, slowest) = (state.loss, state.slowest.as_micros().max(200) as u64);
        if state.shut.contains_key(&(from, to)) || state.rng.random_bool(loss) {
            return None;
        }
        Some(Duration::from_micros(state.rng.random_range(100..slowest)))
    }

    /// The member at a host, with the token of its death.
    pub(super) fn member(&self, host: usize) -> Option<(Arc<RaftConsensus>, CancellationToken)> {
        let life = self.life(host)?;
        Some((Arc::clone(life.raft()), life.dead.clone()))
    }

    pub(super) fn life(&self, host: usize) -> Option<Life> {
        self.state().hosts[host].life.clone()
    }

    pub(super) fn take_life(&self, host: usize) -> Option<Life> {
        let life = self.state().hosts[host].life.take()?;
        life.leaving.cancel();
        Some(life)
    }

    /// Whoever thinks that it leads.
    pub(super) fn leader(&self) -> Option<(usize, Life)> {
        let state = self.state();
        let mut lives =
            state.hosts.iter().enumerate().filter_map(|(at, host)| Some((at, host.life.as_ref()?)));
        lives.rfind(|(_, life)| life.leads()).map(|(at, life)| (at, life.clone()))
    }

    pub(super) fn disk(&self, host: usize) -> SimulatedDisk {
        self.state().hosts[host].disk.clone()
    }

    pub(super) fn put_disk(&self, host: usize, disk: SimulatedDisk) {
        self.state().hosts[host].disk = disk;
    }

    pub(super) fn shut(&self, ways: &[(usize, usize)]) {
        let mut state = self.state();
        for way in ways {
            *state.shut.entry(*way).or_default() += 1;
        }
    }

    pub(super) fn reopen(&self, ways: &[(usize, usize)]) {
        let mut state = self.state();
        for way in ways {
            // All were opened at the end.
            let Some(times) = state.shut.get_mut(way) else { continue };
            *times -= 1;
            if *times == 0 {
                state.shut.remove(way);
            }
        }
    }

    pub(super) fn set_network(&self, loss: f64, slowest: Duration) {
        let mut state = self.state();
        (state.loss, state.slowest) = (loss, slowest);
    }

    pub(super) fn good_network(&self) {
        self.set_network(0.0, NEAR);
    }

    pub(super) fn set_wall_clock(&self, host: usize, offset: i64) {
        self.state().hosts[host].wall_offset = offset;
    }

    /// The time by a host's calendar.
    pub(super) fn wall_clock(&self, host: usize) -> SystemTime {
        let offset = self.state().hosts[host].wall_offset;
        let distance = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 { clock::now() - distance } else { clock::now() + distance }
    }

    pub(super) fn rests(&self) -> bool {
        self.state().rests
    }

    /// A task that was confirmed must be there at the end.
    pub(super) fn keep(&self, id: &str) {
        self.state().kept.push_back(id.to_owned());
    }

    /// A task that somebody is about to remove.
    pub(super) fn let_go(&self) -> Option<String> {
        self.state().kept.pop_front()
    }

    pub(super) fn begin_change(&self) -> bool {
        !std::mem::replace(&mut self.state().changing, true)
    }

    pub(super) fn end_change(&self) {
        self.state().changing = false;
    }

    pub(super) fn spare(&self) -> Option<usize> {
        self.state().spare
    }

    /// Whether the host belongs to the group, as far as those know who let it in or took it out.
    pub(super) fn is_member(&self, host: usize) -> bool {
        let state = self.state();
        state.spare != Some(host) && state.retiring != Some(host)
    }

    pub(super) fn no_longer_spare(&self) {
        self.state().spare = None;
    }

    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let line = format!("{:>7} {}", self.at_ms(), line());
            trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    pub(super) fn traced(&self) -> Vec<String> {
        let trace = self.trace.as_ref().map(|trace| trace.lock().unwrap_or_else(PoisonError::into_inner));
        trace.map(|lines| lines.clone()).unwrap_or_default()
    }

    pub(super) fn at_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}
