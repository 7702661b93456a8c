//! Hundreds of rounds of faults.

use std::time::Duration;

use super::{Arena, Fault};
use crate::Hosts;
use crate::slices::{Game, Played, Text};

/// Rounds mostly wait. No divisor of the cycle of faults: each lab sees all of them.
const LABS: u64 = 3;

/// Faults on a swarm of three managers and three workers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quorum {
    /// Only this kind; all of them in turn if none.
    pub only: Option<Fault>,
}

impl Quorum {
    fn fault(self, round: u64) -> Fault {
        self.only.unwrap_or_else(|| Fault::of_round(round))
    }
}

impl Game for Quorum {
    type Arena = Arena;

    fn labs(&self) -> u64 {
        LABS
    }

    fn up(&self, lab: u64) -> Arena {
        Arena::up(&format!("chaos{lab}"))
    }

    fn hosts<'a>(&self, arena: &'a Arena) -> &'a Hosts {
        arena.hosts()
    }

    fn kind(&self, round: u64) -> String {
        self.fault(round).name().to_owned()
    }

    fn play(&self, arena: &mut Arena, round: u64, seed: u64) -> Played {
        let before = arena.told();
        let settled: Duration = arena.play(self.fault(round), seed);
        Played { settled, counts: (arena.told().0 - before.0, arena.told().1 - before.1) }
    }

    fn end(&self, arena: &mut Arena) {
        arena.clear();
    }

    fn text(&self) -> Text {
        Text {
            title: "Swarms of real hosts under faults",
            hosts: "3 managers and 3 workers, each a network namespace with its own daemon",
            counts: "commands acknowledged, refused or without an answer",
            settled: "in order after it",
            rules: "Each round: five commands (create, scale, update, remove) to any of the managers while the fault \
                    happens; then everything is put back. The swarm must get in order by itself: all nodes ready, one \
                    leader, every manager with the same services, of every service exactly the tasks that it shall have \
                    and by its newest specification, on every host exactly their containers, no address with two \
                    holders; and nothing that was acknowledged may be lost. At the end of a slice all services are \
                    removed, and nothing of them may stay on any host. Jumps of the clock are not played here, because \
                    a machine has one clock for all of its hosts: they are part of the simulation (`raft.md`).",
            name: "quorum",
        }
    }
}
