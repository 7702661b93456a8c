//! Row A3: three managers, real daemons; the leader is killed, roles change, a majority is lost.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weft_e2e::rounds::{Arena, Fault};
use weft_e2e::{Failed, Hosts};
use weft_lab::{LabSpec, eventually};

use crate::{SOON, answers};

/// Without its leader a swarm of three has another one; the rest is for the command line.
const ELECTION: Duration = Duration::from_secs(4);

/// Makes `h1` to `h3` managers, and further hosts workers.
fn managers(spec: LabSpec) -> Hosts {
    let hosts = Hosts::up(spec);
    hosts.docker("h1", format!("swarm init --advertise-addr {}", hosts.host("h1").ipv4)).unwrap();
    let names: Vec<String> = hosts.lab().hosts().iter().map(|host| host.name.clone()).collect();
    for name in &names[1..] {
        if ["h2", "h3"].contains(&name.as_str()) {
            hosts.join_manager(name, "h1").unwrap();
        } else {
            hosts.join(name, "h1").unwrap();
        }
    }
    hosts.wait_ready(names.len());
    hosts
}

/// `node ls` by one host: the column MANAGER STATUS of each node.
fn roles(hosts: &Hosts, by: &str) -> Result<BTreeMap<String, String>, Failed> {
    let list = hosts.docker(by, ["node", "ls", "--format", "{{.Hostname}}|{{.ManagerStatus}}"])?;
    Ok(list.lines().filter_map(|l| l.split_once('|')).map(|(h, s)| (h.into(), s.into())).collect())
}

