//! How many objects the store takes in a second, on the disk that holds the build: run by `cargo xtask bench`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use weft_wire::swarmkit::{Annotations, Node, NodeSpec};

use super::*;
use crate::config::Timing;
use crate::seal::Sealer;
use crate::store::{Store, Transaction};

const TIME: Duration = Duration::from_secs(4);

async fn open(folder: &Path) -> (Arc<RaftConsensus>, Arc<Store>) {
    let (peers, store) = (Arc::new(Peers::default()), Store::new());
    let Timing { snapshot_interval, log_entries_kept, .. } = Timing::default();
    let parts = Parts {
        folder,
        disk: Arc::new(Files),
        node: MemberNode { node_id: "one".to_owned(), addr: "127.0.0.1:2377".to_owned() },
        peers: Arc::clone(&peers),
        transport: peers,
        sealer: Arc::new(Sealer::new(&[3; 32], 1)),
        machine: Arc::clone(&store) as _,
        options: RaftOptions { snapshot_interval, log_entries_kept },
    };
    (Arc::new(RaftConsensus::open(Opening::Found, parts).await.unwrap()), store)
}

/// About as large as a small service's task.
fn node(number: u64) -> Node {
    let labels = (0..8).map(|at| (format!("label{at}"), "a value of a label".to_owned())).collect();
    let annotations = Annotations { labels, ..Default::default() };
    let spec = NodeSpec { annotations: Some(annotations), ..Default::default() };
    Node { id: format!("node{number}"), spec: Some(spec), ..Default::default() }
}

/// Objects written per second: so many in each transaction, so many transactions at once.
async fn rate(raft: &Arc<RaftConsensus>, number: &Arc<AtomicU64>, objects: u64, at_once: usize) -> f64 {
    let begin = Instant::now();
    let writers: Vec<_> = (0..at_once)
        .map(|_| {
            let (raft, number) = (Arc::clone(raft), Arc::clone(number));
            tokio::spawn(async move {
                let mut written = 0;
                while begin.elapsed() < TIME {
                    let mut transaction = Transaction::new(SystemTime::now());
                    let first = number.fetch_add(objects, Ordering::Relaxed);
                    for number in first..first + objects {
                        transaction.create(node(number));
                    }
                    let verdict = raft.propose(transaction.encode()).await.unwrap();
                    assert!(verdict.refusal.is_none());
                    written += objects;
                }
                written
            })
        })
        .collect();
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    written as f64 / begin.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of cargo xtask bench"]
#[allow(clippy::print_stderr, reason = "says what it measured")]
async fn measured_store_writes() {
    let beside = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
    for (objects, at_once, what) in [
        (1, 1, "one by one, a sync each"),
        (1, 256, "256 at once, syncs shared"),
        (100, 1, "100 in a transaction"),
        (100, 8, "100 in a transaction, 8 at once (goal >= 10000)"),
    ] {
        let at = folder.path().join(format!("{objects}-{at_once}"));
        std::fs::create_dir(&at).unwrap();
        let (raft, _store) = open(&at).await;
        let rate = rate(&raft, &Arc::default(), objects, at_once).await;
        eprintln!("store, object writes per second, {what}: {rate:.0}");
        raft.shutdown().await;
    }
}
