//! Daemon and shims are killed at any instant: what they had under way is finished or undone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weft_lab::{DaemonSpec, LabSpec, eventually};

use super::errands;
use crate::dice::Dice;
use crate::holdings::Holdings;
use crate::pause::pause;
use crate::slices::{Game, Played, Text};
use crate::{Hosts, weft_exe};

const HOST: &str = "h1";
/// How many clients start containers beside each other.
const CLIENTS: u64 = 3;
/// A blow falls within this time of the first container, in milliseconds.
const WITHIN: u64 = 1500;
/// For what is let go of behind an answer.
const SOON: Duration = Duration::from_secs(30);

/// Rounds in which the daemon or a shim is killed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crashes;

/// A host, and what it had before the first container.
#[derive(Debug)]
pub struct Struck {
    hosts: Hosts,
    parent: String,
    before: Option<Holdings>,
}

impl Game for Crashes {
    type Arena = Struck;

    /// One with live-restore, one without.
    fn labs(&self) -> u64 {
        2
    }

    fn up(&self, lab: u64) -> Struck {
        let daemon = DaemonSpec::weft(&weft_exe()).arg(format!("--live-restore={}", lab == 0));
        let hosts = Hosts::up_with(LabSpec::bridged(&format!("crash{lab}"), 1), |_| daemon.clone());
        errands::prepare(&hosts, HOST);
        let parent = format!("/weft-crashes-{lab}");
        for kind in 0..errands::KINDS {
            errands::run(&hosts, HOST, &parent, &format!("warm{kind}"), kind).expect("a container");
        }
        Struck { hosts, parent, before: None }
    }

    fn hosts<'a>(&self, arena: &'a Struck) -> &'a Hosts {
        &arena.hosts
    }

    /// Both labs see both.
    fn kind(&self, round: u64) -> String {
        if (round / 2).is_multiple_of(2) { "daemon" } else { "shim" }.to_owned()
    }

    fn play(&self, arena: &mut Struck, round: u64, seed: u64) -> Played {
        let mut dice = Dice::new(seed);
        let after = Duration::from_millis(dice.below(WITHIN));
        let before = arena.before.take().unwrap_or_else(|| Holdings::at_rest(|| arena.holdings()));
        let (ended, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let hosts = &arena.hosts;
        let (parent, over, made) = (&arena.parent, &ended, &done);
        let shims = std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut dice = Dice::new(seed.wrapping_mul(CLIENTS) + client);
                scope.spawn(move || {
                    for number in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let name = format!("c{round}-{client}-{number}");
                        // Whoever loses the daemon or the container has no answer.
                        let _ = errands::run(hosts, HOST, parent, &name, dice.below(errands::KINDS));
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            pause(after);
            let shims = match self.kind(round).as_str() {
                "daemon" => {
                    hosts.daemon(HOST).kill().expect("kill the daemon");
                    0
                }
                _ => kill_shims(hosts),
            };
            ended.store(true, Ordering::Relaxed);
            shims
        });
        let struck = Instant::now();
        if !arena.hosts.daemon(HOST).is_alive() {
            arena.hosts.start(HOST);
        }
        errands::clear(&arena.hosts, HOST).expect("what is left is removed");
        eventually("nothing is left", SOON, || arena.holdings().beyond(&before));
        arena.before = Some(before);
        Played { settled: struck.elapsed(), counts: (done.load(Ordering::Relaxed), shims) }
    }

    fn text(&self) -> Text {
        Text {
            title: "Daemon and shims are killed at any instant",
            hosts: "two labs at once of one host each, one with live-restore and one without, three clients each",
            counts: "containers begun, shims killed",
            settled: "from the blow until all was removed",
            rules: "Clients make and remove containers of ten kinds by the docker command line, without end. At an \
                    instant by chance within a second and a half the daemon gets `kill -9`, or all shims do that there \
                    are. A daemon is started again. Then the containers that are left are removed with `docker rm -f`, \
                    and mounts, files below the daemon's folders, devices, addresses, routes, neighbours, nftables, \
                    cgroups and processes must be just what they were before the first round, within 30 seconds.",
            name: "crashes",
        }
    }
}

impl Struck {
    /// Open files are not compared: each daemon has its own.
    fn holdings(&self) -> Holdings {
        Holdings::of(&self.hosts, HOST, &self.parent).without_descriptors()
    }
}

/// How many there were.
fn kill_shims(hosts: &Hosts) -> u64 {
    let shims = hosts.processes(HOST, "shim");
    for pid in &shims {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    shims.len() as u64
}
