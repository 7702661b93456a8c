//! Rolling updates under load, while a node's daemon is killed or stands still.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use weft_lab::eventually;

use crate::Hosts;
use crate::dice::Dice;
use crate::load::{Answered, Load};
use crate::pause::pause;
use crate::slices::{Game, Played, Text};
use crate::updates::{CLIENTS, Update, by_virtual_ip, hosts, published, running, serve};

/// Both orders are played beside each other, each in a lab of its own.
const ORDERS: [&str; 2] = ["stop-first", "start-first"];
/// The node whose daemon is killed; it runs tasks.
const KILLED: &str = "h2";
/// The node whose daemon is stopped for an update. It runs no tasks: those could not be replaced meanwhile.
const SILENT: &str = "h3";
const REPLICAS: usize = 2;
/// Time in which an update is halfway.
const MIDST_MS: u64 = 9000;
/// Time for events to be there.
const TOLD: Duration = Duration::from_secs(10);

/// What happens during an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// `kill -9` of a daemon at a random instant, which is started again.
    Killed,
    /// A daemon is stopped before and goes on afterwards.
    Silent,
}

/// Rolling updates of a service that is asked on its virtual IP and through a published port.
#[derive(Debug, Clone, Copy, Default)]
pub struct Updates;

/// Three hosts with a service.
#[derive(Debug)]
pub struct Rollout {
    hosts: Hosts,
    servers: Vec<SocketAddr>,
}

impl Updates {
    fn trouble(round: u64) -> Trouble {
        match round / ORDERS.len() as u64 % 5 {
            1 | 3 => Trouble::Killed,
            4 => Trouble::Silent,
            _ => Trouble::None,
        }
    }

    fn order(round: u64) -> &'static str {
        ORDERS[(round % ORDERS.len() as u64) as usize]
    }
}

impl Game for Updates {
    type Arena = Rollout;

    fn labs(&self) -> u64 {
        ORDERS.len() as u64
    }

    fn up(&self, lab: u64) -> Rollout {
        let hosts = hosts(&format!("roll{lab}"));
        let order = Self::order(lab);
        serve(
            &hosts,
            &format!(
                "--replicas {REPLICAS} --update-order {order} --constraint node.hostname!={SILENT} --publish 8080:80"
            ),
        );
        running(&hosts, REPLICAS);
        // One door: two connections from one address and port that enter at two nodes and come to the same task cannot
        // be told apart there, and clients that use several doors at this pace would have such.
        let servers = vec![by_virtual_ip(&hosts), published(&hosts, KILLED)];
        Rollout { hosts, servers }
    }

    fn hosts<'a>(&self, arena: &'a Rollout) -> &'a Hosts {
        &arena.hosts
    }

    fn kind(&self, round: u64) -> String {
        let trouble = match Self::trouble(round) {
            Trouble::None => "nothing else",
            Trouble::Killed => "a daemon killed",
            Trouble::Silent => "a daemon stopped",
        };
        format!("{}, {trouble}", Self::order(round))
    }

    fn play(&self, arena: &mut Rollout, round: u64, seed: u64) -> Played {
        match Self::trouble(round) {
            Trouble::Silent => arena.play_silent(),
            Trouble::Killed => {
                let instant = Duration::from_millis(Dice::new(seed).below(MIDST_MS));
                arena.play_killed(Some(instant))
            }
            Trouble::None => arena.play_killed(None),
        }
    }

    fn text(&self) -> Text {
        Text {
            title: "Rolling updates under load",
            hosts: "a manager and two workers, twice: stop-first and start-first beside each other",
            counts: "answers, events that name a node which did not acknowledge",
            settled: "update of two tasks",
            rules: "Each round replaces both tasks of a service. Meanwhile a client in a container of every host asks it \
                    without a pause on its virtual IP and through a published port, and from each of them a download \
                    and an upload of five seconds are under way to each. Not one request may fail. In two \
                    rounds of five the daemon of a node with a task is killed (`kill -9`) at a random instant and \
                    started again: only if it is away for longer than the drain's limit, and an event says so, may \
                    requests by that node fail; in one of five the daemon of a node without tasks is stopped (SIGSTOP) from before the \
                    update until after it: the update must not wait for it longer than the drain's limit, and an event \
                    must name the node. What a stopped daemon does not know it cannot tell its kernel, so that node's \
                    own client is left out of these rounds and must be answered again right after them.",
            name: "updates",
        }
    }
}

