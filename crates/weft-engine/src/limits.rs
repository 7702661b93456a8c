//! Changing the limits of a running container: which files of its cgroups to write.
//!
//! Working that out is pure; the limits a container starts with are set by the runtime library.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bollard_stubs::models::HostConfig;

use crate::cgroup::{self, Hierarchies};
use crate::spec::CPU_PERIOD;

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
    /// Some kernels have no such file; then there is no such limit, at the start of a container either.
    optional: bool,
}

fn setting(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting { controller, file, value: value.to_string(), optional: false }
}

/// Sets what `asked` changes, all of it or nothing; what undoes it. `whole` is the container's configuration with the
/// change in it.
pub(crate) fn apply(
    hierarchies: &Hierarchies,
    cgroup: &Path,
    asked: &HostConfig,
    whole: &HostConfig,
) -> io::Result<Undo> {
    let legacy = |controller: &str| hierarchies.controller(controller).is_some();
    let mut others = if legacy("cpu") { legacy_cpu(asked) } else { unified_cpu(asked, whole) };
    others.extend(shared(asked));
    others.extend(weight(asked, legacy("blkio")));
    let memory = if legacy("memory") { legacy_memory(asked) } else { unified_memory(asked, whole) };
    let mut undo = write_all(hierarchies, cgroup, &others)?;
    // Last, for taking memory away cannot be undone. A limit is never above the one of memory and swap: which of the
    // two comes first depends on what is set now.
    let reversed: Vec<_> = memory.iter().rev().cloned().collect();
    let written = write_all(hierarchies, cgroup, &memory)
        .or_else(|first| write_all(hierarchies, cgroup, &reversed).map_err(|_| first));
    match written {
        Ok(memory) => undo.written.extend(memory.written),
        Err(error) => {
            undo.undo();
            return Err(error);
        }
    }
    Ok(undo)
}

/// What files of a cgroup held before they were written.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    /// In the order of writing.
    written: Vec<(PathBuf, String)>,
}

impl Undo {
    /// Writes back what was there before.
    pub(crate) fn undo(self) {
        for (path, before) in self.written.into_iter().rev() {
            if let Err(error) = write(&path, &before) {
                tracing::warn!(file = %path.display(), before, %error, "limit not set back");
            }
        }
    }
}

