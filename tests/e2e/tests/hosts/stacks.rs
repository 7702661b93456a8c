//! Row C5 with stacks: names of the own stack first, under load and while the daemon is away.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use weft_e2e::{Hosts, dns::Inside, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

/// Time for stacks to run: images are there already.
const CONVERGED: Duration = Duration::from_secs(60);
/// Of each of the six tasks that ask: ten thousand in all, so that one wrong answer in a thousand would show.
const LOOKUPS: u16 = 1_700;
const STACKS: [&str; 2] = ["one", "two"];

/// Two stacks with the same services on one network.
fn deploy(hosts: &Hosts, stack: &str) {
    let file = hosts.host("h1").dir.join(format!("{stack}.yml"));
    let service = |replicas: u32| {
        format!(
            "{{image: busybox, command: sleep 100000, stop_grace_period: 1s, networks: [shared], deploy: {{replicas: \
             {replicas}}}}}"
        )
    };
    let text = format!(
        "version: '3.8'\nservices:\n  app: {}\n  db: {}\nnetworks:\n  shared: {{external: true}}\n",
        service(3),
        service(1)
    );
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    hosts
        .docker("h1", ["stack", "deploy", "--resolve-image", "never", "-d=true", "-c", &file, stack])
        .unwrap();
}

fn virtual_address(hosts: &Hosts, service: &str) -> Ipv4Addr {
    let template = "{{(index .Endpoint.VirtualIPs 0).Addr}}";
    let text = hosts.docker("h1", ["service", "inspect", "--format", template, service]).unwrap();
    text.split('/').next().unwrap().parse().unwrap()
}

/// Hosts and containers of the tasks of a service, once so many run.
fn tasks(hosts: &Hosts, service: &str, count: usize) -> Vec<(String, String)> {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let look = || -> Vec<(String, String)> {
        let on = |host: &&str| {
            let ids = hosts.docker(host, ["ps", "-q", "--filter", &filter]).unwrap_or_default();
            ids.lines().map(|id| ((*host).to_owned(), id.to_owned())).collect::<Vec<_>>()
        };
        ["h1", "h2"].iter().flat_map(on).collect()
    };
    eventually(&format!("{count} tasks of {service}"), CONVERGED, || match look().len() {
        found if found == count => Ok(()),
        found => Err(format!("{found}")),
    });
    look()
}

#[test]
fn c5_ten_thousand_lookups_and_no_answer_of_the_other_stack() {
    // The tasks go on while their daemons are away, and afterwards.
    let daemon = |_: &str| DaemonSpec::weft(&weft_exe()).arg("--live-restore");
    let mut hosts = Hosts::up_with(LabSpec::bridged("stacks", 2), daemon);
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay shared").unwrap();
    for stack in STACKS {
        deploy(&hosts, stack);
    }
    let askers = STACKS.map(|stack| {
        tasks(&hosts, &format!("{stack}_db"), 1);
        let apps = tasks(&hosts, &format!("{stack}_app"), 3);
        let own = virtual_address(&hosts, &format!("{stack}_db"));
        let inside: Vec<Inside> =
            apps.iter().map(|(host, container)| Inside::of(&hosts, host, container).unwrap()).collect();
        (own, inside)
    });
    let only_own = |what: &str| {
        for (own, apps) in &askers {
            for app in apps {
                eventually("the own db is known", CONVERGED, || match app.look_up("db", 1) {
                    found if found.contains_key(own) => Ok(()),
                    found => Err(format!("{found:?}")),
                });
                assert_eq!(
                    app.look_up("db", LOOKUPS),
                    BTreeMap::from([(*own, usize::from(LOOKUPS))]),
                    "{what}"
                );
            }
        }
    };
    only_own("both daemons there");
    for host in ["h1", "h2"] {
        hosts.daemon(host).kill().unwrap();
    }
    // Names are the helper's business, which is still there.
    only_own("no daemon there");
    for host in ["h1", "h2"] {
        hosts.start(host);
    }
    only_own("both daemons back");
}
