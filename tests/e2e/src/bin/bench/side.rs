//! Hosts of one engine, with containers on an overlay.

use std::process::Command;

use weft_e2e::{Hosts, ping, weft_exe};
use weft_lab::{DaemonSpec, eventually};

use crate::path::{Path, Place};
use crate::{DEADLINE, labs};

/// Where all measured containers are. It has room for a thousand services.
pub(crate) const NETWORK: &str = "web";
const SUBNET: &str = "10.80.0.0/16";

/// A way to run hosts.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    lab: &'static str,
    daemon: DaemonSpec,
}

/// One engine under measurement: three hosts.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) hosts: Hosts,
    /// From the container `ann` on `h1` to `bob` on `h2`.
    pub(crate) far: Path,
    /// From `ann` to `ben` on the same host.
    pub(crate) near: Path,
}

/// Programs wherever there are any, and the kernel's own parts, with what says so.
const CHOICES: [(&str, &str, [&str; 2]); 2] = [
    ("Weft, bpf", "bbpf", ["--overlay-engine=bpf", "--weft-service-balancer=bpf"]),
    ("Weft, bridge", "bbridge", ["--overlay-engine=bridge", "--weft-service-balancer=nftables"]),
];

impl Engine {
    /// The machine's own.
    pub(crate) fn docker() -> Self {
        Self { name: "Docker", lab: "bdocker", daemon: DaemonSpec::docker() }
    }

    /// What the daemon has to choose from; one if it has no choice.
    pub(crate) fn wefts() -> Vec<Self> {
        let help = Command::new(weft_exe()).args(["daemon", "--help"]).output().unwrap();
        let daemon = DaemonSpec::weft(&weft_exe());
        if !String::from_utf8_lossy(&help.stdout).contains("--overlay-engine") {
            return vec![Self { name: "Weft", lab: "bweft", daemon }];
        }
        let choice = |(name, lab, flags): (_, _, [&str; 2])| Self {
            name,
            lab,
            daemon: flags.iter().fold(daemon.clone(), |daemon, flag| daemon.arg(*flag)),
        };
        CHOICES.map(choice).into()
    }
}

impl Side {
    /// Builds it; all containers reach each other.
    pub(crate) fn up(engine: &Engine) -> Self {
        let hosts = Hosts::up_with(labs::bridged(engine.lab, 3), |_| engine.daemon.clone());
        hosts.swarm();
        let network = format!("network create -d overlay --attachable --subnet {SUBNET} {NETWORK}");
        hosts.docker("h1", network).unwrap();
        for (host, container) in [("h1", "ann"), ("h1", "ben"), ("h2", "bob")] {
            hosts.run_idle(host, container, &format!("--network {NETWORK}")).unwrap();
        }
        let way = |host: &str, to: &str| {
            let address = hosts.address(host, to, NETWORK).unwrap();
            await_ping(&hosts, "ann", &address);
            Path::between(place(&hosts, "h1", "ann"), place(&hosts, host, to), &address)
        };
        let (far, near) = (way("h2", "bob"), way("h1", "ben"));
        Self { name: engine.name, hosts, far, near }
    }

    /// The network namespace of a container.
    pub(crate) fn place(&self, host: &str, container: &str) -> Place {
        place(&self.hosts, host, container)
    }
}

fn place(hosts: &Hosts, host: &str, container: &str) -> Place {
    Place::of(&hosts.inspect(host, container, "{{.State.Pid}}").unwrap())
}

/// Waits until a container on `h1` reaches an address.
pub(crate) fn await_ping(hosts: &Hosts, container: &str, address: &str) {
    eventually("the network works", DEADLINE, || {
        let pinged = ping(hosts, "h1", container, address, 1).map_err(|error| error.to_string())?;
        if pinged.is_lossless() { Ok(()) } else { Err("no answer".to_owned()) }
    });
}
