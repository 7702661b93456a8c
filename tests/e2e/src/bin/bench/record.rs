//! The document of a run: `docs/performance.md` with its chart.

use std::path::PathBuf;
use std::process::Command;

use crate::overlay::Effort;
use crate::row::Row;
use crate::{chart, table};

/// Where to write, and what cannot be found out here.
#[derive(Debug)]
pub(crate) struct Record {
    /// The Markdown file; the chart is beside it.
    pub(crate) path: PathBuf,
    pub(crate) commit: String,
}

/// What it was measured on.
struct Machine {
    cpu: String,
    kernel: String,
    docker: String,
    date: String,
}

impl Record {
    pub(crate) fn write(&self, rows: &[Row], effort: Effort) {
        let chart = self.path.with_extension("svg");
        let name = chart.file_name().and_then(|name| name.to_str()).unwrap();
        let machine = Machine::here();
        std::fs::write(&self.path, self.text(rows, effort, &machine, name)).unwrap();
        let title = format!("Weft beside Docker, {}, {}", self.commit, machine.date);
        std::fs::write(&chart, chart::svg(&title, rows)).unwrap();
        println!("\nwritten: {} and {}", self.path.display(), chart.display());
    }

    fn text(&self, rows: &[Row], effort: Effort, machine: &Machine, chart: &str) -> String {
        let command = if effort.thorough { "overlay" } else { "overlay --quick" };
        let (met, all) = score(rows);
        format!(
            "# Performance\n\n\
             | what | value |\n|---|---|\n\
             | commit | `{}` |\n| date | {} |\n| command | `cargo xtask bench {command}` |\n| CPU | {} |\n\
             | kernel | Linux {} |\n| beside | {} |\n| rounds | {} of bursts, {} of what takes seconds |\n\
             | goals met | {met} of {all} |\n\n\
             ![times as good as Docker]({chart})\n\n{}\n{HOW}",
            self.commit,
            machine.date,
            machine.cpu,
            machine.kernel,
            machine.docker,
            effort.rounds,
            effort.slow_rounds,
            table::markdown(rows),
        )
    }
}

/// Goals that were met, and all.
fn score(rows: &[Row]) -> (usize, usize) {
    let verdicts = rows.iter().flat_map(|row| row.entries.iter().flat_map(|entry| row.verdicts(entry)));
    verdicts.fold((0, 0), |(met, all), verdict| (met + usize::from(verdict.is_met()), all + 1))
}

impl Machine {
    fn here() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = file("/proc/cpuinfo");
        let models: Vec<&str> = info
            .lines()
            .filter_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1))
            .collect();
        let cpu = models.first().map_or("unknown", |model| model.trim());
        Self {
            cpu: format!("{cpu}, {} of them", models.len()),
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            docker: said("dockerd", "--version"),
            date: said("date", "-I"),
        }
    }
}

fn said(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const HOW: &str = "\
## How it is measured

Hosts are network namespaces on one machine: three with Docker's own engine, three with Weft by programs
(`--overlay-engine=bpf --weft-service-balancer=bpf`), three with Weft by the kernel's own parts (`bridge`, `nftables`), two
without any, all on the same kind of underlay (a veth pair per host, one bridge). Client and server are threads of one
process, each in the network namespace of a real container. Bursts of 30 to 150 ms go over all of them in shuffled
rounds, so that whatever else the machine does hits all; each ratio is the median of the rounds' own ratios. `best 20 %` is the
mean of the best fifth of the rounds, close to what a quiet machine gives; `±` is half the distance between the quartiles.
The congestion control of the measured sockets is cubic, whatever the machine's default is.

- CPU is the exact time of both threads: soft interrupts of veth and VXLAN run in the sender's. What ksoftirqd took beside that,
  for whomever, has a line of its own; of encrypted networks the helper processes' time is included.
- RR, connections and the CPU of a path run with both ends on one processor: waking another one takes several times
  what the path takes, and would hide it. Received UDP has a processor for each end,
  streams go where the scheduler puts them. RR is one byte there and back; a connection carries 64 bytes there and back.
- The CPU of the UDP path is the sender's for a datagram of 64 bytes to a port where nobody listens, all the way there.
- A round of TCP streams is the best of three bursts, for everyone alike. Single bursts fall into a fast or a slow mode, two
  times apart, and which one changes from burst to burst; why is not known (fixed buffers and fixed processors move it, so
  windows and caches are suspected). Ratios of streams are therefore the least certain ones: they moved by 0.1 between runs.
- There is no wire: large frames cross the underlay whole. Ratios of bulk TCP differ on real network cards.
- Docker's virtual IPs and encryption need IPVS and ESP of the kernel: where it stands is its direct path to a task, and
  its overlay in the clear.
- Limits are the bare hosts (across hosts), a veth pair between two namespaces (on one), and the same engine in the clear
  (encrypted). A virtual IP's limit is the same engine's way to one container that is no task; with many tasks it is the
  way straight to all of them in turn, because a hundred namespaces leave no cache warm, whoever chooses among them.
- A name is known elsewhere when a thread in another node's container, which asks all the time, is told its address; memory is
  that of all processes of an idle worker: daemon, helpers, and for Docker containerd.

Anyone with root and Debian's packages can repeat it: see the command above. It takes about a quarter of an hour, with
`--quick` some minutes, and wants the machine for itself.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::sample;

    #[test]
    fn the_document_says_what_it_was_and_how_it_went() {
        let record = Record { path: "docs/performance.md".into(), commit: "abc".to_owned() };
        let [cpu, kernel, docker, date] = ["c", "k", "d", "2024-01-02"].map(str::to_owned);
        let machine = Machine { cpu, kernel, docker, date };
        let text = record.text(&[sample()], Effort::QUICK, &machine, "performance.svg");
        for want in [
            "| commit | `abc` |",
            "| command | `cargo xtask bench overlay --quick` |",
            "| goals met | 1 of 2 |",
            "(performance.svg)",
            "| TCP, Gb/s | Docker | 10.0 |",
        ] {
            assert!(text.contains(want), "{want} in {text}");
        }
    }
}
