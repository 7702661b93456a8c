//! Many rounds in slices of time: what is done is kept in a file, and a later call goes on.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Hosts;

/// What to play, and for how long.
#[derive(Debug, Clone)]
pub struct Slices {
    /// How many rounds in all.
    pub rounds: u64,
    /// What they follow from.
    pub seed: u64,
    /// Stop after this much time; a later call goes on.
    pub slice: Duration,
    /// Where results are kept, and the logs of rounds that failed.
    pub state: PathBuf,
}

/// What came of a round that held.
#[derive(Debug, Clone, Copy, Default)]
pub struct Played {
    /// The time that this is about, for example until everything was in order again.
    pub settled: Duration,
    /// Two numbers that are added up.
    pub counts: (u64, u64),
}

/// A kind of rounds. They are played in one or more labs beside each other, each by a thread of its own.
pub trait Game: Sync {
    /// A lab, ready to be played on.
    type Arena;

    /// How many labs are played on at once. Round `n` is played in lab `n` modulo this.
    fn labs(&self) -> u64 {
        1
    }

    /// Builds a lab.
    fn up(&self, lab: u64) -> Self::Arena;

    /// The hosts of a lab.
    fn hosts<'a>(&self, arena: &'a Self::Arena) -> &'a Hosts;

    /// What the round is about, in a few words.
    fn kind(&self, round: u64) -> String;

    /// Plays one round; panics when something does not hold.
    fn play(&self, arena: &mut Self::Arena, round: u64, seed: u64) -> Played;

    /// A last look at the end of a slice; panics when something does not hold.
    fn end(&self, _arena: &mut Self::Arena) {}

    /// The head of the document.
    fn text(&self) -> Text;
}

/// The words of a record.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// The title.
    pub title: &'static str,
    /// What it was played on.
    pub hosts: &'static str,
    /// What the two numbers are.
    pub counts: &'static str,
    /// What was measured, as the head of a column.
    pub settled: &'static str,
    /// What is done in a round and what must hold.
    pub rules: &'static str,
    /// The name after `cargo xtask soak`.
    pub name: &'static str,
}

/// What came of all rounds so far.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The record as a document.
    pub record: String,
    /// Whether all rounds held.
    pub held: bool,
    /// Whether all are done.
    pub done: bool,
}

/// What came of one round.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    round: u64,
    kind: String,
    failure: Option<String>,
    settled: Duration,
    took: Duration,
    counts: (u64, u64),
}

/// Plays rounds without a result until all have one or the slice is over.
pub fn play<G: Game>(
    game: &G,
    slices: &Slices,
    commit: &str,
    show: &(dyn Fn(&str) + Sync),
) -> io::Result<Outcome> {
    fs::create_dir_all(&slices.state)?;
    let book = Book { path: slices.state.join("results.tsv"), show };
    let start = Instant::now();
    let old = book.read();
    let lab = |lab: u64| -> io::Result<bool> {
        let left = (0..slices.rounds)
            .filter(|round| round % game.labs() == lab && old.iter().all(|row| row.round != *round));
        play_in(game, lab, left.take_while(|_| start.elapsed() < slices.slice), slices, &book)
    };
    let clean = std::thread::scope(|scope| {
        let labs: Vec<_> = (0..game.labs()).map(|number| scope.spawn(move || lab(number))).collect();
        let ends =
            labs.into_iter().map(|lab| lab.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.collect::<io::Result<Vec<bool>>>()
    })?;
    let rows = book.read();
    let clean = clean.into_iter().all(|clean| clean);
    Ok(Outcome {
        record: record(&game.text(), slices, commit, &rows, clean),
        held: clean && rows.iter().all(|row| row.failure.is_none()),
        done: rows.len() as u64 >= slices.rounds,
    })
}

/// Plays these rounds in one lab, which is built when it is needed and anew after a round that failed. False if the
/// last look found something.
fn play_in<G: Game>(
    game: &G,
    lab: u64,
    rounds: impl Iterator<Item = u64>,
    slices: &Slices,
    book: &Book<'_>,
) -> io::Result<bool> {
    let mut arena: Option<G::Arena> = None;
    for round in rounds {
        let began = Instant::now();
        let played = catch_unwind(AssertUnwindSafe(|| {
            let arena = arena.get_or_insert_with(|| game.up(lab));
            game.play(arena, round, slices.seed.wrapping_add(round))
        }));
        let failure = played.as_ref().err().map(|panic| reason(panic.as_ref()));
        if failure.is_some()
            && let Some(arena) = arena.take()
        {
            keep_logs(game, &slices.state.join(format!("round-{round}")), arena);
        }
        let played = played.unwrap_or_default();
        let (settled, counts) = (played.settled, played.counts);
        book.write(&Row { round, kind: game.kind(round), failure, settled, took: began.elapsed(), counts })?;
    }
    let Some(mut arena) = arena else { return Ok(true) };
    let ended = catch_unwind(AssertUnwindSafe(|| game.end(&mut arena)));
    if let Err(panic) = &ended {
        (book.show)(&format!("FAILED at the end: {}", reason(panic.as_ref())));
        keep_logs(game, &slices.state.join(format!("end-{lab}")), arena);
    }
    Ok(ended.is_ok())
}

fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked").replace(['\t', '\n'], " ")
}

