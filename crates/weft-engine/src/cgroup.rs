//! The cgroups of a container: one directory of the same name below every hierarchy.
//!
//! On hybrid hosts the runtime library places a container in the version 1 hierarchies only; we enter a directory of
//! its own in the version 2 hierarchy first, so that programs attached per cgroup find every container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where hosts mount their hierarchies: version 2 itself, or a folder with one for each of version 1, and on hybrid
/// hosts version 2 in the folder `unified`.
const ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel gets to freeze processes, and to end them after SIGKILL.
const KERNEL_DEADLINE: Duration = Duration::from_secs(5);

/// Age from which an empty cgroup is taken for a leftover.
const SWEEP_AGE: Duration = Duration::from_secs(60);

/// The mounted hierarchies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hierarchies {
    /// Version 2, on hybrid hosts as well as on pure ones.
    pub(crate) unified: Option<PathBuf>,
    /// Version 1 with its controllers.
    pub(crate) legacy: Vec<(Vec<String>, PathBuf)>,
}

impl Hierarchies {
    /// Reads what is mounted.
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// A hierarchy may be mounted in several places, for example in somebody's chroot: the usual one counts.
    fn parse(mountinfo: &str) -> Self {
        let mut mounts: Vec<(&str, Vec<String>, PathBuf)> = mountinfo.lines().filter_map(hierarchy).collect();
        mounts.sort_by_key(|(_, _, place)| !place.starts_with(ROOT));
        let mut found = Self::default();
        for (kind, controllers, place) in mounts {
            if kind == "cgroup2" {
                found.unified.get_or_insert(place);
            } else if found.legacy.iter().all(|(known, _)| *known != controllers) {
                found.legacy.push((controllers, place));
            }
        }
        found
    }

    /// Whether limits are set in version 2, as the runtime library decides it: by what is mounted in the usual place.
    /// A single controller of version 1 beside it, which some programs mount for themselves, makes no hybrid host.
    pub(crate) fn is_pure_v2(&self) -> bool {
        self.legacy.is_empty() || self.unified.as_deref() == Some(Path::new(ROOT))
    }

    /// The root of a version 1 controller.
    pub(crate) fn controller(&self, name: &str) -> Option<&Path> {
        self.legacy.iter().find(|(names, _)| names.iter().any(|n| n == name)).map(|(_, path)| path.as_path())
    }

    /// Directories of `cgroup` that exist.
    fn directories(&self, cgroup: &Path) -> impl Iterator<Item = PathBuf> {
        let cgroup = cgroup.to_owned();
        self.unified
            .iter()
            .chain(self.legacy.iter().map(|(_, path)| path))
            .map(move |root| below(root, &cgroup))
            .filter(|path| path.is_dir())
    }

    /// Whether `cgroup` is there.
    pub(crate) fn exists(&self, cgroup: &Path) -> bool {
        self.directories(cgroup).next().is_some()
    }

