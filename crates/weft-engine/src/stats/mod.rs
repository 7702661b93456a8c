//! What a container uses of the machine, read from its cgroups, in the shape of Docker's API.
//!
//! Each controller is read where it is mounted: in version 1, or else in version 2. A file that a kernel does not have
//! counts as zero, for no limit and no accounting look the same to a reader.

mod legacy;
mod machine;
mod text;
mod unified;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::machine::Machine;
use crate::cgroup::{self, Hierarchies};
use crate::container::record::NEVER;

/// One look at a container's use of resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerStats {
    /// Name with a slash; left out of one-shot answers, as Docker does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Full id; left out of one-shot answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it was read, RFC 3339; the zero time for a container that does not run.
    pub read: String,
    /// When the previous look was; the zero time without one.
    pub preread: String,
    /// Processes and threads.
    pub pids_stats: PidsStats,
    /// Block devices.
    pub blkio_stats: BlkioStats,
    /// Of Windows only: 0.
    pub num_procs: u32,
    /// Of Windows only: empty.
    pub storage_stats: BTreeMap<String, u64>,
    /// Processors.
    pub cpu_stats: CpuStats,
    /// Processors at the previous look.
    pub precpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// Interfaces by name; none where the container has no network of its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, NetworkStats>,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// How many there may be; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Transfers of block devices. `None` is `null`: the kernel does not count it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioStats {
    /// Bytes by device and direction.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    /// Operations by device and direction.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Of a scheduler that kernels no longer have; so are the following.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// See `io_queue_recursive`.
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    /// See `io_queue_recursive`.
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    /// See `io_queue_recursive`.
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    /// See `io_queue_recursive`.
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    /// See `io_queue_recursive`.
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

/// One counter of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// Of the device.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
    /// `Read`, `Write`, … as the kernel writes it; version 2: `read`, `write`.
    pub op: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Time of processors in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuStats {
    /// The container's.
    pub cpu_usage: CpuUsage,
    /// The whole machine's, idle time included.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    /// Processors that are on.
    #[serde(skip_serializing_if = "is_zero")]
    pub online_cpus: u64,
    /// What the container's limit has cost it.
    pub throttling_data: ThrottlingData,
}

/// A container's time of processors in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// Together.
    pub total_usage: u64,
    /// By processor, in version 1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage: Vec<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In programs.
    pub usage_in_usermode: u64,
}

/// Periods of the CPU limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ThrottlingData {
    /// How many there were.
    pub periods: u64,
    /// In how many the container had to wait.
    pub throttled_periods: u64,
    /// How long, in nanoseconds.
    pub throttled_time: u64,
}

/// Bytes of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryStats {
    /// In use, the page cache included.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that ever was, in version 1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    /// The kernel's `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// How often the limit was reached.
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    /// The container's limit, or all of the machine's memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Counters of an interface, as seen from inside of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the kernel's own names: bytes, packets, errors, drops of both directions")]
pub struct NetworkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ContainerStats {
    /// Of a container that does not run.
    pub(crate) fn none(name: &str, id: &str) -> Self {
        Self {
            name: Some(format!("/{name}")),
            id: Some(id.to_owned()),
            read: NEVER.to_owned(),
            preread: NEVER.to_owned(),
            pids_stats: PidsStats::default(),
            blkio_stats: BlkioStats::default(),
            num_procs: 0,
            storage_stats: BTreeMap::new(),
            cpu_stats: CpuStats::default(),
            precpu_stats: CpuStats::default(),
            memory_stats: MemoryStats::default(),
            networks: BTreeMap::new(),
        }
    }
}

/// Where the numbers of a running container are.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) hierarchies: Hierarchies,
    pub(crate) cgroup: PathBuf,
    /// A process in the container's network namespace; `None` where that is the host's.
    pub(crate) network_of: Option<i64>,
}

