//! Rolling updates of a web server under load from a client on every host.

#![allow(clippy::missing_panics_doc, reason = "every step panics when the service does not do what it shall")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::load::{Load, PIECES};
use crate::{Hosts, services, weft_exe};

/// Time for one update of two tasks, container starts included, on a machine that does much else.
const UPDATED: Duration = Duration::from_secs(90);
/// A container on each host.
pub(crate) const CLIENTS: [(&str, &str); 3] = [("h1", "client-h1"), ("h2", "client-h2"), ("h3", "client-h3")];
/// Where it is published, if it is.
const PORT: u16 = 8080;

/// A server as servers should be: told to stop it takes no connection any more at once, and ends when its answers are
/// out. `/cgi-bin/slow` takes five seconds to answer, `/cgi-bin/take` says how long the question was.
fn server() -> String {
    format!(
        r#"
mkdir -p /www/cgi-bin && hostname > /www/index.html
printf '#!/bin/sh\necho; hostname; i=0; while [ $i -lt {PIECES} ]; do echo chunk; sleep 0.1; i=$((i+1)); done; echo done\n' > /www/cgi-bin/slow
printf '#!/bin/sh\necho; head -c $CONTENT_LENGTH | wc -c\n' > /www/cgi-bin/take
chmod +x /www/cgi-bin/slow /www/cgi-bin/take
httpd -f -p 80 -h /www & server=$!
trap 'kill $server; while pidof slow take httpd > /dev/null; do sleep 0.1; done; exit 0' TERM
while kill -0 $server 2> /dev/null; do wait $server; done
"#
    )
}

/// Three hosts with a network and a client on each.
pub fn hosts(name: &str) -> Hosts {
    // A daemon that is killed and started again finds its containers running.
    let hosts =
        Hosts::up_with(LabSpec::bridged(name, 3), |_| DaemonSpec::weft(&weft_exe()).arg("--live-restore"));
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").expect("a command");
    for (host, client) in CLIENTS {
        hosts.run_idle(host, client, "--network web").expect("a command");
    }
    hosts
}

/// Creates the service `web`; `flags` stand before the image.
pub fn serve(hosts: &Hosts, flags: &str) {
    let flags = format!(
        "service create -d --name web --network web --stop-grace-period 20s --update-monitor 100ms \
         --health-interval 300ms --health-retries 20 {flags} --health-cmd"
    );
    let (mut args, server): (Vec<&str>, String) = (flags.split_whitespace().collect(), server());
    // One that runs does not listen yet: without a check of its health nobody could know when it does.
    args.extend(["nc -w 1 127.0.0.1 80 < /dev/null", "busybox", "sh", "-c", &server]);
    hosts.docker("h1", args.as_slice()).expect("a command");
}

/// The service's address on the network `web`. Names are left to other tests.
pub fn virtual_ip(hosts: &Hosts) -> String {
    let network = hosts.docker("h1", "network inspect --format {{.Id}} web").expect("a command");
    let format = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}}\n{{end}}";
    let all = hosts.docker("h1", ["service", "inspect", "--format", format, "web"]).expect("a command");
    let own = all.lines().find_map(|line| line.strip_prefix(network.trim()));
    own.and_then(|address| address.trim().split('/').next()).expect("a virtual address").to_owned()
}

/// The service on its virtual IP.
pub fn by_virtual_ip(hosts: &Hosts) -> SocketAddr {
    SocketAddr::new(virtual_ip(hosts).parse().expect("an address"), 80)
}

/// The service's published port on a host.
pub fn published(hosts: &Hosts, host: &str) -> SocketAddr {
    SocketAddr::new(hosts.host(host).address(), PORT)
}

/// Ids and states of the tasks that shall run.
fn tasks(hosts: &Hosts) -> Vec<(String, String)> {
    let list = services::running(hosts, "web", "{{.ID}} {{.CurrentState}}");
    let task = |line: &String| line.split_once(' ').map(|(id, state)| (id.to_owned(), state.to_owned()));
    list.iter().filter_map(task).collect()
}

/// Waits until so many tasks run, none of which is in `old`.
fn wait_running(hosts: &Hosts, replicas: usize, old: &[(String, String)]) {
    eventually("the service runs", UPDATED, || {
        let now = tasks(hosts);
        let is_new =
            |task: &&(String, String)| task.1.starts_with("Running") && old.iter().all(|o| o.0 != task.0);
        let status = hosts.docker("h1", ["service", "inspect", "--format", "{{json .UpdateStatus}}", "web"]);
        let is_over = status.is_ok_and(|status| !status.contains("\"updating\""));
        if is_over && now.len() == replicas && now.iter().filter(is_new).count() == replicas {
            return Ok(());
        }
        let ps = hosts.docker("h1", "service ps --no-trunc web").unwrap_or_default();
        Err(format!("{now:?}\n{ps}"))
    });
}

/// Waits until so many tasks run.
pub fn running(hosts: &Hosts, replicas: usize) {
    wait_running(hosts, replicas, &[]);
}

/// Replaces all tasks, and waits until that is done.
pub fn update(hosts: &Hosts, replicas: usize) -> Duration {
    Update::begin(hosts).end(hosts, replicas)
}

/// An update under way.
#[derive(Debug)]
pub(crate) struct Update {
    before: Vec<(String, String)>,
    start: Instant,
}

impl Update {
    pub(crate) fn begin(hosts: &Hosts) -> Self {
        let update = Self { before: tasks(hosts), start: Instant::now() };
        hosts.docker("h1", "service update -d --force web").expect("a command");
        update
    }

    /// Waits until all tasks are replaced.
    pub(crate) fn end(self, hosts: &Hosts, replicas: usize) -> Duration {
        wait_running(hosts, replicas, &self.before);
        self.start.elapsed()
    }
}

/// What updates under load showed.
#[derive(Debug, Clone)]
pub struct Updated {
    /// How long each took.
    pub times: Vec<Duration>,
    /// Answers that clients had.
    pub answers: u64,
    /// What went wrong, by host.
    pub failures: Vec<String>,
}

/// So many updates of the service under load from all hosts, each with a long download and a long upload under way from
/// every host to every one of these addresses.
pub fn update_under_load(hosts: &Hosts, servers: &[SocketAddr], replicas: usize, updates: usize) -> Updated {
    running(hosts, replicas);
    let mut load = Load::begin(hosts, &CLIENTS, servers);
    let mut times = Vec::new();
    for _ in 0..updates {
        load.transfer();
        times.push(update(hosts, replicas));
        load.go_on();
    }
    let answered = load.end();
    Updated { times, answers: answered.answers, failures: answered.failures }
}
