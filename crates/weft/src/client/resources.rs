//! `stats`, `update`.

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::connection::{Call, Daemon, escape};
use super::container_spec::bytes;
use super::error::{ClientError, Outcome};
use super::list::{Listing, Shown};
use super::system::{for_each, text};
use super::table;

/// Clears a terminal and goes to its first line (ECMA-48 CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";
const LISTING: Listing = Listing {
    titles: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show what running containers use, again and again
    Stats(Stats),
    /// Change limits and restart policy of containers
    Update(Box<Update>),
}

#[derive(Debug, Args)]
pub(super) struct Stats {
    /// All running ones if none is named
    containers: Vec<String>,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// table, json or a template of Go's
    #[arg(long, value_name = "format")]
    format: Option<String>,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    #[arg(required = true)]
    containers: Vec<String>,
    /// Memory limit, for example 64m
    #[arg(short, long)]
    memory: Option<String>,
    /// Limit of memory and swap together, -1 for none
    #[arg(long, allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Soft memory limit
    #[arg(long)]
    memory_reservation: Option<String>,
    /// Number of processors, for example 0.5
    #[arg(long)]
    cpus: Option<f64>,
    /// Relative weight
    #[arg(short = 'c', long)]
    cpu_shares: Option<i64>,
    /// Period in microseconds
    #[arg(long)]
    cpu_period: Option<i64>,
    /// Quota in microseconds
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Processors it may run on, for example 0-2
    #[arg(long)]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// Relative weight of its input and output, 10 to 1000
    #[arg(long)]
    blkio_weight: Option<u16>,
    /// Most processes, -1 for no limit
    #[arg(long, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// no, on-failure[:max], always, unless-stopped
    #[arg(long)]
    restart: Option<String>,
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Stats(flags) => stats(daemon, &flags).await,
        Verb::Update(update) => {
            let body = update.body()?;
            let call = |name: &str| Call::post(format!("/containers/{name}/update")).json_body(&body);
            for_each(daemon, &update.containers, call).await
        }
    }
}

impl Update {
    fn body(&self) -> Result<Value, ClientError> {
        let size = |text: &Option<String>| match text.as_deref() {
            Some("-1") => Ok(-1),
            Some(text) => bytes(text),
            None => Ok(0),
        };
        let restart = self.restart.as_deref().unwrap_or_default();
        let (policy, retries) = restart.split_once(':').unwrap_or((restart, "0"));
        let wrong = |_| ClientError::Usage(format!("invalid restart policy: {restart}"));
        let retries: i64 = retries.parse().map_err(wrong)?;
        Ok(json!({
            "Memory": size(&self.memory)?,
            "MemorySwap": size(&self.memory_swap)?,
            "MemoryReservation": size(&self.memory_reservation)?,
            "NanoCpus": self.cpus.map_or(0, |cpus| (cpus * 1e9) as i64),
            "CpuShares": self.cpu_shares.unwrap_or(0),
            "CpuPeriod": self.cpu_period.unwrap_or(0),
            "CpuQuota": self.cpu_quota.unwrap_or(0),
            "CpusetCpus": self.cpuset_cpus.clone().unwrap_or_default(),
            "CpusetMems": self.cpuset_mems.clone().unwrap_or_default(),
            "PidsLimit": self.pids_limit,
            "BlkioWeight": self.blkio_weight,
            "RestartPolicy": {"Name": policy, "MaximumRetryCount": retries},
        }))
    }
}

