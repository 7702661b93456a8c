//! A daemon that is stopped, killed, restarted and upgraded while what it started is under load.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weft_lab::{DaemonSpec, eventually};

use crate::dns::Inside;
use crate::load::{Answered, Load};
use crate::pause::pause;
use crate::slices::{Game, Played, Text};
use crate::updates::{CLIENTS, by_virtual_ip, hosts, published, running, serve};
use crate::{Hosts, services, weft_exe};

/// The node whose daemon it is; it runs a task and clients.
const NODE: &str = "h2";
const REPLICAS: usize = 2;
/// How long a daemon is away that is not started again at once.
const AWAY: Duration = Duration::from_secs(2);
/// Names per thread and burst.
const BURST: u16 = 20;
const BETWEEN_BURSTS: Duration = Duration::from_millis(20);
/// Time for a helper to be the one that is wanted.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// What happens to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is told to end, and is away for a while.
    Stopped,
    /// `kill -9`, and away for a while.
    Killed,
    /// Ended and started again at once.
    Restarted,
    /// Another build takes its place; so it does with the helper.
    Upgraded,
}

/// Rounds of what can happen to a daemon under steady load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restarts;

/// Three hosts with a service, and two builds of Weft.
#[derive(Debug)]
pub struct Restarted {
    hosts: Hosts,
    servers: Vec<SocketAddr>,
    builds: [PathBuf; 2],
    /// The build that runs on the node.
    now: usize,
}

impl Restarts {
    fn fate(round: u64) -> Fate {
        match round % 4 {
            0 => Fate::Stopped,
            1 => Fate::Killed,
            2 => Fate::Restarted,
            _ => Fate::Upgraded,
        }
    }
}

impl Game for Restarts {
    type Arena = Restarted;

    /// Most of a round is waiting for transfers.
    fn labs(&self) -> u64 {
        2
    }

    fn up(&self, lab: u64) -> Restarted {
        let hosts = hosts(&format!("again{lab}"));
        serve(&hosts, &format!("--replicas {REPLICAS} --publish 8080:80"));
        running(&hosts, REPLICAS);
        let servers = vec![by_virtual_ip(&hosts), published(&hosts, NODE)];
        // Of another build is what is another file: the program itself is as it was.
        let other = hosts.host(NODE).dir.join("other-build");
        std::fs::copy(weft_exe(), &other).expect("a copy of the program");
        Restarted { hosts, servers, builds: [weft_exe(), other], now: 0 }
    }

    fn hosts<'a>(&self, arena: &'a Restarted) -> &'a Hosts {
        &arena.hosts
    }

    fn kind(&self, round: u64) -> String {
        let kind = match Self::fate(round) {
            Fate::Stopped => "stopped",
            Fate::Killed => "killed",
            Fate::Restarted => "restarted",
            Fate::Upgraded => "upgraded",
        };
        kind.to_owned()
    }

    fn play(&self, arena: &mut Restarted, round: u64, _seed: u64) -> Played {
        arena.play(Self::fate(round))
    }

    fn text(&self) -> Text {
        Text {
            title: "A daemon is stopped, killed, restarted and upgraded under load",
            hosts: "two labs at once, each a manager and two workers, with live-restore; the daemon of a worker that runs a \
                    task and clients",
            counts: "answers to requests, answers to look-ups",
            settled: "until the node was ready again and had its helper",
            rules: "Each round does one of four things to the daemon: told to end and away for two seconds, `kill -9` and \
                    away for two seconds, ended and started again, or ended and a daemon of another build started, whose \
                    helper takes over from the one that runs. Meanwhile clients in containers of all hosts ask a service \
                    on its virtual IP and through the node's published port, transfers of five seconds are under way \
                    both ways by each of these, and two threads in the node's own container look up names of the \
                    cluster. Not one request, transfer or look-up may fail or be lost (none waits longer than a second), \
                    the tasks must be the same before and after, and the helper another process only after an upgrade.",
            name: "restarts",
        }
    }
}

