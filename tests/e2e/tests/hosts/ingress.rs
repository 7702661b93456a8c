//! Rows D1, D3, C9: published ports answer on every node, and tasks see their clients' own addresses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use weft_e2e::{Hosts, weft_exe};
use weft_lab::{Capture, DaemonSpec, LabSpec, eventually};

/// Time for a service to answer on all nodes: images are there already.
const CONVERGED: Duration = Duration::from_secs(30);
/// Time to repair what somebody removed.
const REPAIRED: Duration = Duration::from_secs(20);
/// A refusal that takes longer is no refusal at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The test program: both ends of a connection.
const ECHO: &str = env!("CARGO_BIN_EXE_peer-echo");

/// A swarm of `nodes` hosts with strict reverse path filtering, and one more host that is a client outside.
fn mesh(name: &str, nodes: usize) -> Hosts {
    let hosts = Hosts::up_with(LabSpec::bridged(name, nodes + 1), |_| {
        DaemonSpec::weft(&weft_exe()).arg("--live-restore")
    });
    let address = hosts.host("h1").ipv4;
    hosts.docker("h1", format!("swarm init --advertise-addr {address}")).unwrap();
    for n in 2..=nodes {
        hosts.join(&format!("h{n}"), "h1").unwrap();
    }
    hosts.wait_ready(nodes);
    for n in 1..=nodes {
        hosts.host(&format!("h{n}")).sh("sysctl -qw net.ipv4.conf.all.rp_filter=1").unwrap();
    }
    hosts
}

/// Flags with which a service's containers have the test program and its libraries.
fn with_program() -> String {
    let mount = |from: &str, to: &str| format!("--mount type=bind,src={from},dst={to},ro");
    [mount(ECHO, "/peer-echo"), mount("/lib", "/lib"), mount("/lib64", "/lib64")].join(" ")
}

/// Creates a service that tells its clients their addresses.
fn serve(hosts: &Hosts, name: &str, flags: &str) {
    let program = with_program();
    let line = format!(
        "service create -d --name {name} --stop-grace-period 1s {flags} {program} busybox /peer-echo serve 80"
    );
    hosts.docker("h1", line).unwrap();
}

/// What a server says to a host: the address that it sees, and its own name.
fn ask(hosts: &Hosts, from: &str, protocol: &str, server: &str) -> Result<(String, String), String> {
    let answer = hosts.host(from).run(ECHO, ["ask", protocol, server]).map_err(|e| e.to_string())?;
    let (peer, name) = answer.trim().split_once(' ').ok_or(format!("odd answer {answer:?}"))?;
    Ok((peer.to_owned(), name.to_owned()))
}

