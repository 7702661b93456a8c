//! Hosts, the network between them, and the course of a run.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_wire::swarmkit::{Annotations, IpamConfig, IpamOptions, NetworkSpec, Node};

use super::checker::Checker;
use super::client::{Client, NETWORK};
use super::disk::SimulatedDisk;
use super::host::{Life, name};
use super::outcome::{Counts, Failure, Outcome};
use super::plan::{Plan, bound};
use crate::clock;
use crate::consensus::{Consensus as _, Opening, RaftConsensus, seed};
use crate::error::ControlError;
use crate::network::{self, Reports};

/// How long the group may take to be founded, undisturbed.
const FOUNDING_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// A network without trouble.
const NEAR: Duration = Duration::from_millis(3);

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) checker: Arc<Checker>,
    state: Mutex<State>,
    start: Instant,
    trace: Option<Mutex<Vec<String>>>,
}

struct State {
    rng: StdRng,
    counts: Counts,
    hosts: Vec<Host>,
    /// Ways that are shut, each as often as it was shut.
    shut: HashMap<(usize, usize), usize>,
    loss: f64,
    slowest: Duration,
    /// Whether the disturbances are over.
    rests: bool,
    /// A change of members is under way.
    changing: bool,
    /// The host that is no member.
    spare: Option<usize>,
    /// Tasks that must be there at the end.
    kept: VecDeque<String>,
    unique: u64,
}

struct Host {
    disk: SimulatedDisk,
    life: Option<Life>,
    /// Its manager is being opened.
    starting: bool,
    /// Seconds that its calendar is wrong.
    wall_offset: i64,
}

/// Runs a seed.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    play(plan, false).0
}

/// Runs a seed and says what happened.
pub fn run_traced(plan: &Plan) -> (Result<Outcome, Failure>, Vec<String>) {
    play(plan, true)
}

fn play(plan: &Plan, traced: bool) -> (Result<Outcome, Failure>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without drivers needs nothing of the system");
    seed(plan.seed);
    let played = runtime.block_on(async {
        clock::begin();
        let world = World::new(plan.clone(), traced);
        let outcome = world.course().await;
        let failure = |what| Failure { seed: plan.seed, at_ms: world.at_ms(), what };
        let outcome = match world.checker.broken() {
            Some(broken) => Err(failure(broken)),
            None => outcome.map_err(failure),
        };
        (outcome, world.traced())
    });
    runtime.shutdown_background();
    played
}

impl World {
    fn new(plan: Plan, traced: bool) -> Arc<Self> {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let hosts = (0..=plan.members).map(|_| Host {
            disk: SimulatedDisk::new(StdRng::seed_from_u64(rng.random())),
            life: None,
            starting: false,
            wall_offset: 0,
        });
        let hosts = hosts.collect();
        let state = State {
            rng,
            counts: Counts::default(),
            hosts,
            shut: HashMap::new(),
            loss: 0.0,
            slowest: NEAR,
            rests: false,
            changing: false,
            spare: Some(plan.members),
            kept: VecDeque::new(),
            unique: 0,
        };
        Arc::new(Self {
            plan,
            checker: Arc::default(),
            state: Mutex::new(state),
            start: Instant::now(),
            trace: traced.then(Mutex::default),
        })
    }

    async fn course(self: &Arc<Self>) -> Result<Outcome, String> {
        let founded = tokio::time::timeout(FOUNDING_LIMIT, self.found());
        founded.await.map_err(|_| "the group was not founded in time".to_owned())??;
        self.disturb().await;
        let (elected, settled) = self.rest().await?;
        let mut counts = self.state().counts;
        counts.commands = self.checker.commands();
        counts.refused = self.checker.refused();
        counts.terms = self.checker.terms();
        Ok(Outcome { counts, elected, settled })
    }

    /// The first host founds the group, the others join, then there are nodes and a network.
    async fn found(self: &Arc<Self>) -> Result<(), String> {
        self.open(0, Opening::Found).await;
        let first = self.life(0).ok_or("the founder did not start")?;
        for host in 1..self.plan.members {
            self.let_in(host).await;
        }
        self.state().spare = Some(self.plan.members);
        let founded: Result<(), ControlError> = first
            .core
            .allocate(|view, allocator, transaction| {
                for host in 0..self.hosts() {
                    transaction.create(Node { id: name(host), ..Default::default() });
                }
                network::create(view, allocator, transaction, &Reports::default(), NETWORK, &narrow())
            })
            .await;
        founded.map_err(|error| format!("cannot fill the store: {error}"))
    }

    /// Mends everything, and waits until all is well.
    async fn rest(self: &Arc<Self>) -> Result<(Duration, Duration), String> {
        self.trace(|| "rest".to_owned());
        self.mend();
        let begin = Instant::now();
        let hosts = 0..self.hosts();
        for host in hosts.clone().filter(|host| self.spare() != Some(*host)) {
            self.bring_up(host).await;
        }
        self.until(begin, "all members know one leader", || self.is_agreed()).await?;
        let elected = begin.elapsed();
        self.until(begin, "members have come and gone", || self.is_unchanging()).await?;
        for host in hosts {
            self.write_from(begin, host).await?;
        }
        self.until(begin, "all states are equal", || self.is_equal()).await?;
        let settled = begin.elapsed();
        let newest = self.checker.newest();
        if let Some(lost) = self.state().kept.iter().find(|id| newest.task(id).is_none()) {
            return Err(format!("task {lost} was confirmed and is gone"));
        }
        Ok((elected, settled))
    }

