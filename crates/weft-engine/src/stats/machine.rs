//! What the whole machine has, and the interfaces of a network namespace.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::NetworkStats;
use super::legacy::NS_PER_TICK;

/// Interfaces that the kernel puts into every namespace: no network of the container's.
const KERNELS_OWN: [&str; 10] =
    ["lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"];
/// Fields of `/proc/stat` that together are all time: user, nice, system, idle, iowait, irq, softirq. Steal and guest
/// time are not among them, as in Docker.
const CPU_FIELDS: usize = 7;

/// The whole machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// Time of all processors since the start, idle time included.
    pub(super) cpu_time_ns: u64,
    /// Processors that are on.
    pub(super) cpus: u64,
    /// Memory that the kernel manages.
    pub(super) memory_bytes: u64,
}

impl Machine {
    pub(super) fn read(proc: &Path) -> io::Result<Self> {
        let read = |name: &str| std::fs::read_to_string(proc.join(name));
        Ok(Self::parse(&read("stat")?, &read("meminfo")?))
    }

    fn parse(stat: &str, meminfo: &str) -> Self {
        let mut machine = Self::default();
        for line in stat.lines().take_while(|line| line.starts_with("cpu")) {
            let mut words = line.split_whitespace();
            if words.next() != Some("cpu") {
                machine.cpus += 1;
                continue;
            }
            let ticks = words.take(CPU_FIELDS).filter_map(|word| word.parse::<u64>().ok());
            machine.cpu_time_ns = ticks.fold(0u64, u64::saturating_add).saturating_mul(NS_PER_TICK);
        }
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kibibytes = total.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
        machine.memory_bytes = kibibytes.unwrap_or(0).saturating_mul(1024);
        machine
    }
}

/// The interfaces of `/proc/<pid>/net/dev` but for the kernel's own.
pub(super) fn interfaces(text: &str) -> BTreeMap<String, NetworkStats> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let numbers: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // bytes packets errs drop fifo frame compressed multicast, then the same of sending.
        let (
            &[rx_bytes, rx_packets, rx_errors, rx_dropped, ..],
            &[tx_bytes, tx_packets, tx_errors, tx_dropped, ..],
        ) = numbers.split_at_checked(8)?
        else {
            return None;
        };
        let stats = NetworkStats {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        };
        Some((name.trim().to_owned(), stats))
    };
    let all = text.lines().filter_map(interface);
    all.filter(|(name, _)| !KERNELS_OWN.contains(&name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_machine_is_read() {
        let stat = "cpu  100 1 20 300 4 5 6 70 0 0\ncpu0 1 1\ncpu1 1 1\nintr 5 4\ncpux 1\n";
        let machine = Machine::parse(stat, "MemTotal:       24684096 kB\nMemFree: 1 kB\n");
        let wanted = Machine { cpu_time_ns: 436 * NS_PER_TICK, cpus: 2, memory_bytes: 24_684_096 << 10 };
        assert_eq!(machine, wanted);
    }

    #[test]
    fn interfaces_are_read_but_for_the_kernels_own() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
                    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n  \
                    eth0:    1572      14    1    2    0     0          0         0      126       3    4    5    0     0       0          0\n";
        let read = interfaces(text);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["eth0"]);
        let eth0 = &read["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_packets, eth0.rx_errors, eth0.rx_dropped), (1572, 14, 1, 2));
        assert_eq!((eth0.tx_bytes, eth0.tx_packets, eth0.tx_errors, eth0.tx_dropped), (126, 3, 4, 5));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[a-z0-9: \n]{0,300}") {
            interfaces(&text);
            Machine::parse(&text, &text);
        }
    }
}