    /// Moves the calling process into `cgroup` of the version 2 hierarchy.
    pub(crate) fn enter_unified(&self, cgroup: &Path) -> io::Result<()> {
        let Some(root) = &self.unified else { return Ok(()) };
        let dir = below(root, cgroup);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("cgroup.procs"), "0")
    }

    /// Processes in `cgroup`.
    pub(crate) fn processes(&self, cgroup: &Path) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .directories(cgroup)
            .filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Whether the kernel killed a process of `cgroup` for lack of memory.
    pub(crate) fn oom_killed(&self, cgroup: &Path) -> bool {
        let counts = |file: &str| {
            self.directories(cgroup).filter_map(|dir| fs::read_to_string(dir.join(file)).ok()).any(|text| {
                text.lines()
                    .any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
            })
        };
        counts("memory.oom_control") || counts("memory.events")
    }

    /// Lets processes that want more memory than there is wait instead of ending one of them. Hierarchies of version 2 have
    /// no such thing.
    pub(crate) fn disable_oom_killer(&self, cgroup: &Path) -> io::Result<()> {
        let Some(root) = self.controller("memory") else { return Ok(()) };
        fs::write(below(root, cgroup).join("memory.oom_control"), "1")
    }

    /// Freezes or thaws `cgroup` and waits until the kernel has done so. What cannot be frozen in time is thawed again:
    /// half frozen it would not be told of signals, and nobody would know that it is.
    pub(crate) fn set_frozen(&self, cgroup: &Path, frozen: bool) -> io::Result<()> {
        self.freezer(cgroup)?.set_or_thaw(frozen, KERNEL_DEADLINE)
    }

    fn freezer(&self, cgroup: &Path) -> io::Result<Freezer> {
        if let Some(root) = self.controller("freezer") {
            let file = below(root, cgroup).join("freezer.state");
            return Ok(Freezer {
                state: file.clone(),
                file,
                words: ["THAWED", "FROZEN"],
                states: ["THAWED", "FROZEN"],
            });
        }
        let dir = below(self.unified.as_ref().ok_or(io::ErrorKind::Unsupported)?, cgroup);
        Ok(Freezer {
            file: dir.join("cgroup.freeze"),
            state: dir.join("cgroup.events"),
            words: ["0", "1"],
            states: ["frozen 0", "frozen 1"],
        })
    }

    /// Kills what is left in `cgroup` and removes its directories. Goes on after errors; the first is returned.
    pub(crate) fn remove(&self, cgroup: &Path) -> io::Result<()> {
        let mut first = Ok(());
        for dir in self.directories(cgroup).collect::<Vec<_>>() {
            if let Err(error) = remove_directory(&dir) {
                first = first.and(Err(error));
            }
        }
        first
    }

    /// Removes empty directories below `parent` that are left from shims that were killed. Several daemons may share
    /// the parent: what is younger than a minute may be about to be used, and what is in use cannot be removed.
    pub(crate) fn sweep(&self, parent: &Path) {
        for dir in self.directories(parent) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let made = entry.metadata().and_then(|metadata| metadata.modified());
                let old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > SWEEP_AGE));
                if old && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Removes the directory that holds the containers' cgroups if nothing is left in it.
    pub(crate) fn remove_parent(&self, parent: &Path) {
        for dir in self.directories(parent) {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// File system, options and place of a mounted hierarchy, of a line of mountinfo (proc(5)).
fn hierarchy(line: &str) -> Option<(&str, Vec<String>, PathBuf)> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let kind = right.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    let options = right.nth(1)?.split(',').map(str::to_owned).collect();
    Some((kind, options, left.split(' ').nth(4)?.into()))
}

/// The directory of a cgroup in one hierarchy.
pub(crate) fn below(root: &Path, cgroup: &Path) -> PathBuf {
    root.join(cgroup.strip_prefix("/").unwrap_or(cgroup))
}

/// The files that freeze one cgroup; of the words the first thaws.
struct Freezer {
    file: PathBuf,
    words: [&'static str; 2],
    /// Has a line of `states` once it is so.
    state: PathBuf,
    states: [&'static str; 2],
}

impl Freezer {
    fn write(&self, frozen: bool) -> io::Result<()> {
        fs::write(&self.file, self.words[usize::from(frozen)])
    }

    fn set(&self, frozen: bool, limit: Duration) -> io::Result<()> {
        self.write(frozen)?;
        let wanted = self.states[usize::from(frozen)];
        wait_until(limit, || {
            fs::read_to_string(&self.state).is_ok_and(|text| text.lines().any(|line| line.trim() == wanted))
        })
    }

    fn set_or_thaw(&self, frozen: bool, limit: Duration) -> io::Result<()> {
        let done = self.set(frozen, limit);
        if frozen
            && done.is_err()
            && let Err(error) = self.write(false)
        {
            tracing::error!(file = %self.file.display(), %error, "neither frozen nor thawed");
        }
        done
    }
}

fn remove_directory(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_directory(&entry.path())?;
        }
    }
    let mut last = None;
    let done = wait_until(KERNEL_DEADLINE, || {
        for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Some(pid) =
                pid.parse().ok().filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        match fs::remove_dir(dir) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                last = Some(error);
                false
            }
        }
    });
    done.map_err(|timeout| last.unwrap_or(timeout))
}

