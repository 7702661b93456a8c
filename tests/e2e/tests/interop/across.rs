//! What needs a kernel with IPVS and ESP at Docker's end: virtual IPs and published ports that lead to the other kind of
//! node, and encrypted networks.

use weft_e2e::{Hosts, ping, rotations};
use weft_lab::{Capture, eventually};

use crate::cell::{Cell, Engine, SOON, cells, container, converged};

/// How often Weft's manager rotates the keys of gossip; Docker's does it every twelve hours and cannot be asked to.
const ROTATION: &str = "--weft-key-rotation=30s";
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

/// The service's own addresses, by the manager's word.
fn virtual_ips(hosts: &Hosts, service: &str) -> String {
    let template = "{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}";
    hosts.docker("h1", ["service", "inspect", "--format", template, service]).unwrap()
}

/// From a task on `from`, the service's name leads to its task on `to`, by the service's own address.
fn virtual_ip_leads(hosts: &Hosts, from: &str, to: &str) {
    let task = container(hosts, from, &format!("on-{from}"));
    let own = virtual_ips(hosts, &format!("on-{to}"));
    let ask = format!("nslookup -type=a on-{to} 127.0.0.11; timeout 5 wget -q -O - http://on-{to}/");
    eventually(&format!("on-{to} answers a task on {from}"), SOON, || {
        let said = hosts.exec(from, &task, &ask).map_err(|e| e.to_string())?;
        let address = said.lines().filter_map(|line| line.strip_prefix("Address: ")).next_back();
        let by_its_own = address.is_some_and(|address| own.contains(&format!("{}/", address.trim())));
        if by_its_own && said.ends_with(&format!("inside-{to}")) {
            Ok(())
        } else {
            Err(format!("{said}, {own}"))
        }
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
fn names_cross_under_new_keys(hosts: &Hosts, begun: u64) {
    eventually("the keys of gossip rotate", SOON, || match rotations::count(hosts) {
        now if now >= begun + ROTATIONS => Ok(()),
        now => Err(format!("{now} rotations, {begun} when the swarm began")),
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
    virtual_ip_leads(hosts, "h1", "h2");
    virtual_ip_leads(hosts, "h2", "h1");
}

/// Containers of an encrypted network on both nodes.
const ENCRYPTED: [(&str, &str, &str); 2] = [("h1", "sec-a", "sec-b"), ("h2", "sec-b", "sec-a")];

/// Frames of an encrypted network come through whole, and none of them in the clear.
fn encrypted_network_leads_across(hosts: &Hosts) {
    let watch = |filter: &str| Capture::start(hosts.host("h1"), "eth0", filter).unwrap();
    // What `ping -p` fills its packets with, 16 bytes into them: behind UDP 8, VXLAN 8, Ethernet 14, IP 20 and ICMP 8.
    let clear = watch("udp port 4789 and udp[74:4] == 0xa7a7a7a7");
    let esp = watch("ip proto 50 or udp port 4500");
    hosts.docker("h1", "network create -d overlay --attachable --opt encrypted sec").unwrap();
    for (host, name, _) in ENCRYPTED {
        hosts.run_idle(host, name, "--network sec").unwrap();
    }
    let mtu = |host, name| hosts.exec(host, name, "cat /sys/class/net/eth0/mtu").unwrap();
    assert_eq!(mtu("h1", "sec-a"), mtu("h2", "sec-b"), "MTU");
    encrypted_pings(hosts);
    assert!(esp.count() >= 2 * ENCRYPTED.len(), "{} packets of ESP", esp.count());
    assert_eq!(clear.lines(), Vec::<String>::new(), "in the clear");
}

/// As large as packets may be, by name, both ways.
fn encrypted_pings(hosts: &Hosts) {
    for (host, from, to) in ENCRYPTED {
        let ask =
            format!("ping -c 3 -i 0.3 -W 2 -s $(($(cat /sys/class/net/eth0/mtu) - 28)) -p a7 {to} || true");
        eventually(&format!("{to} answers {from}"), SOON, || {
            let said = hosts.exec(host, from, &ask).map_err(|e| e.to_string())?;
            if said.contains(" 0% packet loss") { Ok(()) } else { Err(said) }
        });
    }
}

fn services_lead_across(cell: Cell) {
    let hosts = cell.swarm_with("ac", 2, &[ROTATION]);
    let begun = rotations::count(&hosts);
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    serve(&hosts, "h1", 8081);
    serve(&hosts, "h2", 8082);
    converged(&hosts, "on-h1", "1/1");
    converged(&hosts, "on-h2", "1/1");
    all_lead(&hosts);
    encrypted_network_leads_across(&hosts);
    if cell.manager == Engine::Weft {
        names_cross_under_new_keys(&hosts, begun);
        encrypted_pings(&hosts);
    }
}
cells!(
    services_lead_across,
    ignore = "Docker's load balancer needs another kernel: WEFT_VM_ONLY=across cargo xtask test vm"
);
