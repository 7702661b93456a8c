//! Bridges of one host: every form of publishing a port, who reaches whom, and under which address.

use weft_e2e::{Hosts, refusal};
use weft_lab::{LabSpec, eventually};

use crate::{SOON, docker};

/// The test program: both ends of a connection, and each tells whom it sees.
const ECHO: &str = env!("CARGO_BIN_EXE_peer-echo");

const SERVE: &str = "mkdir /www; hostname > /www/index.html; httpd -f -p 80 -h /www";

/// A container that answers on port 80 with its name.
fn serve(hosts: &Hosts, name: &str, options: &str) {
    let words = format!("run -d --name {name} --hostname {name} {options} busybox sh -c");
    let mut words: Vec<&str> = words.split_whitespace().collect();
    words.push(SERVE);
    hosts.docker("h1", words.as_slice()).unwrap();
}

/// What one asks of an address, from a host.
fn get(hosts: &Hosts, host: &str, address: &str) -> Result<String, String> {
    let line = format!("timeout 3 busybox wget -q -O - http://{address}/");
    hosts.host(host).sh(&line).map(|page| page.trim().to_owned()).map_err(|error| error.to_string())
}

/// The same, from a container.
fn get_inside(hosts: &Hosts, container: &str, address: &str) -> Result<String, String> {
    let line = format!("timeout 3 wget -q -O - http://{address}/");
    hosts.exec("h1", container, &line).map_err(|error| error.to_string())
}

