//! Rows C3, C4, C5 as far as names go: what a service is called, and who is left out of the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_e2e::dns::Inside;
use weft_e2e::{Hosts, refusal};
use weft_lab::{LabSpec, eventually};

use crate::SOON;

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
/// Time for tasks to run: images are there already.
const CONVERGED: Duration = Duration::from_secs(30);
/// From the end of a task to answers without it, on any node. Most of it is what this machine needs to start programs.
const AT_ONCE: Duration = Duration::from_secs(10);

type Addresses = BTreeSet<String>;

/// Three hosts, the network `n`, and on each a container `ask` that is only on that.
struct Asking {
    hosts: Hosts,
    inside: [Inside; 3],
}

impl std::ops::Deref for Asking {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.hosts
    }
}

fn lab(name: &str) -> Asking {
    let hosts = Hosts::up(LabSpec::bridged(name, 3));
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable n").unwrap();
    let inside = HOSTS.map(|host| {
        let name = format!("ask-{host}");
        hosts.run_idle(host, &name, "--network n").unwrap();
        Inside::of(&hosts, host, &name).unwrap()
    });
    Asking { hosts, inside }
}

fn service(hosts: &Hosts, name: &str, options: &str) {
    let line = format!("service create -d --name {name} --stop-grace-period 1s {options}");
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    words.extend(["busybox", "sh", "-c", "touch /tmp/well; exec sleep 100000"].map(str::to_owned));
    hosts.docker("h1", words).unwrap();
}

/// Addresses of a name by a container's resolver; none: the name is not known or stands for nothing. Asked without a
/// program in the container: there are hundreds of questions, and starting one takes longer than all answers.
fn asked(hosts: &Hosts, host: &str, container: &str, name: &str) -> Addresses {
    Inside::of(hosts, host, container).map(|inside| answer(&inside, name)).unwrap_or_default()
}

fn answer(inside: &Inside, name: &str) -> Addresses {
    let found = inside.addresses(name).unwrap_or_default();
    found.into_iter().map(|address| address.to_string()).collect()
}

/// Waits until the name stands for these addresses on every host.
fn stands_for(lab: &Asking, name: &str, want: &Addresses, deadline: Duration) {
    for (host, inside) in HOSTS.iter().zip(&lab.inside) {
        eventually(&format!("{name} on {host}"), deadline, || {
            let have = answer(inside, name);
            if have == *want { Ok(()) } else { Err(format!("want {want:?}, have {have:?}")) }
        });
    }
}

fn virtual_address(hosts: &Hosts, service: &str) -> String {
    let template = "{{(index .Endpoint.VirtualIPs 0).Addr}}";
    let text = hosts.docker("h1", ["service", "inspect", "--format", template, service]).unwrap();
    text.split('/').next().unwrap().to_owned()
}

/// A task that runs.
#[derive(Debug)]
struct Task {
    host: String,
    container: String,
    /// The container's name.
    name: String,
    address: String,
}

/// The tasks of a service, once so many run.
fn tasks(hosts: &Hosts, service: &str, count: usize) -> Vec<Task> {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let look = || -> Vec<Task> {
        let on = |host: &&str| {
            let ids = hosts.docker(host, ["ps", "-q", "--no-trunc", "--filter", &filter]).unwrap_or_default();
            ids.lines().map(|id| ((*host).to_owned(), id.to_owned())).collect::<Vec<_>>()
        };
        let found = HOSTS.iter().flat_map(on);
        let task = |(host, container): (String, String)| {
            let address = hosts.address(&host, &container, "n").ok().filter(|text| !text.is_empty())?;
            let name = hosts.inspect(&host, &container, "{{.Name}}").ok()?;
            Some(Task { name: name.trim_start_matches('/').to_owned(), host, container, address })
        };
        found.filter_map(task).collect()
    };
    let states =
        ["service", "ps", "--filter", "desired-state=running", "--format", "{{.CurrentState}}", service];
    eventually(&format!("{service} has {count} tasks"), CONVERGED, || {
        let list = hosts.docker("h1", states).map_err(|e| e.to_string())?;
        let running = list.lines().filter(|line| line.starts_with("Running")).count();
        let found = look().len();
        if (running, found) == (count, count) { Ok(()) } else { Err(format!("{found} containers, {list}")) }
    });
    look()
}

