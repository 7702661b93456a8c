//! Many seeds, in slices that can be continued.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{Failure, Outcome, Plan, bound, run, run_traced};

/// What to run.
#[derive(Debug, Clone)]
pub struct Soak {
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
    /// Inputs of all nodes in all runs.
    pub events: u64,
    /// Datagrams lost in all runs.
    pub dropped: u64,
}

impl SoakReport {
    /// As one line.
    pub fn summary(&self) -> String {
        format!(
            "{} seeds, {} failed, {:.0} s, {:.1} seeds/minute, slowest {:.1} s, {} events, {} datagrams lost",
            self.done,
            self.failed.len(),
            self.elapsed.as_secs_f64(),
            self.done as f64 * 60.0 / self.elapsed.as_secs_f64().max(0.001),
            self.slowest.as_secs_f64(),
            self.events,
            self.dropped
        )
    }

    /// As a document.
    pub fn markdown(&self, soak: &Soak, commit: &str) -> String {
        let result = match (self.failed.is_empty(), self.done >= soak.seeds.end - soak.seeds.start) {
            (true, true) => "all passed".to_owned(),
            (true, false) => "passed so far, not complete".to_owned(),
            (false, _) => format!("FAILED seeds: {:?}", self.failed),
        };
        format!(
            "# Gossip simulation\n\n\
             | what | value |\n|---|---|\n\
             | commit | `{commit}` |\n\
             | seeds | {}..{}, {} run |\n\
             | nodes in each run | {} (50 in every 64th, whose messages all go through the codec as bytes) |\n\
             | bound on settling, virtual | {:.1} s |\n\
             | slowest run settled after, virtual | {:.1} s |\n\
             | inputs to nodes | {} |\n\
             | datagrams lost | {} |\n\
             | real time | {:.0} s on {} threads, {:.1} seeds per minute |\n\
             | result | {result} |\n\n\
             Each run: nodes start, then 45 seconds of loss, duplication, delay, cuts (also one-way), crashes, restarts \
             under old and new names, leaves, and changes of entries and networks; after the last fault every node's \
             tables must equal what their owners have, within the bound.\n\n\
             Repeat: `cargo run --release -p weft-sim -- gossip --seeds {}..{} --nodes {} --state DIR`\n",
            soak.seeds.start,
            soak.seeds.end,
            self.done,
            soak.nodes,
            bound(soak.nodes).as_secs_f64(),
            self.slowest.as_secs_f64(),
            self.events,
            self.dropped,
            self.elapsed.as_secs_f64(),
            soak.jobs,
            self.done as f64 * 60.0 / self.elapsed.as_secs_f64().max(0.001),
            soak.seeds.start,
            soak.seeds.end,
            soak.nodes,
        )
    }
}

/// Runs seeds without a result until all have one or the slice is over. `show` gets a line per seed.
pub fn soak(soak: &Soak, show: &(dyn Fn(&str) + Sync)) -> anyhow::Result<SoakReport> {
    fs::create_dir_all(&soak.state).with_context(|| format!("create {}", soak.state.display()))?;
    let results = soak.state.join(format!("results-{}.tsv", soak.nodes));
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
                    let plan = Plan::new(seed, soak.nodes);
                    let began = Instant::now();
                    let result = run(&plan);
                    let line = result_line(seed, began.elapsed(), &result);
                    show(line.trim_end());
                    if let Err(failure) = &result {
                        write_trace(&soak.state, &plan, failure);
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

/// seed, ok or the failure, virtual milliseconds to settle, inputs, lost datagrams, real milliseconds
fn result_line(seed: u64, took: Duration, result: &Result<Outcome, Failure>) -> String {
    match result {
        Ok(outcome) => format!(
            "{seed}\tok\t{}\t{}\t{}\t{}\n",
            outcome.settled.as_millis(),
            outcome.counts.events,
            outcome.counts.dropped,
            took.as_millis()
        ),
        Err(failure) => format!("{seed}\tFAILED {failure}\t0\t0\t0\t{}\n", took.as_millis()),
    }
}

/// Repeats a failed run and writes down all that happened.
fn write_trace(state: &Path, plan: &Plan, failure: &Failure) {
    let path = state.join(format!("seed-{}-nodes-{}.trace", plan.seed, plan.nodes));
    let Ok(file) = fs::File::create(path) else { return };
    let mut file = std::io::BufWriter::new(file);
    let again = run_traced(plan, &mut file);
    // The same run again: if it ends otherwise, the simulation itself is wrong, and the trace says so.
    let _ = writeln!(file, "{failure}\nagain: {again:?}");
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
        report.dropped += next().parse::<u64>().unwrap_or(0);
    }
    Ok(report)
}
