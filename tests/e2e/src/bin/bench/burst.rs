//! Short bursts of traffic between two network namespaces, by two threads of this process: one in each.
//!
//! One process, and one CPU for both threads unless they stream: waking an idle CPU takes several times what the data
//! path takes, and would hide it. Work of veth and VXLAN runs in the sender's context, so the CPU time of both threads
//! is the cost of the path, also on a busy machine. What the kernel leaves to its own threads is counted apart.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::path::{Path, cpu_of};
use crate::{datagrams, ends};

/// How long a stream sends.
pub(crate) const STREAM: Duration = Duration::from_millis(80);
/// How many streams there are at once where there are several.
pub(crate) const STREAMS: usize = 4;
/// Of one byte, there and back.
pub(crate) const ECHOES: usize = 2500;
pub(crate) const CONNECTIONS: usize = 600;
/// For a single read, write or connection.
pub(crate) const STALL: Duration = Duration::from_secs(5);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One TCP stream.
    Stream,
    /// Four at once.
    Streams,
    /// One byte there and back.
    Echo,
    /// Connect, ask, answer, close.
    Connect,
    /// Small datagrams, as fast as can be, to one who counts them.
    Flood,
    /// Small datagrams to a port where nobody listens.
    Send,
}

/// One burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Gb/s, us of an echo (median), connections/s, datagrams/s received, or ns of a datagram sent (median, CPU time).
    pub(crate) value: f64,
    /// Median of single echoes or connections in microseconds; others have none.
    pub(crate) p50: f64,
    /// The 99th percentile of the same.
    pub(crate) p99: f64,
    /// CPU time of both ends and of the path's carriers per gigabyte (s), or per echo, connection or datagram (us).
    pub(crate) cpu: f64,
    /// CPU time of the kernel's threads for soft interrupts per the same, whosever work they did.
    pub(crate) elsewhere: f64,
}

/// What an end found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) value: f64,
    /// Of each echo or connection in microseconds, sorted.
    pub(crate) times: Vec<f64>,
    /// Seconds.
    pub(crate) cpu: f64,
    /// What CPU time is given for: GB, or millions of echoes, connections or datagrams.
    pub(crate) units: f64,
}

impl Kind {
    /// How many bursts a round takes the best of. Single streams fall into a fast or a slow mode, a factor of two apart, from
    /// burst to burst; why is not known (windows and caches are suspected).
    pub(crate) fn tries(self) -> usize {
        if matches!(self, Self::Stream | Self::Streams) { 3 } else { 1 }
    }
}

impl Path {
    /// One burst.
    pub(crate) fn measure(&self, kind: Kind) -> Sample {
        let before = (self.carriers_cpu(), soft_interrupts_cpu());
        let found = match kind {
            Kind::Flood => datagrams::flood(self),
            Kind::Send => datagrams::send(self),
            _ => ends::exchange(self, kind),
        };
        let carried = self.carriers_cpu() - before.0;
        let elsewhere = soft_interrupts_cpu() - before.1;
        Sample {
            value: found.value,
            p50: found.at(50),
            p99: found.at(99),
            cpu: (found.cpu + carried) / found.units,
            elsewhere: elsewhere / found.units,
        }
    }
}

impl Found {
    fn at(&self, hundredths: usize) -> f64 {
        let last = self.times.len().saturating_sub(1);
        self.times.get(last * hundredths / 100).copied().unwrap_or_default()
    }
}

/// Which end of a burst a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

/// Both ends of what waits for the other at every step run on the first CPU. Who is flooded has the last one: where the
/// scheduler puts him would otherwise count for more than the path. Streams go where they are put.
pub(crate) fn take_cpu(kind: Kind, end: End) {
    let all = sched_getaffinity(None).unwrap();
    let of_all = |cpu: &usize| all.is_set(*cpu);
    let cpu = match (kind, end) {
        (Kind::Stream | Kind::Streams, _) => return,
        (Kind::Flood, End::Server) => (0..CpuSet::MAX_CPU).rfind(of_all),
        _ => (0..CpuSet::MAX_CPU).find(of_all),
    };
    let mut only = CpuSet::new();
    only.set(cpu.unwrap());
    sched_setaffinity(None, &only).unwrap();
}

/// CPU seconds of this thread.
pub(crate) fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds of the kernel's threads for soft interrupts, so far; zero where they are not to be seen.
fn soft_interrupts_cpu() -> f64 {
    static THREADS: OnceLock<Vec<i32>> = OnceLock::new();
    let find = || {
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_one = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("ksoftirqd/"))
        };
        pids.filter(is_one).collect()
    };
    THREADS.get_or_init(find).iter().map(|pid| cpu_of(*pid)).sum()
}
