//! Version 1: `cpuacct`, `cpu`, `memory` and `blkio`.

use std::path::Path;

use super::text::{number, table, text};
use super::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, ThrottlingData};

/// `cpuacct.stat` counts in ticks; the kernel shows 100 of them a second on every architecture that has cgroups
/// (`USER_HZ`, proc(5)).
pub(super) const NS_PER_TICK: u64 = 10_000_000;

/// Processors: time from `account`, throttling from the directory of the limits.
pub(super) fn cpu(account: &Path, limits: Option<&Path>, cpu: &mut CpuStats) {
    let by_kind = table(account, "cpuacct.stat");
    let time = |kind: &str| by_kind.get(kind).copied().unwrap_or(0).saturating_mul(NS_PER_TICK);
    cpu.cpu_usage.total_usage = number(account, "cpuacct.usage");
    cpu.cpu_usage.percpu_usage =
        text(account, "cpuacct.usage_percpu").split_whitespace().filter_map(|n| n.parse().ok()).collect();
    cpu.cpu_usage.usage_in_kernelmode = time("system");
    cpu.cpu_usage.usage_in_usermode = time("user");
    let Some(limits) = limits else { return };
    let throttling = table(limits, "cpu.stat");
    let count = |name: &str| throttling.get(name).copied().unwrap_or(0);
    cpu.throttling_data = ThrottlingData {
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_time: count("throttled_time"),
    };
}

pub(super) fn memory(dir: &Path, memory: &mut MemoryStats) {
    memory.usage = number(dir, "memory.usage_in_bytes");
    memory.max_usage = number(dir, "memory.max_usage_in_bytes");
    memory.failcnt = number(dir, "memory.failcnt");
    memory.limit = number(dir, "memory.limit_in_bytes");
    memory.stats = table(dir, "memory.stat");
}

/// Kernels since 5.0 count only here; the other counters belonged to the CFQ scheduler.
pub(super) fn blkio(dir: &Path) -> BlkioStats {
    let entries = |name: &str| Some(parse_blkio(&text(dir, &format!("blkio.throttle.{name}"))));
    BlkioStats {
        io_service_bytes_recursive: entries("io_service_bytes_recursive"),
        io_serviced_recursive: entries("io_serviced_recursive"),
        io_queue_recursive: Some(Vec::new()),
        io_service_time_recursive: Some(Vec::new()),
        io_wait_time_recursive: Some(Vec::new()),
        io_merged_recursive: Some(Vec::new()),
        io_time_recursive: Some(Vec::new()),
        sectors_recursive: Some(Vec::new()),
    }
}

/// Lines `8:0 Read 4096`; the last one, `Total 4096`, is of no device.
fn parse_blkio(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn processors_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("cpuacct.usage", "389976302\n"),
            ("cpuacct.usage_percpu", "294939527 95036775 \n"),
            ("cpuacct.stat", "user 32\nsystem 6\n"),
            ("cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 77\nnr_bursts 0\n"),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let mut stats = CpuStats::default();
        cpu(dir.path(), Some(dir.path()), &mut stats);
        let usage = &stats.cpu_usage;
        assert_eq!(
            (usage.total_usage, usage.percpu_usage.as_slice()),
            (389_976_302, [294_939_527, 95_036_775].as_slice())
        );
        assert_eq!((usage.usage_in_usermode, usage.usage_in_kernelmode), (320_000_000, 60_000_000));
        let wanted = ThrottlingData { periods: 5, throttled_periods: 2, throttled_time: 77 };
        assert_eq!(stats.throttling_data, wanted);
    }

    #[test]
    fn devices_are_read() {
        let read = parse_blkio("8:0 Read 4096\n8:0 Write 0\nTotal 4096\n");
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 0, op: op.to_owned(), value };
        assert_eq!(read, [entry("Read", 4096), entry("Write", 0)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9: A-Za-z\n]{0,200}") {
            parse_blkio(&text);
        }

        #[test]
        fn files_of_any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            for file in ["cpuacct.usage", "cpuacct.usage_percpu", "cpuacct.stat", "cpu.stat", "memory.stat"] {
                std::fs::write(dir.path().join(file), &bytes).unwrap();
            }
            cpu(dir.path(), Some(dir.path()), &mut CpuStats::default());
            memory(dir.path(), &mut MemoryStats::default());
        }
    }
}
