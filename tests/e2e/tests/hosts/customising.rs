//! Rows D1, D3, D5, D6: forms of publishing, networks of the user's own making in the place of `ingress` and
//! `docker_gwbridge`, by the unmodified `docker` CLI.

use weft_e2e::services::{CONVERGED, cluster, converged, running_by};
use weft_e2e::{Hosts, refusal};
use weft_lab::{Capture, LabSpec, eventually};

use super::answers;

/// A task that shall run, as `state error`.
const TASK: &str = "{{.CurrentState}} {{.Error}}";
/// What the documents make in the place of `ingress`.
const OWN_INGRESS: &str = "network create -d overlay --ingress --subnet 10.11.0.0/16 --gateway 10.11.0.2 --opt \
                           com.docker.network.driver.mtu=1200 my-ingress";

/// Creates a service that says its name at port 80.
fn web(hosts: &Hosts, name: &str, flags: &str) {
    let serve = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -p 80 -h /www");
    let mut line: Vec<String> =
        ["service", "create", "-d", "--name", name, "--stop-grace-period", "1s"].map(str::to_owned).into();
    line.extend(flags.split_whitespace().map(str::to_owned));
    line.extend(["busybox", "sh", "-c", &serve].map(str::to_owned));
    hosts.docker("h1", line).unwrap();
}

/// Waits until every host answers at a port with this service's name.
fn answers_everywhere(hosts: &Hosts, port: u16, service: &str) {
    for host in hosts.lab().hosts() {
        for entry in hosts.lab().hosts() {
            eventually(
                &format!("{service} at {port} of {} from {}", entry.name, host.name),
                CONVERGED,
                || {
                    let said = host.sh(&format!("wget -T 2 -t 1 -qO- http://{}:{port}/", entry.ipv4));
                    match said {
                        Ok(said) if said.trim() == service => Ok(()),
                        other => Err(format!("{other:?}\n{}", state(hosts))),
                    }
                },
            );
        }
    }
}

fn state(hosts: &Hosts) -> String {
    let lines = ["service ls", "node ls", "network ls"];
    lines.map(|line| hosts.docker("h1", line).unwrap_or_else(|error| error.to_string())).join("\n")
}

/// Answers the CLI's question.
fn remove_ingress(hosts: &Hosts, name: &str) -> Result<String, String> {
    let url = hosts.daemon("h1").url();
    let line = format!("echo y | docker -H {url} network rm {name} 2>&1");
    hosts.host("h1").sh(&line).map_err(|error| error.to_string())
}

fn names_of_networks(hosts: &Hosts, host: &str) -> String {
    hosts.docker(host, ["network", "ls", "--format", "{{.Name}}"]).unwrap_or_default()
}

