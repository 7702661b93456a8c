//! Rolling updates of a web server under load from a client on every host.

#![allow(clippy::missing_panics_doc, reason = "every step panics when the service does not do what it shall")]

use std::time::{Duration, Instant};

use weft_lab::{LabSpec, eventually};

use crate::Hosts;

/// Time for one update of two tasks, container starts included.
const UPDATED: Duration = Duration::from_secs(40);
/// Answers that a client needs before an update counts as made under load.
const ENOUGH: usize = 20;

/// A server as servers should be: told to stop it takes no connection any more at once, and ends when its answers are
/// out. `/cgi-bin/slow` takes five seconds.
const SERVER: &str = r#"
mkdir -p /www/cgi-bin && hostname > /www/index.html
printf '#!/bin/sh\necho; i=0; while [ $i -lt 50 ]; do echo chunk; sleep 0.1; i=$((i+1)); done; echo done\n' > /www/cgi-bin/slow
chmod +x /www/cgi-bin/slow
httpd -f -p 80 -h /www & server=$!
trap 'kill $server; while pidof slow httpd > /dev/null; do sleep 0.1; done; exit 0' TERM
while kill -0 $server 2> /dev/null; do wait $server; done
"#;

/// Three hosts with a network and a client on each.
pub fn hosts(name: &str) -> Hosts {
    let hosts = Hosts::up(LabSpec::bridged(name, 3));
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").expect("a command");
    for host in ["h1", "h2", "h3"] {
        hosts.run_idle(host, &format!("client-{host}"), "--network web").expect("a command");
    }
    hosts
}

/// Creates the service `web`; `flags` stand before the image.
pub fn serve(hosts: &Hosts, flags: &str) {
    let flags = format!(
        "service create -d --name web --network web --stop-grace-period 20s --update-monitor 100ms \
         --health-interval 300ms --health-retries 20 {flags} --health-cmd"
    );
    let mut args: Vec<&str> = flags.split_whitespace().collect();
    // One that runs does not listen yet: without a check of its health nobody could know when it does.
    args.extend(["nc -w 1 127.0.0.1 80 < /dev/null", "busybox", "sh", "-c", SERVER]);
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

/// Ids and states of the tasks that shall run.
fn tasks(hosts: &Hosts) -> Vec<(String, String)> {
    let args = [
        "service",
        "ps",
        "--filter",
        "desired-state=running",
        "--format",
        "{{.ID}} {{.CurrentState}}",
        "web",
    ];
    let list = hosts.docker("h1", args).expect("a command");
    let task = |line: &str| line.split_once(' ').map(|(id, state)| (id.to_owned(), state.to_owned()));
    list.lines().filter_map(task).collect()
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
    let (before, start) = (tasks(hosts), Instant::now());
    hosts.docker("h1", "service update -d --force web").expect("a command");
    wait_running(hosts, replicas, &before);
    start.elapsed()
}

/// A client on each host that asks again and again.
struct Load<'a> {
    hosts: &'a Hosts,
    /// Address and port.
    server: String,
}

impl<'a> Load<'a> {
    fn begin(hosts: &'a Hosts, server: &str) -> Self {
        let load = Self { hosts, server: server.to_owned() };
        load.each(|host| {
            load.exec(host, "rm -f /stop; : > /ok; : > /failed; : > /slow");
            let ask = get("/", server);
            let asks = format!(
                "while [ ! -e /stop ]; do answer=$({ask} 2> /why); \
                 if [ -n \"$answer\" ]; then echo $answer >> /ok; else (date +%T; cat /why) >> /failed; fi; done"
            );
            hosts.docker(host, ["exec", "-d", &client(host), "sh", "-c", &asks]).expect("a command");
        });
        load.go_on();
        load
    }

    fn each(&self, of: impl FnMut(&str)) {
        ["h1", "h2", "h3"].into_iter().for_each(of);
    }

    fn exec(&self, host: &str, line: &str) -> String {
        self.hosts.exec(host, &client(host), line).expect("a command")
    }

    fn answers(&self, host: &str) -> usize {
        self.exec(host, "wc -l < /ok").trim().parse().expect("a command")
    }

    /// Until every client has had some more answers.
    fn go_on(&self) {
        self.each(|host| {
            let before = self.answers(host);
            eventually("answers", UPDATED, || {
                let now = self.answers(host);
                if now >= before + ENOUGH {
                    Ok(())
                } else {
                    Err(format!("{now} answers, {}", self.exec(host, "cat /failed")))
                }
            });
        });
    }

    /// A slow answer on each host, which is checked in the end.
    fn download(&self) {
        let ask = get("/cgi-bin/slow", &self.server);
        self.each(|host| {
            let line = format!("({ask} || echo failed) >> /slow 2>&1");
            self.hosts.docker(host, ["exec", "-d", &client(host), "sh", "-c", &line]).expect("a command");
        });
    }

    /// Answers and failures of all clients. All downloads were whole.
    fn end(self, downloads: usize) -> (usize, Vec<String>) {
        let (mut answers, mut failures) = (0, Vec::new());
        self.each(|host| {
            self.exec(host, "touch /stop");
            let whole = vec!["done"; downloads].join("\n");
            eventually("downloads", UPDATED, || {
                let slow = self.exec(host, "cat /slow");
                if slow.trim() == whole { Ok(()) } else { Err(slow) }
            });
            answers += self.answers(host);
            failures.extend(self.exec(host, "cat /failed").lines().map(|line| format!("{host}: {line}")));
        });
        (answers, failures)
    }
}

/// Prints the last line of what a server answers. Not `wget`: that of a static busybox looks up the word `http` and dies.
fn get(path: &str, server: &str) -> String {
    format!("printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {server} | tail -n 1")
}

fn client(host: &str) -> String {
    format!("client-{host}")
}

/// What updates under load showed.
#[derive(Debug, Clone)]
pub struct Updated {
    /// How long each took.
    pub times: Vec<Duration>,
    /// Answers that clients had.
    pub answers: usize,
    /// What went wrong, by host.
    pub failures: Vec<String>,
}

/// So many updates of the service under load from all hosts, each with a slow answer under way on every host.
///
/// `server` is an address and a port with a space between.
pub fn update_under_load(hosts: &Hosts, server: &str, replicas: usize, updates: usize) -> Updated {
    running(hosts, replicas);
    let load = Load::begin(hosts, server);
    let mut times = Vec::new();
    for _ in 0..updates {
        load.download();
        times.push(update(hosts, replicas));
        load.go_on();
    }
    let (answers, failures) = load.end(updates);
    Updated { times, answers, failures }
}
