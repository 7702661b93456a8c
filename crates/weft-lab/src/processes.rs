//! Finding and ending the processes of a host.
//!
//! A process belongs to a host if it is in the host's mount namespace, or descends from one that is: the containers
//! of the host's daemon have mount namespaces of their own, but their parents do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{LabError, until};

/// Time that processes get between being asked and being made to end.
const GRACE: Duration = Duration::from_secs(5);

/// All processes of the host whose namespaces `keeper` holds, without the keeper.
pub(crate) fn of_host(keeper: i32) -> Vec<i32> {
    let Some(home) = mount_namespace(keeper) else { return Vec::new() };
    if mount_namespace(std::process::id() as i32).is_some_and(|own| own == home) {
        return Vec::new();
    }
    let parents = parents();
    let mut members: BTreeSet<i32> =
        parents.keys().copied().filter(|pid| mount_namespace(*pid).is_some_and(|ns| ns == home)).collect();
    loop {
        let children: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| members.contains(parent) && !members.contains(pid))
            .map(|(p, _)| *p)
            .collect();
        if children.is_empty() {
            break;
        }
        members.extend(children);
    }
    members.remove(&keeper);
    members.into_iter().collect()
}

/// A process that was started here. Its number alone says little: it is given to another one a minute later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// When, in ticks since the machine's start.
    at: u64,
}

impl Started {
    /// The process of this number now.
    pub(crate) fn now(pid: i32) -> Option<Self> {
        Some(Self { pid, at: Stat::of(pid)?.started })
    }

    /// As it was written down.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (pid, at) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, at: at.parse().ok()? })
    }

    /// Whether any thread of it lives.
    pub(crate) fn alive(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.at && stat.lives())
    }

    /// Signals it, if it is still there.
    pub(crate) fn signal(self, signal: Signal) {
        if Self::now(self.pid) == Some(self) {
            // It may have ended in this instant, which is what we want.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

impl std::fmt::Display for Started {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.pid, self.at)
    }
}

/// What is read of `/proc/PID/stat` (proc_pid_stat(5)).
struct Stat {
    state: char,
    parent: i32,
    threads: u64,
    /// In ticks since the machine's start.
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // A name may have anything in it; fields are counted from behind it.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether any thread is not dead yet: the first one is a zombie before the last has let go of files and sockets.
    fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X') || self.threads > 1
    }
}

/// Whether any thread of a process lives.
pub(crate) fn alive(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.lives())
}

/// Kills all processes of the host, and what they start meanwhile, until none is left.
pub(crate) fn kill_all(keeper: i32) -> Result<(), LabError> {
    until("the end of the host's processes", GRACE, || {
        let left: Vec<i32> = of_host(keeper).into_iter().filter(|pid| alive(*pid)).collect();
        for pid in &left {
            signal(*pid, Signal::SIGKILL);
        }
        left.is_empty()
    })
}

/// Asks processes to end and, after a while, makes them.
pub(crate) fn end(pids: &[i32]) {
    for (signal, time) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, GRACE)] {
        for pid in pids.iter().filter(|p| alive(**p)) {
            // It may have ended in this instant, which is what we want.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
        let gone = || pids.iter().all(|p| !alive(*p));
        if until("end of processes", time, gone).is_ok() {
            return;
        }
    }
    tracing::warn!(?pids, "processes did not end");
}

/// Signals one process.
pub(crate) fn signal(pid: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid), signal).is_ok()
}

fn mount_namespace(pid: i32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// Parent of every process.
fn parents() -> BTreeMap<i32, i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?.parent))).collect()
}
