//! `weft-sim`: runs many seeds of a simulation, in slices that can be continued.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use weft_manager::simulation;
use weft_sim::{Soak, Subject, soak};

const USAGE: &str = "usage: weft-sim gossip|swarm|raft [--seeds A..B] [--nodes N] [--slice-minutes M] [--jobs N]
                       [--state DIR] [--record FILE.md] [--commit ID]

Runs every seed of A..B that has no result in DIR yet, for at most M minutes; call it again to go on.
`weft-sim raft --trace SEED` says what happens in one run. A failed seed leaves a trace in DIR. Ends with 1 if a seed failed, with 2 if seeds are left.";

struct Arguments {
    soak: Soak,
    record: Option<PathBuf>,
    commit: String,
}

fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Arguments> {
    let subject = words.next().as_deref().and_then(Subject::named).context(USAGE)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments {
        soak: Soak {
            subject,
            seeds: 0..1000,
            nodes: 200,
            slice: Duration::from_secs(25 * 60),
            state: "soak".into(),
            jobs,
        },
        record: None,
        commit: "unknown".to_owned(),
    };
    while let Some(option) = words.next() {
        let value = words.next().with_context(|| format!("{option} needs a value\n{USAGE}"))?;
        let number = || value.parse::<u64>().with_context(|| format!("{option} {value}: not a number"));
        match option.as_str() {
            "--seeds" => {
                let (first, end) = value.split_once("..").context("--seeds needs the form A..B")?;
                arguments.soak.seeds = first.parse()?..end.parse()?;
            }
            "--nodes" => arguments.soak.nodes = usize::try_from(number()?)?.max(2),
            "--slice-minutes" => arguments.soak.slice = Duration::from_secs(60 * number()?),
            "--jobs" => arguments.soak.jobs = usize::try_from(number()?)?,
            "--state" => arguments.soak.state = value.into(),
            "--record" => arguments.record = Some(value.into()),
            "--commit" => arguments.commit = value,
            _ => bail!("unknown option {option}\n{USAGE}"),
        }
    }
    Ok(arguments)
}

fn show(line: &str) {
    // Whoever closed the output does not want more of it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Says all that happens in one simulated group of managers.
fn trace(seed: &str) -> anyhow::Result<ExitCode> {
    let seed = seed.parse().with_context(|| format!("{seed}: not a number"))?;
    let (outcome, lines) = simulation::run_traced(&simulation::Plan::new(seed));
    lines.iter().for_each(|line| show(line));
    show(&format!("{outcome:?}"));
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [subject, option, seed] = words.as_slice()
        && (subject.as_str(), option.as_str()) == ("raft", "--trace")
    {
        return trace(seed);
    }
    let arguments = parse(words.into_iter())?;
    let report = soak(&arguments.soak, &show)?;
    show(&report.summary());
    if let Some(record) = &arguments.record {
        if let Some(folder) = record.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::write(record, report.markdown(&arguments.soak, &arguments.commit))
            .with_context(|| format!("write {}", record.display()))?;
    }
    let all = arguments.soak.seeds.end.saturating_sub(arguments.soak.seeds.start);
    Ok(match (report.failed.is_empty(), report.done >= all) {
        (false, _) => ExitCode::from(1),
        (true, false) => ExitCode::from(2),
        (true, true) => ExitCode::SUCCESS,
    })
}