fn wait_role(hosts: &Hosts, by: &str, host: &str, role: &str) {
    eventually(&format!("{host} is {role:?} by the word of {by}"), Duration::from_secs(20), || {
        match roles(hosts, by) {
            Ok(roles) if roles.get(host).map(String::as_str) == Some(role) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// The file that holds the key of `h1`'s store.
fn key_file(hosts: &Hosts) -> Vec<u8> {
    file_named(hosts, "data-key")
}

fn file_named(hosts: &Hosts, name: &str) -> Vec<u8> {
    let h1 = hosts.host("h1");
    let found = h1.run("find", [h1.dir.to_str().unwrap(), "-name", name]).unwrap();
    std::fs::read(found.trim()).unwrap()
}

/// Waits until the private key of `h1`'s certificate is kept as it is, or sealed.
fn key_is_readable(hosts: &Hosts, readable: bool) {
    eventually("the private key is kept as it shall be", SOON, || {
        let file = String::from_utf8(file_named(hosts, "node-identity.json")).unwrap();
        if file.contains("PRIVATE KEY") == readable { Ok(()) } else { Err("not so") }
    });
}

/// Waits until the key file, which follows the swarm's word a moment later, is another one.
fn wrapped_anew(hosts: &Hosts, before: &[u8]) -> Vec<u8> {
    eventually("the key file is written", SOON, || match key_file(hosts) {
        now if now != before => Ok(now),
        _ => Err("still the old one"),
    })
}

/// The `docker` CLI with an answer on its standard input.
fn answer(hosts: &Hosts, host: &str, args: &[&str], answer: &str) -> (bool, String) {
    let mut child = Command::new("docker")
        .args(args)
        .env("DOCKER_HOST", hosts.daemon(host).url())
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a3_the_root_rotates_and_managers_lock() {
    let mut hosts = Hosts::up(LabSpec::bridged("lock", 2));
    hosts.swarm();
    let (root, token) =
        (hosts.docker("h1", "swarm ca").unwrap(), hosts.docker("h1", "swarm join-token -q worker").unwrap());
    hosts.docker("h1", "swarm ca --rotate --quiet").unwrap();
    assert_ne!(hosts.docker("h1", "swarm ca").unwrap(), root);
    assert_ne!(hosts.docker("h1", "swarm join-token -q worker").unwrap(), token);
    hosts.wait_ready(2);
    let refused = hosts
        .docker("h1", "swarm update --external-ca protocol=cfssl,url=https://ca.example")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("external certificate authorities are not supported"), "{refused}");

    let open = key_file(&hosts);
    key_is_readable(&hosts, true);
    let text = hosts.docker("h1", "swarm update --autolock=true").unwrap();
    let locked = wrapped_anew(&hosts, &open);
    let key = hosts.docker("h1", "swarm unlock-key -q").unwrap();
    assert!(key.starts_with("SWMKEY-1-") && text.contains(&key), "{text}");
    let next = hosts.docker("h1", "swarm unlock-key -q --rotate").unwrap();
    assert_ne!(next, key);
    hosts.docker("h1", "network create -d overlay --attachable kept").unwrap();
    wrapped_anew(&hosts, &locked);
    key_is_readable(&hosts, false);
    hosts.daemon("h1").kill().unwrap();
    hosts.start("h1");
    let state = ["info", "--format", "{{.Swarm.LocalNodeState}}"];
    assert_eq!(hosts.docker("h1", state).unwrap(), "locked");
    let refused = hosts.docker("h1", "node ls").unwrap_err().to_string();
    assert!(
        refused.contains("Swarm is encrypted and needs to be unlocked before it can be used."),
        "{refused}"
    );
    let (opened, text) = answer(&hosts, "h1", &["swarm", "unlock"], &key);
    assert!(!opened && text.contains("swarm could not be unlocked: invalid key provided"), "{text}");
    let (opened, text) = answer(&hosts, "h1", &["swarm", "unlock"], &next);
    assert!(opened, "{text}");
    hosts.wait_ready(2);
    let names = hosts.docker("h1", ["network", "ls", "--format", "{{.Name}}"]).unwrap();
    assert!(names.lines().any(|name| name == "kept"), "{names}");
    hosts.docker("h1", "swarm update --autolock=false").unwrap();
    key_is_readable(&hosts, true);
}

#[test]
fn a3_the_swarm_survives_its_leader() {
    let mut hosts = managers(LabSpec::bridged("quorum", 4));
    for by in ["h1", "h2", "h3"] {
        wait_role(&hosts, by, "h1", "Leader");
        wait_role(&hosts, by, "h2", "Reachable");
        wait_role(&hosts, by, "h3", "Reachable");
        assert_eq!(roles(&hosts, by).unwrap()["h4"], "");
    }
    // Any manager takes changes.
    hosts.docker("h3", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h4", "dan", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    answers(&hosts, "h2", "bob", "dan");

    hosts.daemon("h1").kill().unwrap();
    let killed = Instant::now();
    eventually("the others have a leader", SOON, || {
        hosts.docker("h2", "network create -d overlay --attachable after").map(drop)
    });
    assert!(killed.elapsed() < ELECTION, "electing took {:?}", killed.elapsed());
    eventually("node ls tells of it", SOON, || {
        let roles = roles(&hosts, "h3").map_err(|e| e.to_string())?;
        let leaders = roles.values().filter(|role| *role == "Leader").count();
        if roles["h1"] == "Unreachable" && leaders == 1 { Ok(()) } else { Err(format!("{roles:?}")) }
    });
    // What ran goes on, and new containers get addresses.
    answers(&hosts, "h2", "bob", "dan");
    eventually("the worker finds the new leader", Duration::from_secs(20), || {
        hosts.run_idle("h4", "eve", "--network after").map(drop).inspect_err(|_| {
            let _ = hosts.docker("h4", "rm -f eve");
        })
    });
    hosts.start("h1");
    wait_role(&hosts, "h2", "h1", "Reachable");
    let names = hosts.docker("h1", ["network", "ls", "--format", "{{.Name}}"]).unwrap();
    assert!(names.lines().any(|name| name == "after"), "{names}");
}

#[test]
fn a3_roles_change_and_a_minority_says_so() {
    let mut hosts = managers(LabSpec::bridged("roles", 3));
    hosts.docker("h2", "node demote h3").unwrap();
    wait_role(&hosts, "h1", "h3", "");
    eventually("h3 is a worker", SOON, || {
        let control = hosts.docker("h3", ["info", "--format", "{{.Swarm.ControlAvailable}}"]);
        match control.as_deref() {
            Ok("false") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    hosts.docker("h1", "node promote h3").unwrap();
    wait_role(&hosts, "h1", "h3", "Reachable");
    eventually("h3 is a manager again", SOON, || hosts.docker("h3", "node ls").map(drop));

    let refused = hosts.docker("h1", "node rm --force h2").unwrap_err().to_string();
    assert!(refused.contains("is a cluster manager and is a member of the raft cluster"), "{refused}");

    hosts.daemon("h2").kill().unwrap();
    hosts.daemon("h3").kill().unwrap();
    eventually("writes are refused", Duration::from_secs(20), || {
        match hosts.docker("h1", "network create -d overlay never") {
            Err(error) if error.to_string().contains("The swarm does not have a leader") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let asked = Instant::now();
    let refused = hosts.docker("h1", "node ls").unwrap_err().to_string();
    assert!(refused.contains("The swarm does not have a leader"), "{refused}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());

    // By force h1 goes on alone.
    let address = hosts.host("h1").ipv4;
    hosts.docker("h1", format!("swarm init --force-new-cluster --advertise-addr {address}")).unwrap();
    hosts.docker("h1", "network create -d overlay --attachable alone").unwrap();
    assert_eq!(roles(&hosts, "h1").unwrap()["h1"], "Leader");

    // kill -9 of the only manager, and back.
    hosts.daemon("h1").kill().unwrap();
    hosts.start("h1");
    eventually("it leads again", SOON, || {
        let list =
            hosts.docker("h1", ["network", "ls", "--format", "{{.Name}}"]).map_err(|e| e.to_string())?;
        if list.lines().any(|name| name == "alone") { Ok(()) } else { Err(list) }
    });
}

/// Two of the rounds that `cargo xtask soak quorum` plays by the hundred; full disks and cuts are among those.
#[test]
fn a3_rounds_of_faults_lose_nothing() {
    let mut arena = Arena::up("rounds");
    for (seed, fault) in [Fault::LeaderHost, Fault::AnyProcess].into_iter().enumerate() {
        arena.play(fault, seed as u64);
    }
    arena.clear();
}

/// The word of a swarm that lost its majority for good: what ran runs, what was promised holds.
#[test]
fn a3_by_force_one_manager_goes_on_with_networks_addresses_and_keys() {
    let hosts = managers(LabSpec::bridged("force", 4));
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    let line = "service create -d --name s --mode global --network web --stop-grace-period 1s \
                --restart-delay 100ms busybox sleep 100000";
    hosts.docker("h1", line).unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h4", "dan", "--network web").unwrap();
    answers(&hosts, "h1", "ann", "dan");
    let running = |on: &[&str]| {
        eventually(&format!("tasks on {on:?}"), Duration::from_secs(60), || {
            let filter = ["service", "ps", "--filter", "desired-state=running", "--format"];
            let words = [&filter[..], &["{{.Node}} {{.CurrentState}}", "s"]].concat();
            let ps = hosts.docker("h1", words.as_slice()).map_err(|e| e.to_string())?;
            let mut up: Vec<&str> =
                ps.lines().filter_map(|line| line.split_once(" Running")).map(|it| it.0).collect();
            up.sort_unstable();
            if up == on && ps.lines().count() == on.len() { Ok(()) } else { Err(ps) }
        });
    };
    running(&["h1", "h2", "h3", "h4"]);
    let facts = || {
        let list = ["network", "inspect", "web", "--format", "{{.Id}} {{(index .IPAM.Config 0).Subnet}}"];
        let vip = ["service", "inspect", "s", "--format", "{{json .Endpoint.VirtualIPs}}"];
        [
            hosts.docker("h1", list).unwrap(),
            hosts.docker("h1", vip).unwrap(),
            hosts.docker("h1", ["ps", "-q", "--no-trunc", "--filter", "name=s."]).unwrap(),
            hosts.docker("h4", ["ps", "-q", "--no-trunc", "--filter", "name=s."]).unwrap(),
        ]
    };
    let before = facts();
    hosts.lab().kill("h2").unwrap();
    hosts.lab().kill("h3").unwrap();
    eventually("no leader", Duration::from_secs(20), || match hosts.docker("h1", "node ls") {
        Err(error) if error.to_string().contains("does not have a leader") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Nothing of this needs managers.
    answers(&hosts, "h4", "dan", "ann");

    let address = hosts.host("h1").ipv4;
    hosts.docker("h1", format!("swarm init --force-new-cluster --advertise-addr {address}")).unwrap();
    eventually("the dead managers are down", Duration::from_secs(60), || {
        let list = hosts.docker("h1", ["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
        let list = list.map_err(|e| e.to_string())?;
        let wanted = ["h1 Ready", "h2 Down", "h3 Down", "h4 Ready"];
        if wanted.iter().all(|line| list.lines().any(|have| have == *line)) { Ok(()) } else { Err(list) }
    });
    running(&["h1", "h4"]);
    assert_eq!(facts(), before, "network, address of the service and containers are what they were");
    assert!(answers(&hosts, "h1", "ann", "dan").is_lossless());
    // What is new gets addresses that nobody has, and is known everywhere: keys and allocator go on.
    hosts.run_idle("h4", "eve", "--network web").unwrap();
    hosts.docker("h1", "network create -d overlay --attachable later").unwrap();
    hosts.run_idle("h1", "fay", "--network later").unwrap();
    hosts.run_idle("h4", "gus", "--network later").unwrap();
    assert!(answers(&hosts, "h1", "ann", "eve").is_lossless());
    assert!(answers(&hosts, "h4", "gus", "fay").is_lossless());
    let mut taken: Vec<String> = [("h1", "ann"), ("h4", "dan"), ("h4", "eve")]
        .iter()
        .map(|(host, name)| hosts.address(host, name, "web").unwrap())
        .collect();
    for (host, id) in [("h1", &before[2]), ("h4", &before[3])] {
        taken.push(hosts.address(host, id, "web").unwrap());
    }
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 5, "{taken:?}");
    hosts.docker("h1", "service update -d --force s").unwrap();
    running(&["h1", "h4"]);
}

#[test]
fn a3_a_manager_whose_address_changed_is_followed() {
    let mut hosts = managers(LabSpec::bridged("moved", 3));
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h3", "cat", "--network web").unwrap();
    answers(&hosts, "h1", "ann", "cat");
    hosts.daemon("h2").stop().unwrap();
    let line = "ip addr del 10.99.0.2/24 dev eth0 && ip addr add 10.99.0.102/24 dev eth0";
    hosts.host("h2").sh(line).unwrap();
    hosts.start("h2");
    let at = ["node", "inspect", "h2", "--format", "{{.ManagerStatus.Addr}} {{.ManagerStatus.Reachability}}"];
    for by in ["h1", "h2", "h3"] {
        eventually(&format!("{by} knows where h2 is"), Duration::from_secs(30), || {
            match hosts.docker(by, at) {
                Ok(at) if at == "10.99.0.102:2377 reachable" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    // It counts: without h1 it is half of the majority.
    hosts.daemon("h1").kill().unwrap();
    eventually("the others go on", Duration::from_secs(20), || {
        hosts.docker("h3", "network create -d overlay --attachable after").map(drop)
    });
    eventually("h2 takes containers", Duration::from_secs(20), || {
        hosts.run_idle("h2", "bob", "--network web").map(drop).inspect_err(|_| {
            let _ = hosts.docker("h2", "rm -f bob");
        })
    });
    assert!(answers(&hosts, "h3", "cat", "bob").is_lossless());
    // Nobody told h1 while its daemon was away, and its containers ended with it.
    hosts.start("h1");
    hosts.wait_ready(3);
    hosts.docker("h1", "start ann").unwrap();
    assert!(answers(&hosts, "h2", "bob", "ann").is_lossless());
}
