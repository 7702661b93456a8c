//! Many rounds, in slices that can be continued.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Arena, Fault};

/// What to play.
#[derive(Debug, Clone)]
pub struct Soak {
    /// How many rounds in all.
    pub rounds: u64,
    /// What they follow from.
    pub seed: u64,
    /// Stop after this much time; a later call goes on.
    pub slice: Duration,
    /// Only this kind; all of them in turn if none.
    pub only: Option<Fault>,
    /// Where results are kept, and the logs of rounds that failed.
    pub state: PathBuf,
}

/// What came of one round.
struct Row {
    round: u64,
    fault: String,
    failure: Option<String>,
    settled: Duration,
    took: Duration,
    told: (u64, u64),
}

/// Plays rounds without a result until all have one or the slice is over. Returns the record as a document, whether all
/// rounds so far held, and whether all are done.
pub fn soak(soak: &Soak, commit: &str, show: &dyn Fn(&str)) -> std::io::Result<(String, bool, bool)> {
    fs::create_dir_all(&soak.state)?;
    let results = soak.state.join("results.tsv");
    let mut rows = read(&results);
    let start = Instant::now();
    let mut arena: Option<Arena> = None;
    for round in 0..soak.rounds {
        if rows.iter().any(|row| row.round == round) {
            continue;
        }
        if start.elapsed() >= soak.slice {
            break;
        }
        let (fault, began) = (soak.only.unwrap_or_else(|| Fault::of_round(round)), Instant::now());
        let mut told = (0, 0);
        let played = catch_unwind(AssertUnwindSafe(|| {
            let arena = arena.get_or_insert_with(|| Arena::up("chaos"));
            let before = arena.told();
            let settled = arena.play(fault, soak.seed.wrapping_add(round));
            told = (arena.told().0 - before.0, arena.told().1 - before.1);
            settled
        }));
        let failure = played.as_ref().err().map(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            text.unwrap_or("panicked").replace(['\t', '\n'], " ")
        });
        if failure.is_some() {
            keep_logs(&soak.state.join(format!("round-{round}")), arena.take());
        }
        let settled = played.unwrap_or_default();
        let fault = fault.name().to_owned();
        let row = Row { round, fault, failure, settled, took: began.elapsed(), told };
        let line = row.line();
        show(line.trim_end());
        fs::OpenOptions::new().create(true).append(true).open(&results)?.write_all(line.as_bytes())?;
        rows.push(row);
    }
    let mut left = None;
    if let Some(mut arena) = arena {
        left = catch_unwind(AssertUnwindSafe(|| arena.clear())).err().map(|_| "something was left behind");
        if left.is_some() {
            show("FAILED: something was left behind");
            keep_logs(&soak.state.join("leftovers"), Some(arena));
        }
    }
    let held = left.is_none() && rows.iter().all(|row| row.failure.is_none());
    let done = rows.len() as u64 >= soak.rounds;
    Ok((record(soak, commit, &rows, left), held, done))
}

/// What the daemons of a swarm that failed said, before it is taken down.
fn keep_logs(dir: &Path, arena: Option<Arena>) {
    let Some(arena) = arena else { return };
    if fs::create_dir_all(dir).is_err() {
        return;
    }
    for host in arena.hosts().lab().hosts() {
        let log = &arena.hosts().daemon(&host.name).log;
        // A log that cannot be kept is no reason to lose the others.
        let _ = fs::copy(log, dir.join(format!("{}.log", host.name)));
    }
    // What it leaves behind may be why it failed.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(arena)));
}

impl Row {
    fn line(&self) -> String {
        format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            self.round,
            self.fault,
            self.failure.as_deref().unwrap_or("ok"),
            self.settled.as_millis(),
            self.took.as_millis(),
            self.told.0,
            self.told.1
        )
    }

    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [round, fault, result, settled, took, yes, no] = fields[..] else { return None };
        let millis = |text: &str| text.parse().map(Duration::from_millis).ok();
        Some(Self {
            round: round.parse().ok()?,
            fault: fault.to_owned(),
            failure: (result != "ok").then(|| result.to_owned()),
            settled: millis(settled)?,
            took: millis(took)?,
            told: (yes.parse().ok()?, no.parse().ok()?),
        })
    }
}

fn read(results: &Path) -> Vec<Row> {
    let text = fs::read_to_string(results).unwrap_or_default();
    text.lines().filter_map(Row::read).collect()
}

fn record(soak: &Soak, commit: &str, rows: &[Row], left: Option<&str>) -> String {
    let failed: Vec<u64> = rows.iter().filter(|row| row.failure.is_some()).map(|row| row.round).collect();
    let result = match (failed.is_empty() && left.is_none(), rows.len() as u64 >= soak.rounds) {
        (true, true) => "all passed".to_owned(),
        (true, false) => "passed so far, not complete".to_owned(),
        (false, _) => format!("FAILED rounds: {failed:?} {}", left.unwrap_or_default()),
    };
    let (yes, no) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.told.0, sum.1 + row.told.1));
    let took: Duration = rows.iter().map(|row| row.took).sum();
    let mut text = format!(
        "# Swarms of real hosts under faults\n\n\
         | what | value |\n|---|---|\n\
         | commit | `{commit}` |\n\
         | rounds | {} of {}, seed {} |\n\
         | hosts | 3 managers and 3 workers, each a network namespace with its own daemon |\n\
         | commands acknowledged, refused or without an answer | {yes}, {no} |\n\
         | real time | {:.0} s |\n\
         | result | {result} |\n\n\
         | fault | rounds | in order after it, median | longest |\n|---|---|---|---|\n",
        rows.len(),
        soak.rounds,
        soak.seed,
        took.as_secs_f64(),
    );
    for fault in Fault::ALL {
        let mut settled: Vec<Duration> = rows
            .iter()
            .filter(|row| row.fault == fault.name() && row.failure.is_none())
            .map(|row| row.settled)
            .collect();
        settled.sort_unstable();
        let seconds = |at: Option<&Duration>| at.map_or(0.0, Duration::as_secs_f64);
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} s | {:.1} s |",
            fault.name(),
            settled.len(),
            seconds(settled.get(settled.len() / 2)),
            seconds(settled.last())
        );
    }
    text.push_str(
        "\nEach round: five commands (create, scale, update, remove) to any of the managers while the fault happens; then \
         everything is put back. The swarm must get in order by itself: all nodes ready, one leader, every manager with \
         the same services, of every service exactly the tasks that it shall have and by its newest specification, on \
         every host exactly their containers, no address with two holders; and nothing that was acknowledged may be lost. \
         At the end of a slice all services are removed, and nothing of them may stay on any host. Jumps of the clock \
         are not played here, because a machine has one clock for all of its hosts: they are part of the simulation \
         (`swarm.md`).\n\nRepeat: `cargo xtask soak quorum`, again and again until it says that all is done.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let row = Row {
            round: 3,
            fault: "a".to_owned(),
            failure: Some("b c".to_owned()),
            settled: Duration::from_millis(5),
            took: Duration::from_millis(6),
            told: (7, 8),
        };
        let again = Row::read(row.line().trim_end()).unwrap();
        assert_eq!(again.line(), row.line());
    }
}
