//! What happens to the swarm in a round.

use std::time::Duration;

use crate::dice::Dice;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the daemon that leads.
    LeaderDaemon,
    /// `kill -9` of every process of the host that leads, its containers included.
    LeaderHost,
    /// The same for a worker.
    WorkerHost,
    /// One manager is cut off from all others for a while; it may be the leader.
    Minority,
    /// One manager's disk is full for a while; it may be the leader's.
    FullDisk,
    /// `kill -9` of daemons, helpers, shims and runtimes on any host, at random instants.
    AnyProcess,
}

/// In the order in which a soak goes through them. Killed leaders are what the issue counts.
const CYCLE: &[Fault] = &[
    Fault::LeaderDaemon,
    Fault::AnyProcess,
    Fault::LeaderHost,
    Fault::Minority,
    Fault::LeaderDaemon,
    Fault::FullDisk,
    Fault::LeaderHost,
    Fault::WorkerHost,
];

impl Fault {
    /// All kinds.
    pub const ALL: &[Self] = &[
        Self::LeaderDaemon,
        Self::LeaderHost,
        Self::WorkerHost,
        Self::Minority,
        Self::FullDisk,
        Self::AnyProcess,
    ];

    /// The fault of a soak's round.
    pub fn of_round(round: u64) -> Self {
        CYCLE[(round % CYCLE.len() as u64) as usize]
    }

    /// The fault that is called so on a command line.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "leader" => Self::LeaderDaemon,
            "leader-host" => Self::LeaderHost,
            "worker-host" => Self::WorkerHost,
            "cut" => Self::Minority,
            "disk" => Self::FullDisk,
            "process" => Self::AnyProcess,
            _ => return None,
        })
    }

    /// As it stands in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaderDaemon => "leader's daemon killed",
            Self::LeaderHost => "leader's host killed",
            Self::WorkerHost => "worker's host killed",
            Self::Minority => "a manager cut off",
            Self::FullDisk => "a manager's disk full",
            Self::AnyProcess => "processes killed at random",
        }
    }
}

/// When in a round something happens: users' commands take about two seconds.
pub(super) fn instant(dice: &mut Dice) -> Duration {
    Duration::from_millis(dice.below(1800))
}
