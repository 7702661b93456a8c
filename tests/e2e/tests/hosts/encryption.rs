//! Rows E1, E2 and E3: encrypted networks, and what is on the wire meanwhile.

use std::path::Path;

use weft_e2e::{Hosts, Recording, ping, weft_exe};
use weft_lab::{Capture, DaemonSpec, Host, LabSpec, eventually};

use crate::{SOON, answers};

/// Stands in everything that the containers say to each other.
const MARKER: &str = "may-nobody-read-this";
/// The same for `ping -p`: one byte, again and again.
const PATTERN: u8 = 0xa7;
/// Nothing of this length by chance.
const PATTERN_LEN: usize = 16;

/// A swarm of `count` hosts with short-lived keys and an encrypted network `sec` (identifier 4097).
fn encrypted(name: &str, count: usize, period_s: u64) -> Hosts {
    encrypted_by("bridge", name, count, period_s)
}

/// The same with an engine of overlay networks.
fn encrypted_by(engine: &str, name: &str, count: usize, period_s: u64) -> Hosts {
    let daemon = |_: &str| {
        DaemonSpec::weft(&weft_exe())
            .arg("--live-restore")
            .arg(format!("--weft-key-rotation={period_s}s"))
            .arg(format!("--overlay-engine={engine}"))
            .arg("--metrics-addr=127.0.0.1:9323")
    };
    let hosts = Hosts::up_with(LabSpec::bridged(name, count), daemon);
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1").unwrap();
    hosts.join("h2", "h1").unwrap();
    hosts.wait_ready(2);
    hosts.docker("h1", "network create -d overlay --attachable --opt encrypted sec").unwrap();
    hosts
}

#[test]
fn e1_nothing_of_an_encrypted_network_is_in_the_clear() {
    nothing_is_in_the_clear(encrypted("esp", 2, 2));
}

#[test]
fn e1_nothing_is_in_the_clear_past_the_bridges() {
    let hosts = nothing_is_in_the_clear(encrypted_by("bpf", "esp-bpf", 2, 2));
    let attached = hosts.host("h1").sh("ls /run/weft/network/bpf/attached").unwrap();
    assert!(attached.contains("from_device-4097"), "{attached}");
}

