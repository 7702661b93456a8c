//! The interop suite: the same scenarios with each engine as manager and as worker, and the table of what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::peer::Engine;
use crate::run::{Counts, cargo, need_root, root, run_tests, target};

/// Cells as the tests are named, with their headings.
const CELLS: [(&str, &str); 4] = [
    ("manager_weft_worker_weft", "Weft / Weft"),
    ("manager_weft_worker_docker", "Weft / Docker"),
    ("manager_docker_worker_weft", "Docker / Weft"),
    ("manager_docker_worker_docker", "Docker / Docker"),
];
/// Those in which both engines take part.
const MIXED: [&str; 4] = ["manager_weft_worker_docker", "manager_docker_worker_weft", "migration", "outage"];

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

/// One run of the suite, and what it ran beside.
struct Section {
    heading: String,
    counts: Counts,
    minutes: u64,
    outcome: Result<()>,
}

impl Section {
    fn run(heading: &str, suite: impl FnOnce(&mut Counts) -> Result<()>) -> Self {
        println!("\n=== {heading}");
        let (start, mut counts) = (Instant::now(), Counts::default());
        let outcome = suite(&mut counts);
        Self { heading: heading.to_owned(), counts, minutes: start.elapsed().as_secs() / 60, outcome }
    }

    fn text(&self) -> String {
        let Counts { passed, failed, verdicts } = &self.counts;
        let table = table(verdicts);
        format!("\n## {}\n\n{table}\n{passed} passed, {failed} failed, {} min\n", self.heading, self.minutes)
    }
}

/// What a commit's sections said so far, so that a soak that was interrupted goes on.
struct Done(PathBuf);

impl Done {
    fn of(commit: &str) -> Result<Self> {
        let dir = target().join(format!("soak/interop-{commit}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// The section's text: from an earlier run in which everything passed, or from one now.
    fn section(
        &self,
        name: &str,
        heading: &str,
        suite: impl FnOnce(&mut Counts) -> Result<()>,
    ) -> (String, Result<()>) {
        let path = self.0.join(name);
        if let Ok(text) = std::fs::read_to_string(&path) {
            println!("\n=== {heading}: passed before");
            return (text, Ok(()));
        }
        let section = Section::run(heading, suite);
        let text = section.text();
        let kept = section
            .outcome
            .and_then(|()| std::fs::write(&path, &text).with_context(|| format!("write {}", path.display())));
        (text, kept)
    }
}

/// The whole matrix beside the machine's engine and the newest that can be had, and what needs another kernel in the
/// virtual machine; writes `docs/soak/interop.md`. What passed is not run again when it is repeated at the same commit.
pub(crate) fn soak(commit: &str) -> Result<()> {
    need_root()?;
    crate::packages::for_tests()?;
    let weft = crate::demo::build_daemon()?;
    let newest = Engine::newest()?.context("the soak wants a newer engine as well")?;
    let (machines, kernel) =
        (said(Command::new("dockerd").arg("--version"))?, said(Command::new("uname").arg("-r"))?);
    let mut record = format!(
        "# Interop\n\nCommit {commit}, {}. Each scenario in each cell of manager / worker; black boxes over the \
         `docker` CLI\n(`cargo xtask soak interop`, `tests/e2e/tests/interop`).\n",
        said(Command::new(weft).arg("--version"))?
    );
    let (path, done) = (newest.path()?, Done::of(commit)?);
    let sections = [
        done.section("machine.md", &format!("{machines}, on Linux {kernel}"), |counts| {
            run_tests(&mut suite(2), counts)
        }),
        done.section("newest.md", &format!("{}, on Linux {kernel}", newest.version), |counts| {
            run_tests(suite(2).env("PATH", path), counts)
        }),
        done.section("vm.md", &format!("{machines}, in the virtual machine"), crate::vm::interop),
    ];
    for (text, _) in &sections {
        record += text;
    }
    let path = root().join("docs/soak/interop.md");
    std::fs::write(&path, record).with_context(|| format!("write {}", path.display()))?;
    sections.into_iter().try_for_each(|(_, outcome)| outcome)
}

/// What a program says, for example of its version.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A row a scenario, a column a cell. What is no cell's has a row with its verdict in the first column.
fn table(verdicts: &[(String, bool)]) -> String {
    let mut rows: BTreeMap<&str, [Option<bool>; CELLS.len()]> = BTreeMap::new();
    for (name, passed) in verdicts {
        let split = name
            .rsplit_once("::")
            .and_then(|(scenario, last)| Some((scenario, CELLS.iter().position(|(cell, _)| *cell == last)?)));
        let (scenario, column) = split.unwrap_or((name, 0));
        rows.entry(scenario).or_default()[column] = Some(*passed);
    }
    let headings: Vec<&str> = CELLS.iter().map(|(_, heading)| *heading).collect();
    let mut text = format!("| scenario | {} |\n|---|---|---|---|---|\n", headings.join(" | "));
    for (scenario, cells) in rows {
        let words = cells.map(|passed| match passed {
            Some(true) => "pass",
            Some(false) => "**fail**",
            None => "",
        });
        text += &format!("| {scenario} | {} |\n", words.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_scenario_and_a_column_a_cell() {
        let verdicts = [
            ("names::found::manager_weft_worker_docker", true),
            ("names::found::manager_docker_worker_docker", false),
            ("migration::step_by_step", true),
            ("migration::and_back", false),
            ("names::found::manager_weft_worker_weft", true),
        ];
        let want = "| scenario | Weft / Weft | Weft / Docker | Docker / Weft | Docker / Docker |\n\
                    |---|---|---|---|---|\n\
                    | migration::and_back | **fail** |  |  |  |\n\
                    | migration::step_by_step | pass |  |  |  |\n\
                    | names::found | pass | pass |  | **fail** |\n";
        assert_eq!(table(&verdicts.map(|(name, passed)| (name.to_owned(), passed))), want);
    }

    #[test]
    fn a_section_says_what_it_ran_beside_and_how_it_ended() {
        let section = Section::run("Docker version 1", |counts| {
            counts.note("test names::found::manager_weft_worker_weft ... ok");
            counts.note("test result: ok. 1 passed; 0 failed; 0 ignored");
            Ok(())
        });
        let text = section.text();
        assert!(text.starts_with("\n## Docker version 1\n\n| scenario |"), "{text}");
        assert!(text.ends_with("| names::found | pass |  |  |  |\n\n1 passed, 0 failed, 0 min\n"), "{text}");
    }
}
