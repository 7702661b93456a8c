//! Row E1 where the kernel has ESP: it encrypts, and what encrypts at the other end does not matter.
#![allow(clippy::print_stdout, reason = "the run shows how long things took")]

use std::time::Instant;

use weft_e2e::{Hosts, Recording, ping, weft_exe};
use weft_lab::{Capture, DaemonSpec, Host, LabSpec, eventually};

use crate::SOON;

/// Stands in everything that the containers say to each other.
const MARKER: &str = "may-nobody-read-this";
/// The same for `ping -p`: one byte, again and again.
const PATTERN: u8 = 0xa7;
const PATTERN_LEN: usize = 16;
/// Host, its container, and the engine that is asked for and taken.
const PLACES: [(&str, &str, &str, &str); 3] = [
    ("h1", "ann", "kernel", "kernel"),
    ("h2", "bob", "userspace", "userspace"),
    ("h3", "cid", "auto", "kernel"),
];
/// Times that everything is flushed in a row.
const FLUSHES: usize = 2;

fn daemon(engine: &str) -> DaemonSpec {
    let spec = DaemonSpec::weft(&weft_exe()).arg("--live-restore").arg("--weft-key-rotation=1h");
    spec.arg(format!("--weft-encryption-engine={engine}"))
}

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn e1_the_kernel_encrypts_with_either_engine_at_the_other_end() {
    let engine = |host: &str| PLACES.iter().find(|place| place.0 == host).unwrap().2;
    let mut hosts = Hosts::up_with(LabSpec::bridged("espk", 3), |host| daemon(engine(host)));
    let begin = Instant::now();
    let step = |what: &str| println!("{:6.1} s: {what}", begin.elapsed().as_secs_f64());
    for (host, _, _, taken) in PLACES {
        is_taken(&hosts, host, taken);
    }
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1").unwrap();
    hosts.join("h2", "h1").unwrap();
    hosts.join("h3", "h1").unwrap();
    hosts.wait_ready(3);
    hosts.docker("h1", "network create -d overlay --attachable --opt encrypted sec").unwrap();
    step("the swarm stands");

    // The VNI (4097) is the 24 bits at offset 4 of VXLAN's header (RFC 7348, section 5).
    let watched = ["h1", "h3"].map(|host| {
        let clear = Capture::start(hosts.host(host), "eth0", "udp port 4789").unwrap();
        (clear, Recording::start(hosts.host(host), "eth0", "wire"))
    });
    hosts.run_idle("h1", "ann", "--network sec").unwrap();
    hosts.exec("h1", "ann", &format!("ping -c 2 -W 1 -p {PATTERN:x} 10.0.1.77 || true")).unwrap();
    hosts.run_idle("h2", "bob", "--network sec").unwrap();
    hosts.run_idle("h3", "cid", "--network sec").unwrap();
    assert_eq!(device(&hosts, "h1"), "vxlan");
    assert_eq!(device(&hosts, "h2"), "tun");
    all_talk(&hosts);
    step("all answer each other");
    bulk(&hosts);
    step("bulk came through");
    assert_eq!(hosts.exec("h2", "bob", "cat /sys/class/net/eth0/mtu").unwrap(), "1408");
    let full = format!("ping -c 1 -W 2 -s 1380 -p {PATTERN:x} bob");
    assert!(hosts.exec("h1", "ann", &full).unwrap().contains(" 0% packet loss"));

    rotate(&hosts);
    step("keys rotated without loss");
    let dropped = flush(&hosts);
    step(&format!("flushed {FLUSHES} times; {dropped} packets stopped by rules"));
    all_talk(&hosts);
    paths_are_well(&hosts);

    // Other engines while containers run, without a word in the clear.
    hosts.replace("h3", daemon("userspace"));
    is_taken(&hosts, "h3", "userspace");
    eventually("another device", SOON, || match device(&hosts, "h3") {
        "tun" => Ok(()),
        other => Err(other),
    });
    all_talk(&hosts);
    let left = hosts.host("h3").sh("ip xfrm state; ip xfrm policy | grep -A2 'spi 0x' || true").unwrap();
    assert_eq!(left.trim(), "", "no key is left in the kernel");
    step("userspace in the kernel's place");
    hosts.replace("h2", daemon("kernel"));
    is_taken(&hosts, "h2", "kernel");
    all_talk(&hosts);
    step("the kernel in userspace's place");

    for (clear, wire) in watched {
        assert_eq!(clear.lines(), Vec::<String>::new(), "VXLAN in the clear");
        let words = [("text", MARKER.as_bytes()), ("pattern", &[PATTERN; PATTERN_LEN][..])];
        assert_eq!(wire.readable(&words), Vec::<&str>::new(), "on the wire");
    }
}