#[test]
fn d5_another_ingress_network_takes_the_place_of_the_first() {
    let hosts = cluster("d5", 3);
    hosts.docker("h1", "network create -d overlay back").unwrap();
    web(&hosts, "quiet", "--network back");
    web(&hosts, "web", "-p 8080:80 --replicas 2");
    answers_everywhere(&hosts, 8080, "web");

    let asked = hosts.docker("h1", "network rm ingress").unwrap();
    assert!(asked.contains("Before removing the routing-mesh network"), "{asked}");
    let refused = remove_ingress(&hosts, "ingress").unwrap_err();
    assert!(refused.contains("ingress network cannot be removed because service"), "{refused}");
    let refused = refusal(hosts.docker("h1", OWN_INGRESS));
    assert!(refused.contains("rpc error: code = AlreadyExists desc = ingress network ("), "{refused}");
    assert!(refused.contains(") is already present"), "{refused}");

    // The port goes, then the network.
    hosts.docker("h1", "service update -d --publish-rm 80 web").unwrap();
    eventually("the network goes", CONVERGED, || remove_ingress(&hosts, "ingress").map(drop));
    let before = running_by(&hosts, "h1", "quiet", TASK).unwrap();
    for host in ["h1", "h2", "h3"] {
        eventually("the network is gone from the nodes", CONVERGED, || {
            let names = names_of_networks(&hosts, host);
            if names.lines().all(|name| name != "ingress") { Ok(()) } else { Err(names) }
        });
    }
    converged(&hosts, "quiet", "1/1", CONVERGED);
    assert_eq!(before.len(), 1);
    let refused = refusal(hosts.docker("h1", "service create -d --name late -p 8081:80 busybox sleep 1000"));
    let why = "rpc error: code = FailedPrecondition desc = service needs ingress network, but no ingress network is \
               present";
    assert!(refused.contains(why), "{refused}");

    // What goes back to its ports waits, and says for what.
    hosts.docker("h1", "service rollback -d web").unwrap();
    eventually("the tasks say what they wait for", CONVERGED, || {
        let tasks = running_by(&hosts, "h1", "web", TASK).map_err(|error| error.to_string())?;
        match tasks.iter().any(|task| task.contains("service needs ingress network")) {
            true => Ok(()),
            false => Err(format!("{tasks:?}")),
        }
    });
    let refused = refusal(hosts.docker("h1", "network create -d overlay --ingress --attachable my-ingress"));
    assert!(refused.contains("ingress network cannot be attachable"), "{refused}");
    hosts.docker("h1", OWN_INGRESS).unwrap();
    let refused = refusal(hosts.docker("h1", "network create -d overlay --ingress third"));
    assert!(refused.contains("is already present"), "{refused}");
    converged(&hosts, "web", "2/2", CONVERGED);
    answers_everywhere(&hosts, 8080, "web");
    let format = "{{.Ingress}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{index .Options \
                  \"com.docker.network.driver.mtu\"}}";
    for host in ["h1", "h3"] {
        let shown = hosts.docker(host, ["network", "inspect", "--format", format, "my-ingress"]).unwrap();
        assert_eq!(shown, "true 10.11.0.0/16 10.11.0.2 1200", "{host}");
    }
    let verbose = ["network", "inspect", "--verbose", "--format", "{{json .Services}}", "my-ingress"];
    let services = hosts.docker("h3", verbose).unwrap();
    assert!(services.contains("\"web\":") && services.contains("Target: 80, Publish: 8080"), "{services}");
    assert_eq!(services.matches("EndpointIP").count(), 2, "{services}");
    converged(&hosts, "quiet", "1/1", CONVERGED);
}

