//! Which network a container has: its own with addresses of the user's choice, another's, the host's, or none.

use weft_e2e::{Hosts, refusal};
use weft_lab::{LabSpec, eventually};

use crate::{SOON, docker};

/// A web server that answers with `page` on a port.
fn serve(hosts: &Hosts, name: &str, options: &str, port: u16, page: &str) {
    let line = format!("mkdir /www; echo {page} > /www/index.html; httpd -f -p {port} -h /www");
    let words = format!("run -d --stop-timeout 0 --name {name} {options} busybox sh -c");
    let mut words: Vec<&str> = words.split_whitespace().collect();
    words.push(&line);
    hosts.docker("h1", words.as_slice()).unwrap();
}

fn wait_for(hosts: &Hosts, host: &str, address: &str, page: &str) {
    let line = format!("timeout 3 busybox wget -q -O - http://{address}/");
    eventually(&format!("{address} from {host}"), SOON, || match hosts.host(host).sh(&line) {
        Ok(found) if found.trim() == page => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn links(hosts: &Hosts, container: &str) -> String {
    let shown = hosts.exec("h1", container, "ls /sys/class/net").unwrap();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn containers_have_anothers_network_the_hosts_or_none() {
    let hosts = Hosts::up(LabSpec::bridged("modes", 2));
    hosts.run_idle("h1", "base", "--hostname inner -p 8080:80 -p 8081:81").unwrap();
    // One network, two containers: the second's server is behind the first's ports.
    serve(&hosts, "joined", "--network container:base", 80, "joined");
    wait_for(&hosts, "h2", "10.99.0.1:8080", "joined");
    assert_eq!(hosts.exec("h1", "joined", "hostname").unwrap(), "inner");
    assert_eq!(links(&hosts, "joined"), links(&hosts, "base"));
    // The host's: no port has to be published.
    serve(&hosts, "hosted", "--network host", 8090, "hosted");
    wait_for(&hosts, "h2", "10.99.0.1:8090", "hosted");
    let warned =
        docker(&hosts, ["create", "--name", "made", "--network", "host", "-p", "1:1", "busybox", "true"]);
    assert_eq!(warned.len(), 64, "{warned}");
    // None at all, until it is taken to one.
    hosts.run_idle("h1", "alone", "--network none").unwrap();
    assert_eq!(links(&hosts, "alone"), "lo");
    let text = refusal(hosts.docker("h1", "network connect bridge alone"));
    let words =
        "container cannot be connected to multiple networks with one of the networks in private (none) mode";
    assert!(text.contains(words), "{text}");
    hosts.docker("h1", "network disconnect none alone").unwrap();
    hosts.docker("h1", "network connect bridge alone").unwrap();
    assert_eq!(links(&hosts, "alone"), "eth0 lo");
    let ping = "ping -c 1 -W 2 10.99.0.2";
    assert!(hosts.exec("h1", "alone", ping).is_ok());
    docker(&hosts, ["restart", "alone"]);
    assert!(hosts.exec("h1", "alone", ping).is_ok(), "it stays where it was taken to");
    for (line, words) in [
        (
            "network connect bridge hosted",
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        (
            "network connect bridge joined",
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        (
            "network disconnect host hosted",
            "cannot disconnect container from host network - container was created in host network mode",
        ),
        (
            "network connect host base",
            "cannot connect container to host network - container must be created in host network mode",
        ),
        (
            "run --network container:base -p 1:1 busybox true",
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            "run --network container:base --expose 1 busybox true",
            "conflicting options: port exposing and the container type network mode",
        ),
        (
            "run --network container:base --hostname x busybox true",
            "conflicting options: hostname and the network mode",
        ),
        (
            "run --network container:base --dns 10.0.0.1 busybox true",
            "conflicting options: dns and the network mode",
        ),
        (
            "run --network container:base --add-host a:10.0.0.1 busybox true",
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            "run --network container:made busybox true",
            "cannot join network namespace of a non running container",
        ),
    ] {
        let text = refusal(hosts.docker("h1", line));
        assert!(text.contains(words), "{line}: {text}");
    }
}

#[test]
fn addresses_names_and_places_change_at_run_time() {
    let hosts = Hosts::up(LabSpec::bridged("places", 1));
    docker(&hosts, ["network", "create", "--subnet", "10.86.0.0/24", "--ip-range", "10.86.0.128/25", "left"]);
    docker(
        &hosts,
        ["network", "create", "--subnet", "10.87.0.0/24", "--subnet", "fd87::/64", "--ipv6", "right"],
    );
    let mac = "02:42:0a:56:00:09";
    let own = format!("--network left --ip 10.86.0.200 --mac-address {mac} --network-alias store");
    hosts.run_idle("h1", "one", &own).unwrap();
    hosts.run_idle("h1", "two", "--network left").unwrap();
    assert_eq!(hosts.exec("h1", "one", "cat /sys/class/net/eth0/address").unwrap(), mac);
    // By alias, and the neighbour is who it says.
    assert!(hosts.exec("h1", "two", "ping -c 1 -W 2 store").is_ok());
    assert!(hosts.exec("h1", "two", "ip neigh show 10.86.0.200").unwrap().contains(mac));
    assert!(hosts.address("h1", "two", "left").unwrap().starts_with("10.86.0.1"), "of the range");
    for (line, words) in [
        ("run -d --network left --ip 10.86.0.200 busybox true", "Address already in use"),
        (
            "run -d --network left --ip 10.99.9.9 busybox true",
            "no configured subnet or ip-range contain the IP address 10.99.9.9",
        ),
        (
            "run -d --network bridge --ip 172.17.0.9 busybox true",
            "user specified IP address is supported on user defined networks only",
        ),
        ("network connect left one", "endpoint with name one already exists in network left"),
        ("network rm left", "has active endpoints"),
    ] {
        let text = refusal(hosts.docker("h1", line));
        assert!(text.contains(words), "{line}: {text}");
    }
    // To another network and back, with other addresses and names.
    hosts.run_idle("h1", "three", "--network right").unwrap();
    assert!(hosts.exec("h1", "three", "ping -c 1 -W 1 10.86.0.200").is_err());
    hosts.docker("h1", "network connect --ip 10.87.0.50 --ip6 fd87::50 --alias depot right one").unwrap();
    assert!(hosts.exec("h1", "three", "ping -c 1 -W 2 depot").is_ok());
    assert!(hosts.exec("h1", "three", "ping -6 -c 1 -W 2 fd87::50").is_ok());
    assert!(hosts.exec("h1", "three", "nslookup store").is_err(), "names belong to their network");
    hosts.docker("h1", "network disconnect left one").unwrap();
    assert!(hosts.exec("h1", "two", "ping -c 1 -W 1 10.86.0.200").is_err());
    assert!(hosts.exec("h1", "two", "nslookup store").is_err());
    assert!(hosts.exec("h1", "three", "ping -c 1 -W 2 10.87.0.50").is_ok(), "what it kept is as it was");
    hosts.docker("h1", "network connect left one").unwrap();
    assert!(hosts.exec("h1", "two", "ping -c 1 -W 2 one").is_ok());
    docker(&hosts, ["restart", "-t", "0", "one"]);
    assert_eq!(hosts.address("h1", "one", "right").unwrap(), "10.87.0.50", "what was asked for stays");
    assert!(hosts.exec("h1", "three", "ping -c 1 -W 2 depot").is_ok());
}
