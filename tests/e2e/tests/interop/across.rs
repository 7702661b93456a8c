//! What needs the load balancers of both engines: virtual IPs and published ports that lead to the other kind of node.

use std::time::Duration;

use weft_e2e::{Hosts, ping, rotations};
use weft_lab::eventually;

use crate::cell::{Cell, Engine, SOON, cells, container, converged};

/// How often Weft's manager rotates the keys of gossip; Docker's does it every twelve hours and cannot be asked to.
const ROTATION: &str = "--weft-key-rotation=20s";
/// After so many no key of the start is in use any more.
const ROTATIONS: u64 = 2;

/// A service with one task, on `host`, which says its host; its port is published on every node.
fn serve(hosts: &Hosts, host: &str, port: u16) {
    let options = format!(
        "service create -d --no-resolve-image --name on-{host} --network web --constraint node.hostname=={host} \
         --hostname inside-{host} --stop-grace-period 1s -p {port}:80 busybox"
    );
    let mut words: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
    let serve = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";
    words.extend(["sh", "-c", serve].map(str::to_owned));
    hosts.docker("h1", words).unwrap();
}

/// From a task on `from`, the service's name leads to its task on `to`, by the service's own address.
fn virtual_ip_leads(hosts: &Hosts, from: &str, to: &str) {
    let task = container(hosts, from, &format!("on-{from}"));
    let template = "{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}";
    let own = hosts.docker("h1", ["service", "inspect", "--format", template, &format!("on-{to}")]).unwrap();
    eventually(&format!("on-{to} answers a task on {from}"), SOON, || {
        let name = hosts
            .exec(from, &task, &format!("nslookup -type=a on-{to} 127.0.0.11"))
            .map_err(|e| e.to_string())?;
        let address = name.rsplit("Address: ").next().unwrap_or_default().trim();
        if !own.contains(&format!("{address}/")) {
            return Err(format!("{address} is none of {own}"));
        }
        let said = hosts.exec(from, &task, &format!("timeout 5 wget -q -O - http://on-{to}/"));
        let said = said.map_err(|e| e.to_string())?;
        if said == format!("inside-{to}") { Ok(()) } else { Err(said) }
    });
}

/// A connection that enters at `entry` from the other host reaches the task on `to`.
fn port_leads(hosts: &Hosts, entry: &str, port: u16, to: &str) {
    let from = if entry == "h1" { "h2" } else { "h1" };
    let ask = format!("curl -s -f -m 5 http://{}:{port}/", hosts.host(entry).ipv4);
    eventually(&format!("{entry}:{port} leads to {to}"), SOON, || {
        let said = hosts.host(from).sh(&ask).map_err(|e| e.to_string())?;
        if said.trim() == format!("inside-{to}") { Ok(()) } else { Err(said) }
    });
}

/// Every way from one kind of node to the other, and each node's own.
fn all_lead(hosts: &Hosts) {
    for from in ["h1", "h2"] {
        for (to, port) in [("h1", 8081), ("h2", 8082)] {
            virtual_ip_leads(hosts, from, to);
            port_leads(hosts, from, port, to);
        }
    }
}

/// Containers that one side learns of by gossip under keys that did not exist when the swarm began.
fn names_cross_under_new_keys(hosts: &Hosts) {
    let before = rotations::count(hosts);
    eventually("the keys of gossip rotate", 3 * Duration::from_secs(20), || match rotations::count(hosts) {
        now if now >= before + ROTATIONS => Ok(()),
        now => Err(format!("{now} rotations, {before} before")),
    });
    for (host, name) in [("h1", "late-a"), ("h2", "late-b")] {
        hosts.run_idle(host, name, "--network web").unwrap();
    }
    for (host, from, target) in [("h1", "late-a", "late-b"), ("h2", "late-b", "late-a")] {
        eventually(&format!("{target} answers {from}"), SOON, || {
            let pinged = ping(hosts, host, from, target, 1).map_err(|e| e.to_string())?;
            if pinged.is_lossless() { Ok(()) } else { Err(format!("{pinged:?}")) }
        });
    }
}

fn services_lead_across(cell: Cell) {
    let hosts = cell.swarm_with("ac", 2, &[ROTATION]);
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    serve(&hosts, "h1", 8081);
    serve(&hosts, "h2", 8082);
    converged(&hosts, "on-h1", "1/1");
    converged(&hosts, "on-h2", "1/1");
    all_lead(&hosts);
    if cell.manager == Engine::Weft {
        names_cross_under_new_keys(&hosts);
        all_lead(&hosts);
    }
    // An encrypted network between the engines belongs here, once Weft has them: the machine's kernel has ESP.
}
cells!(
    services_lead_across,
    ignore = "Docker's load balancer needs another kernel: WEFT_VM_ONLY=across cargo xtask test vm"
);