impl Rollout {
    /// An update with a daemon killed at this instant, if any.
    fn play_killed(&mut self, instant: Option<Duration>) -> Played {
        let mut load = Load::begin(&self.hosts, &CLIENTS, &self.servers);
        let since = self.now();
        load.transfer();
        let update = Update::begin(&self.hosts);
        if let Some(instant) = instant {
            pause(instant);
            self.hosts.daemon(KILLED).kill().expect("kill a daemon");
            self.hosts.start(KILLED);
        }
        let settled = update.end(&self.hosts, REPLICAS);
        load.go_on();
        let Answered { answers, mut failures } = load.end();
        self.hosts.wait_ready(CLIENTS.len());
        // Away for longer than tasks wait for it: what it sends goes where it knew them, by its client and its door.
        let events = if instant.is_some() { self.events(&since, KILLED).unwrap_or_default() } else { 0 };
        if events > 0 {
            let door = self.servers[1].to_string();
            failures.retain(|failure| !failure.contains(&door) && !failure.contains(&format!("{KILLED} ")));
        }
        assert!(failures.is_empty(), "{answers} answers, and {failures:?}");
        Played { settled, counts: (answers, events) }
    }

    fn play_silent(&mut self) -> Played {
        let others: Vec<(&str, &str)> = CLIENTS.into_iter().filter(|(host, _)| *host != SILENT).collect();
        let mut load = Load::begin(&self.hosts, &others, &self.servers);
        let since = self.now();
        let stopped = Stopped::of(&self.hosts, SILENT);
        load.transfer();
        let settled = Update::begin(&self.hosts).end(&self.hosts, REPLICAS);
        let answers = finish(load);
        let events =
            eventually("an event names the silent node", TOLD, || match self.events(&since, SILENT)? {
                0 => Err("none".to_owned()),
                count => Ok(count),
            });
        drop(stopped);
        self.hosts.wait_ready(CLIENTS.len());
        let caught_up = Load::begin(&self.hosts, &CLIENTS, &self.servers);
        // It may take the node a moment to hear what it has missed: only from here on nothing may fail.
        let _missed = caught_up.failures();
        caught_up.go_on();
        Played { settled, counts: (answers + finish(caught_up), events) }
    }

    fn now(&self) -> String {
        self.hosts.host("h1").sh("date +%s.%N").expect("the time").trim().to_owned()
    }

    /// How many events since then say that this node did not acknowledge something of the service in time.
    fn events(&self, since: &str, node: &str) -> Result<u64, String> {
        let format = "{{.Type}} {{.Action}} {{.Actor.Attributes}}";
        let args =
            ["events", "--since", since, "--until", "0s", "--filter", "scope=swarm", "--format", format];
        let told = self.hosts.docker("h1", args).map_err(|error| error.to_string())?;
        let names = |line: &&str| {
            line.starts_with("service unacknowledged ") && line.contains(&format!("node.name:{node} "))
        };
        Ok(told.lines().filter(names).count() as u64)
    }
}

/// Ends the load. Nothing has failed.
fn finish(load: Load) -> u64 {
    load.go_on();
    let answered = load.end();
    assert!(answered.failures.is_empty(), "{} answers, and {:?}", answered.answers, answered.failures);
    answered.answers
}

/// A daemon that stands still until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn of(hosts: &Hosts, host: &str) -> Self {
        let pid = hosts.daemon(host).pid();
        signal("-STOP", pid);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(name: &str, pid: i32) {
    // It may be gone by itself, which others notice.
    let _ = Command::new("kill").args([name, &pid.to_string()]).status();
}
