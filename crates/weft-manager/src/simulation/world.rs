//! The course of a run: the group is founded, disturbed, and left to rest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use weft_wire::swarmkit::{Annotations, IpamConfig, IpamOptions, NetworkSpec, Node};

use super::checker::Checker;
use super::client::{Client, NETWORK};
use super::disk::SimulatedDisk;
use super::host::{Life, name};
use super::outcome::{Counts, Failure, Outcome};
use super::plan::{Mistake, Plan, bound};
use super::state::{Host, State};
use crate::clock;
use crate::consensus::{Consensus as _, Opening, seed};
use crate::error::ControlError;
use crate::network::{self, Reports};

/// How long the group may take to be founded, undisturbed.
const FOUNDING_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// A network without trouble.
pub(super) const NEAR: Duration = Duration::from_millis(3);

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) checker: Arc<Checker>,
    pub(super) state: Mutex<State>,
    pub(super) start: Instant,
    pub(super) trace: Option<Mutex<Vec<String>>>,
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
        world.dissolve();
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
            retiring: None,
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
        if self.plan.mistake == Some(Mistake::DisksLie) {
            self.state().hosts.iter().for_each(|host| host.disk.lie());
        }
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
        for host in hosts.clone() {
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

    /// Starts the manager of a host that is down, unless it was taken out meanwhile.
    pub(super) async fn bring_up(self: &Arc<Self>, host: usize) {
        if self.is_member(host) {
            self.open(host, Opening::Join).await;
        }
    }

    /// Lets go of the managers, which hold the world in turn.
    fn dissolve(&self) {
        let lives: Vec<_> = self.state().hosts.iter_mut().map(|host| host.life.take()).collect();
        drop(lives);
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
                self.state().retiring = Some(host);
                life.stop().await;
                break;
            }
            // It is down just now, and would come back.
            tokio::time::sleep(LOOK).await;
        }
        let mut state = self.state();
        let rng = StdRng::seed_from_u64(state.rng.random());
        state.hosts[host].disk = SimulatedDisk::new(rng);
        state.retiring = None;
        state.spare = Some(host);
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