fn addresses(tasks: &[Task]) -> Addresses {
    tasks.iter().map(|task| task.address.clone()).collect()
}

fn one(address: &str) -> Addresses {
    BTreeSet::from([address.to_owned()])
}

#[test]
fn c3_a_service_has_one_address_on_every_node() {
    let hosts = lab("c3n");
    service(&hosts, "web", "--replicas 3 --network name=n,alias=www");
    let three = tasks(&hosts, "web", 3);
    let on: BTreeSet<&str> = three.iter().map(|task| task.host.as_str()).collect();
    assert_eq!(on.len(), 3, "{three:?}");
    let vip = virtual_address(&hosts, "web");
    for name in ["web", "www", "WEB", "web.n", "www.n"] {
        stands_for(&hosts, name, &one(&vip), SOON);
    }
    for name in ["tasks.web", "tasks.www", "tasks.web.n"] {
        stands_for(&hosts, name, &addresses(&three), SOON);
    }
    // Tasks themselves ask, too.
    for task in &three {
        assert_eq!(asked(&hosts, &task.host, &task.container, "web"), one(&vip));
        assert_eq!(asked(&hosts, &task.host, &task.container, "tasks.web"), addresses(&three));
    }
    // Fewer tasks, even none: the name stays the swarm's as long as the service is there.
    hosts.docker("h1", "service scale -d web=1").unwrap();
    let last = tasks(&hosts, "web", 1);
    stands_for(&hosts, "tasks.web", &addresses(&last), SOON);
    stands_for(&hosts, "web", &one(&vip), SOON);
    hosts.docker("h1", "service scale -d web=0").unwrap();
    stands_for(&hosts, "tasks.web", &Addresses::new(), SOON);
    stands_for(&hosts, "web", &one(&vip), SOON);
    // A name taken on, and one given up.
    hosts.docker("h1", "service update -d --network-rm n web").unwrap();
    stands_for(&hosts, "web", &Addresses::new(), SOON);
    hosts.docker("h1", "service update -d --network-add name=n,alias=shop --replicas 2 web").unwrap();
    let two = tasks(&hosts, "web", 2);
    let vip = virtual_address(&hosts, "web");
    stands_for(&hosts, "shop", &one(&vip), SOON);
    stands_for(&hosts, "tasks.shop", &addresses(&two), SOON);
    stands_for(&hosts, "www", &Addresses::new(), SOON);
    hosts.docker("h1", "service rm web").unwrap();
    for name in ["web", "shop", "tasks.web"] {
        stands_for(&hosts, name, &Addresses::new(), SOON);
    }
}

#[test]
fn c4_without_an_address_of_its_own_a_service_is_its_tasks() {
    let hosts = lab("c4n");
    service(&hosts, "rr", "--replicas 3 --endpoint-mode dnsrr --network name=n,alias=ring");
    let three = tasks(&hosts, "rr", 3);
    let all = addresses(&three);
    for name in ["rr", "ring", "tasks.rr", "tasks.ring"] {
        stands_for(&hosts, name, &all, SOON);
    }
    // Every one comes first now and then.
    let firsts = Inside::of(&hosts, "h2", "ask-h2").unwrap().look_up("rr", 40);
    assert_eq!(firsts.keys().map(ToString::to_string).collect::<Addresses>(), all);

    let words = "EndpointSpec: port published with ingress mode can't be used with dnsrr mode";
    let both = "service create -d --name no --endpoint-mode dnsrr --network n -p 8080:80 busybox true";
    let refused = refusal(hosts.docker("h1", both));
    assert!(refused.contains(words), "{refused}");
    let refused = refusal(hosts.docker("h1", "service update -d --publish-add 8080:80 rr"));
    assert!(refused.contains(words), "{refused}");
    let host_mode = "service update -d --publish-add mode=host,target=80,published=8080 rr";
    hosts.docker("h1", host_mode).unwrap();
}

