//! The swarm that rounds are played on.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use weft_lab::{DaemonSpec, Host, LabSpec, eventually};

use super::audit;
use super::fault::{Fault, instant};
use super::model::{Model, Wish};
use crate::api;
use crate::dice::Dice;
use crate::pause::pause;
use crate::{Hosts, weft_exe};

/// Hosts that manage.
const MANAGERS: [&str; 3] = ["h1", "h2", "h3"];
/// The others.
const WORKERS: [&str; 3] = ["h4", "h5", "h6"];
/// Size of the file system that holds a manager's state; sparse.
const DISK: &str = "192M";
/// Commands in a round.
const COMMANDS: usize = 5;
/// Services beside each other.
const SERVICES: usize = 3;
/// Most replicas of one.
const REPLICAS: u64 = 6;
/// Most processes killed in a round of [`Fault::AnyProcess`].
const KILLS: u64 = 5;
/// Time for a swarm that nothing disturbs any more to be what its store wishes. Tasks of a host that died and came
/// back are found out by its return; the rest is for machines that do much else.
const CONVERGED: Duration = Duration::from_secs(90);

/// Six hosts, and what users were told.
#[derive(Debug)]
pub struct Arena {
    hosts: Hosts,
    model: Model,
    /// Numbers names and versions, so that none is used twice.
    count: u64,
    /// Commands that were acknowledged, and that were not.
    told: (u64, u64),
}

impl Arena {
    /// Builds the swarm. Managers have a small disk of their own.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn up(name: &str) -> Self {
        let daemon = |_: &str| DaemonSpec::weft(&weft_exe()).arg("--live-restore");
        let hosts = Hosts::up_prepared(LabSpec::bridged(name, 6), daemon, |host| {
            if MANAGERS.contains(&host.name.as_str()) {
                mount_disk(host);
            }
        });
        hosts.docker("h1", format!("swarm init --advertise-addr {}", hosts.host("h1").ipv4)).expect("init");
        for manager in &MANAGERS[1..] {
            hosts.join_manager(manager, "h1").expect("join as a manager");
        }
        for worker in WORKERS {
            hosts.join(worker, "h1").expect("join as a worker");
        }
        hosts.wait_ready(MANAGERS.len() + WORKERS.len());
        hosts.docker("h1", "network create -d overlay web").expect("network");
        Self { hosts, model: Model::default(), count: 0, told: (0, 0) }
    }

    /// The hosts below.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Commands that were acknowledged, and that were not.
    pub fn told(&self) -> (u64, u64) {
        self.told
    }

    /// Plays one round. Returns how long the swarm took to be in order once the fault was over.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn play(&mut self, fault: Fault, seed: u64) -> Duration {
        let mut dice = Dice::new(seed);
        let wishes = self.wishes(&mut dice);
        let by: Vec<&str> =
            wishes.iter().map(|_| *dice.pick(&MANAGERS).expect("there are managers")).collect();
        let hosts = &self.hosts;
        let outcomes: Vec<bool> = std::thread::scope(|scope| {
            let commands = scope.spawn(|| {
                let each = wishes.iter().zip(&by);
                each.map(|(wish, by)| carry_out(hosts, by, wish)).collect::<Vec<bool>>()
            });
            disturb(hosts, fault, &mut dice, || commands.is_finished());
            commands.join().expect("commands do not panic")
        });
        for (wish, acknowledged) in wishes.iter().zip(outcomes) {
            self.model.note(wish, acknowledged);
            let told = if acknowledged { &mut self.told.0 } else { &mut self.told.1 };
            *told += 1;
        }
        let over = Instant::now();
        self.recover();
        self.settle();
        over.elapsed()
    }

    /// Removes all services and looks for anything that stayed behind.
    ///
    /// # Panics
    /// When something did.
    pub fn clear(&mut self) {
        for name in self.model.certain() {
            let wish = Wish::Remove { name };
            let done = eventually("the service is removed", CONVERGED, || {
                match carry_out(&self.hosts, "h1", &wish) {
                    true => Ok(true),
                    false => Err("refused"),
                }
            });
            self.model.note(&wish, done);
        }
        self.settle();
        eventually("nothing is left behind", CONVERGED, || audit::leftovers(&self.hosts));
    }

    /// Puts back what the fault took away.
    fn recover(&mut self) {
        self.hosts.lab().heal().expect("heal");
        for manager in MANAGERS {
            empty_disk(self.hosts.host(manager));
        }
        for host in MANAGERS.iter().chain(&WORKERS) {
            if !self.hosts.daemon(host).is_alive() {
                self.hosts.start(host);
            }
        }
    }

    /// Waits until the swarm is what its store wishes, then compares the store with what users were told.
    fn settle(&mut self) {
        let hosts = &self.hosts;
        let seen = eventually("the swarm is in order", CONVERGED, || audit::in_order(hosts, &MANAGERS));
        if let Err(lost) = self.model.resolve(&seen) {
            panic!("{lost}");
        }
    }

    /// The commands of a round. One service has one command at most: what a failed one left open is looked at before
    /// the next.
    fn wishes(&mut self, dice: &mut Dice) -> Vec<Wish> {
        let mut names = self.model.certain();
        let mut wishes = Vec::new();
        for _ in 0..COMMANDS {
            self.count += 1;
            let (name, version) = (format!("s{}", self.count), self.count);
            let replicas = 1 + dice.below(REPLICAS);
            let at = dice.below(names.len().max(1) as u64) as usize;
            let wish = if names.is_empty() {
                if self.model.certain().len() + wishes.len() >= SERVICES + COMMANDS {
                    break;
                }
                Wish::Create { name, replicas, version }
            } else {
                match dice.below(8) {
                    0 | 1 if names.len() < SERVICES => Wish::Create { name, replicas, version },
                    2..=4 => Wish::Scale { name: names.remove(at), replicas },
                    5 if names.len() >= SERVICES => Wish::Remove { name: names.remove(at) },
                    _ => Wish::Update { name: names.remove(at), version },
                }
            };
            wishes.push(wish);
        }
        wishes
    }
}