impl Source {
    /// Reads all counters into `stats`. `NotFound` if the container has gone meanwhile.
    pub(crate) fn read(&self, stats: &mut ContainerStats) -> io::Result<()> {
        if !self.hierarchies.exists(&self.cgroup) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let machine = Machine::read(Path::new("/proc"))?;
        let cpu = &mut stats.cpu_stats;
        match (self.legacy("cpuacct"), self.legacy("cpu")) {
            (Some(account), limits) => legacy::cpu(&account, limits.as_deref(), cpu),
            (None, _) => self.in_unified(|dir| unified::cpu(dir, cpu)),
        }
        cpu.system_cpu_usage = machine.cpu_time_ns;
        cpu.online_cpus = machine.cpus;
        let memory = &mut stats.memory_stats;
        match self.legacy("memory") {
            Some(dir) => legacy::memory(&dir, memory),
            None => self.in_unified(|dir| unified::memory(dir, memory)),
        }
        // No limit is written as a number beyond all memory, or not at all.
        if memory.limit == 0 || memory.limit > machine.memory_bytes {
            memory.limit = machine.memory_bytes;
        }
        match self.legacy("pids") {
            Some(dir) => stats.pids_stats = text::pids(&dir),
            None => self.in_unified(|dir| stats.pids_stats = text::pids(dir)),
        }
        match self.legacy("blkio") {
            Some(dir) => stats.blkio_stats = legacy::blkio(&dir),
            None => self.in_unified(|dir| stats.blkio_stats = unified::io(dir)),
        }
        if let Some(pid) = self.network_of {
            stats.networks = machine::interfaces(&std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?);
        }
        Ok(())
    }

    fn legacy(&self, controller: &str) -> Option<PathBuf> {
        Some(self.below(self.hierarchies.controller(controller)?))
    }

    fn in_unified(&self, read: impl FnOnce(&Path)) {
        if let Some(root) = &self.hierarchies.unified {
            read(&self.below(root));
        }
    }

    fn below(&self, root: &Path) -> PathBuf {
        cgroup::below(root, &self.cgroup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Docker's answer for a stopped container, recorded of 28.5.2.
    #[test]
    fn a_container_that_does_not_run_has_dockers_zeros() {
        let shown = serde_json::to_value(ContainerStats::none("c4", "f3")).unwrap();
        let unused = serde_json::json!({
            "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        });
        let wanted = serde_json::json!({
            "name": "/c4", "id": "f3", "read": "0001-01-01T00:00:00Z", "preread": "0001-01-01T00:00:00Z",
            "pids_stats": {}, "num_procs": 0, "storage_stats": {}, "memory_stats": {},
            "blkio_stats": {
                "io_service_bytes_recursive": null, "io_serviced_recursive": null, "io_queue_recursive": null,
                "io_service_time_recursive": null, "io_wait_time_recursive": null, "io_merged_recursive": null,
                "io_time_recursive": null, "sectors_recursive": null,
            },
            "cpu_stats": unused, "precpu_stats": unused,
        });
        assert_eq!(shown, wanted);
    }

    #[test]
    fn each_controller_is_read_where_it_is_mounted() {
        let root = tempfile::tempdir().unwrap();
        let (memory, unified) = (root.path().join("memory"), root.path().join("unified"));
        for dir in [&memory, &unified] {
            std::fs::create_dir_all(dir.join("weft/c1")).unwrap();
        }
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).unwrap();
        write(memory.join("weft/c1/memory.usage_in_bytes"), "4096\n");
        write(unified.join("weft/c1/memory.current"), "1\n");
        write(unified.join("weft/c1/pids.current"), "7\n");
        let hierarchies =
            Hierarchies { unified: Some(unified), legacy: vec![(vec!["memory".to_owned()], memory)] };
        let source = Source { hierarchies, cgroup: "/weft/c1".into(), network_of: None };
        let mut stats = ContainerStats::none("c1", "c1");
        source.read(&mut stats).unwrap();
        assert_eq!((stats.memory_stats.usage, stats.pids_stats.current), (4096, 7));
        assert!(stats.memory_stats.limit > 4096 && stats.cpu_stats.online_cpus > 0);
        let gone = Source { cgroup: "/weft/c2".into(), ..source };
        assert_eq!(gone.read(&mut stats).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
