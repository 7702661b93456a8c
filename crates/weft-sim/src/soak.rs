//! Many seeds, in slices that can be continued.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use weft_manager::simulation as raft;

use crate::{Failure, Plan, bound, run, run_traced, swarm};

/// Which simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Gossip among many nodes.
    Gossip,
    /// Services of a swarm.
    Swarm,
    /// Managers that agree.
    Raft,
}

/// What is kept of a run that ended well.
struct Row {
    settled: Duration,
    events: u64,
    lost: u64,
}

impl Subject {
    /// The subject of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Gossip, Self::Swarm, Self::Raft].into_iter().find(|subject| subject.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Swarm => "swarm",
            Self::Raft => "raft",
        }
    }

    fn run(self, seed: u64, nodes: usize) -> Result<Row, Failure> {
        match self {
            Self::Gossip => run(&Plan::new(seed, nodes)).map(|outcome| Row {
                settled: outcome.settled,
                events: outcome.counts.events,
                lost: outcome.counts.dropped,
            }),
            Self::Swarm => swarm::run(&swarm::SwarmPlan::new(seed)).map(|outcome| Row {
                settled: outcome.settled,
                events: outcome.counts.commits,
                lost: outcome.counts.refused,
            }),
            Self::Raft => raft::run(&raft::Plan::new(seed)).map(|outcome| Row {
                settled: outcome.settled,
                events: outcome.counts.messages,
                lost: outcome.counts.lost,
            }),
        }
    }

    /// Where results are kept below the state's folder.
    fn results(self, nodes: usize) -> String {
        match self {
            Self::Gossip => format!("results-{nodes}.tsv"),
            Self::Swarm | Self::Raft => format!("results-{}.tsv", self.name()),
        }
    }

    /// Rows of the record that differ: size, bound, what events are, what is lost.
    fn labels(self, nodes: usize) -> [(&'static str, String); 4] {
        let (size, bound, events, lost) = match self {
            Self::Gossip => (
                format!("{nodes} (50 in every 64th, whose messages all go through the codec as bytes)"),
                bound(nodes),
                "inputs to nodes",
                "datagrams lost",
            ),
            Self::Swarm => (
                "3 to 7, up to 5 services of 6 replicas".to_owned(),
                swarm::bound(),
                "transactions",
                "transactions refused",
            ),
            Self::Raft => (
                "3 or 5 managers, and one that joins".to_owned(),
                raft::bound(),
                "messages between managers",
                "messages lost",
            ),
        };
        let bound = format!("{:.1} s", bound.as_secs_f64());
        [
            ("nodes in each run", size),
            ("bound on settling, virtual", bound),
            (events, String::new()),
            (lost, String::new()),
        ]
    }

    fn story(self) -> &'static str {
        match self {
            Self::Gossip => {
                "Each run: nodes start, then 45 seconds of loss, duplication, delay, cuts (also one-way), crashes, \
                 restarts under old and new names, leaves, and changes of entries and networks; after the last fault \
                 every node's tables must equal what their owners have, within the bound."
            }
            Self::Swarm => {
                "Each run: two minutes in which leaders are deposed with transactions on their way, disks are slow, \
                 nodes crash, are cut off and come back, tasks fail, and users create, scale, update, roll back, drain \
                 and remove; addresses run out at times. After every transaction no address has two holders, no state \
                 goes back, no slot has a task too many; after the last disturbance exactly what users want runs, \
                 within the bound."
            }
            Self::Raft => {
                "Each run: the real consensus, store and allocator of each manager on a disk in memory, in virtual time; \
                 half a minute to a minute in which the network is cut, also one-way, loses, delays and reorders, \
                 managers lose power with any part of what was not synced, are killed or stopped, disks are slow or \
                 stall, clocks leap, the leader hands over, managers join and are taken out. After every message, \
                 applied command and answer: one leader per term, one entry for an index and a term, nothing committed \
                 lost, equal states at equal indexes, no address with two holders, answers in an order that time \
                 allows (strict serializability of reads and writes over all managers). After the last fault, within \
                 the bound: one leader, a change through every manager, all states equal."
            }
        }
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Soak {
    /// Which simulation.
    pub subject: Subject,
    /// Seeds.
    pub seeds: std::ops::Range<u64>,
    /// Hosts in each run.
    pub nodes: usize,
    /// Stop after this much real time; a later call goes on.
    pub slice: Duration,
    /// Where results and traces are kept. Results of other numbers of nodes do not count.
    pub state: PathBuf,
    /// Runs at one time.
    pub jobs: usize,
}

/// What came of all slices so far.
#[derive(Debug, Default, Clone)]
pub struct SoakReport {
    /// Seeds with a result.
    pub done: u64,
    /// Seeds that broke a rule.
    pub failed: Vec<u64>,
    /// Real time of all slices.
    pub elapsed: Duration,
    /// Longest virtual time until tables were right.
    pub slowest: Duration,
    /// Inputs of all nodes, or transactions, in all runs.
    pub events: u64,
    /// Datagrams lost, or transactions refused, in all runs.
    pub lost: u64,
}

impl SoakReport {
    /// As one line.
    pub fn summary(&self) -> String {
        format!(
            "{} seeds, {} failed, {:.0} s, {:.1} seeds/minute, slowest {:.1} s, {} events, {} lost",
            self.done,
            self.failed.len(),
            self.elapsed.as_secs_f64(),
            self.done as f64 * 60.0 / self.elapsed.as_secs_f64().max(0.001),
            self.slowest.as_secs_f64(),
            self.events,
            self.lost
        )
    }

    /// As a document.
    pub fn markdown(&self, soak: &Soak, commit: &str) -> String {
        let result = match (self.failed.is_empty(), self.done >= soak.seeds.end - soak.seeds.start) {
            (true, true) => "all passed".to_owned(),
            (true, false) => "passed so far, not complete".to_owned(),
            (false, _) => format!("FAILED seeds: {:?}", self.failed),
        };
        let [(nodes, size), (settling, bound), (events, _), (lost, _)] = soak.subject.labels(soak.nodes);
        let name = soak.subject.name();
        let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        let repeat = match soak.subject {
            Subject::Gossip => format!(" --nodes {}", soak.nodes),
            Subject::Swarm | Subject::Raft => String::new(),
        };
        format!(
            "# {title} simulation\n\n\
             | what | value |\n|---|---|\n\
             | commit | `{commit}` |\n\
             | seeds | {}..{}, {} run |\n\
             | {nodes} | {size} |\n\
             | {settling} | {bound} |\n\
             | slowest run settled after, virtual | {:.1} s |\n\
             | {events} | {} |\n\
             | {lost} | {} |\n\
             | real time | {:.0} s on {} threads, {:.1} seeds per minute |\n\
             | result | {result} |\n\n\
             {}\n\n\
             Repeat: `cargo run --release -p weft-sim -- {name} --seeds {}..{}{repeat} --state DIR`\n",
            soak.seeds.start,
            soak.seeds.end,
            self.done,
            self.slowest.as_secs_f64(),
            self.events,
            self.lost,
            self.elapsed.as_secs_f64(),
            soak.jobs,
            self.done as f64 * 60.0 / self.elapsed.as_secs_f64().max(0.001),
            soak.subject.story(),
            soak.seeds.start,
            soak.seeds.end,
        )
    }
}

/// Runs seeds without a result until all have one or the slice is over. `show` gets a line per seed.
pub fn soak(soak: &Soak, show: &(dyn Fn(&str) + Sync)) -> anyhow::Result<SoakReport> {
    fs::create_dir_all(&soak.state).with_context(|| format!("create {}", soak.state.display()))?;
    let results = soak.state.join(soak.subject.results(soak.nodes));
    let (done, before) = read_results(&results)?;
    let waiting = Mutex::new(soak.seeds.clone().filter(|seed| !done.contains(seed)));
    let file = fs::OpenOptions::new().create(true).append(true).open(&results)?;
    let file = Mutex::new(file);
    let broken = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..soak.jobs.max(1) {
            scope.spawn(|| {
                while start.elapsed() < soak.slice && !broken.load(Ordering::Relaxed) {
                    let next = waiting.lock().ok().and_then(|mut seeds| seeds.next());
                    let Some(seed) = next else { break };
                    let began = Instant::now();
                    let result = soak.subject.run(seed, soak.nodes);
                    let line = result_line(seed, began.elapsed(), &result);
                    show(line.trim_end());
                    if let Err(failure) = &result {
                        write_trace(soak, seed, failure);
                    }
                    let written = file.lock().is_ok_and(|mut file| file.write_all(line.as_bytes()).is_ok());
                    broken.fetch_or(!written, Ordering::Relaxed);
                }
            });
        }
    });
    anyhow::ensure!(!broken.load(Ordering::Relaxed), "cannot write {}", results.display());
    let elapsed = before + start.elapsed();
    fs::write(elapsed_file(&results), elapsed.as_millis().to_string())?;
    report(&results, elapsed, soak)
}

