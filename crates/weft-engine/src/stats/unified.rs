//! Version 2 (kernel `Documentation/admin-guide/cgroup-v2.rst`).

use std::path::Path;

use super::text::{number, table, text};
use super::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, ThrottlingData};

/// `cpu.stat` counts in microseconds.
const NS_PER_US: u64 = 1_000;

pub(super) fn cpu(dir: &Path, cpu: &mut CpuStats) {
    let counts = table(dir, "cpu.stat");
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let time = |name: &str| count(name).saturating_mul(NS_PER_US);
    cpu.cpu_usage.total_usage = time("usage_usec");
    cpu.cpu_usage.usage_in_kernelmode = time("system_usec");
    cpu.cpu_usage.usage_in_usermode = time("user_usec");
    cpu.throttling_data = ThrottlingData {
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_time: time("throttled_usec"),
    };
}

pub(super) fn memory(dir: &Path, memory: &mut MemoryStats) {
    memory.usage = number(dir, "memory.current");
    memory.limit = number(dir, "memory.max");
    memory.failcnt = table(dir, "memory.events").get("oom").copied().unwrap_or(0);
    memory.stats = table(dir, "memory.stat");
}

/// Docker shows the bytes only.
pub(super) fn io(dir: &Path) -> BlkioStats {
    BlkioStats { io_service_bytes_recursive: Some(parse_io(&text(dir, "io.stat"))), ..BlkioStats::default() }
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn parse_io(text: &str) -> Vec<BlkioEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, number) in words.filter_map(|word| word.split_once('=')) {
            let op = match key {
                "rbytes" => "read",
                "wbytes" => "write",
                _ => continue,
            };
            if let Ok(value) = number.parse() {
                entries.push(BlkioEntry { major, minor, op: op.to_owned(), value });
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let cpu_stat =
            "usage_usec 38\nuser_usec 32\nsystem_usec 6\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n";
        for (file, text) in [
            ("cpu.stat", cpu_stat),
            ("memory.current", "385024\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 77824\ninactive_file 8192\n"),
            ("memory.events", "low 0\nmax 4\noom 1\noom_kill 1\n"),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let (mut processors, mut bytes) = (CpuStats::default(), MemoryStats::default());
        cpu(dir.path(), &mut processors);
        memory(dir.path(), &mut bytes);
        assert_eq!(
            (processors.cpu_usage.total_usage, processors.cpu_usage.usage_in_usermode),
            (38_000, 32_000)
        );
        assert_eq!(processors.throttling_data.throttled_time, 7_000);
        assert_eq!((bytes.usage, bytes.limit, bytes.failcnt), (385_024, 0, 1));
        assert_eq!(bytes.stats["inactive_file"], 8192);
    }

    #[test]
    fn devices_are_read() {
        let read = parse_io("8:0 rbytes=4096 wbytes=1 rios=1 wios=0\n259:1 \nx rbytes=1\n");
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 0, op: op.to_owned(), value };
        assert_eq!(read, [entry("read", 4096), entry("write", 1)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9:= a-z\n]{0,200}") {
            parse_io(&text);
        }
    }
}