/// Polls a condition of the kernel that offers nothing to wait on.
fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    let mut pause = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 500_000 };
    while !condition() {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let _ = rustix::thread::nanosleep(&pause);
        pause.tv_nsec = (pause.tv_nsec * 2).min(20_000_000);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2: &str = "40 23 0:35 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn a_host_has_version_1_or_2_or_both() {
        let v1 = "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                  31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let legacy = Hierarchies::parse(v1);
        assert_eq!((legacy.unified.as_deref(), legacy.is_pure_v2()), (None, false));
        assert_eq!(legacy.controller("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        let unified = Hierarchies::parse(V2);
        assert_eq!(unified.unified.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert!(unified.is_pure_v2() && unified.controller("memory").is_none());
        assert!(Hierarchies::parse("").unified.is_none());
    }

    #[test]
    fn a_controller_that_somebody_mounts_beside_version_2_makes_no_hybrid_host() {
        let net_cls = "41 40 0:36 / /run/vpn/net_cls rw - cgroup net_cls rw,net_cls\n";
        let found = Hierarchies::parse(&format!("{net_cls}{V2}"));
        assert!(found.is_pure_v2() && found.controller("memory").is_none());
    }

    #[test]
    fn what_is_mounted_twice_counts_in_its_usual_place() {
        let jail = V2.replace("/sys/fs/cgroup", "/srv/jail/sys/fs/cgroup");
        let memory = "31 30 0:27 / /srv/jail/memory rw - cgroup cgroup rw,memory\n\
                      31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = Hierarchies::parse(&format!("{jail}{memory}{V2}"));
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(found.legacy.len(), 1);
        assert_eq!(found.controller("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
    }

    /// On a hybrid host a container has a directory in every hierarchy, version 2 as well, and all of them go.
    #[test]
    fn on_a_hybrid_host_a_cgroup_is_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let hierarchies = Hierarchies {
            unified: Some(at("unified")),
            legacy: vec![
                (vec!["freezer".to_owned()], at("freezer")),
                (vec!["memory".to_owned()], at("memory")),
            ],
        };
        let cgroup = Path::new("/weft/one");
        assert!(!hierarchies.exists(cgroup));
        hierarchies.enter_unified(cgroup).unwrap();
        assert_eq!(fs::read_to_string(at("unified/weft/one/cgroup.procs")).unwrap(), "0");
        for name in ["freezer", "memory"] {
            fs::create_dir_all(at(name).join("weft/one")).unwrap();
        }
        fs::write(at("freezer/weft/one/cgroup.procs"), "4194401\n4194402\n").unwrap();
        fs::write(at("unified/weft/one/cgroup.procs"), "4194402\n").unwrap();
        // More than any process has.
        assert_eq!(hierarchies.processes(cgroup), [4_194_401, 4_194_402]);
        // Freezing is version 1's there, and so is the count of what the kernel ended.
        assert_eq!(hierarchies.freezer(cgroup).unwrap().file, at("freezer/weft/one/freezer.state"));
        fs::write(at("memory/weft/one/memory.oom_control"), "under_oom 0\noom_kill 1\n").unwrap();
        assert!(hierarchies.oom_killed(cgroup));
        for name in ["unified", "freezer", "memory"] {
            for file in fs::read_dir(at(name).join("weft/one")).unwrap().flatten() {
                fs::remove_file(file.path()).unwrap();
            }
        }
        hierarchies.remove(cgroup).unwrap();
        assert!(!hierarchies.exists(cgroup));
    }

    proptest! {
        #[test]
        fn any_mountinfo_is_read(text in "[ -~\n]{0,200}") {
            let _ = Hierarchies::parse(&text);
        }
    }

    #[test]
    fn finds_hybrid_hierarchies() {
        let text = "31 23 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
                    40 23 0:35 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                    garbage\n";
        let found = Hierarchies::parse(text);
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(found.controller("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu")));
        assert!(!found.is_pure_v2());
    }

    #[test]
    fn what_cannot_be_frozen_in_time_is_thawed_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("weft/one");
        fs::create_dir_all(&dir).unwrap();
        // As a kernel says it while a process does not come to the freezer.
        fs::write(dir.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let hierarchies = Hierarchies { unified: Some(root.path().to_owned()), legacy: Vec::new() };
        let freezer = hierarchies.freezer(Path::new("/weft/one")).unwrap();
        let error = freezer.set_or_thaw(true, Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(fs::read_to_string(dir.join("cgroup.freeze")).unwrap(), "0");
    }

    proptest! {
        #[test]
        fn any_list_of_mounts_is_read(text in "([a-z0-9/:,-]{0,6} ){0,12}- cgroup2? [a-z ,]{0,12}\n|[ -~\n]{0,80}") {
            let _ = Hierarchies::parse(&text);
        }
    }
}
