//! `soak quorum`, `soak keys`: the long proofs on real hosts, started by `cargo xtask soak`.
#![allow(clippy::print_stdout, reason = "a command line tool talks to its user")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use weft_e2e::rotations::rotate;
use weft_e2e::rounds::{Fault, Soak, soak};

/// As many as the issue asks for.
const ROTATIONS: u64 = 20;
/// Keys reach the nodes with their managers' next word, well within a second.
const PERIOD: Duration = Duration::from_secs(5);

const USAGE: &str = "usage: soak quorum|keys [--rounds N] [--seed N] [--slice-minutes M] [--state DIR]
                         [--only leader|leader-host|worker-host|cut|disk|process] [--record FILE.md] [--commit ID]

Plays every round that has no result in DIR yet, for at most M minutes; call it again to go on.
Ends with 1 if a round failed, with 2 if rounds are left.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut wish =
        Soak { rounds: 200, seed: 1, slice: Duration::from_secs(25 * 60), only: None, state: "soak".into() };
    let (mut record, mut commit) = (None::<PathBuf>, "unknown".to_owned());
    let mut options = words.iter().skip(1);
    let subject = words.first().map(String::as_str).unwrap_or_default();
    let mut is_understood = ["quorum", "keys"].contains(&subject);
    while let Some(option) = options.next() {
        let Some(value) = options.next() else {
            is_understood = false;
            break;
        };
        let mut number = |into: &mut u64| match value.parse() {
            Ok(number) => *into = number,
            Err(_) => is_understood = false,
        };
        match option.as_str() {
            "--rounds" => number(&mut wish.rounds),
            "--seed" => number(&mut wish.seed),
            "--slice-minutes" => {
                let mut minutes = 25;
                number(&mut minutes);
                wish.slice = Duration::from_secs(60 * minutes);
            }
            "--only" => match Fault::named(value) {
                Some(fault) => wish.only = Some(fault),
                None => is_understood = false,
            },
            "--state" => wish.state = value.into(),
            "--record" => record = Some(value.into()),
            "--commit" => commit.clone_from(value),
            _ => is_understood = false,
        }
    }
    if !is_understood {
        println!("{USAGE}");
        return ExitCode::from(64);
    }
    if subject == "keys" {
        return keys(record, &commit);
    }
    let written = soak(&wish, &commit, &|line| println!("{line}")).and_then(|(text, held, done)| {
        if let Some(record) = &record {
            if let Some(folder) = record.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(record, &text)?;
        }
        println!("{text}");
        Ok((held, done))
    });
    match written {
        Ok((true, true)) => ExitCode::SUCCESS,
        Ok((true, false)) => ExitCode::from(2),
        Ok((false, _)) => ExitCode::FAILURE,
        Err(error) => {
            println!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Twenty rotations beside a real Docker engine. Takes three minutes; a node that drops out ends it with a panic.
fn keys(record: Option<PathBuf>, commit: &str) -> ExitCode {
    let began = std::time::Instant::now();
    let rotated = rotate("keysoak", ROTATIONS, PERIOD);
    let text = format!(
        "# Rotations of the keys of gossip beside a real Docker engine\n\n\
         | what | value |\n|---|---|\n\
         | commit | `{commit}` |\n\
         | nodes | a manager and a worker of Weft, a worker of Docker's engine |\n\
         | rotations, one every 5 s | {} |\n\
         | containers made meanwhile, on either engine | {} |\n\
         | longest until the others knew the name and reached it | {:.1} s |\n\
         | Weft's worker slept through three more, back after | {:.1} s |\n\
         | Docker's worker slept through three more, back after | {:.1} s |\n\
         | real time | {:.0} s |\n\
         | result | passed |\n\n\
         After every rotation each engine's containers must be known to the other by name, which only gossip tells, and \
         be reached. Then every process of one worker after the other is stopped for three rotations, after which no key \
         that it has is in use; it must come back by itself.\n\nRepeat: `cargo xtask soak keys`\n",
        rotated.rotations,
        rotated.names,
        rotated.slowest.as_secs_f64(),
        rotated.woken[0].as_secs_f64(),
        rotated.woken[1].as_secs_f64(),
        began.elapsed().as_secs_f64(),
    );
    println!("{text}");
    match record.map(|record| std::fs::write(record, &text)) {
        Some(Err(error)) => {
            println!("soak: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
