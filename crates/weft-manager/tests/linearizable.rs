//! A recorded history of conditional writes and barrier reads over three managers, one of which goes and comes back:
//! there is an order of all operations that one register could have answered in (Wing and Gong's search).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::managers::*;
use tokio::time::Instant;
use weft_manager::{Control, ControlError};
use weft_wire::swarmkit::NodeSpec;

const LABEL: &str = "register";
const TIME: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Read(u64),
    /// Replaced one value by another.
    Swapped(u64, u64),
    /// May have, or may yet.
    Perhaps(u64, u64),
}

#[derive(Debug, Clone)]
struct Operation {
    kind: Kind,
    begin: Instant,
    /// None: never answered.
    end: Option<Instant>,
}

/// Whether the operations fit one register that begins at 0.
fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= 128, "too long for this search");
    let mut seen = HashSet::new();
    search(history, 0, 0, &mut seen)
}

fn search(history: &[Operation], done: u128, value: u64, seen: &mut HashSet<(u128, u64)>) -> bool {
    let open = |at: usize| done & (1 << at) == 0;
    // What was never answered need not have happened.
    let needed = (0..history.len()).any(|at| open(at) && history[at].end.is_some());
    if !needed {
        return true;
    }
    if !seen.insert((done, value)) {
        return false;
    }
    let first_end = (0..history.len()).filter(|&at| open(at)).filter_map(|at| history[at].end).min();
    for at in (0..history.len()).filter(|&at| open(at)) {
        let operation = &history[at];
        if first_end.is_some_and(|end| operation.begin > end) {
            continue;
        }
        let next = match operation.kind {
            Kind::Read(read) if read == value => value,
            Kind::Swapped(old, new) | Kind::Perhaps(old, new) if old == value => new,
            _ => continue,
        };
        if search(history, done | 1 << at, next, seen) {
            return true;
        }
    }
    false
}

#[test]
fn the_checker_tells_right_from_wrong() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let operation = |kind, begin, end: u64| Operation { kind, begin: at(begin), end: Some(at(end)) };
    let good = [
        operation(Kind::Swapped(0, 1), 0, 10),
        operation(Kind::Read(0), 5, 8),
        operation(Kind::Read(1), 11, 12),
    ];
    assert!(is_linearizable(&good));
    let stale = [operation(Kind::Swapped(0, 1), 0, 10), operation(Kind::Read(0), 11, 12)];
    assert!(!is_linearizable(&stale));
    let twice = [operation(Kind::Swapped(0, 1), 0, 10), operation(Kind::Swapped(0, 2), 11, 12)];
    assert!(!is_linearizable(&twice));
    let lost = Operation { kind: Kind::Perhaps(0, 1), begin: at(0), end: None };
    assert!(is_linearizable(&[lost.clone(), operation(Kind::Read(0), 5, 6), operation(Kind::Read(1), 7, 8)]));
    assert!(!is_linearizable(&[lost, operation(Kind::Read(1), 5, 6), operation(Kind::Read(0), 7, 8)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_over_all_managers_are_those_of_one_register() {
    let mut managers = Managers::start(3).await;
    let leader = managers.leader().await;
    let node = managers.0[0].id();
    let history = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..3)
        .map(|at| {
            let (control, node, history) = (managers.0[at].control(), node.clone(), Arc::clone(&history));
            tokio::spawn(client(control, node, at as u64, history))
        })
        .collect();
    tokio::time::sleep(TIME / 3).await;
    managers.0[leader].stop().await;
    tokio::time::sleep(TIME / 4).await;
    managers.0[leader].restart().await;
    for client in clients {
        client.await.unwrap();
    }
    let history = history.lock().unwrap().clone();
    let answered = history.iter().filter(|it| matches!(it.kind, Kind::Swapped(..))).count();
    assert!(answered >= 10, "hardly anything was written: {answered} of {}", history.len());
    assert!(is_linearizable(&history), "{history:#?}");
}

/// Reads and replaces by turns. Pauses keep the history short enough to search.
async fn client(control: Control, node: String, number: u64, history: Arc<Mutex<Vec<Operation>>>) {
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < TIME {
        let operation = turn(&control, &node, number * 1000 + count + 1).await;
        if let Some(operations) = operation {
            history.lock().unwrap().extend(operations);
        }
        count += 1;
        tokio::time::sleep(Duration::from_millis(250 + 40 * number)).await;
    }
}

async fn turn(control: &Control, id: &str, value: u64) -> Option<Vec<Operation>> {
    let begin = Instant::now();
    control.barrier().await.ok()?;
    let node = control.node(id).unwrap();
    let spec = node.spec.clone().unwrap();
    let labels = spec.annotations.clone().unwrap_or_default().labels;
    let old = labels.get(LABEL).map_or(0, |text| text.parse().unwrap());
    let mut operations = vec![Operation { kind: Kind::Read(old), begin, end: Some(Instant::now()) }];
    let version = node.meta.as_ref().unwrap().version.unwrap().index;
    let mut annotations = spec.annotations.clone().unwrap_or_default();
    annotations.labels.insert(LABEL.to_owned(), value.to_string());
    let begin = Instant::now();
    let written = control.update_node(id, version, NodeSpec { annotations: Some(annotations), ..spec }).await;
    match written {
        Ok(_) => {
            let kind = Kind::Swapped(old, value);
            operations.push(Operation { kind, begin, end: Some(Instant::now()) });
        }
        // The node was changed by another one: this write did nothing.
        Err(ControlError::OutOfSequence) => {}
        Err(_) => operations.push(Operation { kind: Kind::Perhaps(old, value), begin, end: None }),
    }
    Some(operations)
}
