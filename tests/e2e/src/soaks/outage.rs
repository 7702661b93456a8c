//! A daemon that is away for long, in a swarm of both engines: nobody misses what its node runs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::dns::Inside;
use crate::load::{now, request};
use crate::pause::pause;
use crate::slices::{Game, Played, Text};
use crate::{Hosts, weft_exe};

const MANAGER: &str = "h1";
/// The node whose daemon is away.
const NODE: &str = "h2";
/// Docker's engine runs here.
const DOCKERS: &str = "h3";
/// Every one has a task of a service of its own, and a client.
const HOSTS: [&str; 3] = [MANAGER, NODE, DOCKERS];
/// Where published ports are entered: Docker's mesh needs a kernel with IPVS.
const ENTRIES: [&str; 2] = [MANAGER, NODE];
/// Between two rounds of questions of a client.
const PERIOD: Duration = Duration::from_secs(1);
/// What takes longer has failed.
const LIMIT: Duration = Duration::from_secs(1);
/// Time for the swarm to be as it is wanted in the beginning: Docker's daemon takes seconds for most.
const SOON: Duration = Duration::from_secs(60);
/// Time for a node to know what began elsewhere.
const LEARNT: Duration = Duration::from_secs(15);
/// Clients go on for so long when the daemon is back.
const AFTER: Duration = Duration::from_secs(1);

/// Outages of a worker's daemon: told to end, then killed.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How long the daemon is away; longer than three heartbeats.
    pub away: Duration,
    /// Between two heartbeats of a node.
    pub heartbeat: Duration,
}

impl Outage {
    /// Ways to be away.
    pub const KINDS: u64 = 2;
}

impl Default for Outage {
    /// Ten minutes, and the heartbeats of a swarm that nobody changed.
    fn default() -> Self {
        Self { away: Duration::from_secs(10 * 60), heartbeat: Duration::from_secs(5) }
    }
}

/// Three hosts with services and clients.
#[derive(Debug)]
pub struct Missed {
    hosts: Hosts,
    places: Vec<Arc<Place>>,
}

impl Game for Outage {
    type Arena = Missed;

    fn up(&self, _lab: u64) -> Missed {
        let hosts = Hosts::up_with(LabSpec::bridged(&format!("away{}", self.away.as_secs()), 3), |host| {
            if host == DOCKERS {
                DaemonSpec::docker()
            } else {
                DaemonSpec::weft(&weft_exe()).arg("--live-restore")
            }
        });
        hosts.swarm();
        hosts
            .docker(MANAGER, format!("swarm update --dispatcher-heartbeat {}s", self.heartbeat.as_secs()))
            .expect("a command");
        hosts.docker(MANAGER, "network create -d overlay --attachable web").expect("a command");
        for host in HOSTS {
            serve(&hosts, host);
            hosts.run_idle(host, &client(host), "--network web").expect("a command");
        }
        let places = HOSTS.map(|host| Arc::new(Place::of(&hosts, host))).into();
        let arena = Missed { hosts, places };
        arena.wait_answers();
        arena
    }

    fn hosts<'a>(&self, arena: &'a Missed) -> &'a Hosts {
        &arena.hosts
    }

    fn kind(&self, round: u64) -> String {
        if round.is_multiple_of(Self::KINDS) { "stopped" } else { "killed" }.to_owned()
    }

    fn play(&self, arena: &mut Missed, round: u64, _seed: u64) -> Played {
        let (tasks, helpers) = (arena.tasks(), arena.hosts.processes(NODE, "helper"));
        assert_eq!(tasks.len(), HOSTS.len(), "{tasks:?}");
        let watch = Watch::begin(&arena.places);
        match self.kind(round).as_str() {
            "stopped" => arena.hosts.daemon(NODE).stop().expect("stop the daemon"),
            _ => arena.hosts.daemon(NODE).kill().expect("kill the daemon"),
        }
        let began = Instant::now();
        let late = arena.begin_elsewhere(round);
        eventually("the node is away", self.away, || match arena.state() {
            state if state == "disconnected" => Ok(()),
            state => Err(state),
        });
        pause(self.away.saturating_sub(began.elapsed()));
        assert_eq!(arena.state(), "disconnected", "after {:?}", began.elapsed());
        assert_eq!(arena.tasks(), tasks, "tasks while the daemon was away");
        arena.hosts.start(NODE);
        arena.hosts.wait_ready(HOSTS.len());
        arena.end_elsewhere(&late);
        pause(AFTER);
        let seen = watch.end();
        assert!(seen.failures.is_empty(), "{} failures: {:?}", seen.failures.len(), seen.first_failures());
        assert!(seen.rounds >= self.away.as_secs() * 9 / 10, "asked only {} times", seen.rounds);
        assert_eq!(arena.tasks(), tasks, "tasks when the daemon was back");
        assert_eq!(arena.hosts.processes(NODE, "helper"), helpers, "the helper");
        Played { settled: seen.longest, counts: (seen.look_ups, seen.answers) }
    }

    fn text(&self) -> Text {
        Text {
            title: "A daemon is away for ten minutes",
            hosts: "a manager and a worker of Weft, with live-restore, and a worker of Docker's engine (the \
                    machine's); the daemon of Weft's worker is away",
            counts: "look-ups, connections with an answer",
            settled: "longest look-up or connection with its answer",
            rules: "In each round the daemon is away for ten minutes: told to end, or `kill -9`. Every second a client \
                    in a container of each of the three nodes looks up the names of services, of their tasks and of \
                    plain containers on all nodes, and opens connections, each with a request and its answer, to a \
                    task on each node: by its service's virtual IP, by its published port at the manager's node and \
                    by that at the node whose daemon is away. In Docker's container the task's own address stands in \
                    for the virtual IP, because Docker's needs a kernel with IPVS. None of all these may fail, have \
                    another answer than before, or take over a second. Containers that begin on the manager's and on \
                    Docker's node meanwhile are known to the others within 15 seconds, to the node itself when its daemon is \
                    back: the helper keeps the last state. The managers show the node as disconnected, and \
                    every service keeps its one task, running, with its id. (They wait for 15 minutes: then the node \
                    counts as down and its tasks begin elsewhere.) The helper is the same process before and after.",
            name: "outage",
        }
    }
}