fn is_taken(hosts: &Hosts, host: &str, engine: &str) {
    let shown = hosts.docker(host, "info").unwrap();
    assert!(shown.contains(&format!("weft.encryption-engine={engine}")), "{host}: {shown}");
}

/// What the network's namespace sends its frames by.
fn device(hosts: &Hosts, host: &str) -> &'static str {
    let line =
        "for n in /run/weft/network/netns/*; do nsenter --net=$n ip -d link show vxlan0 2>/dev/null; done";
    let shown = hosts.host(host).sh(&format!("{line}; true")).unwrap();
    // The ingress network's has another identifier.
    let by_kernel = shown.contains("vxlan id 4097 ");
    let by_helper = shown.lines().any(|line| line.trim().starts_with("tun type tap"));
    match (by_kernel, by_helper) {
        (true, false) => "vxlan",
        (false, true) => "tun",
        _ => "neither, or both",
    }
}

fn all_talk(hosts: &Hosts) {
    for (host, from, ..) in PLACES {
        for (_, to, ..) in PLACES.iter().filter(|place| place.1 != from) {
            eventually(&format!("{to} answers {from}"), 2 * SOON, || {
                let pinged = ping(hosts, host, from, to, 1).map_err(|e| e.to_string())?;
                if pinged.is_lossless() { Ok(()) } else { Err(states(hosts)) }
            });
        }
    }
}

/// For a failure's words.
fn states(hosts: &Hosts) -> String {
    let line = "ip -s xfrm state | grep -v aead; ip xfrm policy; cat /proc/net/xfrm_stat | grep -v ' 0$'; nft list counters; \
                tail -n 20 /run/weft/network/helper/log";
    ["h1", "h2", "h3"]
        .map(|host| format!("{host}:\n{}\n", hosts.host(host).sh(line).unwrap_or_default()))
        .concat()
}

fn bulk(hosts: &Hosts) {
    // Without a pipe: `yes` does not always notice there that nobody reads any more.
    let line = format!(
        "mkdir -p /www; for i in $(seq 1 10000); do echo {MARKER}-$i; done > /www/new; mv /www/new /www/bulk; \
         httpd -p 80 -h /www; sleep 100000"
    );
    for (host, container) in [("h1", "ann"), ("h2", "bob")] {
        hosts.docker(host, ["exec", "-d", container, "sh", "-c", &line]).unwrap();
    }
    let sum =
        |host, from, to| hosts.exec(host, from, &format!("timeout 40 wget -O - http://{to}/bulk | md5sum"));
    let sums = [("h1", "ann"), ("h2", "bob")].map(|(host, container)| {
        let line = "wget -q -O /dev/null http://127.0.0.1/bulk && md5sum < /www/bulk";
        eventually("the server", 2 * SOON, || {
            hosts.exec(host, container, line).map(drop).map_err(|e| e.to_string())
        });
        hosts.exec(host, container, line).unwrap()
    });
    assert_eq!(sums[0], sums[1]);
    for (host, from, to) in
        [("h1", "ann", "bob"), ("h2", "bob", "ann"), ("h3", "cid", "ann"), ("h3", "cid", "bob")]
    {
        eventually(&format!("{from} fetches from {to}"), SOON, || match sum(host, from, to) {
            Ok(got) if got.contains(&sums[0]) => Ok(()),
            other => Err(format!("{other:?}, not {}\n{}", sums[0], states(hosts))),
        });
    }
}

/// Pings in the background; the end of their words is in a file.
fn begin_pings(hosts: &Hosts, host: &str, from: &str, to: &str, count: u32) {
    let line = format!("ping -c {count} -i 0.05 -W 3 -p {PATTERN:x} {to} > /tmp/pings-{to} 2>&1");
    hosts.docker(host, ["exec", "-d", from, "sh", "-c", &line]).unwrap();
}

