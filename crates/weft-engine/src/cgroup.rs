//! The cgroups of a container: one directory of the same name below every hierarchy.
//!
//! On hybrid hosts the runtime library places a container in the version 1 hierarchies only; we enter a directory of
//! its own in the version 2 hierarchy first, so that programs attached per cgroup find every container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount_point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) if found.unified.is_none() => found.unified = Some(mount_point),
                (Some("cgroup"), Some(options)) => {
                    let controllers = options.split(',').map(str::to_owned).collect();
                    found.legacy.push((controllers, mount_point));
                }
                _ => {}
            }
        }
        found
    }

    /// Whether limits are set in version 2.
    pub(crate) fn is_pure_v2(&self) -> bool {
        self.legacy.is_empty()
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
    use super::*;

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
}