impl Missed {
    /// Id, node and state of every task that there is or was.
    fn tasks(&self) -> BTreeSet<String> {
        let services = HOSTS.map(service).join(" ");
        let format = "{{.ID}},{{.Node}},{{.DesiredState}},{{.CurrentState}}";
        let list = self.hosts.docker(MANAGER, format!("service ps --no-trunc --format {format} {services}"));
        // Behind the state stands for how long.
        let short = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        list.expect("a command").lines().map(short).collect()
    }

    /// The node's state by the manager's word.
    fn state(&self) -> String {
        let words = ["node", "inspect", "--format", "{{.Status.State}}", NODE];
        self.hosts.docker(MANAGER, words).expect("a command")
    }

    /// Waits until nothing that clients ask fails.
    fn wait_answers(&self) {
        for place in &self.places {
            eventually(&format!("all answer {}", place.host), SOON, || {
                let mut seen = Seen::default();
                place.look(&mut seen);
                if seen.failures.is_empty() { Ok(()) } else { Err(format!("{:?}", seen.failures)) }
            });
        }
    }

    /// Starts a container on each other node, and waits until these know both. Host and name of each, and where it is.
    fn begin_elsewhere(&self, round: u64) -> Vec<(&'static str, String, Ipv4Addr)> {
        let late = [MANAGER, DOCKERS].map(|host| {
            let name = format!("late-{host}-{round}");
            self.hosts.run_idle(host, &name, "--network web").expect("a command");
            let address = address(&self.hosts, host, &name);
            (host, name, address)
        });
        self.places.iter().filter(|place| place.host != NODE).for_each(|place| place.learns(&late));
        late.into()
    }

    /// Waits until the node knows these, too, and removes them.
    fn end_elsewhere(&self, late: &[(&'static str, String, Ipv4Addr)]) {
        self.places.iter().for_each(|place| place.learns(late));
        for (host, name, _) in late {
            self.hosts.docker(host, format!("rm -f {name}")).expect("a command");
        }
    }
}

fn service(host: &str) -> String {
    format!("on-{host}")
}

fn client(host: &str) -> String {
    format!("client-{host}")
}

/// What the task on a host answers.
fn word(host: &str) -> String {
    format!("inside-{host}")
}

/// Where the service with a task on a host is published.
fn port(host: &str) -> u16 {
    8080 + HOSTS.iter().zip(1..).find(|(name, _)| **name == host).map_or(0, |(_, number)| number)
}

/// Creates the service with a task on a host.
fn serve(hosts: &Hosts, host: &str) {
    let options = format!(
        "service create -d --no-resolve-image --name {} --network web --constraint node.hostname=={host} \
         --hostname {} --stop-grace-period 1s --publish {}:80 busybox",
        service(host),
        word(host),
        port(host)
    );
    let mut words: Vec<&str> = options.split_whitespace().collect();
    let serve = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";
    words.extend(["sh", "-c", serve]);
    hosts.docker(MANAGER, words.as_slice()).expect("a command");
}

/// A container's address on the network.
fn address(hosts: &Hosts, host: &str, container: &str) -> Ipv4Addr {
    hosts.address(host, container, "web").expect("a command").parse().expect("an address")
}

/// The virtual address on the network of the service with a task on a host.
fn virtual_ip(hosts: &Hosts, host: &str) -> Ipv4Addr {
    let network = hosts.docker(MANAGER, "network inspect --format {{.Id}} web").expect("a command");
    let format = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}}\n{{end}}";
    let words = ["service", "inspect", "--format", format, &service(host)];
    let all = hosts.docker(MANAGER, words).expect("a command");
    let own = all.lines().find_map(|line| line.strip_prefix(network.trim()));
    let address = own.and_then(|address| address.trim().split('/').next()).expect("a virtual address");
    address.parse().expect("an address")
}

