//! The overlay beside Docker's and beside what no overlay can do better: traffic across hosts and on one, virtual IPs,
//! encrypted networks, and how fast the cluster follows. All take part in the same shuffled rounds.

mod control;
mod encryption;
mod lanes;
mod traffic;
mod vip;

use crate::bare::Bare;
use crate::record::Record;
use crate::row::Row;
use crate::side::{Engine, Side};
use crate::table;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of bursts.
    pub(crate) rounds: usize,
    /// Rounds of what takes seconds.
    pub(crate) slow_rounds: usize,
    /// Whether to measure also what takes minutes.
    pub(crate) thorough: bool,
}

/// Everyone who takes part.
pub(crate) struct Arena {
    pub(crate) docker: Side,
    /// One for each of Weft's engines.
    pub(crate) wefts: Vec<Side>,
    pub(crate) bare: Bare,
}

type Group = (&'static str, fn(&Arena, Effort) -> Vec<Row>);

/// In this order: the third kills a host, and the last leaves a thousand services behind.
const GROUPS: [Group; 4] = [
    ("traffic", traffic::measure),
    ("encryption", encryption::measure),
    ("control", control::measure),
    ("vip", vip::measure),
];

impl Effort {
    /// Some minutes.
    pub(crate) const QUICK: Self = Self { rounds: 10, slow_rounds: 3, thorough: false };
    /// A quarter of an hour.
    pub(crate) const FULL: Self = Self { rounds: 30, slow_rounds: 5, thorough: true };
}

impl Arena {
    /// All at once: mostly they wait.
    fn up() -> Self {
        let engines = Engine::wefts();
        std::thread::scope(|scope| {
            let docker = scope.spawn(|| Side::up(&Engine::docker()));
            let wefts: Vec<_> = engines.iter().map(|engine| scope.spawn(|| Side::up(engine))).collect();
            let bare = Bare::up();
            let wefts = wefts.into_iter().map(|weft| weft.join().unwrap()).collect();
            Self { docker: docker.join().unwrap(), wefts, bare }
        })
    }

    /// Docker's and then Weft's.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Side> {
        std::iter::once(&self.docker).chain(&self.wefts)
    }
}

/// The names of the groups, each of which can be measured alone.
pub(crate) fn groups() -> impl Iterator<Item = &'static str> {
    GROUPS.into_iter().map(|(name, _)| name)
}

/// Measures the wanted groups, prints them, and writes the record if there is to be one.
pub(crate) fn measure(wanted: impl Fn(&str) -> bool, effort: Effort, record: Option<&Record>) {
    let arena = Arena::up();
    let mut rows = Vec::new();
    for (name, group) in GROUPS.iter().filter(|(name, _)| wanted(name)) {
        println!("\n=== {name}\n{}", table::heading());
        let measured = group(&arena, effort);
        measured.iter().for_each(|row| print!("{}", table::terminal(row)));
        rows.extend(measured);
    }
    if let Some(record) = record {
        record.write(&rows, effort);
    }
}
