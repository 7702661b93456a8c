//! `soak NAME`: the long proofs on real hosts, started by `cargo xtask soak`.
#![allow(clippy::print_stdout, reason = "a command line tool talks to its user")]

mod keys;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use weft_e2e::rounds::{Fault, Quorum};
use weft_e2e::slices::{Game, Outcome, Slices, play};
use weft_e2e::soaks::{Crashes, Damages, Leaks, Outage, Partitions, Restarts, Updates};

const USAGE: &str =
    "usage: soak quorum|updates|restarts|outage|partitions|damage|leaks|crashes|keys [--rounds N] [--seed N] [--slice-minutes M]
                         [--state DIR] [--record FILE.md] [--commit ID]
                         [--only leader|leader-host|worker-host|cut|disk|process (with quorum)]

Plays every round that has no result in DIR yet, for at most M minutes; call it again to go on.
Ends with 1 if a round failed, with 2 if rounds are left.";

/// Not understood.
const WRONG_USE: u8 = 64;

/// What the command line asks for.
struct Wish {
    subject: String,
    slices: Slices,
    only: Option<Fault>,
    record: Option<PathBuf>,
    commit: String,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(wish) = Wish::parse(&words) else {
        println!("{USAGE}");
        return ExitCode::from(WRONG_USE);
    };
    match wish.subject.as_str() {
        "quorum" => soak(&Quorum { only: wish.only }, &wish),
        "updates" => soak(&Updates, &wish),
        "restarts" => soak(&Restarts, &wish),
        "outage" => soak(&Outage::default(), &wish),
        "partitions" => soak(&Partitions, &wish),
        "damage" => soak(&Damages, &wish),
        "leaks" => soak(&Leaks::default(), &wish),
        "crashes" => soak(&Crashes, &wish),
        _ => keys::keys(wish.record, &wish.commit),
    }
}

impl Wish {
    fn parse(words: &[String]) -> Option<Self> {
        let subject = words.first()?.clone();
        // As many as the issues ask for.
        let rounds = match subject.as_str() {
            "quorum" => 200,
            // Fifty of each order.
            "updates" | "partitions" => 100,
            "restarts" => 400,
            "outage" => Outage::KINDS,
            "damage" => 10 * Damages::KINDS,
            "leaks" => 10,
            "crashes" => 200,
            "keys" => 0,
            _ => return None,
        };
        let slices = Slices {
            rounds,
            seed: 1,
            slice: Duration::from_secs(25 * 60),
            state: format!("soak-{subject}").into(),
        };
        let mut wish = Self { subject, slices, only: None, record: None, commit: "unknown".to_owned() };
        for option in words[1..].chunks(2) {
            let [name, value] = option else { return None };
            match name.as_str() {
                "--rounds" => wish.slices.rounds = value.parse().ok()?,
                "--seed" => wish.slices.seed = value.parse().ok()?,
                "--slice-minutes" => wish.slices.slice = Duration::from_secs(60 * value.parse::<u64>().ok()?),
                "--only" => wish.only = Some(Fault::named(value)?),
                "--state" => wish.slices.state = value.into(),
                "--record" => wish.record = Some(value.into()),
                "--commit" => wish.commit.clone_from(value),
                _ => return None,
            }
        }
        Some(wish)
    }
}

fn soak<G: Game>(game: &G, wish: &Wish) -> ExitCode {
    let outcome = play(game, &wish.slices, &wish.commit, &|line| println!("{line}"));
    let written = outcome.and_then(|outcome| {
        if let Some(record) = &wish.record {
            write(record, &outcome)?;
        }
        println!("{}", outcome.record);
        Ok(outcome)
    });
    match written {
        Ok(Outcome { held: false, .. }) => ExitCode::FAILURE,
        Ok(Outcome { done: true, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            println!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(record: &Path, outcome: &Outcome) -> std::io::Result<()> {
    if let Some(folder) = record.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(record, &outcome.record)
}