async fn stats(daemon: &Daemon, flags: &Stats) -> Outcome {
    let named = &flags.containers;
    let shown = Shown { quiet: false, format: flags.format.clone() };
    loop {
        let names = if named.is_empty() { running(daemon, flags.all).await? } else { named.to_vec() };
        // The daemon takes a second for each answer.
        let calls = names.iter().map(|name| {
            daemon.json(Call::get(format!("/containers/{}/stats", escape(name))).query("stream", 0))
        });
        let answers: Vec<_> = join_all(calls).await;
        // Of those that were not named one may have gone meanwhile.
        let answers: Vec<Value> = match named.is_empty() {
            true => answers.into_iter().filter_map(Result::ok).collect(),
            false => answers.into_iter().collect::<Result<_, _>>()?,
        };
        if !flags.no_stream && std::io::stdout().is_terminal() {
            print!("{CLEAR}");
        }
        let rows: Vec<Value> = answers.iter().map(|stats| row(stats, flags.no_trunc)).collect();
        LISTING.print(&shown, &rows)?;
        if flags.no_stream {
            return Ok(0);
        }
        if answers.is_empty() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

async fn running(daemon: &Daemon, all: bool) -> Result<Vec<String>, ClientError> {
    let containers = daemon.json(Call::get("/containers/json").query_if(all, "all", 1)).await?;
    Ok(containers.as_array().into_iter().flatten().map(|container| text(&container["Id"])).collect())
}

fn row(stats: &Value, no_trunc: bool) -> Value {
    let number = |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let since = |path: &str| {
        number(&format!("/cpu_stats{path}")).saturating_sub(number(&format!("/precpu_stats{path}"))) as f64
    };
    let (used, all) = (since("/cpu_usage/total_usage"), since("/system_cpu_usage"));
    let cpu = if all > 0.0 { used / all * number("/cpu_stats/online_cpus") as f64 * 100.0 } else { 0.0 };
    // What the page cache could give back at once is not counted, as docker has it.
    let cache = match number("/memory_stats/stats/total_inactive_file") {
        0 => number("/memory_stats/stats/inactive_file"),
        cache => cache,
    };
    let usage = number("/memory_stats/usage");
    let (memory, limit) = (usage.checked_sub(cache).unwrap_or(usage), number("/memory_stats/limit"));
    let percent = if limit > 0 { memory as f64 / limit as f64 * 100.0 } else { 0.0 };
    let interfaces = || stats["networks"].as_object().into_iter().flat_map(|networks| networks.values());
    let network = |key: &str| interfaces().filter_map(|interface| interface[key].as_i64()).sum::<i64>();
    let entries = || stats["blkio_stats"]["io_service_bytes_recursive"].as_array().into_iter().flatten();
    let blocks = |wanted: &str| {
        let ours = entries().filter(|e| text(&e["op"]).eq_ignore_ascii_case(wanted));
        ours.filter_map(|entry| entry["value"].as_i64()).sum::<i64>()
    };
    let (id, name) = (text(&stats["id"]), text(&stats["name"]));
    let name = name.trim_start_matches('/');
    json!({
        "Container": name,
        "ID": if no_trunc { id } else { table::short(&id) },
        "Name": name,
        "CPUPerc": format!("{cpu:.2}%"),
        "MemUsage": format!("{} / {}", table::binary_size(memory), table::binary_size(limit)),
        "MemPerc": format!("{percent:.2}%"),
        "NetIO": format!("{} / {}", table::size(network("rx_bytes")), table::size(network("tx_bytes"))),
        "BlockIO": format!("{} / {}", table::size(blocks("read")), table::size(blocks("write"))),
        "PIDs": number("/pids_stats/current").to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_computed_as_dockers() {
        let stats = json!({
            "id": "19edf1697dac76444ca0c95addecac73", "name": "/c1",
            "cpu_stats": {"cpu_usage": {"total_usage": 600}, "system_cpu_usage": 3000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 385_024, "limit": 1_048_576, "stats": {"inactive_file": 1024}},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 1}, "eth1": {"rx_bytes": 572, "tx_bytes": 125}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1}]},
            "pids_stats": {"current": 3},
        });
        let wanted = json!({
            "Container": "c1", "ID": "19edf1697dac", "Name": "c1", "CPUPerc": "50.00%", "MemUsage": "375KiB / 1MiB",
            "MemPerc": "36.62%", "NetIO": "1.57kB / 126B", "BlockIO": "4.10kB / 1B", "PIDs": "3",
        });
        assert_eq!(row(&stats, false), wanted);
        let idle = row(&json!({}), false);
        assert_eq!((&idle["CPUPerc"], &idle["MemUsage"]), (&json!("0.00%"), &json!("0B / 0B")));
    }
}
