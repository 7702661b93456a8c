//! What carries overlay networks' frames, programs or bridges: `--overlay-engine`.

use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::{SOON, answers};

fn daemon(engine: &str) -> DaemonSpec {
    DaemonSpec::weft(&weft_exe()).arg("--live-restore").arg(format!("--overlay-engine={engine}"))
}

fn engine(hosts: &Hosts, host: &str) -> String {
    let labels = hosts.docker(host, ["info", "--format", "{{join .Labels \" \"}}"]).unwrap();
    let mut words = labels.split_whitespace().filter_map(|label| label.strip_prefix("weft.overlay-engine="));
    words.next().unwrap_or_default().to_owned()
}

/// Tunnel packets that the kernel's own device made on a host so far: programs' pass it by.
fn through_the_device(hosts: &Hosts, host: &str) -> u64 {
    let count = "for ns in $(find /run /var/run -path '*netns*' -type f 2>/dev/null); do \
                 nsenter --net=$ns cat /proc/net/dev 2>/dev/null; done | awk '/vxlan/ { sent += $11 } END { print sent + 0 }'";
    hosts.host(host).sh(count).unwrap().trim().parse().unwrap()
}

/// What ping says of answers in a row. The answer to its last request may have been on its way when it was ended.
fn none_is_lost(said: &str) {
    let number = |line: &str| line.split_once("seq=")?.1.split_once(' ')?.0.parse().ok();
    let answered: Vec<usize> = said.lines().filter_map(number).collect();
    let sent = said.lines().find_map(|line| line.split_once(" packets transmitted")?.0.parse::<usize>().ok());
    let sent = sent.unwrap_or_default();
    assert!(
        answered.iter().copied().eq(0..answered.len()) && sent > 0 && sent <= answered.len() + 1,
        "{said}"
    );
}

#[test]
fn programs_and_bridges_carry_one_network_and_take_turns() {
    let first = |host: &str| daemon(if host == "h1" { "bpf" } else { "bridge" });
    let mut hosts = Hosts::up_with(LabSpec::bridged("engines", 2), first);
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    assert_eq!((engine(&hosts, "h1").as_str(), engine(&hosts, "h2").as_str()), ("bpf", "bridge"));
    answers(&hosts, "h1", "ann", "bob");
    answers(&hosts, "h2", "bob", "ann");
    let before = ["h1", "h2"].map(|host| through_the_device(&hosts, host));
    hosts.exec("h1", "ann", "ping -c 20 -i 0.01 bob").unwrap();
    let made = ["h1", "h2"].map(|host| through_the_device(&hosts, host));
    assert!(made[0] - before[0] < 20 && made[1] - before[1] >= 20, "{before:?} {made:?}");

    // Nobody notices that programs come, and whoever has the kernel's device goes on when they are gone.
    let pinging = "ping -i 0.05 bob > /lost 2>&1";
    hosts.docker("h1", ["exec", "-d", "ann", "sh", "-c", pinging]).unwrap();
    hosts.replace("h2", daemon("bpf"));
    assert_eq!(engine(&hosts, "h2"), "bpf");
    answers(&hosts, "h2", "bob", "ann");
    let end = "killall -INT ping; for _ in $(seq 50); do grep -q 'packet loss' /lost && break; sleep 0.1; done; cat /lost";
    none_is_lost(&hosts.exec("h1", "ann", end).unwrap());
    hosts.replace("h1", daemon("bridge"));
    assert_eq!(engine(&hosts, "h1"), "bridge");
    answers(&hosts, "h1", "ann", "bob");
    answers(&hosts, "h2", "bob", "ann");
    assert_eq!(
        hosts.host("h1").sh("mount | grep -c ' on /run/weft/.* type bpf ' || true").unwrap().trim(),
        "0"
    );
}

/// The first receive queue's processors, as a daemon that was started in this host sees them.
fn steered(hosts: &Hosts) -> String {
    let read =
        "unshare -m sh -c 'mount -t sysfs devices /sys && cat /sys/class/net/eth0/queues/rx-0/rps_cpus'";
    hosts.host("h1").sh(read).unwrap().trim().replace(',', "").trim_start_matches('0').to_owned()
}

#[test]
fn b11_a_bulk_profile_is_kept_up_and_given_back() {
    let with = |profile: &str| {
        DaemonSpec::weft(&weft_exe()).arg("--live-restore").arg(format!("--weft-profile={profile}"))
    };
    let mut hosts = Hosts::up_with(LabSpec::bridged("bulk", 1), |_| with("bulk"));
    assert_eq!(steered(&hosts), "");
    hosts.docker("h1", format!("swarm init --advertise-addr {}", hosts.host("h1").ipv4)).unwrap();
    let info = hosts.docker("h1", "info").unwrap();
    assert!(info.contains("weft.profile=bulk"), "{info}");
    let all = steered(&hosts);
    assert_ne!(all, "");
    let damage =
        "unshare -m sh -c 'mount -t sysfs devices /sys && echo 0 > /sys/class/net/eth0/queues/rx-0/rps_cpus'";
    hosts.host("h1").sh(damage).unwrap();
    let becomes = |hosts: &Hosts, want: &str| {
        eventually("receive queues", SOON, || {
            let now = steered(hosts);
            if now == want { Ok(()) } else { Err(now) }
        });
    };
    becomes(&hosts, &all);
    hosts.replace("h1", with("default"));
    becomes(&hosts, "");
}