fn pinged(hosts: &Hosts, host: &str, from: &str, to: &str) -> String {
    let line = format!("tail -n 3 /tmp/pings-{to}");
    eventually(&format!("the pings to {to} end"), 4 * SOON, || match hosts.exec(host, from, &line) {
        Ok(words) if words.contains("packets transmitted") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    hosts.exec(host, from, &line).unwrap()
}

/// The SPIs of what the kernel sends with.
fn spis(host: &Host) -> Vec<String> {
    let text = host.sh("ip xfrm policy").unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut spis: Vec<String> = words.windows(2).filter(|w| w[0] == "spi").map(|w| w[1].to_owned()).collect();
    spis.sort();
    spis
}

fn rotate(hosts: &Hosts) {
    let before = spis(hosts.host("h1"));
    assert_eq!(before.len(), 2, "one policy for each other node: {before:?}");
    let ways = [("h1", "ann", "bob"), ("h1", "ann", "cid"), ("h2", "bob", "cid")];
    for (host, from, to) in ways {
        begin_pings(hosts, host, from, to, 120);
    }
    assert_eq!(hosts.weft("h1", "swarm rotate-keys").unwrap(), "Keys rotated.");
    eventually("other keys", 2 * SOON, || {
        let now = spis(hosts.host("h1"));
        let changed = now.len() == 2 && now.iter().all(|spi| !before.contains(spi));
        if changed { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) }
    });
    for (host, from, to) in ways {
        let words = pinged(hosts, host, from, to);
        assert!(words.contains(" 0% packet loss"), "{from} to {to}: {words}");
    }
}

/// Takes everything away that the kernel has for it, one after the other, under traffic. Says how many packets only the
/// rules stopped.
fn flush(hosts: &Hosts) -> u64 {
    let host = hosts.host("h1");
    for to in ["bob", "cid"] {
        begin_pings(hosts, "h1", "ann", to, 300);
    }
    let mut dropped = 0;
    for _ in 0..FLUSHES {
        let before = cleartext(host);
        host.sh("ip xfrm policy flush").unwrap();
        paths_are_back(host);
        dropped += cleartext(host).saturating_sub(before);
        host.sh("ip xfrm state flush").unwrap();
        paths_are_back(host);
        host.sh("nft flush ruleset").unwrap();
        eventually("the rules are back", SOON, || match host.sh("nft list table inet weft-vxlan") {
            Ok(table) if table.contains("cleartext") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    let begin = Instant::now();
    host.sh("ip xfrm state flush; ip xfrm policy flush").unwrap();
    paths_are_back(host);
    println!("repaired after {:.1} s", begin.elapsed().as_secs_f64());
    for to in ["bob", "cid"] {
        println!("to {to}: {}", pinged(hosts, "h1", "ann", to));
    }
    assert!(dropped > 0, "no packet came between a flush and its repair: nothing is shown");
    dropped
}

fn paths_are_back(host: &Host) {
    eventually("what was flushed is back", SOON, || {
        let line = "ip xfrm policy; echo; ip xfrm state | grep '^\\sproto esp'";
        let shown = host.sh(line).map_err(|e| e.to_string())?;
        let count = |what| shown.matches(what).count();
        // A policy and associations of both directions for each other node, and what forbids, over both versions of IP.
        let whole = count("action block") == 2 && count("reqid") >= 6;
        if whole { Ok(()) } else { Err(shown) }
    });
}

fn cleartext(host: &Host) -> u64 {
    let counters = host.sh("nft list counters").unwrap();
    let mut words =
        counters.split_whitespace().skip_while(|w| *w != "cleartext").skip_while(|w| *w != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn paths_are_well(hosts: &Hosts) {
    for (host, ..) in PLACES {
        eventually(&format!("the paths of {host}"), 2 * SOON, || {
            let shown = hosts.docker(host, "network inspect --verbose sec").map_err(|e| e.to_string())?;
            let shown: serde_json::Value = serde_json::from_str(&shown).map_err(|e| e.to_string())?;
            let paths = shown[0]["Encryption"].as_object().cloned().unwrap_or_default();
            let well =
                paths.values().filter(|path| path["Scheme"] == "weft" && path["Trouble"].is_null()).count();
            if well == 2 { Ok(()) } else { Err(format!("{paths:?}")) }
        });
    }
}
