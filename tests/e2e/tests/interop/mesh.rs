//! Published ports that lead to tasks on both engines. Entered at Weft's nodes, and at Docker's where the kernel has
//! IPVS, as in the virtual machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use weft_e2e::Hosts;
use weft_lab::eventually;

use crate::cell::{Cell, Engine, SOON, cells, converged};

/// Whether Docker's engine can balance on this kernel.
fn kernel_has_ipvs() -> bool {
    let loaded = Command::new("modprobe").args(["-q", "ip_vs"]).status();
    loaded.is_ok_and(|status| status.success()) || Path::new("/proc/net/ip_vs").exists()
}

/// Hosts that take connections in.
fn entries(hosts: &Hosts, cell: Cell) -> Vec<String> {
    let engine = |name: &str| if name == "h1" { cell.manager } else { cell.worker };
    let all = hosts.lab().hosts().iter().map(|host| host.name.clone());
    let ipvs = kernel_has_ipvs();
    all.filter(|name| ipvs || engine(name) == Engine::Weft).collect()
}

/// Waits until a port of an entry leads to as many different tasks, asked from a host.
fn leads_to(hosts: &Hosts, from: &str, entry: &str, port: u16, tasks: usize) {
    let ask = format!("curl -s -f -m 2 http://{}:{port}/", hosts.host(entry).ipv4);
    eventually(&format!("{entry}:{port} leads {from} to {tasks} tasks"), SOON, || {
        let asked = (0..8 * tasks).map(|_| hosts.host(from).sh(&ask).map(|said| said.trim().to_owned()));
        let said: Vec<_> = asked.collect();
        let seen: BTreeSet<&String> = said.iter().filter_map(|said| said.as_ref().ok()).collect();
        if seen.len() == tasks && said.iter().all(Result::is_ok) { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

fn published_ports_lead_everywhere(cell: Cell) {
    if cell.is_pure() && cell.manager == Engine::Docker && !kernel_has_ipvs() {
        return;
    }
    let hosts = cell.swarm("me", 3);
    let line = "service create -d --no-resolve-image --name web --mode global --stop-grace-period 1s -p 8080:80 busybox";
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let serve = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";
    words.extend(["sh", "-c", serve].map(str::to_owned));
    hosts.docker("h1", words).unwrap();
    converged(&hosts, "web", "3/3");
    for entry in entries(&hosts, cell) {
        for from in ["h1", "h2", "h3"] {
            leads_to(&hosts, from, &entry, 8080, 3);
        }
    }
    // An entry without a task of its own.
    hosts.docker("h1", "service update -d --constraint-add node.hostname!=h2 web").unwrap();
    converged(&hosts, "web", "2/2");
    for entry in entries(&hosts, cell) {
        leads_to(&hosts, "h3", &entry, 8080, 2);
    }
}
cells!(published_ports_lead_everywhere);