fn nothing_is_in_the_clear(mut hosts: Hosts) -> Hosts {
    let wire = Recording::start(hosts.host("h1"), "eth0", "wire");
    let watch = |filter: &str| Capture::start(hosts.host("h1"), "eth0", filter).unwrap();
    // The VNI is the 24 bits at offset 4 of VXLAN's header (RFC 7348, section 5).
    let clear = watch("udp port 4789 and udp[12:4] == 0x100100");
    let fragments = watch("ip[6:2] & 0x3fff != 0");
    let (esp, raw) = (watch("udp port 4500"), watch("ip proto 50"));

    // Alone, with nobody to talk to.
    hosts.run_idle("h1", "ann", "--network sec").unwrap();
    hosts.exec("h1", "ann", &format!("ping -c 2 -W 1 -p {PATTERN:x} 10.0.1.77 || true")).unwrap();
    hosts.run_idle("h2", "bob", "--network sec").unwrap();
    answers(&hosts, "h1", "ann", "bob");
    answers(&hosts, "h2", "bob", "ann");
    let bob = hosts.address("h2", "bob", "sec").unwrap();

    // Full frames fit the wire, larger ones are not made.
    assert_eq!(hosts.exec("h2", "bob", "cat /sys/class/net/eth0/mtu").unwrap(), "1408");
    let fits = hosts.exec("h1", "ann", &format!("ping -c 1 -W 2 -s 1380 -p {PATTERN:x} bob")).unwrap();
    assert!(fits.contains(" 0% packet loss"), "{fits}");

    serve(&hosts, "h2", "bob");
    let sum = hosts.exec("h2", "bob", "md5sum < /www/bulk").unwrap();
    let fetch = "timeout 20 wget -q -O - http://bob/bulk | md5sum";
    eventually("bulk", SOON, || match hosts.exec("h1", "ann", fetch) {
        Ok(got) if got == sum => Ok(()),
        other => Err(format!("{other:?}, not {sum}")),
    });

    // Three rotations and more.
    let through = hosts.exec("h1", "ann", &format!("ping -c 80 -i 0.1 -W 2 -p {PATTERN:x} bob")).unwrap();
    assert!(through.contains(" 0% packet loss"), "keys rotate: {through}");

    // What users see of it.
    eventually("the path's state", SOON, || {
        let shown = hosts.docker("h1", "network inspect --verbose sec").map_err(|e| e.to_string())?;
        let path = &serde_json::from_str::<serde_json::Value>(&shown).map_err(|e| e.to_string())?[0]["Encryption"]
            ["10.99.0.2"];
        let well = path["Scheme"] == "weft" && path["LastReceived"].as_u64().is_some_and(|ago| ago < 20);
        if well && path["Trouble"].is_null() { Ok(()) } else { Err(shown) }
    });
    // The managers' own rotation, every two seconds here, may change the swarm between the command's question and its change.
    eventually("keys rotate by hand", SOON, || match hosts.weft("h1", "swarm rotate-keys") {
        Ok(said) if said == "Keys rotated." => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // The daemon dies, and somebody flushes all rules.
    hosts.daemon("h2").kill().unwrap();
    for host in ["h1", "h2"] {
        hosts.host(host).sh("nft flush ruleset").unwrap();
    }
    // From the other side: the dead daemon's containers cannot be told to do anything. By address: the way to the
    // resolver is a rule, too.
    let line = format!("ping -c 30 -i 0.1 -W 2 -p {PATTERN:x} {bob}");
    let through = hosts.exec("h1", "ann", &line).unwrap();
    assert!(through.contains(" 0% packet loss"), "the daemon is dead: {through}");
    hosts.start("h2");
    eventually("the rules stand again", SOON, || {
        match hosts.host("h2").sh("nft list table inet weft-vxlan") {
            Ok(table) if table.contains("cleartext") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(answers(&hosts, "h1", "ann", "bob").is_lossless());
    assert_eq!(hosts.exec("h1", "ann", fetch).unwrap(), sum);

    assert_eq!(clear.lines(), Vec::<String>::new(), "VXLAN in the clear");
    assert_eq!(fragments.lines(), Vec::<String>::new(), "fragments on the underlay");
    assert!(
        esp.count() > 50 && raw.count() == 0,
        "{} packets of ESP in UDP, {} of ESP",
        esp.count(),
        raw.count()
    );
    assert_eq!(readable(&wire), Vec::<&str>::new(), "on the wire");

    // The same words over a plain network are found: the search works.
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    for (host, container) in [("h1", "ann"), ("h2", "bob")] {
        hosts.docker(host, format!("network connect web {container}")).unwrap();
    }
    let open = Recording::start(hosts.host("h1"), "eth0", "open");
    let address = hosts.address("h2", "bob", "web").unwrap();
    hosts.exec("h1", "ann", &format!("ping -c 2 -W 2 -p {PATTERN:x} {address}; timeout 9 wget -q -O - http://{address}/bulk | md5sum")).unwrap();
    eventually("the words in the clear", SOON, || {
        let found = readable(&open);
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    hosts
}

#[test]
fn e1_what_is_not_authentic_is_dropped_and_counted() {
    let hosts = encrypted("esp-in", 3, 3600);
    hosts.run_idle("h1", "ann", "--network sec").unwrap();
    hosts.run_idle("h2", "bob", "--network sec").unwrap();
    answers(&hosts, "h2", "bob", "ann");
    let address = hosts.address("h1", "ann", "sec").unwrap();
    let mac = hosts.exec("h1", "ann", "cat /sys/class/net/eth0/address").unwrap();
    let echos = echo_requests(&hosts);

    // A stranger, and a member that sends in the clear past its own rules.
    for (host, ip) in [("h3", "10.0.1.250"), ("h2", "10.0.1.251")] {
        let setup = format!(
            "ip link add vx type vxlan id 4097 remote 10.99.0.1 dstport 4789 && ip addr add {ip}/24 dev vx && \
             ip link set vx up && ip neigh replace {address} lladdr {mac} dev vx"
        );
        hosts.host(host).sh(&setup).unwrap();
        // What this host would drop itself is counted there.
        let counted = if host == "h2" { "h2" } else { "h1" };
        let before = cleartext_count(hosts.host(counted));
        eventually("cleartext is dropped and counted", SOON, || {
            let line = format!("ping -c 2 -i 0.2 -W 1 -I vx {address} || true");
            hosts.host(host).sh(&line).map_err(|e| e.to_string())?;
            let now = cleartext_count(hosts.host(counted));
            if now >= before + 2 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
        });
        hosts.host(host).sh("ip link del vx").unwrap();
    }
    assert_eq!(echo_requests(&hosts), echos, "cleartext reached the container");

    // Packets of a member, recorded and sent again as they were and altered.
    let wire = Recording::start(hosts.host("h1"), "eth0", "wire");
    assert!(ping(&hosts, "h2", "bob", "ann", 3).unwrap().is_lossless());
    let packets = eventually_packets(&wire);
    let echos = echo_requests(&hosts);
    for packet in &packets {
        let mut flipped = packet.clone();
        flipped[40] ^= 1;
        // Another sequence number, so that it is not taken for a replay.
        flipped[5] ^= 0x40;
        let mut foreign = packet.clone();
        foreign[0] ^= 0xff;
        for datagram in [packet.clone(), flipped, foreign, packet[..20].to_vec(), vec![0; 3]] {
            send(hosts.host("h2"), &datagram);
        }
    }
    for kind in ["replayed", "not_authentic", "unknown_spi", "malformed"] {
        eventually(&format!("{kind} packets are counted"), SOON, || {
            let log = helper_log(&hosts, "h1");
            if log.contains(&format!("(\"{kind}\", ")) { Ok(()) } else { Err("not in the helper's log") }
        });
    }
    assert_eq!(echo_requests(&hosts), echos, "a replayed or altered packet reached the container");
    eventually("metrics tell of them", SOON, || {
        let metrics = metrics(hosts.host("h1"));
        let counts = |name: &str| metrics.lines().any(|l| l.starts_with(name) && !l.ends_with(" 0"));
        let refused = r#"weft_encryption_refused_packets_total{peer="10.99.0.2",reason="replayed"}"#;
        let dropped = r#"weft_encryption_dropped_packets_total{reason="unknown_spi"}"#;
        let up = r#"weft_encryption_path_up{peer="10.99.0.2",scheme="weft"} 1"#;
        if [refused, dropped, up].into_iter().all(counts) { Ok(()) } else { Err(metrics) }
    });
    assert!(answers(&hosts, "h2", "bob", "ann").is_lossless());
}

#[test]
fn e3_a_node_that_does_not_encrypt_refuses() {
    let daemon = |host: &str| match host {
        "h2" => DaemonSpec::weft(&weft_exe()).arg("--weft-encryption-port=0"),
        _ => DaemonSpec::weft(&weft_exe()),
    };
    let hosts = Hosts::up_with(LabSpec::bridged("esp-no", 2), daemon);
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable --opt encrypted sec").unwrap();
    let refused = hosts.run_idle("h2", "bob", "--network sec").unwrap_err().to_string();
    assert!(refused.contains("cannot encrypt overlay networks"), "{refused}");
    let create = "service create -d --name s --network sec --constraint node.hostname==h2 --restart-condition none \
                  busybox sleep 1000";
    hosts.docker("h1", create).unwrap();
    eventually("service ps says why", SOON, || {
        match hosts.docker("h1", ["service", "ps", "--no-trunc", "--format", "{{.Error}}", "s"]) {
            Ok(error) if error.contains("cannot encrypt overlay networks") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn serve(hosts: &Hosts, host: &str, container: &str) {
    let line = format!(
        "mkdir -p /www; yes {MARKER} | head -c 5000000 > /www/bulk; httpd -p 80 -h /www; sleep 100000"
    );
    hosts.docker(host, ["exec", "-d", container, "sh", "-c", &line]).unwrap();
    eventually("the server", SOON, || match hosts.exec(host, container, "wc -c < /www/bulk") {
        Ok(size) if size == "5000000" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Which of the containers' words can be read.
fn readable(wire: &Recording) -> Vec<&'static str> {
    wire.readable(&[("text", MARKER.as_bytes()), ("pattern", &[PATTERN; PATTERN_LEN])])
}

/// Packets of ESP from the second host to the first.
fn packets(pcap: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = pcap.get(24..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(frame) = after.get(..len) else { break };
        // Ethernet 14, IPv4 20 with source at 12, UDP 8.
        let to_port = frame.get(36..38) == Some(&4500u16.to_be_bytes()[..]);
        let from_h2 = frame.get(26..30) == Some(&[10, 99, 0, 2][..]);
        let is_udp = frame.get(12..14) == Some(&[8, 0][..]) && frame.get(23) == Some(&17);
        if is_udp && to_port && from_h2 && frame.len() > 42 + 100 && frame[42..46] != [0; 4] {
            found.push(frame[42..].to_vec());
        }
        rest = &after[len..];
    }
    found
}

fn eventually_packets(wire: &Recording) -> Vec<Vec<u8>> {
    eventually("recorded packets", SOON, || {
        let count = packets(&wire.bytes()).len();
        if count >= 3 { Ok(()) } else { Err(format!("{count}")) }
    });
    packets(&wire.bytes())
}

/// One datagram to the first host.
fn send(host: &Host, datagram: &[u8]) {
    let file = host.dir.join("datagram");
    std::fs::write(&file, datagram).unwrap();
    let line = format!("cat {} > /dev/udp/10.99.0.1/4500", Path::new(&file).display());
    assert!(host.command("bash").args(["-c", &line]).status().unwrap().success());
}

fn echo_requests(hosts: &Hosts) -> u64 {
    let counters = hosts.exec("h1", "ann", "grep ^Icmp: /proc/net/snmp").unwrap();
    let mut lines = counters.lines().map(|line| line.split_whitespace());
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let (_, value) = names.zip(values).find(|(name, _)| *name == "InEchos").unwrap();
    value.parse().unwrap()
}

fn cleartext_count(host: &Host) -> u64 {
    let counters = host.sh("nft list counters").unwrap();
    let mut words =
        counters.split_whitespace().skip_while(|w| *w != "cleartext").skip_while(|w| *w != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no such counter:\n{counters}"))
}

fn metrics(host: &Host) -> String {
    let line = "exec 3<>/dev/tcp/127.0.0.1/9323; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let output = host.command("bash").args(["-c", line]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn helper_log(hosts: &Hosts, host: &str) -> String {
    hosts.host(host).sh("cat /run/weft/network/helper/log").unwrap()
}
