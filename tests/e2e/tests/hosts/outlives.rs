//! Row F4: what runs does not notice what becomes of the daemon; and what starts without managers.

use std::time::Duration;

use weft_e2e::Hosts;
use weft_e2e::slices::Game as _;
use weft_e2e::soaks::Restarts;
use weft_lab::{LabSpec, eventually};

use crate::{answers, swarm_with_network};

/// Stopped, killed, restarted, upgraded.
const FATES: u64 = 4;
/// Not one of those that the soak has.
const LAB: u64 = 4;
/// Time for containers to run without managers: those are waited for first.
const STARTED: Duration = Duration::from_secs(30);
/// Ends everything on a host and leaves nothing that a reboot would not leave.
const REBOOT: &str = "
for mount in $(cut -d' ' -f2 /proc/mounts | grep -e '^/run/weft/' -e /weft.data/ | sort -r); do umount -l $mount; done
rm -rf /run/weft
for link in docker0 docker_gwbridge; do ip link del $link 2> /dev/null; done
nft flush ruleset
true";

#[test]
fn f4_a_daemon_that_is_stopped_killed_restarted_or_upgraded_costs_no_request_and_no_lookup() {
    let game = Restarts;
    let mut arena = game.up(LAB);
    for round in 0..FATES {
        game.play(&mut arena, round, round);
    }
}

fn reboot(hosts: &mut Hosts, host: &str) {
    for pid in hosts.host(host).processes() {
        // Some end with others.
        let _ = hosts.host(host).run("kill", ["-9", &pid.to_string()]);
    }
    eventually("nothing runs", STARTED, || match hosts.host(host).processes() {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    });
    // Its record goes with it.
    hosts.daemon(host).kill().unwrap();
    hosts.host(host).sh(REBOOT).unwrap();
    hosts.start(host);
}

/// The containers of `h2` run and find each other, where they were before.
fn together(hosts: &Hosts, places: &[(&str, String)]) {
    for (name, place) in places {
        eventually("a container runs where it was", STARTED, || {
            let state = hosts.inspect("h2", name, "{{.State.Status}} {{.State.Error}}");
            let now = hosts.address("h2", name, "web").map_err(|e| e.to_string())?;
            if now == *place { Ok(()) } else { Err(format!("{name}: {state:?}, at {now:?}")) }
        });
    }
    assert!(answers(hosts, "h2", "ann", "bob").is_lossless());
}

#[test]
fn f4_containers_start_and_talk_after_a_reboot_without_managers_and_reconcile_later() {
    let mut hosts = swarm_with_network(LabSpec::bridged("reboot", 2));
    for name in ["ann", "bob"] {
        hosts.run_idle("h2", name, "--restart unless-stopped --network web").unwrap();
    }
    hosts.run_idle("h1", "cat", "--network web").unwrap();
    let place = |hosts: &Hosts, name| (name, hosts.address("h2", name, "web").unwrap());
    let places = ["ann", "bob"].map(|name| place(&hosts, name));
    answers(&hosts, "h2", "ann", "cat");

    // By force, and without a manager from then on.
    hosts.daemon("h1").kill().unwrap();
    reboot(&mut hosts, "h2");
    together(&hosts, &places);
    hosts.start("h1");
    hosts.wait_ready(2);
    together(&hosts, &places);
    hosts.run_idle("h1", "dan", "--network web").unwrap();
    assert!(answers(&hosts, "h2", "bob", "dan").is_lossless());

    // In order: nobody else gets the places meanwhile.
    hosts.daemon("h2").stop().unwrap();
    hosts.run_idle("h1", "eve", "--network web").unwrap();
    let eve = hosts.address("h1", "eve", "web").unwrap();
    assert!(places.iter().all(|(_, place)| *place != eve), "{eve} is taken");
    hosts.daemon("h1").kill().unwrap();
    hosts.start("h2");
    together(&hosts, &places);
    hosts.start("h1");
    hosts.wait_ready(2);
    together(&hosts, &places);
    hosts.run_idle("h1", "fay", "--network web").unwrap();
    assert!(answers(&hosts, "h2", "bob", "fay").is_lossless());
}