impl Restarted {
    fn play(&mut self, fate: Fate) -> Played {
        let (tasks, helper) = (self.tasks(), self.helper());
        let mut load = Load::begin(&self.hosts, &CLIENTS, &self.servers);
        let lookups = Lookups::begin(&self.hosts);
        load.transfer();
        let began = Instant::now();
        self.suffer(fate);
        self.hosts.wait_ready(CLIENTS.len());
        self.wait_helper(fate, helper);
        let settled = began.elapsed();
        load.go_on();
        let (looked_up, lost) = lookups.end();
        let Answered { answers, failures } = load.end();
        assert!(failures.is_empty(), "{answers} answers, and {failures:?}");
        assert!(lost.is_empty(), "{looked_up} look-ups, and {lost:?}");
        assert_eq!(self.tasks(), tasks, "tasks were replaced");
        Played { settled, counts: (answers, looked_up) }
    }

    fn suffer(&mut self, fate: Fate) {
        match fate {
            Fate::Stopped => self.hosts.daemon(NODE).stop().expect("stop the daemon"),
            Fate::Killed => self.hosts.daemon(NODE).kill().expect("kill the daemon"),
            Fate::Restarted => {
                self.hosts.daemon(NODE).stop().expect("stop the daemon");
                return self.hosts.start(NODE);
            }
            Fate::Upgraded => {
                self.now = 1 - self.now;
                let build = DaemonSpec::weft(&self.builds[self.now]).arg("--live-restore");
                return self.hosts.replace(NODE, build);
            }
        }
        pause(AWAY);
        self.hosts.start(NODE);
    }

    fn tasks(&self) -> Vec<String> {
        let mut tasks = services::running(&self.hosts, "web", "{{.ID}} {{.Node}}");
        tasks.sort();
        tasks
    }

    /// The node's helper.
    fn helper(&self) -> i32 {
        let helpers = self.hosts.processes(NODE, "helper");
        let [helper] = helpers[..] else { panic!("one helper a host, not {helpers:?}") };
        helper
    }

    /// Waits until the one helper is of the daemon's build; unless that changed it is the one from before.
    fn wait_helper(&self, fate: Fate, before: i32) {
        eventually("the helper", TAKEN_OVER, || {
            let helpers = self.hosts.processes(NODE, "helper");
            let [helper] = helpers[..] else { return Err(format!("{helpers:?}")) };
            let (program, wanted) = (program(helper), self.builds[self.now].clone());
            let changed = helper != before;
            if program != Some(wanted) || changed != (fate == Fate::Upgraded) {
                return Err(format!("{fate:?}: {before} before, {helper} of {program:?} now"));
            }
            Ok(())
        });
    }
}

fn program(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe")).ok()
}

/// Threads in the namespace of the node's client that look names up.
struct Lookups {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Lookups {
    fn begin(hosts: &Hosts) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let own = CLIENTS.iter().find(|(host, _)| *host == NODE).map_or("", |(_, client)| client);
        let thread = |name: &'static str| {
            let (stop, answers) = (stop.clone(), answers.clone());
            let inside = Inside::of(hosts, NODE, own).expect("the client's namespace");
            std::thread::spawn(move || look_up(&inside, name, &stop, &answers))
        };
        let threads = ["web", "client-h1"].map(thread).into();
        Self { stop, answers, threads }
    }

    /// Answers, and what was wrong with others.
    fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("look-ups do not panic"))
            .collect();
        (self.answers.load(Ordering::Relaxed), failures)
    }
}

fn look_up(inside: &Inside, name: &str, stop: &AtomicBool, answers: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut first = None;
    while !stop.load(Ordering::Relaxed) {
        for (found, times) in inside.look_up(name, BURST) {
            let known = *first.get_or_insert(found);
            if found == Ipv4Addr::UNSPECIFIED || found != known {
                failures.push(format!("{name} was {found} {times} times"));
            }
            answers.fetch_add(times as u64, Ordering::Relaxed);
        }
        pause(BETWEEN_BURSTS);
    }
    failures
}