fn elapsed_file(results: &Path) -> PathBuf {
    results.with_extension("elapsed-ms")
}

/// Seeds with a result, and the real time spent on them.
fn read_results(results: &Path) -> anyhow::Result<(Vec<u64>, Duration)> {
    let Ok(text) = fs::read_to_string(results) else { return Ok((Vec::new(), Duration::ZERO)) };
    let done = text.lines().filter_map(|line| line.split('\t').next()?.parse().ok()).collect();
    let elapsed = fs::read_to_string(elapsed_file(results)).ok().and_then(|text| text.trim().parse().ok());
    Ok((done, Duration::from_millis(elapsed.unwrap_or(0))))
}

/// seed, ok or the failure, virtual milliseconds to settle, events, what was lost, real milliseconds
fn result_line(seed: u64, took: Duration, result: &Result<Row, Failure>) -> String {
    match result {
        Ok(row) => format!(
            "{seed}\tok\t{}\t{}\t{}\t{}\n",
            row.settled.as_millis(),
            row.events,
            row.lost,
            took.as_millis()
        ),
        Err(failure) => format!("{seed}\tFAILED {failure}\t0\t0\t0\t{}\n", took.as_millis()),
    }
}

/// Repeats a failed run and writes down all that happened; of a swarm, the rule that broke says enough.
fn write_trace(soak: &Soak, seed: u64, failure: &Failure) {
    let name = match soak.subject {
        Subject::Gossip => format!("seed-{seed}-nodes-{}.trace", soak.nodes),
        Subject::Raft => format!("raft-seed-{seed}.trace"),
        Subject::Swarm => return,
    };
    let Ok(file) = fs::File::create(soak.state.join(name)) else { return };
    let mut file = std::io::BufWriter::new(file);
    // The same run again: if it ends otherwise, the simulation itself is wrong, and the trace says so.
    let again = match soak.subject {
        Subject::Raft => {
            let (again, lines) = raft::run_traced(&raft::Plan::new(seed));
            let _ = lines.iter().try_for_each(|line| writeln!(file, "{line}"));
            format!("{again:?}")
        }
        _ => format!("{:?}", run_traced(&Plan::new(seed, soak.nodes), &mut file)),
    };
    let _ = writeln!(file, "{failure}\nagain: {again}");
}

fn report(results: &Path, elapsed: Duration, soak: &Soak) -> anyhow::Result<SoakReport> {
    let mut report = SoakReport { elapsed, ..SoakReport::default() };
    for line in fs::read_to_string(results)?.lines() {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let (seed, result) = (next().parse::<u64>().unwrap_or(u64::MAX), next());
        if !soak.seeds.contains(&seed) {
            continue;
        }
        report.done += 1;
        if result != "ok" {
            report.failed.push(seed);
        }
        report.slowest = report.slowest.max(Duration::from_millis(next().parse().unwrap_or(0)));
        report.events += next().parse::<u64>().unwrap_or(0);
        report.lost += next().parse::<u64>().unwrap_or(0);
    }
    Ok(report)
}
