//! Rows C1, C2, C6-C9, A8: services, stacks and the nodes they run on, by the unmodified `docker` CLI.

use std::time::{Duration, Instant};

use weft_e2e::services::{
    CONVERGED, cluster, container, converged, idle, inspect, running, running_by, tasks_are, updated,
};
use weft_e2e::{Hosts, Registry, refusal, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

/// The same after a node fell silent: it is down only after three heartbeats and a look at its helper.
const RESCHEDULED: Duration = Duration::from_secs(60);

/// From the end of every process of a node until its tasks run elsewhere, by the issue.
const GOAL: Duration = Duration::from_secs(8);

#[test]
fn c1_replicas_are_spread_and_run_on_their_network() {
    let hosts = cluster("c1", 3);
    hosts.docker("h1", "network create -d overlay web").unwrap();
    idle(&hosts, "s", "--replicas 6 --network web");
    converged(&hosts, "s", "6/6", CONVERGED);
    let nodes = running(&hosts, "s", "{{.Node}} {{.DesiredState}}");
    let twice = |host: &str| [format!("{host} Running"), format!("{host} Running")];
    assert_eq!(nodes, [twice("h1"), twice("h2"), twice("h3")].concat());
    let names = running(&hosts, "s", "{{.Name}} {{.Image}} {{.Error}}");
    assert_eq!(names, (1..=6).map(|slot| format!("s.{slot} busybox:latest ")).collect::<Vec<_>>());

    for host in ["h1", "h2", "h3"] {
        let ps = hosts.docker(host, ["ps", "--format", "{{.Names}}"]).unwrap();
        assert_eq!(ps.lines().filter(|name| name.starts_with("s.")).count(), 2, "{host}: {ps}");
    }
    // Every task has an address of the network, and reaches the others across hosts.
    let address = "{{(index .NetworksAttachments 0).Addresses}}";
    let tasks = running(&hosts, "s", "{{.Node}} {{.ID}}");
    let mut addresses: Vec<String> = Vec::new();
    for task in &tasks {
        let id = task.split(' ').nth(1).unwrap();
        let text = hosts.inspect("h1", id, address).unwrap();
        addresses.push(text.trim_matches(['[', ']']).split('/').next().unwrap().to_owned());
    }
    let unique: std::collections::BTreeSet<&String> = addresses.iter().collect();
    assert_eq!(unique.len(), 6, "{addresses:?}");
    let first = hosts.docker("h1", ["ps", "-q", "--filter", "name=s."]).unwrap();
    let first = first.lines().next().unwrap();
    for address in &addresses {
        eventually(&format!("{address} answers"), CONVERGED, || {
            hosts.exec("h1", first, &format!("ping -c 1 -w 2 {address}")).map(drop).map_err(|e| e.to_string())
        });
    }
    let refused = refusal(hosts.docker("h1", "network rm web"));
    assert!(refused.contains("is in use by service"), "{refused}");
    hosts.docker("h1", "service rm s").unwrap();
    eventually("containers gone", CONVERGED, || {
        let left: Vec<String> =
            ["h1", "h2", "h3"].iter().map(|h| hosts.docker(h, "ps -aq").unwrap_or_default()).collect();
        if left.iter().all(String::is_empty) { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // One without a name is given one.
    hosts.docker("h1", "service create -d --replicas 0 busybox true").unwrap();
    let names = hosts.docker("h1", ["service", "ls", "--format", "{{.Name}}"]).unwrap();
    assert!(names.contains('_'), "{names}");
    eventually("the network can go", CONVERGED, || {
        hosts.docker("h1", "network rm web").map(drop).map_err(|e| e.to_string())
    });
}

#[test]
fn c2_networks_are_added_and_removed_by_updates() {
    let hosts = cluster("c2", 2);
    hosts.docker("h1", "network create -d overlay one").unwrap();
    hosts.docker("h1", "network create -d overlay two").unwrap();
    idle(&hosts, "s", "--network one");
    converged(&hosts, "s", "1/1", CONVERGED);
    let networks = || {
        let (host, id) = container(&hosts, "s");
        let names = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        hosts.inspect(&host, &id, names).unwrap().trim().to_owned()
    };
    assert_eq!(networks(), "one");
    hosts.docker("h1", "service update -d --network-add two s").unwrap();
    updated(&hosts, "s", "completed");
    assert_eq!(networks(), "one two");
    hosts.docker("h1", "service update -d --network-rm one s").unwrap();
    updated(&hosts, "s", "completed");
    assert_eq!(networks(), "two");
    let virtual_ips = inspect(&hosts, "s", "{{len .Endpoint.VirtualIPs}}").unwrap();
    assert_eq!(virtual_ips, "1");
    let refused = refusal(hosts.docker("h1", "service update -d --network-add nosuch s"));
    assert!(refused.contains("network nosuch not found"), "{refused}");
}

#[test]
fn c6_services_are_global_scaled_updated_and_rolled_back() {
    let hosts = cluster("c6", 3);
    idle(&hosts, "g", "--mode global");
    converged(&hosts, "g", "3/3", CONVERGED);
    assert_eq!(running(&hosts, "g", "{{.Node}}"), ["h1", "h2", "h3"]);
    hosts.docker("h1", "service rm g").unwrap();

    idle(&hosts, "s", "--replicas 2 --env A=1 --update-delay 0s --update-monitor 1s --rollback-monitor 1s");
    converged(&hosts, "s", "2/2", CONVERGED);
    hosts.docker("h1", "service scale -d s=4").unwrap();
    converged(&hosts, "s", "4/4", CONVERGED);
    hosts.docker("h1", "service scale -d s=1").unwrap();
    converged(&hosts, "s", "1/1", CONVERGED);

    let env = || {
        let (host, id) = container(&hosts, "s");
        hosts.exec(&host, &id, "echo $A").unwrap()
    };
    hosts.docker("h1", "service update -d --env-add A=2 s").unwrap();
    updated(&hosts, "s", "completed");
    assert_eq!(env(), "2");
    // The task before is in the history.
    let all = hosts.docker("h1", ["service", "ps", "--format", "{{.Name}} {{.DesiredState}}", "s"]).unwrap();
    assert!(all.lines().any(|line| line.contains("s.1 Shutdown")), "{all}");

    hosts.docker("h1", "service rollback -d s").unwrap();
    updated(&hosts, "s", "rollback_completed");
    assert_eq!(env(), "1");

    for host in ["h1", "h2", "h3"] {
        hosts.docker(host, "tag busybox busybox:two").unwrap();
    }
    hosts.docker("h1", "service update -d --image busybox:two s").unwrap();
    updated(&hosts, "s", "completed");
    assert_eq!(running(&hosts, "s", "{{.Image}}"), ["busybox:two"]);

    let before = container(&hosts, "s");
    hosts.docker("h1", "service update -d --force s").unwrap();
    updated(&hosts, "s", "completed");
    assert_ne!(container(&hosts, "s"), before);

    hosts.docker("h1", "node update --label-add zone=b h2").unwrap();
    hosts.docker("h1", "service update -d --constraint-add node.labels.zone==b --replicas 2 s").unwrap();
    tasks_are(&hosts, "s", "{{.Node}}", &["h2", "h2"], CONVERGED);
    converged(&hosts, "s", "2/2", CONVERGED);
    let pretty = hosts.docker("h1", "service inspect --pretty s").unwrap();
    assert!(pretty.contains("Constraints:\t[node.labels.zone==b]"), "{pretty}");
}

#[test]
fn c6_containers_are_restarted_as_their_policy_says() {
    let hosts = cluster("c6r", 2);
    idle(&hosts, "any", "--restart-delay 100ms");
    converged(&hosts, "any", "1/1", CONVERGED);
    let (host, id) = container(&hosts, "any");
    hosts.docker(&host, ["kill", &id]).unwrap();
    eventually("another container", CONVERGED, || {
        let (_, now) = container(&hosts, "any");
        if now == id { Err(now) } else { Ok(()) }
    });
    let history = hosts
        .docker("h1", ["service", "ps", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}", "any"]);
    let history = history.unwrap();
    assert!(
        history.lines().any(|line| line.contains("Failed") && line.contains("non-zero exit (137)")),
        "{history}"
    );

    // Without its shim nobody could tell a container's end: it goes, too, and leaves nothing behind.
    let (host, id) = container(&hosts, "any");
    let pid = hosts.inspect(&host, &id, "{{.State.Pid}}").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    assert!(hosts.processes(&host, "shim").contains(&shim.parse().unwrap()), "{status}");
    hosts.host(&host).run("kill", ["-9", shim]).unwrap();
    eventually("another container in place of one without a shim", CONVERGED, || {
        let (_, now) = container(&hosts, "any");
        if now == id { Err(now) } else { Ok(()) }
    });
    assert_eq!(hosts.inspect(&host, &id, "{{.State.Status}} {{.State.ExitCode}}").unwrap(), "exited 255");
    eventually("its process is gone", CONVERGED, || {
        if std::path::Path::new(&format!("/proc/{pid}")).exists() { Err(pid.clone()) } else { Ok(()) }
    });
    let mounts = hosts.host(&host).sh("cat /proc/mounts").unwrap();
    assert!(!mounts.contains(&id), "{mounts}");

    let once = "service create -d --name once --restart-condition none busybox false";
    hosts.docker("h1", once).unwrap();
    eventually("it failed once", CONVERGED, || {
        let args = ["service", "ps", "--format", "{{.CurrentState}}|{{.Error}}", "--no-trunc", "once"];
        let ps = hosts.docker("h1", args).map_err(|e| e.to_string())?;
        let failed =
            ps.lines().filter(|l| l.starts_with("Failed") && l.ends_with("|\"task: non-zero exit (1)\""));
        if failed.count() == 1 && ps.lines().count() == 1 { Ok(()) } else { Err(ps) }
    });
}

#[test]
fn c6_output_of_tasks_is_gathered_from_all_nodes() {
    let hosts = cluster("c6l", 2);
    let script = "echo err >&2; sleep 0.5; for i in 1 2 3; do echo out $i; done; sleep 1000";
    let create =
        ["service", "create", "-d", "--name", "lg", "--replicas", "2", "busybox", "sh", "-c", script];
    hosts.docker("h1", create).unwrap();
    converged(&hosts, "lg", "2/2", CONVERGED);
    eventually("six lines", CONVERGED, || {
        let logs = hosts.docker("h1", "service logs lg").map_err(|e| e.to_string())?;
        let both = ["@h1", "@h2"].iter().all(|host| logs.contains(host));
        if both && logs.lines().filter(|line| line.contains("| out ")).count() == 6 {
            Ok(())
        } else {
            Err(logs)
        }
    });
    let last = hosts.docker("h1", "service logs --tail 1 --raw lg").unwrap();
    assert_eq!(last.lines().collect::<Vec<_>>(), ["out 3", "out 3"]);
    let task = running(&hosts, "lg", "{{.ID}}").remove(0);
    let one = hosts.docker("h1", ["service", "logs", "--raw", &task]).unwrap();
    assert_eq!(one.lines().collect::<Vec<_>>(), ["out 1", "out 2", "out 3"]);
}

#[test]
fn c6_what_prevents_a_task_is_shown_where_users_look() {
    let hosts = cluster("c6e", 2);
    let error = |service: &str, want: &str| {
        eventually(&format!("error of {service}"), CONVERGED, || {
            let args = ["service", "ps", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}", service];
            let ps = hosts.docker("h1", args).map_err(|e| e.to_string())?;
            if ps.lines().any(|line| line.contains(want)) { Ok(()) } else { Err(ps) }
        });
    };
    idle(&hosts, "nowhere", "--constraint node.labels.zone==nope");
    error("nowhere", "no suitable node (scheduling constraints not satisfied on 2 nodes)");
    let missing = "service create -d --name missing --restart-condition none 127.0.0.1:1/no/such:1 sleep 1";
    hosts.docker("h1", missing).unwrap();
    error("missing", "Rejected");
    hosts.docker("h1", "network create -d overlay --subnet 10.77.0.0/30 tiny").unwrap();
    idle(&hosts, "full", "--replicas 3 --network tiny");
    error("full", "tiny");
    for (line, want) in [
        (
            "service create -d --name nowhere busybox",
            "name conflicts with an existing object: service nowhere already exists",
        ),
        ("service create -d --name a.b busybox", "name must be valid as a DNS name component"),
        (
            "service create -d --name x --endpoint-mode dnsrr -p 80:80 busybox",
            "port published with ingress mode can't be used with dnsrr mode",
        ),
        (
            "service create -d --name x --limit-memory 1M busybox",
            "invalid memory value 1048576: Must be at least 4MiB",
        ),
        ("service update -d nosuch", "service nosuch not found"),
    ] {
        let refused = refusal(hosts.docker("h1", line));
        assert!(refused.contains(want), "{line}: {refused}");
    }
}

/// A compose file as people write them.
const STACK: &str = "\
services:
  web:
    image: busybox
    command: httpd -f -p 80
    networks: [front, back]
    environment: {A: b}
    labels: {com.example: x}
    stop_grace_period: 1s
    deploy:
      replicas: 2
      labels: {sl: sv}
      resources: {limits: {cpus: '0.5', memory: 64M}}
      update_config: {parallelism: 1, delay: 0s}
  db:
    image: busybox
    command: sleep 100000
    networks: [back]
    volumes: ['dbdata:/data']
    stop_grace_period: 1s
    deploy: {mode: global, endpoint_mode: dnsrr}
    secrets: [s1]
    configs: [{source: c1, target: /etc/c1}]
networks:
  front: {driver: overlay, attachable: true}
  back: {driver: overlay, ipam: {config: [{subnet: 10.66.0.0/24}]}}
volumes: {dbdata: {}}
secrets: {s1: {file: ./secret.txt}}
configs: {c1: {file: ./config.txt}}
";

#[test]
fn c7_a_stack_is_deployed_from_a_compose_file() {
    let hosts = cluster("c7", 2);
    let dir = &hosts.host("h1").dir;
    std::fs::write(dir.join("secret.txt"), "hush").unwrap();
    std::fs::write(dir.join("config.txt"), "conf").unwrap();
    let file = dir.join("stack.yml");
    std::fs::write(&file, STACK).unwrap();
    let file = file.display().to_string();
    let deploy = ["stack", "deploy", "--detach=true", "-c", &file, "st"];
    let said = hosts.docker("h1", deploy).unwrap();
    assert!(said.contains("Creating service st_web"), "{said}");
    converged(&hosts, "st_web", "2/2", CONVERGED);
    converged(&hosts, "st_db", "2/2", CONVERGED);
    assert_eq!(hosts.docker("h1", ["stack", "ls", "--format", "{{.Name}} {{.Services}}"]).unwrap(), "st 2");
    let services =
        hosts.docker("h1", ["stack", "services", "--format", "{{.Name}} {{.Mode}}", "st"]).unwrap();
    let mut services: Vec<&str> = services.lines().collect();
    services.sort_unstable();
    assert_eq!(services, ["st_db global", "st_web replicated"]);
    let ps = hosts.docker("h1", ["stack", "ps", "--format", "{{.Name}} {{.DesiredState}}", "st"]).unwrap();
    assert_eq!(ps.lines().filter(|line| line.ends_with(" Running")).count(), 4, "{ps}");

    let db = hosts.docker("h2", ["ps", "-q", "--filter", "name=st_db"]).unwrap();
    assert_eq!(
        hosts.exec("h2", &db, "cat /run/secrets/s1 /etc/c1; stat -f -c ' %T' /run/secrets/s1").unwrap(),
        "hushconf tmpfs"
    );
    let refused = refusal(hosts.docker("h1", "secret rm st_s1"));
    assert!(refused.contains("secret 'st_s1' is in use by the following service: st_db"), "{refused}");

    // A second deployment without a change restarts nothing.
    let tasks = running(&hosts, "st_web", "{{.ID}}");
    let said = hosts.docker("h1", deploy).unwrap();
    assert!(said.contains("Updating service st_web"), "{said}");
    assert_eq!(running(&hosts, "st_web", "{{.ID}}"), tasks);

    hosts.docker("h1", "stack rm st").unwrap();
    eventually("nothing of the stack is left", CONVERGED, || {
        let left: Vec<String> = ["service ls -q", "secret ls -q", "config ls -q"]
            .iter()
            .map(|line| hosts.docker("h1", *line).unwrap_or_default())
            .collect();
        let containers = hosts.docker("h1", "ps -aq").unwrap_or_default()
            + &hosts.docker("h2", "ps -aq").unwrap_or_default();
        if left.iter().all(String::is_empty) && containers.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?} {containers}"))
        }
    });
}

#[test]
fn a8_drained_and_paused_nodes() {
    let hosts = cluster("a8s", 3);
    idle(&hosts, "s", "--replicas 3 --restart-delay 0s");
    converged(&hosts, "s", "3/3", CONVERGED);
    assert_eq!(running(&hosts, "s", "{{.Node}}"), ["h1", "h2", "h3"]);
    let on = |host: &str| running(&hosts, "s", "{{.Node}}").iter().filter(|node| *node == host).count();

    hosts.docker("h1", "node update --availability drain h3").unwrap();
    eventually("h3 is empty", CONVERGED, || match on("h3") {
        0 => Ok(()),
        tasks => Err(format!("{tasks} tasks")),
    });
    converged(&hosts, "s", "3/3", CONVERGED);
    let (h2, _) = (on("h2"), hosts.docker("h1", "node update --availability pause h2").unwrap());
    hosts.docker("h1", "service scale -d s=6").unwrap();
    converged(&hosts, "s", "6/6", CONVERGED);
    assert_eq!((on("h1"), on("h2"), on("h3")), (6 - h2, h2, 0), "a paused node keeps what it has");

    hosts.docker("h1", "node update --availability active h2").unwrap();
    hosts.docker("h1", "node update --availability active h3").unwrap();
    hosts.docker("h1", "service update -d --force --update-parallelism 6 s").unwrap();
    updated(&hosts, "s", "completed");
    assert_eq!((on("h1"), on("h2"), on("h3")), (2, 2, 2), "new tasks are spread again");
    let format = ["node", "ps", "--filter", "desired-state=running", "--format", "{{.Name}} {{.Node}}", "h2"];
    let ps = hosts.docker("h1", format).unwrap();
    assert_eq!(ps.lines().filter(|line| line.starts_with("s.") && line.ends_with(" h2")).count(), 2, "{ps}");
}

#[test]
fn a8_tasks_of_a_dead_node_run_elsewhere() {
    let hosts = cluster("a8k", 3);
    idle(&hosts, "s", "--replicas 3");
    converged(&hosts, "s", "3/3", CONVERGED);
    assert_eq!(running(&hosts, "s", "{{.Node}}"), ["h1", "h2", "h3"]);
    hosts.lab().kill("h3").unwrap();
    let killed = Instant::now();
    eventually("all tasks run on living nodes", RESCHEDULED, || {
        let tasks = running(&hosts, "s", "{{.Node}} {{.CurrentState}}");
        let alive = tasks.iter().filter(|t| !t.starts_with("h3 ") && t.contains(" Running")).count();
        if alive == 3 { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
    assert!(killed.elapsed() <= GOAL, "it took {:?}", killed.elapsed());
    let status = hosts.docker("h1", ["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]).unwrap();
    assert!(status.lines().any(|line| line == "h3 Down"), "{status}");
}

#[test]
fn a8_every_manager_works_with_services_and_the_leader_may_die() {
    let hosts = Hosts::up(LabSpec::bridged("a8l", 3));
    hosts.docker("h1", format!("swarm init --advertise-addr {}", hosts.host("h1").ipv4)).unwrap();
    let token = hosts.docker("h1", "swarm join-token -q manager").unwrap();
    for host in ["h2", "h3"] {
        hosts.docker(host, format!("swarm join --token {token} {}:2377", hosts.host("h1").ipv4)).unwrap();
    }
    hosts.wait_ready(3);
    let line = "for i in 1 2 3; do echo out $i; done; sleep 1000";
    let create = ["service", "create", "-d", "--name", "s", "--replicas", "3", "busybox", "sh", "-c", line];
    hosts.docker("h3", create).unwrap();
    converged(&hosts, "s", "3/3", CONVERGED);
    eventually("output by the word of a follower", CONVERGED, || {
        let logs = hosts.docker("h2", "service logs --raw s").map_err(|e| e.to_string())?;
        if logs.lines().count() == 9 { Ok(()) } else { Err(logs) }
    });
    hosts.lab().kill("h1").unwrap();
    let alive = |want: usize| {
        eventually(&format!("{want} tasks on living nodes"), RESCHEDULED, || {
            let tasks = running_by(&hosts, "h2", "s", "{{.Node}} {{.CurrentState}}");
            let tasks = tasks.map_err(|e| e.to_string())?;
            let alive = tasks.iter().filter(|t| !t.starts_with("h1 ") && t.contains(" Running")).count();
            if alive == want { Ok(()) } else { Err(format!("{tasks:?}")) }
        });
    };
    alive(3);
    hosts.docker("h3", "service scale -d s=5").unwrap();
    alive(5);
    hosts.docker("h2", "service rm s").unwrap();
}

#[test]
fn c6_an_update_that_fails_is_rolled_back() {
    let hosts = cluster("c6f", 2);
    let flags = "--replicas 2 --restart-condition none --update-failure-action rollback --update-delay 0s \
                 --update-monitor 2s --rollback-monitor 1s --env A=1";
    idle(&hosts, "s", flags);
    converged(&hosts, "s", "2/2", CONVERGED);
    hosts.docker("h1", "service update -d --args false s").unwrap();
    updated(&hosts, "s", "rollback_completed");
    let message = inspect(&hosts, "s", "{{.UpdateStatus.Message}}").unwrap();
    assert_eq!(message, "rollback completed");
    converged(&hosts, "s", "2/2", CONVERGED);
    let args = inspect(&hosts, "s", "{{.Spec.TaskTemplate.ContainerSpec.Args}}").unwrap();
    assert_eq!(args, "[sleep 100000]");
}

#[test]
fn c6_jobs_run_to_their_end() {
    let hosts = cluster("c6j", 2);
    let job =
        "service create -d --name job --mode replicated-job --replicas 4 --max-concurrent 2 busybox true";
    hosts.docker("h1", job).unwrap();
    hosts.docker("h1", "service create -d --name all --mode global-job busybox true").unwrap();
    eventually("both are done", CONVERGED, || {
        let list = hosts.docker("h1", ["service", "ls", "--format", "{{.Name}} {{.Mode}} {{.Replicas}}"]);
        let list = list.map_err(|e| e.to_string())?;
        let is_done = list.contains("job replicated job 0/2 (4/4 completed)");
        let nodes = hosts.docker("h1", ["service", "ps", "--format", "{{.Node}} {{.DesiredState}}", "all"]);
        let mut nodes: Vec<String> = nodes.map_err(|e| e.to_string())?.lines().map(str::to_owned).collect();
        nodes.sort_unstable();
        if is_done && nodes == ["h1 Complete", "h2 Complete"] {
            Ok(())
        } else {
            Err(format!("{list} {nodes:?}"))
        }
    });
}

#[test]
fn c8_nodes_pull_the_images_of_services_with_the_users_password() {
    let registries = "10.99.0.1:5000";
    let hosts = Hosts::up_with(LabSpec::bridged("c8", 2), |_| {
        DaemonSpec::weft(&weft_exe()).arg(format!("--insecure-registry={registries}"))
    });
    hosts.swarm();
    let registry = Registry::start(hosts.host("h1"), registries, true);
    let archive = hosts.host("h1").dir.join("saved.tar");
    hosts.docker("h1", ["save", "-o", &archive.display().to_string(), "busybox"]).unwrap();
    let digest = registry.put(&archive, "team/app", "v1");
    let name = registry.name("team/app:v1");
    let login = format!(r#"{{"auths":{{"{registries}":{{"auth":"YW5uOnNlY3JldA=="}}}}}}"#);
    std::fs::write(hosts.host("h1").dir.join("config.json"), login).unwrap();

    let create = |name: &str, flags: &str, image: &str| {
        let line = format!("service create -d --name {name} --mode global --stop-grace-period 1s {flags}");
        hosts.docker("h1", format!("{line} {image} sleep 100000")).unwrap();
    };
    create("s", "--with-registry-auth", &name);
    converged(&hosts, "s", "2/2", CONVERGED);
    let image = inspect(&hosts, "s", "{{.Spec.TaskTemplate.ContainerSpec.Image}}").unwrap();
    assert_eq!(image, format!("{name}@{digest}"), "the command line pins what it asked the registry about");
    assert!(hosts.docker("h2", "images --digests").unwrap().contains(&digest));

    // Without the password the node does not get it. Docker's words; why is in the node's log.
    registry.put(&archive, "team/other", "v1");
    create("n", "--constraint node.hostname==h2 --restart-condition none", &registry.name("team/other:v1"));
    eventually("the reason", CONVERGED, || {
        let args = ["service", "ps", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}", "n"];
        let ps = hosts.docker("h1", args).map_err(|e| e.to_string())?;
        if ps.contains("Rejected") && ps.contains("No such image: ") { Ok(()) } else { Err(ps) }
    });
}

#[test]
fn c9_a_service_without_a_network_and_one_with_a_port() {
    let hosts = cluster("c9", 2);
    idle(&hosts, "plain", "");
    let (host, id) = container(&hosts, "plain");
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(hosts.inspect(&host, &id, networks).unwrap().trim(), "bridge");
    idle(&hosts, "pub", "-p 8080:80");
    let (host, id) = container(&hosts, "pub");
    assert_eq!(hosts.inspect(&host, &id, networks).unwrap().trim(), "ingress");
    // The route to the world is that of docker_gwbridge.
    let route = hosts.exec(&host, &id, "ip route show default").unwrap();
    assert!(route.starts_with("default via 172."), "{route}");
    let ports = hosts.docker("h1", ["service", "ls", "--format", "{{.Name}} {{.Ports}}"]).unwrap();
    assert!(ports.lines().any(|line| line == "pub *:8080->80/tcp"), "{ports}");
    let refused = refusal(hosts.docker("h1", "service create -d --name other -p 8080:81 busybox"));
    assert!(refused.contains("port '8080' is already in use by service 'pub'"), "{refused}");
}

#[test]
fn the_swarm_tells_what_happens_to_its_objects() {
    let hosts = cluster("evt", 2);
    idle(&hosts, "s", "--replicas 2");
    converged(&hosts, "s", "2/2", CONVERGED);
    hosts.docker("h1", "service scale -d s=1").unwrap();
    hosts.docker("h1", "node update --availability pause h2").unwrap();
    hosts.docker("h1", "network create -d overlay web").unwrap();
    hosts.docker("h1", "network rm web").unwrap();
    hosts.docker("h1", "service rm s").unwrap();
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes}}";
    let args = ["events", "--since", "10m", "--until", "0s", "--filter", "scope=swarm", "--format", format];
    eventually("all of it", CONVERGED, || {
        let told = hosts.docker("h1", args).map_err(|e| e.to_string())?;
        let missing = [
            "service create map[name:s]",
            "service update map[name:s replicas.new:1 replicas.old:2]",
            "node update map[availability.new:pause availability.old:active name:h2]",
            "network create map[name:web]",
            "network remove map[name:web]",
            "service remove map[name:s]",
        ]
        .into_iter()
        .find(|line| !told.lines().any(|t| t == *line));
        missing.map_or(Ok(()), |line| Err(format!("{line} is missing in\n{told}")))
    });
}

#[test]
fn wefts_own_client_works_with_services_too() {
    let hosts = cluster("own", 2);
    let weft = |args: &str| hosts.weft("h1", args).unwrap();
    let dir = hosts.host("h1").dir.clone();
    std::fs::write(dir.join("hush.txt"), "hush").unwrap();
    weft("network create -d overlay web");
    weft(&format!("secret create sec {}", dir.join("hush.txt").display()));
    weft(&format!("config create conf {}", dir.join("hush.txt").display()));
    assert!(weft("secret ls").contains("sec") && weft("config ls").contains("conf"));
    let created = weft(
        "service create --name s --replicas 2 --network name=web,alias=x --env A=1 --secret sec --config \
         source=conf,target=/etc/conf --constraint node.role!=nothing --stop-grace-period 1s --update-delay 0s \
         --update-monitor 1s busybox sleep 100000",
    );
    assert!(created.ends_with("verify: Service s converged"), "{created}");
    assert_eq!(weft("service ls").lines().nth(1).unwrap().split_whitespace().nth(3), Some("2/2"));
    weft("service scale -d s=1");
    let (host, id) = container(&hosts, "s");
    assert_eq!(hosts.exec(&host, &id, "cat /run/secrets/sec /etc/conf; echo $A").unwrap(), "hushhush1");
    weft("service update -q --env-add A=2 --label-add k=v --network-rm web s");
    let (host, id) = container(&hosts, "s");
    assert_eq!(hosts.exec(&host, &id, "echo $A").unwrap(), "2");
    weft("service rollback -q s");
    let (host, id) = container(&hosts, "s");
    assert_eq!(hosts.exec(&host, &id, "echo $A").unwrap(), "1");
    let ps = weft("service ps s");
    assert!(ps.contains("\\_ s.1") && ps.contains("Running"), "{ps}");
    weft("node update --availability drain --label-add zone=a h2");
    let node = weft("node inspect h2");
    assert!(node.contains("\"drain\"") && node.contains("\"zone\": \"a\""), "{node}");
    let refused = refusal(hosts.weft("h1", "secret rm sec"));
    assert!(refused.contains("is in use by the following service: s"), "{refused}");
    weft("service rm s");
    weft("secret rm sec");
    weft("config rm conf");
}