#[test]
fn c5_tasks_have_names_until_they_take_no_traffic() {
    let hosts = lab("c5n");
    let options = "--replicas 3 --endpoint-mode dnsrr --network n --restart-delay 0s";
    // The health command is one word.
    let line = format!("service create -d --name web --stop-grace-period 1s {options} --no-resolve-image");
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    words.extend(["--health-cmd", "test -e /tmp/well", "--health-interval", "300ms"].map(str::to_owned));
    words.extend(["--health-retries", "1", "busybox", "sh", "-c"].map(str::to_owned));
    words.push("touch /tmp/well; exec sleep 100000".to_owned());
    hosts.docker("h1", words).unwrap();
    let three = tasks(&hosts, "web", 3);
    stands_for(&hosts, "tasks.web", &addresses(&three), SOON);
    for task in &three {
        stands_for(&hosts, &task.name, &one(&task.address), SOON);
        stands_for(&hosts, &task.container[..12], &one(&task.address), SOON);
        for host in HOSTS {
            let line = format!("nslookup {} 127.0.0.11", task.address);
            let answer = hosts.exec(host, &format!("ask-{host}"), &line).unwrap();
            assert!(answer.contains(&format!("name = {}.n", task.name)), "{host}: {answer}");
        }
    }
    // Killed, unwell, drained: the old address is in no answer soon after, and its successor's will be.
    let gone = |task: &Task, why: &str| {
        for (host, inside) in HOSTS.iter().zip(&hosts.inside) {
            eventually(&format!("{why} task is in no answer on {host}"), AT_ONCE, || {
                let names = ["web", "tasks.web", &task.name];
                let have: Addresses = names.iter().flat_map(|name| answer(inside, name)).collect();
                if have.contains(&task.address) { Err(format!("{have:?}")) } else { Ok(()) }
            });
        }
        // A task may be unwell on a machine that is slow, and be another by then.
        eventually("all nodes answer with the three that run", SOON, || {
            let now = tasks(&hosts, "web", 3);
            for (host, inside) in HOSTS.iter().zip(&hosts.inside) {
                let have = answer(inside, "web");
                if have != addresses(&now) {
                    return Err(format!("{host} says {have:?}, there are {now:?}"));
                }
            }
            Ok(now)
        })
    };
    hosts.docker(&three[0].host, ["kill", &three[0].container]).unwrap();
    let three = gone(&three[0], "killed");
    hosts.exec(&three[1].host, &three[1].container, "rm /tmp/well").unwrap();
    let three = gone(&three[1], "unwell");
    let on_h3: Vec<&Task> = three.iter().filter(|task| task.host == "h3").collect();
    hosts.docker("h1", "node update --availability drain h3").unwrap();
    for task in on_h3 {
        gone(task, "drained");
    }
}

#[test]
fn c5_two_stacks_on_one_network_find_their_own_first() {
    let hosts = lab("c5s");
    for stack in ["one", "two"] {
        let label = format!("--label com.docker.stack.namespace={stack}");
        service(&hosts, &format!("{stack}_db"), &format!("{label} --network name=n,alias=db"));
        service(&hosts, &format!("{stack}_app"), &format!("{label} --network name=n,alias=app --replicas 3"));
    }
    let address = |stack: &str| virtual_address(&hosts, &format!("{stack}_db"));
    // Who is in neither sees both.
    stands_for(&hosts, "db", &[address("one"), address("two")].into(), SOON);
    for stack in ["one", "two"] {
        for task in tasks(&hosts, &format!("{stack}_app"), 3) {
            let have = asked(&hosts, &task.host, &task.container, "db");
            assert_eq!(have, one(&address(stack)), "{task:?}");
        }
    }
}