/// What the daemons of a lab said in which something failed, before it is taken down.
fn keep_logs<G: Game>(game: &G, dir: &Path, arena: G::Arena) {
    if fs::create_dir_all(dir).is_ok() {
        let hosts = game.hosts(&arena);
        for host in hosts.lab().hosts() {
            // A log that cannot be kept is no reason to lose the others.
            let _ = fs::copy(&hosts.daemon(&host.name).log, dir.join(format!("{}.log", host.name)));
        }
    }
    // What it leaves behind may be why it failed.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(arena)));
}

/// The file of results.
struct Book<'a> {
    path: PathBuf,
    show: &'a (dyn Fn(&str) + Sync),
}

/// Held by whoever writes.
static WRITING: Mutex<()> = Mutex::new(());

impl Book<'_> {
    fn read(&self) -> Vec<Row> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().filter_map(Row::read).collect()
    }

    fn write(&self, row: &Row) -> io::Result<()> {
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let line = row.line();
        (self.show)(line.trim_end());
        fs::OpenOptions::new().create(true).append(true).open(&self.path)?.write_all(line.as_bytes())
    }
}

impl Row {
    fn line(&self) -> String {
        format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            self.round,
            self.kind,
            self.failure.as_deref().unwrap_or("ok"),
            self.settled.as_millis(),
            self.took.as_millis(),
            self.counts.0,
            self.counts.1
        )
    }

    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [round, kind, result, settled, took, first, second] = fields[..] else { return None };
        let millis = |text: &str| text.parse().map(Duration::from_millis).ok();
        Some(Self {
            round: round.parse().ok()?,
            kind: kind.to_owned(),
            failure: (result != "ok").then(|| result.to_owned()),
            settled: millis(settled)?,
            took: millis(took)?,
            counts: (first.parse().ok()?, second.parse().ok()?),
        })
    }
}

fn record(text: &Text, slices: &Slices, commit: &str, rows: &[Row], clean: bool) -> String {
    let failed: Vec<u64> = rows.iter().filter(|row| row.failure.is_some()).map(|row| row.round).collect();
    let result = match (failed.is_empty() && clean, rows.len() as u64 >= slices.rounds) {
        (true, true) => "all passed".to_owned(),
        (true, false) => "passed so far, not complete".to_owned(),
        (false, _) => {
            format!("FAILED rounds: {failed:?}{}", if clean { "" } else { ", something was left behind" })
        }
    };
    let sum = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.counts.0, sum.1 + row.counts.1));
    let took: Duration = rows.iter().map(|row| row.took).sum();
    let mut out = format!(
        "# {}\n\n\
         | what | value |\n|---|---|\n\
         | commit | `{commit}` |\n\
         | rounds | {} of {}, seed {} |\n\
         | hosts | {} |\n\
         | {} | {}, {} |\n\
         | time of all rounds | {:.0} s |\n\
         | result | {result} |\n\n\
         | round | rounds | {}, median | longest |\n|---|---|---|---|\n",
        text.title,
        rows.len(),
        slices.rounds,
        slices.seed,
        text.hosts,
        text.counts,
        sum.0,
        sum.1,
        took.as_secs_f64(),
        text.settled,
    );
    let mut kinds: Vec<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    // All together in the last line, if there is more than one kind.
    let all = (kinds.len() > 1).then_some(("all", None));
    for (name, kind) in kinds.iter().map(|kind| (*kind, Some(*kind))).chain(all) {
        let mut settled: Vec<Duration> = rows
            .iter()
            .filter(|row| kind.is_none_or(|kind| row.kind == kind) && row.failure.is_none())
            .map(|row| row.settled)
            .collect();
        settled.sort_unstable();
        let seconds = |at: Option<&Duration>| at.map_or(0.0, Duration::as_secs_f64);
        let (median, longest) = (seconds(settled.get(settled.len() / 2)), seconds(settled.last()));
        let _ = writeln!(out, "| {name} | {} | {median:.2} s | {longest:.2} s |", settled.len());
    }
    for row in rows.iter().filter(|row| row.failure.is_some()).take(5) {
        let _ =
            write!(out, "\nRound {} ({}): {}\n", row.round, row.kind, row.failure.as_deref().unwrap_or(""));
    }
    let _ = write!(
        out,
        "\n{}\n\nRepeat: `cargo xtask soak {}`, again and again until it says that all is done.\n",
        text.rules, text.name
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: u64, failure: Option<&str>) -> Row {
        Row {
            round,
            kind: "a".to_owned(),
            failure: failure.map(str::to_owned),
            settled: Duration::from_millis(5),
            took: Duration::from_millis(6),
            counts: (7, 8),
        }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        for row in [row(3, Some("b c")), row(4, None)] {
            assert_eq!(Row::read(row.line().trim_end()), Some(row));
        }
    }

    #[test]
    fn a_record_says_what_is_done_and_what_failed() {
        let text = Text { title: "T", hosts: "h", counts: "c", settled: "s", rules: "r", name: "n" };
        let slices = Slices { rounds: 2, seed: 1, slice: Duration::ZERO, state: "s".into() };
        let result = |rows: &[Row], clean| record(&text, &slices, "x", rows, clean);
        assert!(result(&[row(0, None)], true).contains("| passed so far, not complete |"));
        assert!(result(&[row(0, None), row(1, None)], true).contains("| all passed |"));
        let failed = result(&[row(0, None), row(1, Some("why"))], true);
        assert!(failed.contains("FAILED rounds: [1]") && failed.contains("Round 1 (a): why"), "{failed}");
        assert!(result(&[row(0, None), row(1, None)], false).contains("left behind"));
    }
}
