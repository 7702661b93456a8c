//! `docker stats`: what the client computes of the daemon's numbers.

use serde_json::Value;
use weft_e2e::Hosts;
use weft_lab::eventually;

use super::{SOON, docker, shell, up};

/// One row of `docker stats --no-stream`.
fn row(hosts: &Hosts, name: &str) -> Value {
    let text = docker(hosts, ["stats", "--no-stream", "--format", "json", name]);
    serde_json::from_str(&text).unwrap()
}

/// The number before `%`.
fn percent(value: &Value) -> f64 {
    value.as_str().unwrap().trim_end_matches('%').parse().unwrap()
}

#[test]
fn stats_show_what_containers_use() {
    let hosts = up("stats");
    let busy = "dd if=/dev/zero of=/dev/shm/held bs=1M count=20 2>/dev/null; \
                (while :; do :; done) & (while :; do sleep 1; done)";
    docker(
        &hosts,
        [
            "run",
            "-d",
            "--stop-timeout",
            "0",
            "--name",
            "c1",
            "-m",
            "64m",
            "--pids-limit",
            "50",
            "busybox",
            "sh",
            "-c",
            busy,
        ],
    );
    hosts.run_idle("h1", "c2", "").unwrap();
    let address = hosts.inspect("h1", "c2", "{{.NetworkSettings.Networks.bridge.IPAddress}}").unwrap();
    docker(&hosts, ["exec", "c1", "ping", "-c", "10", "-i", "0.01", "-s", "8000", &address]);
    eventually("numbers of a busy container", SOON, || {
        let row = row(&hosts, "c1");
        let (used, limit) = row["MemUsage"].as_str().unwrap().split_once(" / ").unwrap();
        let mib: f64 = used.trim_end_matches("MiB").parse().unwrap_or(0.0);
        let (received, sent) = row["NetIO"].as_str().unwrap().split_once(" / ").unwrap();
        // Twice ten pings of 8 kB: both directions count.
        let kilobytes = |text: &str| text.trim_end_matches("kB").parse().unwrap_or(0.0);
        let network = [received, sent].iter().all(|text| (80.0..100.0).contains(&kilobytes(text)));
        let busy = percent(&row["CPUPerc"]) > 20.0 && (20.0..64.0).contains(&mib) && limit == "64MiB";
        let processes: u32 = row["PIDs"].as_str().unwrap().parse().unwrap();
        match busy && network && processes >= 3 && row["Name"] == "c1" {
            true => Ok(()),
            false => Err(row.to_string()),
        }
    });
    let idle = row(&hosts, "c2");
    assert!(percent(&idle["CPUPerc"]) < 20.0, "{idle}");
    // Live, as a terminal shows it: several rounds of both.
    let (shown, _) = shell(&hosts, "timeout 4 docker stats --format '{{.Name}} {{.CPUPerc}}'");
    for name in ["c1", "c2"] {
        let rounds =
            shown.lines().filter(|line| line.contains(&format!("{name} ")) && line.contains('%')).count();
        assert!(rounds >= 2, "{shown:?}");
    }
    docker(&hosts, ["rm", "-f", "c1"]);
    docker(&hosts, ["create", "--name", "c3", "busybox", "true"]);
    let none = row(&hosts, "c3");
    assert_eq!((none["MemUsage"].as_str(), none["PIDs"].as_str()), (Some("0B / 0B"), Some("0")), "{none}");
}
