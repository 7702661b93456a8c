//! `kill -9` at any instant: what was answered is there when the files are opened again.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use weft_identity::{IdentityHandle, NodeIdentity};
use weft_manager::{InitOptions, Manager, ManagerConfig, Timing};

const FOLDER: &str = "WEFT_MANAGER_TEST_FOLDER";
const ROUNDS: usize = 6;

/// Often enough that images and purges fall into the time of the kill.
fn timing() -> Timing {
    Timing { snapshot_interval: 15, log_entries_kept: 3, ..fast() }
}

fn in_folder(folder: &Path) -> ManagerConfig {
    let any = "127.0.0.1:0".parse().unwrap();
    ManagerConfig { timing: timing(), ..ManagerConfig::new(folder.join("manager"), any, any) }
}

/// Not a test of its own: the process that is killed. It writes until then, and says what was answered.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_killed_manager_loses_nothing"]
async fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let manager = match NodeIdentity::load(folder, None) {
        Ok(identity) => {
            Manager::open(in_folder(folder), IdentityHandle::in_memory(identity).unwrap()).await.unwrap()
        }
        Err(_) => {
            let (manager, identity) = Manager::init(in_folder(folder), InitOptions::new("m1")).await.unwrap();
            identity.store(folder, None).unwrap();
            manager
        }
    };
    let control = manager.control();
    let mut out = std::io::stdout();
    writeln!(out, "\nready {}", control.networks().len()).unwrap();
    let names = control.networks().into_iter().filter_map(|it| it.spec.clone()?.annotations);
    let numbers = names.filter_map(|it| it.name.strip_prefix("net")?.parse::<usize>().ok());
    let first = numbers.max().map_or(1, |last| last + 1);
    for number in first.. {
        let name = format!("net{number}");
        control.create_network(overlay_spec(&name)).await.unwrap();
        writeln!(out, "made {name}").unwrap();
        out.flush().unwrap();
        if number % 4 == 3 {
            let gone = format!("net{}", number - 2);
            writeln!(out, "removing {gone}").unwrap();
            out.flush().unwrap();
            control.remove_network(&gone).await.unwrap();
            writeln!(out, "removed {gone}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_manager_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed while it writes, at another point each time.
        for _ in 0..(8 + round * 7) {
            let Some(Ok(line)) = lines.next() else { break };
            said.note(&line);
        }
        std::thread::spawn({
            let id = child.id();
            move || {
                let until = std::time::Instant::now() + Duration::from_millis(3 + 2 * u64::from(id % 5));
                while std::time::Instant::now() < until {
                    std::thread::yield_now();
                }
            }
        })
        .join()
        .unwrap();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the writer ended by itself: {status}");
        // What it had answered before it died is still in the pipe.
        for line in lines.map_while(Result::ok) {
            said.note(&line);
        }
        check(dir.path(), &mut said).await;
    }
    assert!(said.made.len() >= ROUNDS * 4, "the writer hardly wrote: {:?}", said.made);
}

/// What the killed process said before it died.
#[derive(Default)]
struct Said {
    made: BTreeSet<String>,
    /// Begun: applied or not, nobody can know without the answer.
    removing: BTreeSet<String>,
    removed: BTreeSet<String>,
}

impl Said {
    fn note(&mut self, line: &str) {
        let Some((verb, name)) = line.split_once(' ') else { return };
        let said = match verb {
            "made" => &mut self.made,
            "removing" => &mut self.removing,
            "removed" => &mut self.removed,
            _ => return,
        };
        said.insert(name.to_owned());
    }
}

async fn check(folder: &Path, said: &mut Said) {
    let identity = IdentityHandle::in_memory(NodeIdentity::load(folder, None).unwrap()).unwrap();
    let manager = Manager::open(in_folder(folder), identity).await.unwrap();
    let control = manager.control();
    let networks = control.networks();
    let names: BTreeSet<String> =
        networks.iter().map(|it| it.spec.clone().unwrap().annotations.unwrap().name).collect();
    for name in said.made.difference(&said.removed) {
        assert!(names.contains(name) || said.removing.contains(name), "{name} was answered and is gone");
    }
    for name in &said.removed {
        assert!(!names.contains(name), "{name} was removed and is back");
    }
    // A removal that was found applied stays applied.
    said.removed.extend(said.removing.difference(&names).cloned());
    let view = control.view();
    let subnets: BTreeSet<_> = view.subnets().map(|(subnet, _)| *subnet).collect();
    let own = |name: &&String| !["bridge", "host"].contains(&name.as_str());
    assert_eq!(subnets.len(), names.iter().filter(own).count(), "each network has its own subnet");
    assert!(names.contains("ingress"));
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart_and_the_log_is_short() {
    let mut swarm = Swarm::with(timing(), InitOptions::new("m1")).await;
    for number in 0..40 {
        swarm.overlay(&format!("net{number}")).await;
    }
    let node = swarm.weft_node("w1").await;
    let attachment = node.attach("net7", &[]).await.unwrap();
    let before = swarm.control().view();
    swarm.restart().await;
    let after = swarm.control().view();
    let ids = |view: &weft_manager::View| -> Vec<String> {
        view.objects().map(|object| format!("{} {}", object.kind(), object.id())).collect()
    };
    assert_eq!(ids(&before), ids(&after));
    assert_eq!(before.networks().collect::<Vec<_>>(), after.networks().collect::<Vec<_>>());
    assert_eq!(after.task(&attachment), before.task(&attachment));
    let task = after.task(&attachment).unwrap();
    assert!(after.held_by(&task.id).next().is_some());
    // Nodes are unknown until they come back, and nothing is given twice.
    let again = Member::open(&swarm, swarm.join().await, "w2", "weft").await;
    let next = again.attach("net7", &[]).await.unwrap();
    let address = |id: &str| swarm.control().task(id).unwrap().networks[0].addresses[0].clone();
    assert_ne!(address(&next), address(&attachment));
    swarm.restart().await;
    assert_eq!(swarm.control().networks().len(), 43, "ours, ingress, bridge and host");
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_bytes_are_sealed() {
    let swarm = Swarm::start().await;
    swarm.overlay("very-secret-network-name").await;
    let key = swarm.control().cluster().root_ca.clone().unwrap().ca_key;
    let dir = swarm.dir.path().join("manager");
    swarm.manager.stop().await;
    let key_line = String::from_utf8(key).unwrap().lines().nth(1).unwrap().to_owned();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!contains(b"very-secret-network-name"), "{}", path.display());
        assert!(!contains(key_line.as_bytes()), "{}", path.display());
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_or_store_is_an_error_that_names_the_file() {
    let swarm = Swarm::start().await;
    swarm.manager.stop().await;
    let folder = swarm.dir.path().join("manager");
    let open = async || {
        let config = config(&swarm.dir, fast());
        match Manager::open(config, swarm.identity.clone()).await {
            Ok(_) => panic!("opened"),
            Err(error) => error.to_string(),
        }
    };
    let key = folder.join("data-key");
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, &good[..10]).unwrap();
    assert!(open().await.contains("data-key"));
    // Another key: every record is refused by name, none is read as something else.
    std::fs::remove_file(&key).unwrap();
    let error = open().await;
    assert!(error.contains("raft-log.redb: ") && error.contains("byte "), "{error}");
    std::fs::write(&key, &good).unwrap();

    let log = folder.join("raft-log.redb");
    let whole = std::fs::read(&log).unwrap();
    for cut in [0, 1, 100, whole.len() / 2] {
        std::fs::write(&log, &whole[..cut]).unwrap();
        let config = config(&swarm.dir, fast());
        if let Err(error) = Manager::open(config, swarm.identity.clone()).await {
            let text = error.to_string();
            assert!(text.contains("raft-log.redb") || text.contains("no swarm"), "{text}");
        }
    }
}
