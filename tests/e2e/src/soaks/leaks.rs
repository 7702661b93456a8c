//! Many containers come and go: nothing of them stays.

use std::time::{Duration, Instant};

use weft_lab::{DaemonSpec, LabSpec, eventually};

use super::errands;
use crate::dice::Dice;
use crate::holdings::{Holdings, memory};
use crate::slices::{Game, Played, Text};
use crate::{Hosts, weft_exe};

const HOST: &str = "h1";
/// How many clients start containers beside each other.
const CLIENTS: u64 = 4;
/// For what is let go of behind an answer.
const SOON: Duration = Duration::from_secs(20);
/// What a heap that was in use holds back, in KiB.
const SLACK: u64 = 6 * 1024;

/// Rounds of containers that come and go.
#[derive(Debug, Clone, Copy)]
pub struct Leaks {
    /// Containers in a round.
    pub containers: u64,
}

impl Default for Leaks {
    /// Ten rounds make a thousand.
    fn default() -> Self {
        Self { containers: 100 }
    }
}

/// A host, and what it had before the first container.
#[derive(Debug)]
pub struct Swept {
    hosts: Hosts,
    parent: String,
    before: Option<Holdings>,
    memory: Option<u64>,
}

impl Game for Leaks {
    type Arena = Swept;

    fn up(&self, lab: u64) -> Swept {
        let daemon = DaemonSpec::weft(&weft_exe());
        let hosts = Hosts::up_with(LabSpec::bridged(&format!("leaks{lab}"), 1), |_| daemon.clone());
        errands::prepare(&hosts, HOST);
        let parent = format!("/weft-leaks-{lab}");
        // What is made with the first container and stays, as the cgroups' parent.
        for kind in 0..errands::KINDS {
            errands::run(&hosts, HOST, &parent, &format!("warm{kind}"), kind).expect("a container");
        }
        Swept { hosts, parent, before: None, memory: None }
    }

    fn hosts<'a>(&self, arena: &'a Swept) -> &'a Hosts {
        &arena.hosts
    }

    fn kind(&self, _round: u64) -> String {
        "containers".to_owned()
    }

    fn play(&self, arena: &mut Swept, round: u64, seed: u64) -> Played {
        let (hosts, parent) = (&arena.hosts, &arena.parent);
        let look = || Holdings::of(hosts, HOST, parent);
        let before = arena.before.get_or_insert_with(|| Holdings::at_rest(look));
        let share = self.containers / CLIENTS;
        let clients: Vec<u64> = (0..CLIENTS).collect();
        std::thread::scope(|scope| {
            for client in &clients {
                scope.spawn(move || {
                    let mut dice = Dice::new(seed.wrapping_mul(CLIENTS) + client);
                    for number in 0..share {
                        let (name, kind) =
                            (format!("c{round}-{client}-{number}"), dice.below(errands::KINDS));
                        if let Err(failed) = errands::run(hosts, HOST, parent, &name, kind) {
                            panic!("errand {kind}: {failed}");
                        }
                    }
                });
            }
        });
        let ended = Instant::now();
        hosts.docker(HOST, "volume prune -af").expect("a command");
        eventually("nothing is left", SOON, || look().beyond(before));
        let (now, first) = (memory(hosts, HOST), arena.memory);
        // The first round's is what the daemon needs at such a pace.
        let first = *arena.memory.get_or_insert(first.unwrap_or(now));
        assert!(now <= first + SLACK, "the daemon's memory grew from {first} to {now} KiB");
        Played { settled: ended.elapsed(), counts: (share * CLIENTS, now) }
    }

    fn text(&self) -> Text {
        Text {
            title: "A thousand containers leave nothing behind",
            hosts: "one host, four clients at once",
            counts: "containers, sum of the daemon's own memory after each round in KiB",
            settled: "after the last container until nothing was left",
            rules: "In each round a hundred containers are made and removed by the docker command line, of ten kinds by \
                    chance: short ones, ones that are killed, stopped, started again, paused, restarted by policy, with \
                    published ports, volumes, temporary file systems, health checks, rotated logs and limits, on one \
                    network or two, never started, or with a program that is not there. After it mounts, files below \
                    the daemon's folders, devices, addresses, routes, neighbours, nftables, cgroups, processes, and \
                    open files of daemon and helper must be just what they were before the first round, and the daemon's \
                    memory within 6 MiB of that after the first.",
            name: "leaks",
        }
    }
}