fn wait_for(hosts: &Hosts, host: &str, address: &str, page: &str) {
    eventually(&format!("{address} from {host}"), SOON, || match get(hosts, host, address) {
        Ok(found) if found == page => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn ports_are_published_in_every_form() {
    let hosts = Hosts::up(LabSpec::bridged("publish", 2));
    hosts.docker("h1", "network create --ipv6 --subnet fd00:77::/64 six").unwrap();
    serve(&hosts, "range", "-p 8000-8001:80");
    serve(&hosts, "second", "-p 8000-8001:80");
    let text = refusal(hosts.docker("h1", "run -d --name third -p 8000-8001:80 busybox sleep 100"));
    assert!(text.contains("already allocated") || text.contains("all ports are allocated"), "{text}");
    assert_eq!(docker(&hosts, ["port", "range"]).lines().next(), Some("80/tcp -> 0.0.0.0:8000"));
    assert_eq!(docker(&hosts, ["port", "second"]).lines().next(), Some("80/tcp -> 0.0.0.0:8001"));
    wait_for(&hosts, "h2", "10.99.0.1:8001", "second");
    serve(&hosts, "pairs", "-p 8100-8102:79-81");
    wait_for(&hosts, "h2", "10.99.0.1:8101", "pairs");
    serve(&hosts, "local", "-p 127.0.0.1:8200:80");
    wait_for(&hosts, "h1", "127.0.0.1:8200", "local");
    assert!(get(&hosts, "h2", "10.99.0.1:8200").is_err(), "only on that address");
    serve(&hosts, "six1", "--network six -p 8300:80 -p [fd99::1]:8301:80");
    wait_for(&hosts, "h2", "[fd99::1]:8300", "six1");
    wait_for(&hosts, "h2", "[fd99::1]:8301", "six1");
    wait_for(&hosts, "h2", "10.99.0.1:8300", "six1");
    assert!(get(&hosts, "h2", "10.99.0.1:8301").is_err(), "only on that address");
    // From inside, by the host's address: itself, a neighbour, a container on another bridge.
    hosts.docker("h1", "network create other").unwrap();
    serve(&hosts, "far", "--network other -p 8400:80");
    for (from, address, page) in [
        ("range", "10.99.0.1:8000", "range"),
        ("second", "10.99.0.1:8000", "range"),
        ("far", "10.99.0.1:8000", "range"),
        ("range", "10.99.0.1:8400", "far"),
    ] {
        let found = get_inside(&hosts, from, address);
        assert_eq!(found.as_deref(), Ok(page), "{from} asks {address}");
    }
    // Ports chosen by the engine, and by the image's word.
    serve(&hosts, "any", "--expose 80 -P");
    let shown = docker(&hosts, ["port", "any", "80"]);
    let port = shown.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    wait_for(&hosts, "h2", &format!("10.99.0.1:{port}"), "any");
}

#[test]
fn published_ports_carry_datagrams_and_tell_who_sends_them() {
    let hosts = Hosts::up(LabSpec::bridged("datagram", 2));
    let program = format!("-v {ECHO}:/peer-echo:ro -v /lib:/lib:ro -v /lib64:/lib64:ro");
    for (name, port) in [("first", "5300"), ("second", "5301")] {
        let options = format!("run -d --name {name} --hostname {name} -p {port}:80/udp -p {port}:80");
        hosts.docker("h1", format!("{options} {program} busybox /peer-echo serve 80")).unwrap();
    }
    for protocol in ["tcp", "udp"] {
        eventually(&format!("{protocol} from the other host"), SOON, || {
            let answer = hosts.host("h2").run(ECHO, ["ask", protocol, "10.99.0.1:5300"]);
            match answer.map_err(|error| error.to_string())?.trim() {
                "10.99.0.2 first" => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        // Itself and its neighbour, by the host's address: the way back leads through the host as well.
        for (from, port, server) in
            [("first", 5300, "first"), ("second", 5300, "first"), ("first", 5301, "second")]
        {
            let line = format!("/peer-echo ask {protocol} 10.99.0.1:{port}");
            let answer = hosts.exec("h1", from, &line).unwrap();
            assert_eq!(answer.trim().rsplit(' ').next(), Some(server), "{protocol} {from} {port}: {answer}");
        }
    }
    let tcp_only = refusal(hosts.docker("h1", "run -d -p 5300:53 busybox true"));
    assert!(tcp_only.contains("Bind for 0.0.0.0:5300 failed: port is already allocated"), "{tcp_only}");
    let text = refusal(hosts.docker("h1", "run -d -p 5300:53/udp busybox true"));
    assert!(text.contains("Bind for 0.0.0.0:5300 failed: port is already allocated"), "{text}");
    // A port that was given back is free.
    docker(&hosts, ["rm", "-f", "first"]);
    hosts.run_idle("h1", "third", "-p 5300:53/udp -p 5300:53").unwrap();
}

#[test]
fn bridges_are_apart_and_as_closed_as_they_were_asked_for() {
    let hosts = Hosts::up(LabSpec::bridged("apart", 2));
    let reaches = |from: &str, to: &str| hosts.exec("h1", from, &format!("ping -c 1 -W 1 {to}")).is_ok();
    for line in [
        "network create --subnet 10.81.0.0/24 one",
        "network create --subnet 10.82.0.0/24 two",
        "network create --subnet 10.83.0.0/24 --internal inner",
        "network create --subnet 10.84.0.0/24 -o com.docker.network.bridge.enable_icc=false quiet",
        "network create --subnet 10.85.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false plain",
    ] {
        hosts.docker("h1", line).unwrap();
    }
    for (name, network, ip) in [
        ("a1", "one", "10.81.0.2"),
        ("b1", "two", "10.82.0.2"),
        ("i1", "inner", "10.83.0.2"),
        ("i2", "inner", "10.83.0.3"),
        ("q1", "quiet", "10.84.0.2"),
        ("p1", "plain", "10.85.0.2"),
    ] {
        hosts.run_idle("h1", name, &format!("--network {network} --ip {ip}")).unwrap();
    }
    serve(&hosts, "q2", "--network quiet --ip 10.84.0.3 -p 8084:80");
    assert!(reaches("a1", "10.99.0.2"), "the way out");
    assert!(!reaches("a1", "10.82.0.2") && !reaches("b1", "10.81.0.2"), "bridges are apart");
    assert!(!reaches("a1", "10.83.0.2") && !reaches("i1", "10.81.0.2"));
    assert!(reaches("i1", "i2") && !reaches("i1", "10.99.0.2"), "an internal network leads nowhere");
    assert_eq!(hosts.exec("h1", "i1", "ip route | grep default || true").unwrap(), "");
    assert!(!reaches("q1", "10.84.0.3"), "without inter-container communication");
    assert!(get_inside(&hosts, "q1", "10.84.0.3").is_err());
    wait_for(&hosts, "h2", "10.99.0.1:8084", "q2");
    assert_eq!(
        get_inside(&hosts, "q1", "10.99.0.1:8084").as_deref(),
        Ok("q2"),
        "a published port is for all"
    );
    // Under its own address: the other host has to know the way back.
    assert!(!reaches("p1", "10.99.0.2"));
    hosts.host("h2").sh("ip route add 10.85.0.0/24 via 10.99.0.1").unwrap();
    assert!(reaches("p1", "10.99.0.2"), "nobody translates");
    hosts.docker("h1", "network connect two a1").unwrap();
    assert!(reaches("a1", "10.82.0.2"), "who is on both reaches both");
}