/// Waits until a server sees this address.
fn sees(hosts: &Hosts, from: &str, protocol: &str, server: &str, peer: &str) {
    eventually(&format!("{protocol} {server} sees {peer} from {from}"), CONVERGED, || {
        match ask(hosts, from, protocol, server)? {
            (seen, _) if seen == peer => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn refused(hosts: &Hosts, from: &str, server: &str) {
    eventually(&format!("{server} refuses {from} at once"), CONVERGED, || {
        let begin = Instant::now();
        match ask(hosts, from, "tcp", server) {
            Err(error) if error.contains("refused") && begin.elapsed() < AT_ONCE => Ok(()),
            other => Err(format!("{other:?} after {:?}", begin.elapsed())),
        }
    });
}

fn address(hosts: &Hosts, host: &str) -> String {
    hosts.host(host).ipv4.to_string()
}

/// A connection that stays open.
struct Held {
    child: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Held {
    fn open(hosts: &Hosts, from: &str, server: &str) -> Self {
        let mut command = hosts.host(from).command(ECHO);
        let mut child =
            command.args(["hold", server]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        answers.next().unwrap().unwrap();
        Self { child, answers }
    }

    fn echoes(&mut self, word: &str) -> bool {
        let sent = writeln!(self.child.stdin.as_mut().unwrap(), "{word}");
        sent.is_ok() && self.answers.next().is_some_and(|line| line.is_ok_and(|line| line == word))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn d1_every_node_answers_and_tasks_see_who_asks() {
    let hosts = mesh("d1", 3);
    serve(
        &hosts,
        "web",
        "--replicas 2 --constraint node.hostname!=h3 -p 8080:80 -p published=5353,target=80,protocol=udp",
    );
    let client = address(&hosts, "h4");
    for node in ["h1", "h2", "h3"] {
        let node = address(&hosts, node);
        sees(&hosts, "h4", "tcp", &format!("{node}:8080"), &client);
        sees(&hosts, "h4", "udp", &format!("{node}:5353"), &client);
    }
    // Balanced, also by the node without a task.
    for node in ["h1", "h3"] {
        let server = format!("{}:8080", address(&hosts, node));
        let mut served: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..60 {
            *served.entry(ask(&hosts, "h4", "tcp", &server).unwrap().1).or_default() += 1;
        }
        assert!(served.len() == 2 && served.values().all(|count| *count >= 12), "{node}: {served:?}");
    }
    // The nodes themselves and their containers, also tasks of the service: they come by their node's address.
    let program = format!("-v {ECHO}:/peer-echo:ro -v /lib:/lib:ro -v /lib64:/lib64:ro");
    for node in ["h1", "h3"] {
        let own = address(&hosts, node);
        for server in ["127.0.0.1", &own] {
            sees(&hosts, node, "tcp", &format!("{server}:8080"), &own);
            sees(&hosts, node, "udp", &format!("{server}:5353"), &own);
        }
        hosts.run_idle(node, "near", &program).unwrap();
        let mut within = vec!["near".to_owned()];
        let tasks = hosts.docker(node, ["ps", "-q", "--filter", "name=web."]).unwrap();
        within.extend(tasks.lines().map(str::to_owned));
        assert_eq!(within.len(), if node == "h3" { 1 } else { 2 });
        for container in within {
            for _ in 0..6 {
                let line = format!("/peer-echo ask tcp {own}:8080 && /peer-echo ask udp {own}:5353");
                let answers = hosts.exec(node, &container, &line).unwrap();
                assert!(answers.lines().all(|answer| answer.starts_with(&own)), "{answers}");
            }
        }
    }
    // The network has no IPv6 addresses: who tries goes on to IPv4 at once.
    refused(&hosts, "h4", &format!("[{}]:8080", hosts.host("h3").ipv6));
    // A port that nobody published is the host's own affair.
    refused(&hosts, "h4", &format!("{}:8081", address(&hosts, "h3")));
}

#[test]
fn d1_ports_are_published_over_ipv6_where_the_ingress_network_has_it() {
    let hosts = mesh("d1six", 2);
    let url = hosts.daemon("h1").url();
    hosts.host("h1").sh(&format!("echo y | docker -H {url} network rm ingress")).unwrap();
    let create = "network create -d overlay --ingress --ipv6 --subnet 10.11.0.0/24 --subnet fd11::/64 both";
    eventually("the other ingress network", CONVERGED, || {
        hosts.docker("h1", create).map(drop).map_err(|error| error.to_string())
    });
    let flags = "--constraint node.hostname==h1 -p 8080:80 -p published=5353,target=80,protocol=udp";
    serve(&hosts, "web", flags);
    let format = "{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}";
    let addresses = hosts.docker("h1", ["service", "inspect", "--format", format, "web"]).unwrap();
    assert!(addresses.contains("10.11.0.") && addresses.contains("fd11::"), "{addresses}");
    let client = hosts.host("h3");
    for node in ["h1", "h2"] {
        let node = hosts.host(node);
        for (port, protocol) in [(8080, "tcp"), (5353, "udp")] {
            let six = format!("[{}]:{port}", node.ipv6);
            sees(&hosts, "h3", protocol, &six, &client.ipv6.to_string());
            sees(&hosts, "h3", protocol, &format!("{}:{port}", node.ipv4), &client.ipv4.to_string());
        }
    }
}

#[test]
fn e1_the_ingress_network_may_be_encrypted() {
    let hosts = mesh("d1esp", 2);
    let url = hosts.daemon("h1").url();
    hosts.host("h1").sh(&format!("echo y | docker -H {url} network rm ingress")).unwrap();
    let create = "network create -d overlay --ingress --opt encrypted sealed";
    eventually("the other ingress network", CONVERGED, || {
        hosts.docker("h1", create).map(drop).map_err(|error| error.to_string())
    });
    let watch = |filter: &str| Capture::start(hosts.host("h2"), "eth0", filter).unwrap();
    let (clear, esp) = (watch("udp port 4789"), watch("udp port 4500 and greater 100"));
    serve(
        &hosts,
        "web",
        "--constraint node.hostname==h1 -p 8080:80 -p published=5353,target=80,protocol=udp",
    );
    let (client, entry) = (address(&hosts, "h3"), address(&hosts, "h2"));
    for (protocol, port) in [("tcp", 8080), ("udp", 5353)] {
        sees(&hosts, "h3", protocol, &format!("{entry}:{port}"), &client);
    }
    assert_eq!(clear.lines(), Vec::<String>::new(), "VXLAN in the clear");
    assert!(esp.count() >= 4, "{} packets of ESP", esp.count());
}

#[test]
fn d1_ports_come_and_go_with_the_service() {
    let hosts = mesh("d1b", 2);
    serve(&hosts, "web", "--constraint node.hostname==h1 -p 8080:80");
    let (client, far) = (address(&hosts, "h3"), address(&hosts, "h2"));
    sees(&hosts, "h3", "tcp", &format!("{far}:8080"), &client);
    // Nobody else of the node may have the port.
    let taken = weft_e2e::refusal(hosts.docker("h2", "run -d -p 8080:80 busybox true"));
    assert!(taken.contains("port is already allocated"), "{taken}");
    // The CLI removes what is published of the container's port.
    hosts.docker("h1", "service update -d --publish-rm 80 --publish-add 8081:80 web").unwrap();
    sees(&hosts, "h3", "tcp", &format!("{far}:8081"), &client);
    refused(&hosts, "h3", &format!("{far}:8080"));
    // Not only while the service's task is replaced.
    sees(&hosts, "h3", "tcp", &format!("{far}:8081"), &client);
    let gone = ask(&hosts, "h3", "tcp", &format!("{far}:8080")).unwrap_err();
    assert!(gone.contains("refused"), "{gone}");
    hosts.docker("h1", "service scale -d web=0").unwrap();
    refused(&hosts, "h3", &format!("{far}:8081"));
    hosts.docker("h1", "service scale -d web=1").unwrap();
    sees(&hosts, "h3", "tcp", &format!("{far}:8081"), &client);
    hosts.docker("h1", "service rm web").unwrap();
    refused(&hosts, "h3", &format!("{far}:8081"));
    for node in ["h1", "h2"] {
        eventually("nothing is left", CONVERGED, || {
            let rules = hosts.host(node).sh("nft list table ip weft-ingress").map_err(|e| e.to_string())?;
            if rules.contains("elements") { Err(rules) } else { Ok(()) }
        });
        let sockets = hosts.host(node).sh("ss -Hltn sport = 8081").unwrap();
        assert!(sockets.is_empty(), "{sockets}");
    }
}

#[test]
fn d1_source_translation_where_the_service_asks_for_it() {
    let hosts = mesh("d1c", 2);
    serve(&hosts, "web", "--constraint node.hostname==h1 --label weft.ingress.source=snat -p 8080:80");
    // Without nodes of Docker there are no load-balancer addresses: the node's own stands for it.
    let entry = address(&hosts, "h2");
    sees(&hosts, "h3", "tcp", &format!("{entry}:8080"), &entry);
}

#[test]
fn d1_connections_outlive_daemons_and_rules_are_put_back() {
    let mut hosts = mesh("d1d", 2);
    serve(
        &hosts,
        "web",
        "--constraint node.hostname==h1 -p 8080:80 -p published=5353,target=80,protocol=udp",
    );
    let (client, entry) = (address(&hosts, "h3"), address(&hosts, "h2"));
    let (tcp, udp) = (format!("{entry}:8080"), format!("{entry}:5353"));
    sees(&hosts, "h3", "tcp", &tcp, &client);
    let mut held = Held::open(&hosts, "h3", &tcp);
    assert!(held.echoes("before"));
    for node in ["h1", "h2"] {
        hosts.daemon(node).kill().unwrap();
    }
    assert!(held.echoes("without daemons"));
    assert_eq!(ask(&hosts, "h3", "tcp", &tcp).unwrap().0, client, "new connections without daemons");
    for node in ["h1", "h2"] {
        hosts.start(node);
    }
    hosts.wait_ready(2);
    assert!(held.echoes("after"));
    for node in ["h1", "h2"] {
        hosts.host(node).sh("nft flush ruleset").unwrap();
    }
    for (protocol, server) in [("tcp", &tcp), ("udp", &udp)] {
        eventually("rules are put back", REPAIRED, || match ask(&hosts, "h3", protocol, server)? {
            (peer, _) if peer == client => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    assert!(held.echoes("after the rules were gone"));
    // What the user wrote stays.
    let rule = "nft add rule inet weft-user forward meta l4proto tcp ct original proto-dst 8080 counter drop";
    hosts.host("h2").sh(rule).unwrap();
    serve(&hosts, "more", "-p 8082:80");
    sees(&hosts, "h3", "tcp", &format!("{entry}:8082"), &client);
    assert!(ask(&hosts, "h3", "tcp", &tcp).is_err());
    let rules = hosts.host("h2").sh("nft list table inet weft-user").unwrap();
    assert!(rules.contains("8080 counter"), "{rules}");
}

#[test]
fn d1_datagrams_of_one_socket_leave_a_task_that_ends() {
    let hosts = mesh("d1e", 2);
    serve(&hosts, "log", "--replicas 2 --update-delay 1s -p published=5353,target=80,protocol=udp");
    let server = format!("{}:5353", address(&hosts, "h2"));
    sees(&hosts, "h3", "udp", &server, &address(&hosts, "h3"));
    let mut command = hosts.host("h3").command(ECHO);
    let flow = command.args(["flow", &server, "20"]).stdout(Stdio::piped()).spawn().unwrap();
    // Both tasks are replaced while the datagrams go on.
    hosts.docker("h1", "service update --force --detach=false -q log").unwrap();
    let output = flow.wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> = output.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(matches!(numbers.as_slice(), [gap, servers] if *gap <= 1000 && *servers >= 2), "{numbers:?}");
}

#[test]
fn d3_ports_of_single_nodes() {
    let hosts = mesh("d3", 2);
    serve(&hosts, "web", "--mode global -p mode=host,published=9090,target=80");
    let client = address(&hosts, "h3");
    for node in ["h1", "h2"] {
        sees(&hosts, "h3", "tcp", &format!("{}:9090", address(&hosts, node)), &client);
    }
    // Another program has the port: the task says so.
    let mut other = hosts.host("h1").command("busybox").args(["nc", "-l", "-p", "9091"]).spawn().unwrap();
    eventually("the other program listens", CONVERGED, || {
        let sockets = hosts.host("h1").sh("ss -Hltn sport = 9091").map_err(|e| e.to_string())?;
        if sockets.is_empty() { Err("not yet") } else { Ok(()) }.map_err(str::to_owned)
    });
    serve(&hosts, "late", "--constraint node.hostname==h1 -p mode=host,published=9091,target=80");
    eventually("the task tells of the taken port", CONVERGED, || {
        let tasks = hosts.docker("h1", ["service", "ps", "--no-trunc", "--format", "{{.Error}}", "late"]);
        let tasks = tasks.map_err(|e| e.to_string())?;
        if tasks.contains("address already in use") { Ok(()) } else { Err(tasks) }
    });
    other.kill().unwrap();
    other.wait().unwrap();
    sees(&hosts, "h3", "tcp", &format!("{}:9091", address(&hosts, "h1")), &client);
}

/// Added latency of the mesh: a node without the task, beside the task's port of its own node, in turns.
#[test]
#[ignore = "measures; cargo xtask bench runs it"]
#[allow(clippy::print_stdout, reason = "what was measured")]
fn measured_latency_and_connections_through_the_mesh() {
    let hosts = mesh("d1m", 2);
    serve(&hosts, "web", "--constraint node.hostname==h1 -p 8080:80 -p mode=host,published=9090,target=80");
    let (client, task, entry) = (address(&hosts, "h3"), address(&hosts, "h1"), address(&hosts, "h2"));
    let ways = [
        ("direct", format!("{task}:9090")),
        ("task's node", format!("{task}:8080")),
        ("other node", format!("{entry}:8080")),
    ];
    for (_, server) in &ways {
        sees(&hosts, "h3", "tcp", server, &client);
    }
    let mut medians: BTreeMap<&str, Vec<[f64; 3]>> = BTreeMap::new();
    for _ in 0..7 {
        for (name, server) in &ways {
            let out = hosts.host("h3").run(ECHO, ["measure", server, "2"]).unwrap();
            let numbers: Vec<f64> = out.split_whitespace().map(|word| word.parse().unwrap()).collect();
            medians.entry(name).or_default().push(numbers.try_into().unwrap());
        }
    }
    let middle = |rounds: &[[f64; 3]], column: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let direct = medians["direct"].clone();
    for (name, rounds) in &medians {
        let [p50, p99, rate] = [0, 1, 2].map(|column| middle(rounds, column));
        println!(
            "published port, {name}: p50 {p50} us ({:.2} of direct), p99 {p99} us, {rate} connections/s",
            p50 / middle(&direct, 0)
        );
    }
}