    async fn until(&self, begin: Instant, what: &str, so: impl Fn() -> bool) -> Result<(), String> {
        while !so() {
            if let Some(broken) = self.checker.broken() {
                return Err(broken);
            }
            if begin.elapsed() > bound() {
                self.show_members();
                return Err(format!("{:?} after the last fault it is not so that {what}", begin.elapsed()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn show_members(&self) {
        for host in 0..self.hosts() {
            let Some(life) = self.life(host) else { continue };
            self.trace(|| format!("host {host}: {}", life.raft().describe()));
        }
    }

    /// A change through this host goes through, if it is a member.
    async fn write_from(self: &Arc<Self>, begin: Instant, host: usize) -> Result<(), String> {
        let Some(life) = self.life(host) else { return Ok(()) };
        let client = Client { world: self, host, life: &life, reports: Reports::default() };
        loop {
            match client.write().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => self.trace(|| format!("host {host} writes: {error}")),
            }
            if begin.elapsed() > bound() {
                return Err(format!("{:?} after the last fault host {host} cannot write", begin.elapsed()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether all members know one leader, and it knows that it leads.
    fn is_agreed(&self) -> bool {
        let state = self.state();
        let Some(leader) = state.hosts.iter().filter_map(|host| host.life.as_ref()).find(|life| life.leads())
        else {
            return false;
        };
        let id = leader.raft().raft_id();
        let members = leader.raft().membership();
        // One that waits to be let in hears of the leader when it is.
        state.hosts.iter().filter_map(|host| host.life.as_ref()).all(|life| {
            life.raft().leader().is_some_and(|(known, _)| known == id)
                || members.iter().all(|member| member.raft_id != life.raft().raft_id())
        })
    }

    fn is_unchanging(&self) -> bool {
        let state = self.state();
        let is_up = |(number, host): (usize, &Host)| host.life.is_some() || state.spare == Some(number);
        !state.changing && state.hosts.iter().enumerate().all(is_up)
    }

    fn is_equal(&self) -> bool {
        let newest = self.checker.newest().index();
        self.state().hosts.iter().filter_map(|host| host.life.as_ref()).all(|life| {
            let index = life.core.view().index();
            index == newest
        })
    }

    fn mend(&self) {
        let mut state = self.state();
        state.rests = true;
        state.shut.clear();
        state.loss = 0.0;
        state.slowest = NEAR;
        for host in &mut state.hosts {
            host.disk.recover();
            host.wall_offset = 0;
        }
    }

    async fn open(self: &Arc<Self>, host: usize, opening: Opening) {
        {
            let mut state = self.state();
            let it = &mut state.hosts[host];
            if it.starting || it.life.is_some() {
                return;
            }
            it.starting = true;
        }
        let begun = Life::begin(self, host, opening, self.disk(host)).await;
        let mut state = self.state();
        state.hosts[host].starting = false;
        match begun {
            Ok(life) => {
                state.hosts[host].life = Some(life.clone());
                drop(state);
                self.trace(|| format!("host {host} is up as {:x}", life.raft().raft_id()));
                self.employ(host, life);
            }
            Err(error) => self.checker.fail(|| format!("host {host} does not start: {error}")),
        }
    }

    /// Starts the manager of a host that is down.
    pub(super) async fn bring_up(self: &Arc<Self>, host: usize) {
        self.open(host, Opening::Join).await;
    }

    /// A user comes to the host.
    fn employ(self: &Arc<Self>, host: usize, life: Life) {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let client = Client { world: &world, host, life: &life, reports: Reports::default() };
            tokio::select! {
                biased;
                () = life.leaving.cancelled() => {}
                () = client.work() => {}
            }
        });
    }

    /// A host that was taken out stops, and forgets everything.
    pub(super) async fn retire(self: &Arc<Self>, host: usize) {
        loop {
            if let Some(life) = self.take_life(host) {
                life.stop().await;
                break;
            }
            // It is down just now, and would come back.
            tokio::time::sleep(LOOK).await;
        }
        let mut state = self.state();
        let rng = StdRng::seed_from_u64(state.rng.random());
        state.hosts[host].disk = SimulatedDisk::new(rng);
        state.spare = Some(host);
    }

    pub(super) fn later(self: &Arc<Self>, time: Duration, act: impl FnOnce(&Self) + Send + 'static) {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            act(&world);
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
        let lives = state.hosts.iter().enumerate().filter_map(|(at, host)| Some((at, host.life.as_ref()?)));
        lives.filter(|(_, life)| life.leads()).last().map(|(at, life)| (at, life.clone()))
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

    pub(super) fn no_longer_spare(&self) {
        self.state().spare = None;
    }

    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let line = format!("{:>7} {}", self.at_ms(), line());
            trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    fn traced(&self) -> Vec<String> {
        let trace = self.trace.as_ref().map(|trace| trace.lock().unwrap_or_else(PoisonError::into_inner));
        trace.map(|lines| lines.clone()).unwrap_or_default()
    }

    fn at_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// Fourteen addresses.
fn narrow() -> NetworkSpec {
    let config = IpamConfig { subnet: "10.9.0.0/28".to_owned(), ..Default::default() };
    NetworkSpec {
        annotations: Some(Annotations { name: NETWORK.to_owned(), ..Default::default() }),
        attachable: true,
        ipam: Some(IpamOptions { configs: vec![config], ..Default::default() }),
        ..Default::default()
    }
}
