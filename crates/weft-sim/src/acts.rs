//! What the outside does to a cluster: starts, crashes, cuts, commands.

use std::net::SocketAddr;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore, SeedableRng as _};
use weft_gossip::{Config, Core};

use crate::Failure;
use crate::checker::Believed;
use crate::world::{Happening, World, address, millis, network, tick};

const TABLES: [&str; 2] = ["endpoint_table", "overlay_peer_table"];
/// Hosts whose addresses every node knows.
const MANAGERS: usize = 3;

/// What the outside does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Start(usize),
    Restart(usize),
    Crash,
    Leave,
    Cut,
    Heal,
    Weather,
    Change,
    Move,
}

impl World<'_> {
    /// Chooses what the outside will do.
    pub(crate) fn prepare(&mut self) {
        let start = millis(self.plan.start);
        for host in 0..self.plan.nodes {
            let at = if host < MANAGERS { 0 } else { self.rng.random_range(0..start) };
            self.schedule.add(at, Happening::Act(Act::Start(host)));
        }
        let nodes = self.plan.nodes;
        let crashes = self.rng.random_range(1..=(nodes / 8).max(1));
        let leaves = self.rng.random_range(0..=(nodes / 20).max(1));
        let cuts = self.rng.random_range(1..=3);
        let mut acts = Vec::new();
        acts.extend(std::iter::repeat_n(Act::Crash, crashes));
        acts.extend(std::iter::repeat_n(Act::Leave, leaves));
        acts.extend(std::iter::repeat_n(Act::Cut, cuts));
        acts.extend(std::iter::repeat_n(Act::Change, nodes * 2));
        acts.extend(std::iter::repeat_n(Act::Move, nodes / 5));
        acts.extend(std::iter::repeat_n(Act::Weather, 4));
        for act in acts {
            let at = self.rng.random_range(2 * start..self.storm_end);
            self.schedule.add(at, Happening::Act(act));
        }
        self.schedule.add(2 * start, Happening::Act(Act::Weather));
    }

    pub(crate) fn act(&mut self, act: Act) -> Result<(), Failure> {
        self.note(|| format!("act: {act:?}"));
        match act {
            Act::Start(host) | Act::Restart(host) if self.hosts[host].core.is_none() => self.start(host),
            Act::Start(_) | Act::Restart(_) => Ok(()),
            Act::Crash => self.crash(),
            Act::Leave => match self.random_host() {
                Some(host) => {
                    self.counts.leaves += 1;
                    self.hosts[host].leaving = true;
                    let now = tick(self.schedule.now());
                    self.input(host, |core, out| core.leave(now, out))
                }
                None => Ok(()),
            },
            Act::Cut => {
                self.counts.cuts += 1;
                let one_way = self.rng.random_bool(0.3);
                self.faults.cut(&mut self.rng, one_way);
                let after = self.rng.random_range(2_000..40_000);
                self.add_before_storm_end(after, Act::Heal);
                Ok(())
            }
            Act::Heal => {
                self.faults.heal();
                Ok(())
            }
            Act::Weather => {
                self.faults.loss = self.rng.random_range(0.0..0.2);
                self.faults.duplication = self.rng.random_range(0.0..0.1);
                self.faults.delay = self.rng.random_range(3..300);
                self.faults.stream_loss = self.rng.random_range(0.0..0.1);
                Ok(())
            }
            Act::Change => match self.random_host() {
                Some(host) => self.change(host),
                None => Ok(()),
            },
            Act::Move => match self.random_host() {
                Some(host) => self.change_networks(host),
                None => Ok(()),
            },
        }
    }

    pub(crate) fn add_before_storm_end(&mut self, after: u64, act: Act) {
        let at = (self.schedule.now() + after).min(self.storm_end - 1);
        self.schedule.add(at, Happening::Act(act));
    }

    /// A host that runs and stays.
    pub(crate) fn random_host(&mut self) -> Option<usize> {
        (0..32).map(|_| self.rng.random_range(0..self.hosts.len())).find(|host| {
            let host = &self.hosts[*host];
            host.core.is_some() && !host.leaving
        })
    }

    pub(crate) fn start(&mut self, host: usize) -> Result<(), Failure> {
        let now = tick(self.schedule.now());
        let config = Config::docker(address(host));
        let rng: Box<dyn RngCore + Send> = Box::new(SmallRng::seed_from_u64(self.rng.random()));
        let mut effects = Vec::new();
        self.names += 1;
        self.hosts[host].life += 1;
        self.hosts[host].leaving = false;
        self.hosts[host].believed = Believed::default();
        self.hosts[host].clocks = (0, 0);
        let saved = self.hosts[host].saved.take();
        let core = match &saved {
            Some(saved) => {
                self.counts.restored += 1;
                Core::restore(now, config, saved, rng, &mut effects)
                    .map_err(|error| self.failure(format!("cannot restore host {host}: {error}")))?
            }
            None => {
                if self.hosts[host].life > 1 {
                    self.counts.renamed += 1;
                }
                Core::new(now, config, rng, &mut effects)
            }
        };
        self.note(|| format!("host {host} is {}", core.name()));
        self.hosts[host].core = Some(core);
        for effect in effects {
            self.perform(host, effect)?;
        }
        let managers: Vec<SocketAddr> = (0..MANAGERS.min(self.plan.nodes)).map(address).collect();
        self.input(host, |core, out| core.join_cluster(now, &managers, out))?;
        if saved.is_none() {
            self.first_networks(host)?;
        }
        Ok(())
    }

    pub(crate) fn first_networks(&mut self, host: usize) -> Result<(), Failure> {
        for _ in 0..self.rng.random_range(1..=2) {
            self.join_network(host)?;
        }
        for _ in 0..self.rng.random_range(1..=4) {
            self.change(host)?;
        }
        Ok(())
    }

    pub(crate) fn join_network(&mut self, host: usize) -> Result<(), Failure> {
        let now = tick(self.schedule.now());
        let name = network(self.rng.random_range(0..self.plan.networks()));
        let mut outcome = Ok(());
        self.input(host, |core, out| outcome = core.join_network(now, &name, out))?;
        outcome.map_err(|error| self.failure(format!("host {host} cannot join: {error}")))
    }

    /// Creates, changes or deletes an entry.
    pub(crate) fn change(&mut self, host: usize) -> Result<(), Failure> {
        let Some(core) = &self.hosts[host].core else { return Ok(()) };
        let networks = core.joined_networks();
        let Some(network) = networks.choose(&mut self.rng).cloned() else { return Ok(()) };
        let now = tick(self.schedule.now());
        self.counts.changes += 1;
        let own: Vec<(String, String)> = core
            .own_entries(&network)
            .map(|event| (event.table.to_string(), event.key.to_string()))
            .collect();
        let owner = core.name().clone();
        if self.rng.random_bool(0.2) {
            // Should the host crash, it comes back without what follows.
            let saved = core.snapshot(now);
            self.hosts[host].saved = Some(saved);
        }
        let mut outcome = Ok(());
        if !own.is_empty() && self.rng.random_bool(0.3) {
            let (table, key) = own[self.rng.random_range(0..own.len())].clone();
            self.input(host, |core, out| outcome = core.delete_entry(now, &network, &table, &key, out))?;
        } else {
            let table = TABLES[self.rng.random_range(0..TABLES.len())];
            let key = format!("{:056x}{:08x}", host, self.rng.random_range(0..6));
            let mut value = vec![0u8; self.rng.random_range(30..160)];
            self.rng.fill_bytes(&mut value);
            self.written.note(&owner, &network, table, &key, &value);
            self.input(host, |core, out| outcome = core.put_entry(now, &network, table, &key, &value, out))?;
        }
        outcome.map_err(|error| self.failure(format!("host {host} cannot change an entry: {error}")))
    }

    /// Leaves a network, or joins one.
    pub(crate) fn change_networks(&mut self, host: usize) -> Result<(), Failure> {
        let Some(core) = &self.hosts[host].core else { return Ok(()) };
        let networks = core.joined_networks();
        if networks.len() < 2 || self.rng.random_bool(0.5) && networks.len() < 3 {
            self.join_network(host)?;
            return self.change(host);
        }
        let Some(name) = networks.choose(&mut self.rng).cloned() else { return Ok(()) };
        let now = tick(self.schedule.now());
        let mut outcome = Ok(());
        self.input(host, |core, out| outcome = core.leave_network(now, &name, out))?;
        outcome.map_err(|error| self.failure(format!("host {host} cannot leave {name}: {error}")))
    }

    pub(crate) fn crash(&mut self) -> Result<(), Failure> {
        let Some(host) = self.random_host() else { return Ok(()) };
        self.counts.crashes += 1;
        let now = tick(self.schedule.now());
        let older = self.hosts[host].saved.take();
        let saved = match &self.hosts[host].core {
            Some(core) if self.rng.random_bool(0.5) => Some(older.unwrap_or_else(|| core.snapshot(now))),
            _ => None,
        };
        self.note(|| format!("host {host} crashes"));
        self.stop(host);
        self.hosts[host].saved = saved;
        let returns = host < MANAGERS || self.rng.random_bool(0.7);
        if returns {
            let after = self.rng.random_range(100..20_000);
            self.add_before_storm_end(after, Act::Restart(host));
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.core = None;
        host.life += 1;
        host.saved = None;
        host.believed = Believed::default();
    }
}
