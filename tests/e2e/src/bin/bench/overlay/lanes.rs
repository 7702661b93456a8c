//! Those who race, and the rows that come of it.

use crate::burst::{Kind, Sample};
use crate::path::Path;
use crate::race::{Raced, race};
use crate::row::{Entry, Goal, Row};
use crate::stats::Better;

/// One who races.
pub(crate) struct Lane<'a> {
    pub(crate) name: String,
    pub(crate) path: &'a Path,
    pub(crate) judged: bool,
    /// The number of the lane that is the limit of this one.
    pub(crate) limit: Option<usize>,
}

/// What is read off a race.
pub(crate) struct Reading {
    title: String,
    unit: &'static str,
    better: Better,
    kind: Kind,
    part: fn(&Sample) -> f64,
    goals: Vec<Goal>,
}

impl Reading {
    /// The value of this kind of burst.
    pub(crate) fn of(kind: Kind, title: impl Into<String>) -> Self {
        let (unit, better) = match kind {
            Kind::Stream | Kind::Streams => ("Gb/s", Better::Higher),
            Kind::Connect | Kind::Flood => ("1/s", Better::Higher),
            Kind::Echo => ("µs", Better::Lower),
            Kind::Send => ("ns each", Better::Lower),
        };
        Self { title: title.into(), unit, better, kind, part: |sample| sample.value, goals: Vec::new() }
    }

    /// The CPU time of both ends and of who carries what they say.
    pub(crate) fn cpu_of(kind: Kind, title: impl Into<String>) -> Self {
        let unit = if matches!(kind, Kind::Stream | Kind::Streams) { "s/GB" } else { "µs each" };
        Self { unit, better: Better::Lower, part: |sample| sample.cpu, ..Self::of(kind, title) }
    }

    /// The CPU time that the kernel's own threads took meanwhile.
    pub(crate) fn elsewhere_of(kind: Kind, title: impl Into<String>) -> Self {
        Self { part: |sample| sample.elsewhere, ..Self::cpu_of(kind, title) }
    }

    pub(crate) fn goals(self, goals: impl Into<Vec<Goal>>) -> Self {
        Self { goals: goals.into(), ..self }
    }
}

impl<'a> Lane<'a> {
    /// Takes part for comparison.
    pub(crate) fn beside(name: impl Into<String>, path: &'a Path) -> Self {
        Self { name: name.into(), path, judged: false, limit: None }
    }

    /// Is what the goals are for.
    pub(crate) fn judged(name: impl Into<String>, path: &'a Path, limit: Option<usize>) -> Self {
        Self { name: name.into(), path, judged: true, limit }
    }
}

/// Races; Docker's lane is the first.
pub(crate) fn measure(lanes: &[Lane<'_>], readings: Vec<Reading>, rounds: usize) -> Vec<Row> {
    let paths: Vec<&Path> = lanes.iter().map(|lane| lane.path).collect();
    let mut kinds: Vec<Kind> = Vec::new();
    for reading in &readings {
        if !kinds.contains(&reading.kind) {
            kinds.push(reading.kind);
        }
    }
    let raced = race(&paths, &kinds, rounds);
    readings.into_iter().map(|reading| row(lanes, &raced, reading)).collect()
}

fn row(lanes: &[Lane<'_>], raced: &Raced, reading: Reading) -> Row {
    let entry = |(number, lane): (usize, &Lane<'_>)| Entry {
        name: lane.name.clone(),
        values: raced.of(reading.kind, number, reading.part),
        judged: lane.judged,
        limit: lane.limit,
    };
    Row {
        title: reading.title,
        unit: reading.unit,
        better: reading.better,
        goals: reading.goals,
        entries: lanes.iter().enumerate().map(entry).collect(),
        beside_docker: true,
    }
}
