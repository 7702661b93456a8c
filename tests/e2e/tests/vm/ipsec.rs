//! Row B10: programs that carry overlay networks' frames make room for IPsec of the host's own.

use weft_e2e::Hosts;
use weft_lab::{LabSpec, eventually};

use crate::SOON;

/// Another program's policy: what goes to the other host's tunnel port is not to leave unless encrypted.
const POLICY: &str = "src 10.99.0.1 dst 10.99.0.2 proto udp dport 4789 dir out";

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn b10_programs_make_room_for_ipsec_of_the_hosts_own() {
    let hosts = Hosts::up(LabSpec::bridged("ipsec", 2));
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    let host = hosts.host("h1");
    let programs = |wished: bool| {
        eventually(&format!("programs are there: {wished}"), SOON, || {
            let mounts = host.sh("mount | grep -c ' on /run/weft/.* type bpf ' || true").unwrap();
            if (mounts.trim() != "0") == wished { Ok(()) } else { Err(mounts) }
        });
    };
    let answered = |wished: bool| {
        eventually(&format!("the other host answers: {wished}"), SOON, || {
            let pinged = hosts.exec("h1", "ann", "ping -c 1 -W 1 bob");
            if pinged.is_ok() == wished { Ok(()) } else { Err(format!("{pinged:?}")) }
        });
    };
    programs(true);
    answered(true);

    host.sh(&format!("ip xfrm policy add {POLICY} action block")).unwrap();
    programs(false);
    answered(false);

    host.sh(&format!("ip xfrm policy delete {POLICY}")).unwrap();
    programs(true);
    answered(true);
}