/// Writes all of them, or none.
fn write_all(hierarchies: &Hierarchies, cgroup: &Path, settings: &[Setting]) -> io::Result<Undo> {
    let mut undo = Undo::default();
    for setting in settings {
        match write_one(hierarchies, cgroup, setting) {
            Ok(before) => undo.written.extend(before),
            Err(error) => {
                undo.undo();
                let text = format!("set {} to {}: {error}", setting.file, setting.value);
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    Ok(undo)
}

/// The file and its first line before, with a line feed: nothing at all would not be taken for an empty list.
fn write_one(
    hierarchies: &Hierarchies,
    cgroup: &Path,
    setting: &Setting,
) -> io::Result<Option<(PathBuf, String)>> {
    let root = hierarchies.controller(setting.controller).or(hierarchies.unified.as_deref());
    let dir = cgroup::below(root.ok_or(io::ErrorKind::Unsupported)?, cgroup);
    let path = dir.join(setting.file);
    if setting.optional && !path.exists() {
        return Ok(None);
    }
    let before = format!("{}\n", std::fs::read_to_string(&path)?.lines().next().unwrap_or_default());
    write(&path, &setting.value)?;
    Ok(Some((path, before)))
}

/// Writes a file that is there.
fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes())
}

/// Zero is no change, like nothing at all.
pub(crate) fn given(number: Option<i64>) -> Option<i64> {
    number.filter(|number| *number != 0)
}

fn legacy_memory(asked: &HostConfig) -> Vec<Setting> {
    let limit = given(asked.memory).map(|bytes| setting("memory", "memory.limit_in_bytes", bytes));
    // Kernels without accounting of swap have no such file.
    let swap = given(asked.memory_swap)
        .map(|bytes| Setting { optional: true, ..setting("memory", "memory.memsw.limit_in_bytes", bytes) });
    let soft =
        given(asked.memory_reservation).map(|bytes| setting("memory", "memory.soft_limit_in_bytes", bytes));
    [limit, swap, soft].into_iter().flatten().collect()
}

/// Version 2 counts swap alone, the API memory and swap together.
fn unified_memory(asked: &HostConfig, whole: &HostConfig) -> Vec<Setting> {
    let bytes = |number: i64| if number < 0 { "max".to_owned() } else { number.to_string() };
    let limit = given(asked.memory).map(|limit| setting("memory", "memory.max", bytes(limit)));
    let both = given(whole.memory_swap).zip(given(whole.memory));
    let swap = both.filter(|_| given(asked.memory).or(given(asked.memory_swap)).is_some());
    let swap = swap.map(|(swap, memory)| {
        let alone = if swap < 0 || memory < 0 { -1 } else { (swap - memory).max(0) };
        Setting { optional: true, ..setting("memory", "memory.swap.max", bytes(alone)) }
    });
    let soft = given(asked.memory_reservation).map(|soft| setting("memory", "memory.low", bytes(soft)));
    [limit, swap, soft].into_iter().flatten().collect()
}

/// Period and quota in microseconds.
fn bandwidth(host: &HostConfig) -> (Option<i64>, Option<i64>) {
    match given(host.nano_cpus) {
        Some(nano) => (Some(CPU_PERIOD), Some(nano.saturating_mul(CPU_PERIOD) / 1_000_000_000)),
        None => (given(host.cpu_period), given(host.cpu_quota)),
    }
}

fn legacy_cpu(asked: &HostConfig) -> Vec<Setting> {
    let (period, quota) = bandwidth(asked);
    let shares = given(asked.cpu_shares).map(|shares| setting("cpu", "cpu.shares", shares));
    let period = period.map(|period| setting("cpu", "cpu.cfs_period_us", period));
    let quota = quota.map(|quota| setting("cpu", "cpu.cfs_quota_us", quota));
    [shares, period, quota].into_iter().flatten().collect()
}

fn unified_cpu(asked: &HostConfig, whole: &HostConfig) -> Vec<Setting> {
    let shares = given(asked.cpu_shares).map(|shares| setting("cpu", "cpu.weight", cpu_weight(shares)));
    let max = (bandwidth(asked) != (None, None)).then(|| {
        let (period, quota) = bandwidth(whole);
        let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        setting("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(CPU_PERIOD)))
    });
    shares.into_iter().chain(max).collect()
}

/// Shares of version 1 (2 to 262144) as a weight of version 2 (1 to 10000), in which the defaults, 1024 and 100, meet:
/// the curve that runc has since 1.3.2 (opencontainers/cgroups pull request 20), and the runtime library too.
fn cpu_weight(shares: i64) -> u64 {
    const SHARES: (i64, i64) = (2, 262_144);
    const WEIGHTS: (f64, f64) = (1.0, 10_000.0);
    let log = (shares.clamp(SHARES.0, SHARES.1) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil().clamp(WEIGHTS.0, WEIGHTS.1) as u64
}

/// What is called alike in both versions.
fn shared(asked: &HostConfig) -> Vec<Setting> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let cpus = text(&asked.cpuset_cpus).map(|cpus| setting("cpuset", "cpuset.cpus", cpus));
    let mems = text(&asked.cpuset_mems).map(|mems| setting("cpuset", "cpuset.mems", mems));
    let pids = asked.pids_limit.map(|limit| {
        setting("pids", "pids.max", if limit > 0 { limit.to_string() } else { "max".to_owned() })
    });
    [cpus, mems, pids].into_iter().flatten().collect()
}

fn weight(asked: &HostConfig, legacy: bool) -> Vec<Setting> {
    let Some(weight) = asked.blkio_weight.filter(|weight| *weight > 0).map(u32::from) else {
        return Vec::new();
    };
    // 10 to 1000 there, 1 to 10000 here.
    let converted = 1 + weight.saturating_sub(10) * 9_999 / 990;
    let files = match legacy {
        true => [("blkio.weight", weight), ("blkio.bfq.weight", weight)],
        false => [("io.bfq.weight", weight), ("io.weight", converted)],
    };
    files.map(|(file, weight)| Setting { optional: true, ..setting("blkio", file, weight) }).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(settings: Vec<Setting>) -> Vec<(&'static str, String)> {
        settings.into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    #[test]
    fn version_1_is_written_as_asked() {
        let asked = HostConfig {
            memory: Some(1 << 30),
            memory_swap: Some(-1),
            nano_cpus: Some(1_500_000_000),
            pids_limit: Some(-1),
            cpuset_cpus: Some("0-1".to_owned()),
            ..HostConfig::default()
        };
        let memory = files(legacy_memory(&asked));
        assert_eq!(memory[0], ("memory.limit_in_bytes", "1073741824".to_owned()));
        assert_eq!(memory[1], ("memory.memsw.limit_in_bytes", "-1".to_owned()));
        let cpu = files(legacy_cpu(&asked));
        assert_eq!(cpu, [("cpu.cfs_period_us", "100000".into()), ("cpu.cfs_quota_us", "150000".into())]);
        assert_eq!(files(shared(&asked)), [("cpuset.cpus", "0-1".into()), ("pids.max", "max".into())]);
        assert!(legacy_cpu(&HostConfig { cpu_quota: Some(0), ..HostConfig::default() }).is_empty());
    }

    #[test]
    fn version_2_counts_swap_alone_and_keeps_what_was_set() {
        let asked = HostConfig { memory: Some(300), cpu_quota: Some(20_000), ..HostConfig::default() };
        let whole = HostConfig { memory_swap: Some(1000), cpu_period: Some(50_000), ..asked.clone() };
        let wanted = [("memory.max", "300".to_owned()), ("memory.swap.max", "700".to_owned())];
        assert_eq!(files(unified_memory(&asked, &whole)), wanted);
        assert_eq!(files(unified_cpu(&asked, &whole)), [("cpu.max", "20000 50000".into())]);
        let shares = HostConfig { cpu_shares: Some(1024), ..HostConfig::default() };
        assert_eq!(files(unified_cpu(&shares, &whole)), [("cpu.weight", "100".into())]);
    }

    #[test]
    fn what_fails_in_part_is_undone_and_says_what_failed_first() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("weft/one");
        std::fs::create_dir_all(&dir).unwrap();
        let file = |name: &str| dir.join(name);
        for (name, value) in [("cpuset.cpus", "\n"), ("pids.max", "max\n"), ("memory.swap.max", "5\n")] {
            std::fs::write(file(name), value).unwrap();
        }
        let hierarchies = Hierarchies { unified: Some(root.path().to_owned()), legacy: Vec::new() };
        let asked = HostConfig {
            memory: Some(1 << 30),
            memory_swap: Some(2 << 30),
            cpuset_cpus: Some("0".to_owned()),
            pids_limit: Some(7),
            ..HostConfig::default()
        };
        let set = || apply(&hierarchies, Path::new("/weft/one"), &asked, &asked);
        let held = || {
            ["cpuset.cpus", "pids.max", "memory.swap.max"]
                .map(|name| std::fs::read_to_string(file(name)).unwrap())
        };
        // There is no such file as memory.max.
        let error = set().unwrap_err().to_string();
        assert!(error.starts_with("set memory.max to 1073741824: "), "{error}");
        assert_eq!(held(), ["\n", "max\n", "5\n"]);
        assert!(!file("memory.max").exists());
        std::fs::write(file("memory.max"), "max\n").unwrap();
        let undo = set().unwrap();
        assert_eq!(held(), ["0", "7", "1073741824"]);
        undo.undo();
        assert_eq!(held(), ["\n", "max\n", "5\n"]);
    }

    proptest! {
        #[test]
        fn weights_are_in_the_kernels_range(shares in any::<i64>()) {
            prop_assert!((1..=10_000).contains(&cpu_weight(shares)));
        }
    }
}