#[test]
fn d6_a_gateway_bridge_of_the_users_is_used() {
    let mut hosts = Hosts::up(LabSpec::bridged("d6", 2));
    // The documents begin with a host that was in a swarm.
    let address = hosts.host("h1").ipv4;
    hosts.docker("h1", format!("swarm init --advertise-addr {address}")).unwrap();
    eventually("the bridge that comes by itself", CONVERGED, || {
        hosts.host("h1").sh("ip link show docker_gwbridge")
    });
    hosts.docker("h1", "swarm leave --force").unwrap();
    hosts.daemon("h1").stop().unwrap();
    hosts.host("h1").sh("ip link del docker_gwbridge").unwrap();
    hosts.start("h1");
    let make = |host: &str, subnet: &str, icc: bool, masquerade: bool| {
        let options = format!(
            "--opt com.docker.network.bridge.name=docker_gwbridge --opt com.docker.network.bridge.enable_icc={icc} \
             --opt com.docker.network.bridge.enable_ip_masquerade={masquerade}"
        );
        hosts.docker(host, format!("network create --subnet {subnet} {options} docker_gwbridge")).unwrap()
    };
    make("h1", "10.11.0.0/16", false, true);
    let second = make("h2", "10.12.0.0/16", true, false);
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable net").unwrap();
    web(&hosts, "web", "-p 8080:80 --mode global");
    answers_everywhere(&hosts, 8080, "web");

    uses(&hosts, "h1", "10.11.0.", false, true);
    uses(&hosts, "h2", "10.12.0.", true, false);

    // Another swarm life on the same host.
    hosts.docker("h2", "swarm leave").unwrap();
    hosts.join("h2", "h1").unwrap();
    eventually("the node is back", CONVERGED, || {
        let nodes = hosts.docker("h1", ["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
        let nodes = nodes.map_err(|error| error.to_string())?;
        if nodes.lines().any(|line| line == "h2 Ready") { Ok(()) } else { Err(nodes) }
    });
    let id = hosts.inspect("h2", "docker_gwbridge", "{{.Id}}").unwrap();
    assert_eq!(id, second);
    uses(&hosts, "h2", "10.12.0.", true, false);
}

/// Two containers of a host on an overlay reach out as the host's gateway bridge has it.
fn uses(hosts: &Hosts, host: &str, prefix: &str, icc: bool, masquerade: bool) {
    let gateway_address = |name: &str| {
        let shown = hosts.exec(host, name, "ip -o -4 addr show eth1").unwrap();
        shown.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned()
    };
    for name in ["one", "two"] {
        hosts.run_idle(host, name, "--network net").unwrap();
    }
    let (one, two) = (gateway_address("one"), gateway_address("two"));
    assert!(one.starts_with(prefix) && two.starts_with(prefix), "{one} {two}");
    assert!(answers(hosts, host, "one", "two").is_lossless());
    let reached = hosts.exec(host, "one", &format!("ping -c 1 -W 2 {two}")).is_ok();
    assert_eq!(reached, icc, "{host}: containers talk over the gateway bridge");

    let other = if host == "h1" { "h2" } else { "h1" };
    let own = hosts.host(host).ipv4.to_string();
    let source = if masquerade { &own } else { &one };
    let seen = Capture::start(hosts.host(other), "eth0", &format!("icmp and src {source}")).unwrap();
    let target = hosts.host(other).ipv4;
    eventually(&format!("{other} sees {source}"), CONVERGED, || {
        // Without masquerading nobody knows the way back.
        let _ = hosts.exec(host, "one", &format!("ping -c 1 -W 1 {target}"));
        if seen.count() > 0 { Ok(()) } else { Err("nothing was seen".to_owned()) }
    });
    hosts.docker(host, "rm -f one two").unwrap();
}

#[test]
fn d1_forms_of_publishing_are_shown_and_refused_as_docker_does() {
    let hosts = cluster("d1f", 2);
    hosts.docker("h1", "network create -d overlay net").unwrap();
    let many = "-p 8080:80 -p 9000-9001:9000-9001/udp --publish published=8085,target=85,protocol=tcp,mode=host \
                --publish target=86 --publish published=8087,target=87,protocol=sctp";
    web(&hosts, "s3", many);
    web(&hosts, "range", "-p 8000-8002:80-82");
    converged(&hosts, "s3", "1/1", CONVERGED);
    let listed = hosts.docker("h1", ["service", "ls", "--format", "{{.Name}} {{.Ports}}"]).unwrap();
    let s3 = "s3 *:8087->87/sctp, *:8080->80/tcp, *:30000->86/tcp, *:9000-9001->9000-9001/udp";
    assert!(listed.lines().any(|line| line == s3), "{listed}");
    assert!(listed.lines().any(|line| line == "range *:8000-8002->80-82/tcp"), "{listed}");
    answers_everywhere(&hosts, 8080, "s3");
    answers_everywhere(&hosts, 8000, "range");

    let create = |flags: &str| {
        let line = format!("service create -d --name no {flags} busybox sleep 1000");
        refusal(hosts.docker("h1", line))
    };
    for (flags, why) in [
        (
            "-p 8080:81",
            "rpc error: code = InvalidArgument desc = port '8080' is already in use by service 's3' (",
        ),
        ("-p 9001:1/udp", "port '9001' is already in use by service 's3' ("),
        ("--publish published=8080,target=1,mode=host", ") as an ingress port"),
        ("-p 8085:1", ") as a host-published port"),
        ("-p 8090:81 -p 8090:82", "EndpointSpec: duplicate published ports provided"),
        (
            "--endpoint-mode dnsrr --network net -p 8090:80",
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ),
        ("-p 127.0.0.1:8090:80", "hostip is not supported"),
        ("--hostname {{.Bogus}}", "can't evaluate field Bogus in type *template.Context"),
    ] {
        let refused = create(flags);
        assert!(refused.contains(why), "{flags}: {refused}");
    }

    // Ports come and go with updates.
    hosts.docker("h1", "service update -d --publish-add 8091:80 range").unwrap();
    answers_everywhere(&hosts, 8091, "range");
    let refused = refusal(hosts.docker("h1", "service update -d --publish-add 8080:99 range"));
    assert!(refused.contains("port '8080' is already in use by service 's3' ("), "{refused}");
    hosts.docker("h1", "service update -d --publish-rm 81 range").unwrap();
    let listed = hosts.docker("h1", ["service", "ls", "--format", "{{.Name}} {{.Ports}}"]).unwrap();
    let range = listed.lines().find(|line| line.starts_with("range ")).unwrap();
    assert!(!range.contains("8001") && range.contains("*:8091->80/tcp"), "{range}");
    let refused = refusal(hosts.docker("h1", "service update -d --endpoint-mode dnsrr range"));
    assert!(refused.contains("can't be used with dnsrr mode"), "{refused}");
}

#[test]
fn d3_ports_on_the_hosts_of_tasks() {
    let hosts = cluster("d3", 2);
    hosts.docker("h1", "network create -d overlay net").unwrap();
    web(
        &hosts,
        "own",
        "--network net --endpoint-mode dnsrr --publish mode=host,published=8099,target=80 --constraint \
         node.hostname==h2",
    );
    converged(&hosts, "own", "1/1", CONVERGED);
    let ask = |entry: &str, port: u16| {
        let address = hosts.host(entry).ipv4;
        hosts.host("h1").sh(&format!("wget -T 2 -t 1 -qO- http://{address}:{port}/"))
    };
    eventually("the task's own host answers", CONVERGED, || ask("h2", 8099).map(drop));
    assert!(ask("h1", 8099).is_err(), "only that one");
    let shown = hosts.docker("h2", ["ps", "--format", "{{.Ports}}"]).unwrap();
    assert!(shown.contains("0.0.0.0:8099->80/tcp"), "{shown}");
    let shown = hosts.docker("h1", ["service", "ps", "--format", "{{.Ports}}", "own"]).unwrap();
    assert_eq!(shown, "*:8099->80/tcp");

    // A port that each node has once.
    web(&hosts, "many", "--replicas 3 --publish mode=host,published=8100,target=80");
    eventually("one finds no node", CONVERGED, || {
        let tasks = running_by(&hosts, "h1", "many", TASK).map_err(|error| error.to_string())?;
        let why = "no suitable node (host-mode port already in use on 2 nodes)";
        if tasks.iter().any(|task| task.contains(why)) { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
    // A port that something else on the node has.
    hosts.docker("h1", "run -d --name hog -p 8095:80 busybox sleep 1000").unwrap();
    web(&hosts, "taken", "--publish mode=host,published=8095,target=80 --constraint node.hostname==h1");
    eventually("the task says so", CONVERGED, || {
        let args = ["service", "ps", "--no-trunc", "--format", "{{.Error}}", "taken"];
        let errors = hosts.docker("h1", args).map_err(|error| error.to_string())?;
        if errors.contains("Bind for 0.0.0.0:8095 failed: port is already allocated") {
            Ok(())
        } else {
            Err(errors)
        }
    });

    // An address of its own comes and goes with the mode.
    let addresses = || {
        hosts.docker("h1", ["service", "inspect", "--format", "{{len .Endpoint.VirtualIPs}}", "own"]).unwrap()
    };
    assert_eq!(addresses(), "0");
    hosts.docker("h1", "service update -d --endpoint-mode vip own").unwrap();
    assert_eq!(addresses(), "1");
    converged(&hosts, "own", "1/1", CONVERGED);
    hosts.docker("h1", "service update -d --endpoint-mode dnsrr own").unwrap();
    assert_eq!(addresses(), "0");
    converged(&hosts, "own", "1/1", CONVERGED);
}