/// True if the swarm said that it is done.
fn carry_out(hosts: &Hosts, by: &str, wish: &Wish) -> bool {
    let outcome = match wish {
        Wish::Create { name, replicas, version } => hosts.docker(
            by,
            format!(
                "service create -d --name {name} --replicas {replicas} --label version={version} --env V={version} \
                 --network web --stop-grace-period 1s --restart-delay 100ms --update-delay 0s --update-parallelism 0 \
                 busybox sleep 100000"
            ),
        ),
        Wish::Scale { name, replicas } => hosts.docker(by, format!("service scale -d {name}={replicas}")),
        Wish::Update { name, version } => hosts.docker(
            by,
            format!("service update -d --label-add version={version} --env-add V={version} {name}"),
        ),
        Wish::Remove { name } => hosts.docker(by, format!("service rm {name}")),
    };
    outcome.is_ok()
}

/// The host that leads by the word of any manager.
fn leader(hosts: &Hosts) -> Option<String> {
    let leads = |node: &serde_json::Value| {
        let leads = node.pointer("/ManagerStatus/Leader").is_some_and(|leads| leads == true);
        leads.then(|| api::text(node, "/Description/Hostname").to_owned())
    };
    MANAGERS.iter().find_map(|by| api::list(hosts, by, "/nodes").ok()?.iter().find_map(leads))
}

/// Does to the swarm what the round is about.
fn disturb(hosts: &Hosts, fault: Fault, dice: &mut Dice, finished: impl Fn() -> bool) {
    let manager = *dice.pick(&MANAGERS).expect("there are managers");
    let worker = *dice.pick(&WORKERS).expect("there are workers");
    let leader = leader(hosts).unwrap_or_else(|| manager.to_owned());
    pause(instant(dice));
    match fault {
        Fault::LeaderDaemon => kill_daemon(hosts, &leader),
        Fault::LeaderHost => hosts.lab().kill(&leader).expect("kill a host"),
        Fault::WorkerHost => hosts.lab().kill(worker).expect("kill a host"),
        Fault::Minority => {
            for other in MANAGERS.iter().chain(&WORKERS).filter(|other| **other != manager) {
                hosts.lab().cut(manager, other).expect("cut");
            }
            pause(Duration::from_secs(1) + instant(dice) * 2);
        }
        Fault::FullDisk => {
            fill_disk(hosts.host(manager));
            pause(Duration::from_secs(1) + instant(dice));
        }
        Fault::AnyProcess => {
            for _ in 0..1 + dice.below(KILLS) {
                let host = *dice.pick(&[MANAGERS, WORKERS].concat()).expect("there are hosts");
                kill_any(hosts, host, dice);
                pause(instant(dice) / 3);
            }
        }
    }
    // A fault lasts as long as the commands do; those without a quorum fail after a while.
    let end = Instant::now() + Duration::from_secs(8);
    while !finished() && Instant::now() < end {
        pause(Duration::from_millis(20));
    }
}

/// Kills one process of a host: its daemon, its helper, a shim or a runtime.
fn kill_any(hosts: &Hosts, host: &str, dice: &mut Dice) {
    let verb = *dice.pick(&["daemon", "helper", "shim", "shim", "runtime"]).expect("there are kinds");
    if verb == "daemon" {
        return kill_daemon(hosts, host);
    }
    let mut found = hosts.processes(host, verb);
    // A runtime lives for a moment only.
    let end = Instant::now() + Duration::from_millis(400);
    while verb == "runtime" && found.is_empty() && Instant::now() < end {
        found = hosts.processes(host, verb);
    }
    if let Some(pid) = dice.pick(&found) {
        // It may be gone by itself.
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
    }
}

/// Returns when it is gone: one that is about to end would be taken for one that lives.
fn kill_daemon(hosts: &Hosts, host: &str) {
    let daemon = hosts.daemon(host);
    if daemon.is_alive() {
        daemon.kill().expect("kill a daemon");
    }
}

fn data_root(host: &Host) -> PathBuf {
    host.dir.join("weft.data")
}

/// Gives a host's daemon a small file system for its state.
fn mount_disk(host: &Host) {
    let (image, root) = (host.dir.join("disk.img"), data_root(host));
    let (image, root) = (image.display(), root.display());
    let line = format!(
        "truncate -s {DISK} {image} && mkfs.ext4 -q -F -m 0 {image} && mkdir -p {root} && mount -o loop {image} {root}"
    );
    host.sh(&line).expect("a small disk");
}

fn fill_disk(host: &Host) {
    // Ends with an error: that is when it is full.
    let _ = host.sh(&format!("dd if=/dev/zero of={}/filler bs=64k", data_root(host).display()));
}

fn empty_disk(host: &Host) {
    host.sh(&format!("rm -f {}/filler", data_root(host).display())).expect("room on the disk");
}
