//! The local engine's API against exchanges that were recorded of a real Docker Engine.
//!
//! Each test starts a daemon on a host of its own, sends the recorded requests again, step by step, and compares status,
//! headers, streams and JSON with what the real engine answered. What Weft means to answer differently stands in one
//! table with its reason (`differences.rs`); a place that stands there and does not differ fails as well.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod differences;
mod http;
mod pattern;
mod recording;
mod replay;

use weft_e2e::Hosts;
use weft_lab::LabSpec;

use crate::pattern::Names;
use crate::replay::Replay;

/// Images as they were on the host of the recordings.
fn import_images(hosts: &Hosts) {
    let root = hosts.lab().busybox_tar().unwrap().display().to_string();
    let docker = |args: &[&str]| hosts.docker("h1", args).unwrap();
    docker(&["rmi", "busybox"]);
    docker(&["import", &root, "alpine:3.10"]);
    docker(&["tag", "alpine:3.10", "alpine:latest"]);
    docker(&["tag", "alpine:3.10", "busybox:latest"]);
}

/// Replays a recording on a host of its own.
fn replayed(recording: &'static str, text: &str, prepare: impl Fn(&Hosts)) {
    let hosts = Hosts::up(LabSpec::bridged(&format!("c{}", &recording[..6]), 1));
    prepare(&hosts);
    let host = hosts.host("h1");
    let directory = host.dir.join("shared");
    std::fs::create_dir_all(&directory).unwrap();
    let names = Names::new([
        ("root", host.dir.join("weft.data").display().to_string()),
        ("volumes", host.dir.join("weft.data/engine/volumes").display().to_string()),
        ("containers", host.dir.join("weft.data/engine/containers").display().to_string()),
        ("rootfs", directory.display().to_string()),
        ("host", host.name.clone()),
    ]);
    let mut replay = Replay {
        recording,
        socket: hosts.daemon("h1").socket.clone(),
        names,
        root: std::fs::read(hosts.lab().busybox_tar().unwrap()).unwrap(),
        saved: Vec::new(),
        met: Vec::new(),
        waited_in_vain: 0,
    };
    let unexpected = replay.run(&recording::read(text));
    assert!(unexpected.is_empty(), "{} places differ:\n{}", unexpected.len(), unexpected.join("\n"));
}

#[test]
fn system_is_as_recorded() {
    replayed("system", include_str!("recordings/system.jsonl"), import_images);
}

#[test]
fn containers_are_as_recorded() {
    replayed("containers", include_str!("recordings/containers.jsonl"), import_images);
}

#[test]
fn options_of_containers_are_as_recorded() {
    replayed("options", include_str!("recordings/options.jsonl"), import_images);
}

#[test]
fn images_are_as_recorded() {
    replayed("images", include_str!("recordings/images.jsonl"), |hosts| {
        hosts.docker("h1", "rmi busybox").unwrap();
    });
}

#[test]
fn events_are_as_recorded() {
    replayed("events", include_str!("recordings/events.jsonl"), import_images);
}

#[test]
fn networks_are_as_recorded() {
    replayed("networks", include_str!("recordings/networks.jsonl"), import_images);
}

#[test]
fn clients_are_answered_as_recorded() {
    replayed("clients", include_str!("recordings/clients.jsonl"), |hosts| {
        import_images(hosts);
        // Where the recording's engine had a swarm's bridge.
        let taken =
            "ip link add taken type bridge; ip address add 172.18.0.1/16 dev taken; ip link set taken up";
        hosts.host("h1").sh(taken).unwrap();
    });
}
