//! What no overlay can do better: hosts without a daemon on the same kind of underlay, and two namespaces with nothing but
//! a pair of veth devices between them.

use std::process::Command;

use weft_lab::Lab;

use crate::labs;
use crate::path::{Path, Place};

/// Where the servers are.
const NEAR: &str = "10.82.0.2";

pub(crate) struct Bare {
    _lab: Lab,
    /// From host to host.
    pub(crate) far: Path,
    /// Through the pair of devices.
    pub(crate) near: Path,
}

impl Bare {
    pub(crate) fn up() -> Self {
        let spec = labs::bridged("bbare", 2);
        // What a killed run left behind.
        if let Ok(stale) = Lab::open(&spec.name) {
            stale.down().unwrap();
        }
        let lab = Lab::up(spec).unwrap();
        let place = |host: &str| Place::of(&lab.host(host).unwrap().keeper.to_string());
        let target = lab.host("h2").unwrap().ipv4.to_string();
        let far = Path::between(place("h1"), place("h2"), &target);
        Self { far, near: pair(), _lab: lab }
    }
}

fn pair() -> Path {
    let (client, server) = (Place::fresh(), Place::fresh());
    let peer = format!("link add eth0 type veth peer name eth0 netns {}", server.path());
    configure(&client, &[&peer, "link set lo up", "addr add 10.82.0.1/24 dev eth0", "link set eth0 up"]);
    let address = format!("addr add {NEAR}/24 dev eth0");
    configure(&server, &["link set lo up", &address, "link set eth0 up"]);
    Path::between(client, server, NEAR)
}

/// Runs `ip` there.
fn configure(place: &Place, commands: &[&str]) {
    let run = || {
        place.enter();
        for words in commands {
            let status = Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "ip {words}: {status}");
        }
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap());
}
