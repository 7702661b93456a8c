//! What containers of both engines see of each other.

use std::collections::BTreeSet;

use weft_e2e::{Hosts, ping};
use weft_lab::eventually;

use crate::cell::{Cell, SOON, cells, container, converged, idle, node};

/// Addresses that a container's resolver gives for a name.
fn addresses(hosts: &Hosts, host: &str, container: &str, name: &str) -> BTreeSet<String> {
    let answer =
        hosts.exec(host, container, &format!("nslookup -type=a {name} 127.0.0.11")).unwrap_or_default();
    let answer = answer.lines().skip_while(|line| !line.starts_with("Name:"));
    let found = answer.filter_map(|line| line.strip_prefix("Address")?.rsplit(' ').next().map(str::to_owned));
    found.map(|address| address.trim().to_owned()).collect()
}

/// Waits until a name stands for these addresses.
fn stands_for(hosts: &Hosts, host: &str, container: &str, name: &str, want: &BTreeSet<String>) {
    eventually(&format!("{name} on {host}"), SOON, || {
        let have = addresses(hosts, host, container, name);
        if have == *want { Ok(()) } else { Err(format!("want {want:?}, have {have:?}")) }
    });
}

fn reaches(hosts: &Hosts, host: &str, from: &str, target: &str) {
    eventually(&format!("{target} answers {host}"), SOON, || {
        let first = ping(hosts, host, from, target, 1).map_err(|e| e.to_string())?;
        if first.is_lossless() { Ok(()) } else { Err(format!("{first:?}")) }
    });
    let pinged = ping(hosts, host, from, target, 5).unwrap();
    assert!(pinged.is_lossless(), "{host} to {target}: {pinged:?}");
}

/// Makes a service whose tasks do not hear that they shall end, and are given longer than anything is waited for.
fn deaf(hosts: &Hosts, name: &str, options: &str) {
    let line =
        format!("service create -d --no-resolve-image --name {name} --stop-grace-period 10m {options}");
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    words.extend(["busybox", "sh", "-c", "trap '' TERM; sleep 100000 & wait"].map(str::to_owned));
    hosts.docker("h1", words).unwrap();
}

/// Services with and without an address of their own, their tasks on both engines, are found and reached both ways.
fn services_are_found(cell: Cell) {
    let hosts = cell.swarm("na", 2);
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    idle(&hosts, "vip", "--mode global --network name=web,alias=shared");
    deaf(&hosts, "rr", "--mode global --endpoint-mode dnsrr --network web");
    converged(&hosts, "vip", "2/2");
    converged(&hosts, "rr", "2/2");
    let inside = |host: &str, service: &str| {
        let id = container(&hosts, host, service);
        let address = hosts.address(host, &id, "web").unwrap();
        (id, address)
    };
    let both =
        |service: &str| ["h1", "h2"].map(|host| inside(host, service).1).into_iter().collect::<BTreeSet<_>>();
    let virtual_ip = hosts
        .docker("h1", ["service", "inspect", "--format", "{{(index .Endpoint.VirtualIPs 0).Addr}}", "vip"]);
    let virtual_ip = virtual_ip.unwrap().split('/').next().unwrap().to_owned();
    for host in ["h1", "h2"] {
        let (id, _) = inside(host, "vip");
        stands_for(&hosts, host, &id, "vip", &BTreeSet::from([virtual_ip.clone()]));
        stands_for(&hosts, host, &id, "shared", &BTreeSet::from([virtual_ip.clone()]));
        stands_for(&hosts, host, &id, "tasks.vip", &both("vip"));
        stands_for(&hosts, host, &id, "rr", &both("rr"));
        stands_for(&hosts, host, &id, "tasks.rr", &both("rr"));
        for other in ["h1", "h2"] {
            let (name, address) = inside(other, "rr");
            let long = hosts.inspect(other, &name, "{{.Name}}").unwrap();
            reaches(&hosts, host, &id, &address);
            stands_for(&hosts, host, &id, long.trim_start_matches('/'), &BTreeSet::from([address.clone()]));
            stands_for(&hosts, host, &id, &name[..12], &BTreeSet::from([address]));
        }
        let mtu = hosts.exec(host, &id, "cat /sys/class/net/eth0/mtu").unwrap();
        assert_eq!(mtu, "1450", "{host}");
        let large = inside(if host == "h1" { "h2" } else { "h1" }, "vip").1;
        hosts.exec(host, &id, &format!("ping -c 2 -s 4000 -W 2 {large}")).unwrap();
    }
    // A plain container of either engine is on it, too.
    for host in ["h1", "h2"] {
        hosts.run_idle(host, &format!("plain-{host}"), "--network web --network-alias plain").unwrap();
    }
    let plain: BTreeSet<String> =
        ["h1", "h2"].map(|host| hosts.address(host, &format!("plain-{host}"), "web").unwrap()).into();
    for host in ["h1", "h2"] {
        stands_for(&hosts, host, &format!("plain-{host}"), "plain", &plain);
        stands_for(&hosts, host, &format!("plain-{host}"), "tasks.rr", &both("rr"));
    }
    // Who is drained is out of every answer before it ends, and whoever comes in its place is in them.
    let (going, _) = inside("h2", "rr");
    let left = BTreeSet::from([inside("h1", "rr").1]);
    assert_eq!(node(&hosts, "h2", "{{.Spec.Availability}}"), "active");
    hosts.docker("h1", "node update --availability drain h2").unwrap();
    for host in ["h1", "h2"] {
        stands_for(&hosts, host, &format!("plain-{host}"), "rr", &left);
        stands_for(&hosts, host, &format!("plain-{host}"), "tasks.rr", &left);
    }
    assert_eq!(hosts.inspect("h2", &going, "{{.State.Running}}").unwrap(), "true");
    hosts.docker("h2", ["rm", "-f", &going]).unwrap();
    hosts.docker("h1", "node update --availability active h2").unwrap();
    converged(&hosts, "rr", "2/2");
    for host in ["h1", "h2"] {
        stands_for(&hosts, host, &format!("plain-{host}"), "rr", &both("rr"));
        stands_for(&hosts, host, &format!("plain-{host}"), "tasks.rr", &both("rr"));
    }
}
cells!(services_are_found);
