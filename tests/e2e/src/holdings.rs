//! What an engine keeps on its host for the containers that are there, and could leave behind for those that are not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_lab::eventually;

use crate::Hosts;
use crate::pause::pause;

/// Between two looks at a host that comes to rest, and until when it must have.
const BETWEEN: Duration = Duration::from_millis(500);
const AT_REST: Duration = Duration::from_secs(20);
/// How deep folders of state are looked through; below are the files of images and containers themselves.
const DEPTH: usize = 5;

/// Everything of a host, by kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Where something is mounted.
    mounts: BTreeSet<String>,
    /// Files and folders of the daemon's state.
    state: BTreeSet<String>,
    /// Devices, addresses, routes, neighbours and forwarding tables of the host, and its packet filters.
    network: BTreeSet<String>,
    /// Folders below the cgroup that the test's containers are in.
    cgroups: BTreeSet<String>,
    /// What processes run.
    processes: Vec<String>,
    /// What files, sockets and the like daemon and helper have open.
    descriptors: Vec<String>,
}

impl Holdings {
    /// What a host has now, with containers whose cgroups are in `parent`.
    pub(crate) fn of(hosts: &Hosts, host: &str, parent: &str) -> Self {
        let daemon = hosts.daemon(host);
        let inside = PathBuf::from(format!("/proc/{}/root", daemon.pid()));
        let mounts = read(&format!("/proc/{}/mountinfo", daemon.pid()));
        let mut state = BTreeSet::new();
        // Without what other labs have in /run.
        let folders = [inside.join("run/weft"), hosts.host(host).dir.join("weft.data")];
        folders.iter().for_each(|folder| walk(folder, folder, DEPTH, &mut state));
        let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
        let is_own =
            |at: &String| at.starts_with("/run/weft") || Path::new(at).starts_with(&hosts.host(host).dir);
        Self {
            // Without the machine's own, which come and go by others.
            mounts: mounts.lines().filter_map(point).filter(is_own).collect(),
            state,
            network: network(hosts, host),
            cgroups: cgroups(parent),
            processes: processes(hosts, host),
            descriptors: descriptors(hosts, host),
        }
    }

    /// What `look` sees once nothing changes any more.
    ///
    /// # Panics
    /// When it goes on to change.
    pub(crate) fn at_rest(look: impl Fn() -> Self) -> Self {
        let mut last = look();
        eventually("the host is at rest", AT_REST, || {
            pause(BETWEEN);
            let now = look();
            let changed = now.beyond(&last);
            last = now;
            changed
        });
        last
    }

    /// All but what is open, which is another daemon's own affair.
    pub(crate) fn without_descriptors(self) -> Self {
        Self { descriptors: Vec::new(), ..self }
    }

    /// What is here and was not there before, and what is gone; nothing if all is as it was.
    pub(crate) fn beyond(&self, before: &Self) -> Result<(), String> {
        let mut found = Vec::new();
        for (kind, now, before) in [
            ("mounts", &self.mounts, &before.mounts),
            ("state", &self.state, &before.state),
            ("network", &self.network, &before.network),
            ("cgroups", &self.cgroups, &before.cgroups),
        ] {
            let (more, less) = (now.difference(before), before.difference(now));
            found.extend(more.map(|one| format!("{kind}: + {one}")));
            found.extend(less.map(|one| format!("{kind}: - {one}")));
        }
        for (kind, now, before) in [
            ("processes", &self.processes, &before.processes),
            ("descriptors", &self.descriptors, &before.descriptors),
        ] {
            if now != before {
                found.push(format!("{kind}: {now:?} instead of {before:?}"));
            }
        }
        if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
    }
}

/// Memory of its own that the daemon of a host has, in KiB.
pub(crate) fn memory(hosts: &Hosts, host: &str) -> u64 {
    let status = read(&format!("/proc/{}/status", hosts.daemon(host).pid()));
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("the daemon's memory")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Names below a folder. What begins with a dot is being written.
fn walk(root: &Path, folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        found.insert(path.strip_prefix(root).unwrap_or(&path).display().to_string());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(root, &path, depth - 1, found);
        }
    }
}

fn network(hosts: &Hosts, host: &str) -> BTreeSet<String> {
    let ask = "ip -o link show | sed 's/^[0-9]*: //; s/@.*//; s/: .*//'; ip -o addr show scope global | cut -d' ' -f2-7; \
               ip route show table all; ip -6 route show table all; ip rule; ip -6 rule; \
               ip neigh show nud permanent; bridge fdb show; nft -s list ruleset";
    let said = hosts.host(host).sh(ask).expect("the host's network");
    said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn cgroups(parent: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let folder = hierarchy.join(parent.trim_start_matches('/'));
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(entry.path().display().to_string());
            }
        }
    }
    found
}

/// Program and first argument of each process, without the one that holds the host's namespaces.
fn processes(hosts: &Hosts, host: &str) -> Vec<String> {
    let own = hosts.host(host);
    let pids = own.processes().into_iter().filter(|pid| *pid != own.keeper);
    let line = |pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words =
            words.split(|byte| *byte == 0).take(2).map(|word| String::from_utf8_lossy(word).into_owned());
        words.collect::<Vec<_>>().join(" ")
    };
    let mut found: Vec<String> = pids.map(line).collect();
    found.sort_unstable();
    found
}

/// Without numbers, which differ each time.
fn descriptors(hosts: &Hosts, host: &str) -> Vec<String> {
    let mut found = Vec::new();
    for pid in hosts.processes(host, "helper").into_iter().chain([hosts.daemon(host).pid()]) {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
            found.push(target.split(":[").next().unwrap_or_default().to_owned());
        }
    }
    found.sort_unstable();
    found
}
