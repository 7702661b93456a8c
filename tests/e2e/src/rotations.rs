//! The keys of gossip rotate while a real Docker engine is in the swarm, and while nodes sleep through it.
//!
//! Whether a node is in gossip shows in names: those of containers on nodes of the other engine come by gossip alone,
//! sealed with the primary key of the day.

use std::process::Command;
use std::time::{Duration, Instant};

use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::{Hosts, ping, weft_exe};

/// Time for a name to cross, and for a node that slept to be back: Docker's engine looks for a lost session in steps
/// of up to eight seconds.
const SOON: Duration = Duration::from_secs(60);
/// A node that sleeps through so many no longer has any key in use.
const SLEPT: u64 = 3;

/// What a run of rotations showed.
#[derive(Debug, Clone, Copy)]
pub struct Rotated {
    /// Rotations that happened.
    pub rotations: u64,
    /// Containers that the other engine learnt of meanwhile.
    pub names: u64,
    /// Longest time for a name to cross.
    pub slowest: Duration,
    /// Time for each sleeper to be back: Weft's, Docker's.
    pub woken: [Duration; 2],
}

/// A manager `h1` and a worker `h3` of Weft, a worker `h2` of Docker; so many rotations in which names cross both ways,
/// then three that one node after the other sleeps through.
///
/// # Panics
/// When a node drops out.
pub fn rotate(name: &str, rotations: u64, period: Duration) -> Rotated {
    let hosts = Hosts::up_with(LabSpec::bridged(name, 3), |host| match host {
        "h2" => DaemonSpec::docker(),
        _ => DaemonSpec::weft(&weft_exe()).arg(format!("--weft-key-rotation={}s", period.as_secs())),
    });
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").expect("network");
    for (host, container) in [("h1", "ann"), ("h2", "bob"), ("h3", "cat")] {
        hosts.run_idle(host, container, "--network web").expect("container");
    }
    let mut outcome = Rotated { rotations: 0, names: 0, slowest: Duration::ZERO, woken: [Duration::ZERO; 2] };
    let begun = count(&hosts);
    while count(&hosts) < begun + rotations {
        let at = count(&hosts);
        for (on, seen) in [("h2", [("h1", "ann"), ("h3", "cat")]), ("h3", [("h2", "bob"), ("h1", "ann")])] {
            outcome.names += 1;
            let fresh = format!("n{}", outcome.names);
            hosts.run_idle(on, &fresh, "--network web").expect("container");
            let known = Instant::now();
            for (host, by) in seen {
                reaches(&hosts, host, by, &fresh);
            }
            outcome.slowest = outcome.slowest.max(known.elapsed());
            hosts.docker(on, format!("rm -f {fresh}")).expect("rm");
        }
        eventually(
            "the next rotation",
            period * 8,
            || if count(&hosts) > at { Ok(()) } else { Err("not yet") },
        );
    }
    outcome.rotations = count(&hosts) - begun;
    for (at, sleeper) in ["h3", "h2"].into_iter().enumerate() {
        outcome.woken[at] = sleep(&hosts, sleeper, at, period);
    }
    outcome
}

/// Stops every process of a host for some rotations. Returns how long it then took to be back.
fn sleep(hosts: &Hosts, sleeper: &str, turn: usize, period: Duration) -> Duration {
    let (own, other) = if sleeper == "h3" { ("cat", ("h2", "bob")) } else { ("bob", ("h3", "cat")) };
    let before = count(hosts);
    let processes = hosts.host(sleeper).processes();
    signal("-STOP", &processes);
    eventually("keys rotate meanwhile", period * 12, || match count(hosts) {
        now if now >= before + SLEPT => Ok(()),
        now => Err(now - before),
    });
    // Something that it can only learn with the keys of today.
    let fresh = format!("late{turn}");
    hosts.run_idle(other.0, &fresh, "--network web").expect("container");
    signal("-CONT", &processes);
    let woken = Instant::now();
    hosts.wait_ready(3);
    reaches(hosts, sleeper, own, &fresh);
    let told = format!("told{turn}");
    hosts.run_idle(sleeper, &told, "--network web").expect("container");
    reaches(hosts, other.0, other.1, &told);
    reaches(hosts, "h1", "ann", &told);
    woken.elapsed()
}

/// Rotations so far, by the log of a manager `h1` of Weft.
pub fn count(hosts: &Hosts) -> u64 {
    let log = std::fs::read_to_string(&hosts.daemon("h1").log).unwrap_or_default();
    log.lines().filter(|line| line.contains("rotated the keys of gossip")).count() as u64
}

fn reaches(hosts: &Hosts, host: &str, from: &str, target: &str) {
    eventually(&format!("{target} answers {from} on {host}"), SOON, || {
        let first = ping(hosts, host, from, target, 1).map_err(|e| e.to_string())?;
        if first.is_lossless() { Ok(()) } else { Err(format!("{first:?}")) }
    });
}

fn signal(name: &str, processes: &[i32]) {
    for pid in processes {
        // It may have ended by itself.
        let _ = Command::new("kill").args([name, &pid.to_string()]).output();
    }
}
