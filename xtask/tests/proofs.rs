//! What documents say of tests is true: `docs/features.md` names tests that there are, and no test is left out of all
//! runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All of the workspace's Rust files.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["crates", "tests", "xtask"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The name after `fn` in the first of these lines that has one.
fn function<'a>(lines: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name =
        lines.take(4).find_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "))?;
    name.split(['(', '<']).next()
}

/// Names of tests and of the files that hold them.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, text) in sources() {
        names.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
        names.insert(path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned());
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.trim();
            if line == "#[test]" || line.starts_with("#[tokio::test") {
                names.extend(function(lines[at + 1..].iter().copied()).map(str::to_owned));
            }
            // A binary that is its own helper has a list of its tests.
            let listed = line.strip_prefix("(\"").and_then(|rest| rest.split_once("\", ||"));
            names.extend(listed.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

/// Words that can only be names of tests: parts in small letters joined by underscores, or the beginning or end of one
/// with `…` for the rest.
fn names_in(cell: &str) -> Vec<&str> {
    let words = cell.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c)));
    let is_name = |word: &&str| match word.contains('…') {
        true => word.contains('_'),
        false => word.matches('_').count() >= 2,
    };
    words.filter(is_name).collect()
}

#[test]
fn features_name_tests_that_there_are() {
    let (tests, document) = (tests(), std::fs::read_to_string(root().join("docs/features.md")).unwrap());
    let rows = document.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for cell in cells {
        for name in names_in(cell) {
            seen += 1;
            let is_there = match name.split_once('…') {
                Some((start, end)) => tests.iter().any(|test| test.starts_with(start) && test.ends_with(end)),
                None => tests.contains(name),
            };
            if !is_there {
                wrong.push(name.to_owned());
            }
        }
        let files = cell.split('`').filter(|word| word.starts_with("docs/"));
        wrong.extend(files.filter(|file| !root().join(file).exists()).map(str::to_owned));
    }
    assert!(seen > 50, "only {seen} names are understood");
    assert!(wrong.is_empty(), "there is no such test or file: {wrong:?}");
}

/// Whether the virtual machine's step names the test program of a crate that this file is.
fn is_in_machine(file: &str, machine: &str) -> bool {
    let program = file.rsplit_once("/tests/").and_then(|(_, name)| name.strip_suffix(".rs"));
    program.is_some_and(|program| machine.contains(&format!("= \"{program}\";")))
}

#[test]
fn every_ignored_test_is_run_by_something() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let (runner, machine) = (read("xtask/src/soak.rs"), read("xtask/src/vm/mod.rs"));
    let mut left_out = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.trim().starts_with("#[ignore")) {
            let name = function(lines[at + 1..].iter().copied()).unwrap();
            let file = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let package = match file.strip_prefix("crates/") {
                Some(rest) => rest.split('/').next().unwrap(),
                None => "weft-e2e",
            };
            // `cargo xtask bench`; `cargo xtask test vm`; another test of the file starts it.
            let is_run = (name.starts_with("measured_") && runner.contains(&format!("\"{package}\"")))
                || file.starts_with("tests/e2e/tests/vm/")
                || is_in_machine(&file, &machine)
                || text.matches(name).count() > 1;
            if !is_run {
                left_out.push(format!("{file}: {name}"));
            }
        }
    }
    assert!(left_out.is_empty(), "nothing runs these: {left_out:?}");
}