/// The address of the task on a host, once its container runs.
fn task(hosts: &Hosts, host: &str) -> Ipv4Addr {
    let filter = format!("label=com.docker.swarm.service.name={}", service(host));
    let id = eventually(&format!("the task on {host}"), SOON, || {
        let ids = hosts.docker(host, ["ps", "-q", "--no-trunc", "--filter", &filter]);
        let ids = ids.map_err(|error| error.to_string())?;
        if ids.lines().count() == 1 { Ok(ids) } else { Err(ids) }
    });
    address(hosts, host, &id)
}

/// A client's place, with what it looks up and whom it asks.
#[derive(Debug)]
struct Place {
    host: &'static str,
    inside: Inside,
    /// What names mean.
    names: Vec<(String, Ipv4Addr)>,
    /// Where to connect, and what is answered there.
    servers: Vec<(SocketAddr, String)>,
}

impl Place {
    fn of(hosts: &Hosts, host: &'static str) -> Self {
        let (mut names, mut servers) = (Vec::new(), Vec::new());
        for other in HOSTS {
            let (own, task) = (virtual_ip(hosts, other), task(hosts, other));
            names.push((service(other), own));
            names.push((format!("tasks.{}", service(other)), task));
            names.push((client(other), address(hosts, other, &client(other))));
            // Docker's virtual addresses need a kernel with IPVS.
            let direct = if host == DOCKERS { task } else { own };
            let published = ENTRIES.map(|entry| SocketAddr::new(hosts.host(entry).address(), port(other)));
            let doors = published.into_iter().chain([SocketAddr::new(direct.into(), 80)]);
            servers.extend(doors.map(|door| (door, word(other))));
        }
        let inside = Inside::of(hosts, host, &client(host)).expect("the client's namespace");
        Self { host, inside, names, servers }
    }

    /// Looks everything up and asks everyone once.
    fn look(&self, seen: &mut Seen) {
        for (name, want) in &self.names {
            let began = Instant::now();
            let found = self.inside.addresses(name);
            let right = found.as_ref() == Some(&BTreeSet::from([*want]));
            seen.look_ups += 1;
            seen.note(began.elapsed(), right, || format!("{}: {name} is {found:?}, not {want}", self.host));
        }
        self.inside.run(|| {
            for (server, want) in &self.servers {
                let began = Instant::now();
                let said = request(*server, LIMIT, b"GET / HTTP/1.0\r\n\r\n");
                let right = said.as_ref() == Ok(want);
                seen.answers += 1;
                seen.note(began.elapsed(), right, || {
                    format!("{}: {server} says {said:?}, not {want}", self.host)
                });
            }
        });
        seen.rounds += 1;
    }

    /// Waits until these names are known here.
    fn learns(&self, late: &[(&'static str, String, Ipv4Addr)]) {
        for (_, name, want) in late {
            eventually(&format!("{} knows {name}", self.host), LEARNT, || {
                let found = self.inside.addresses(name);
                if found == Some(BTreeSet::from([*want])) { Ok(()) } else { Err(format!("{found:?}")) }
            });
        }
    }
}

/// What a client has seen, or all have.
#[derive(Debug, Default)]
struct Seen {
    /// How often everything was asked; of all clients, that of the one who asked least.
    rounds: u64,
    look_ups: u64,
    answers: u64,
    longest: Duration,
    failures: Vec<String>,
}

impl Seen {
    fn note(&mut self, took: Duration, right: bool, what: impl FnOnce() -> String) {
        self.longest = self.longest.max(took);
        if !right || took > LIMIT {
            self.failures.push(format!("{}: {} after {took:?}", now(), what()));
        }
    }

    fn first_failures(&self) -> Vec<&String> {
        self.failures.iter().take(20).collect()
    }

    fn and(self, other: Self) -> Self {
        Self {
            rounds: self.rounds.min(other.rounds),
            look_ups: self.look_ups + other.look_ups,
            answers: self.answers + other.answers,
            longest: self.longest.max(other.longest),
            failures: [self.failures, other.failures].concat(),
        }
    }
}

/// Clients that ask every second.
struct Watch {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Watch {
    fn begin(places: &[Arc<Place>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |place: &Arc<Place>| {
            let (place, stop) = (place.clone(), stop.clone());
            std::thread::spawn(move || ask_on(&place, &stop))
        };
        Self { clients: places.iter().map(client).collect(), stop }
    }

    fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients);
        let seen = clients.into_iter().map(|client| client.join().expect("clients do not panic"));
        seen.reduce(Seen::and).unwrap_or_default()
    }
}

/// A round that failed is not watched any further.
impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask_on(place: &Place, stop: &AtomicBool) -> Seen {
    let (mut seen, began) = (Seen::default(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        place.look(&mut seen);
        let next = PERIOD * u32::try_from(seen.rounds).unwrap_or(u32::MAX);
        pause(next.saturating_sub(began.elapsed()));
    }
    seen
}
