//! The interop suite: the same scenarios with each engine as manager and as worker, and the table of what came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::peer::Engine;
use crate::run::{Counts, cargo, need_root, root, run_tests};

/// Cells as the tests are named, with their headings.
const CELLS: [(&str, &str); 4] = [
    ("manager_weft_worker_weft", "Weft / Weft"),
    ("manager_weft_worker_docker", "Weft / Docker"),
    ("manager_docker_worker_weft", "Docker / Weft"),
    ("manager_docker_worker_docker", "Docker / Docker"),
];
/// Those in which both engines take part.
const MIXED: [&str; 3] = ["manager_weft_worker_docker", "manager_docker_worker_weft", "migration"];

/// The cells where both engines take part, beside the machine's Docker engine.
pub(crate) fn mixed(counts: &mut Counts) -> Result<()> {
    // Docker's daemons look for lost members once a minute: what waits for that belongs to the soak.
    run_tests(suite(2).args(MIXED).args(["--skip", "faults::"]), counts)
}

fn suite(threads: usize) -> Command {
    let mut command = cargo(&["test", "--no-fail-fast", "--package", "weft-e2e", "--test", "interop", "--"]);
    command.arg(format!("--test-threads={threads}"));
    command
}

/// The whole matrix beside the machine's engine and the newest that can be had; writes `docs/soak/interop.md`.
pub(crate) fn soak(commit: &str) -> Result<()> {
    need_root()?;
    crate::packages::for_tests()?;
    crate::demo::build_daemon()?;
    let mut record = format!(
        "# Interop\n\nCommit {commit}. Each scenario in each cell of manager / worker; black boxes over the `docker` \
         CLI\n(`cargo xtask soak interop`, `tests/e2e/tests/interop`).\n"
    );
    let newest = Engine::newest()?;
    let mut failure = None;
    for (version, path) in [(machines_version()?, None), (newest.version.clone(), Some(newest.path()?))] {
        let mut command = suite(2);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let (start, mut counts) = (Instant::now(), Counts::default());
        let outcome = run_tests(&mut command, &mut counts);
        let table = table(&counts.verdicts);
        let minutes = start.elapsed().as_secs() / 60;
        write!(
            record,
            "\n## {version}\n\n{table}\n{} passed, {} failed, {minutes} min\n",
            counts.passed, counts.failed
        )?;
        failure = failure.or(outcome.err());
    }
    let path = root().join("docs/soak/interop.md");
    std::fs::write(&path, record).with_context(|| format!("write {}", path.display()))?;
    failure.map_or(Ok(()), Err)
}

/// What the machine's own daemon says of itself.
fn machines_version() -> Result<String> {
    let output = Command::new("dockerd").arg("--version").output().context("start dockerd")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A row a scenario, a column a cell.
fn table(verdicts: &[(String, bool)]) -> String {
    let mut rows: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for (name, passed) in verdicts {
        let (scenario, cell) = name.rsplit_once("::").unwrap_or((name, ""));
        rows.entry(scenario).or_default().insert(cell, *passed);
    }
    let headings: Vec<&str> = CELLS.iter().map(|(_, heading)| *heading).collect();
    let mut text = format!("| scenario | {} |\n|---|---|---|---|---|\n", headings.join(" | "));
    for (scenario, cells) in rows {
        let word = |passed: Option<&bool>| match passed {
            Some(true) => "pass",
            Some(false) => "**fail**",
            None => "",
        };
        let line: Vec<&str> = CELLS.iter().map(|(cell, _)| word(cells.get(cell))).collect();
        // A scenario that is no cell's: its own name is its verdict's.
        let own = cells.iter().find(|(cell, _)| CELLS.iter().all(|(known, _)| known != *cell));
        match own {
            Some((name, passed)) => {
                text += &format!("| {scenario}: {name} | | | {} | |\n", word(Some(passed)));
            }
            None => text += &format!("| {scenario} | {} |\n", line.join(" | ")),
        }
    }
    text
}
