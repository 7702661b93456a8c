//! Services on the worker, made on the manager.

use weft_e2e::Hosts;
use weft_lab::eventually;

use crate::cell::{Cell, SOON, answer_is, cells, container, converged, idle, running};

const ON_WORKER: &str = "--constraint node.hostname==h2";

/// A container is what the service's spec asks for.
fn a_task_is_as_asked(cell: Cell) {
    let hosts = cell.swarm("ta", 2);
    let dir = &hosts.host("h1").dir;
    let (secret, config) = (dir.join("secret.txt"), dir.join("config.txt"));
    std::fs::write(&secret, "hush").unwrap();
    std::fs::write(&config, "conf").unwrap();
    hosts.docker("h1", ["secret", "create", "s1", &secret.display().to_string()]).unwrap();
    hosts.docker("h1", ["config", "create", "c1", &config.display().to_string()]).unwrap();
    for network in ["one", "two"] {
        hosts.docker("h1", format!("network create -d overlay {network}")).unwrap();
    }
    idle(
        &hosts,
        "s",
        &format!(
            "{ON_WORKER} --env A=b --label own=yes --container-label seen=yes --hostname inside --user 0:0 \
             --workdir /tmp --secret source=s1,target=hidden,mode=0400 --config source=c1,target=/etc/c1 \
             --mount type=volume,source=data,target=/data --mount type=tmpfs,target=/scratch,tmpfs-mode=1770 \
             --limit-memory 64M --limit-pids 50 --network one --network name=two,alias=other \
             --host far:192.0.2.9 --read-only"
        ),
    );
    converged(&hosts, "s", "1/1");
    let id = container(&hosts, "h2", "s");
    let told = hosts
        .exec(
            "h2",
            &id,
            "echo $A; hostname; pwd; cat /run/secrets/hidden /etc/c1; echo; stat -c %a /run/secrets/hidden; \
             stat -f -c %T /run/secrets/hidden /scratch; touch /data/x && echo written; touch /y || echo refused; \
             grep -c far /etc/hosts; ls /sys/class/net | grep -c eth",
        )
        .unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        ["b", "inside", "/tmp", "hushconf", "400", "tmpfs", "tmpfs", "written", "refused", "1", "3"],
        "{told}"
    );
    let shown = hosts
        .inspect(
            "h2",
            &id,
            "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{index .Config.Labels \"seen\"}}",
        )
        .unwrap();
    assert_eq!(shown, format!("{} 50 yes", 64 << 20));
    let names = hosts.docker("h2", ["ps", "--format", "{{.Names}}"]).unwrap();
    let task = running(&hosts, "s", "{{.ID}}").remove(0);
    assert_eq!(names, format!("s.1.{task}"));

    hosts.docker("h1", "service rm s").unwrap();
    eventually("the worker has nothing left of it", SOON, || {
        let left = hosts.docker("h2", "ps -aq").map_err(|e| e.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    eventually("networks, secrets and configs can go", SOON, || {
        hosts.docker("h1", "network rm one two").map_err(|e| e.to_string())
    });
    hosts.docker("h1", "secret rm s1").unwrap();
    hosts.docker("h1", "config rm c1").unwrap();
}
cells!(a_task_is_as_asked);

/// Ends, failures, updates and rollbacks are told as they are; output comes to the manager.
fn tasks_end_and_are_told(cell: Cell) {
    let hosts = cell.swarm("te", 2);
    let create = |name: &str, options: &str, script: &str| {
        let line =
            format!("service create -d --no-resolve-image --name {name} {ON_WORKER} {options} busybox sh -c");
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.push(script.to_owned());
        hosts.docker("h1", words).unwrap();
    };
    create("fails", "--restart-condition none", "exit 7");
    says(&hosts, "fails", "Failed", "task: non-zero exit (7)");
    create("ends", "--restart-condition none", "echo done");
    says(&hosts, "ends", "Complete", "");
    let missing = format!(
        "service create -d --no-resolve-image --name missing --restart-condition none {ON_WORKER} no/such:1"
    );
    hosts.docker("h1", missing).unwrap();
    says(&hosts, "missing", "Rejected", "No such image");
    create("again", "--restart-delay 100ms --restart-max-attempts 2", "exit 3");
    eventually("it was started three times", SOON, || {
        let ps = hosts
            .docker("h1", ["service", "ps", "--format", "{{.CurrentState}}", "again"])
            .map_err(|e| e.to_string())?;
        if ps.lines().filter(|line| line.starts_with("Failed")).count() == 3 { Ok(()) } else { Err(ps) }
    });

    create(
        "lg",
        "",
        "for i in 1 2 3; do echo out $i; done; echo err >&2; trap 'exit 0' TERM; sleep 10000 & wait",
    );
    converged(&hosts, "lg", "1/1");
    eventually("its output", SOON, || {
        let logs = hosts.docker("h1", "service logs --raw lg").map_err(|e| e.to_string())?;
        if logs.lines().filter(|line| line.starts_with("out ")).count() == 3 { Ok(()) } else { Err(logs) }
    });

    // Whose health check fails for good is stopped; `sleep` as the first process does not hear SIGTERM, so it fails.
    let health = "--health-cmd /tmp/ok --health-interval 1s --health-retries 2 --health-timeout 1s \
                  --restart-condition none --stop-grace-period 0s";
    create("sick", health, "exec sleep 10000");
    says(&hosts, "sick", "Failed", "");

    idle(&hosts, "up", &format!("{ON_WORKER} --env V=1 --update-monitor 1s --rollback-monitor 1s"));
    converged(&hosts, "up", "1/1");
    hosts.docker("h1", "service update -d --env-add V=2 up").unwrap();
    answer_is(&hosts, &["service", "inspect", "--format", "{{.UpdateStatus.State}}", "up"], "completed");
    assert_eq!(hosts.exec("h2", &container(&hosts, "h2", "up"), "echo $V").unwrap(), "2");
    hosts.docker("h1", "service rollback -d up").unwrap();
    answer_is(
        &hosts,
        &["service", "inspect", "--format", "{{.UpdateStatus.State}}", "up"],
        "rollback_completed",
    );
    assert_eq!(hosts.exec("h2", &container(&hosts, "h2", "up"), "echo $V").unwrap(), "1");
}
cells!(tasks_end_and_are_told);

fn says(hosts: &Hosts, service: &str, state: &str, error: &str) {
    eventually(&format!("{service} is told as {state} {error}"), SOON, || {
        let args = ["service", "ps", "--no-trunc", "--format", "{{.CurrentState}}|{{.Error}}", service];
        let ps = hosts.docker("h1", args).map_err(|e| e.to_string())?;
        if ps.lines().any(|line| line.starts_with(state) && line.contains(error)) { Ok(()) } else { Err(ps) }
    });
}

/// A global service has a task on each node, with a port of the node's own.
fn a_global_service_publishes_on_hosts(cell: Cell) {
    let hosts = cell.swarm("gl", 3);
    let line = "service create -d --no-resolve-image --name web --mode global --stop-grace-period 1s \
                --publish mode=host,published=8099,target=80 busybox httpd -f -p 80 -h /etc";
    hosts.docker("h1", line).unwrap();
    converged(&hosts, "web", "3/3");
    // Docker 20.10 shows it twice, once for IPv6.
    let shown = running(&hosts, "web", "{{.Node}} {{.Ports}}");
    for (line, host) in shown.iter().zip(["h1", "h2", "h3"]) {
        assert!(line.starts_with(&format!("{host} *:8099->80/tcp")), "{shown:?}");
    }
    for (from, to) in [("h1", "h2"), ("h2", "h3"), ("h3", "h1"), ("h2", "h1")] {
        let ask = format!("curl -s -f -m 2 http://{}:8099/hostname", hosts.host(to).ipv4);
        eventually(&format!("{to} answers {from}"), SOON, || hosts.host(from).sh(&ask));
    }
    hosts
        .docker("h1", "service update -d --publish-add mode=host,published=8098,target=81,protocol=udp web")
        .unwrap();
    answer_is(&hosts, &["service", "inspect", "--format", "{{.UpdateStatus.State}}", "web"], "completed");
    let shown = running(&hosts, "web", "{{.Node}} {{.Ports}}");
    assert!(shown.len() == 3 && shown.iter().all(|line| line.contains("*:8098->81/udp")), "{shown:?}");
}
cells!(a_global_service_publishes_on_hosts);
