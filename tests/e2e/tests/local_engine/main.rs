//! One host, the unmodified `docker` CLI: images, containers and their streams, local networks, the daemon's end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod files;
mod macvlan;
mod settings;
mod stats;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use weft_e2e::{Failed, Hosts, Registry, refusal, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

/// Time in which what was asked for is seen.
const SOON: Duration = Duration::from_secs(10);

fn up(name: &str) -> Hosts {
    Hosts::up(LabSpec::bridged(name, 1))
}

fn docker<const N: usize>(hosts: &Hosts, args: [&str; N]) -> String {
    hosts.docker("h1", args).unwrap()
}

/// A shell line in which `docker` speaks to the host's daemon; standard output, and the exit code.
fn shell(hosts: &Hosts, line: &str) -> (String, Option<i32>) {
    let output = Command::new("timeout")
        .args(["-s", "KILL", "60", "sh", "-c", line])
        .env("DOCKER_HOST", hosts.daemon("h1").url())
        .env("DOCKER_CONFIG", &hosts.host("h1").dir)
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

/// Waits until the container `c1` has written a line, for example that its signal handlers stand.
fn wait_for_log(hosts: &Hosts, line: &str) {
    eventually("the container's word", SOON, || match hosts.docker("h1", "logs c1") {
        Ok(log) if log.lines().any(|l| l == line) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn exit_code(outcome: Result<String, Failed>) -> Option<i32> {
    outcome.map_or_else(|failed| failed.code, |_| Some(0))
}

#[test]
fn images_are_imported_saved_loaded_tagged_and_removed() {
    let hosts = up("images");
    assert_eq!(docker(&hosts, ["images", "--format", "{{.Repository}}:{{.Tag}}"]), "busybox:latest");
    docker(&hosts, ["tag", "busybox", "registry.example:5000/a/b:v1"]);
    let id = docker(&hosts, ["image", "inspect", "--format", "{{.Id}}", "busybox"]);
    assert_eq!(
        docker(&hosts, ["image", "inspect", "--format", "{{.Id}}", "registry.example:5000/a/b:v1"]),
        id
    );
    let archive = hosts.host("h1").dir.join("saved.tar").display().to_string();
    docker(&hosts, ["save", "-o", &archive, "busybox", "registry.example:5000/a/b:v1"]);
    docker(&hosts, ["rmi", "busybox", "registry.example:5000/a/b:v1"]);
    assert_eq!(docker(&hosts, ["images", "-q"]), "");
    let loaded = docker(&hosts, ["load", "-i", &archive]);
    assert!(loaded.contains("Loaded image: busybox:latest"), "{loaded}");
    assert!(loaded.contains("Loaded image: registry.example:5000/a/b:v1"), "{loaded}");
    assert_eq!(docker(&hosts, ["image", "inspect", "--format", "{{.Id}}", "busybox"]), id);
    assert_eq!(docker(&hosts, ["run", "--rm", "busybox", "echo", "whole"]), "whole");
    assert_eq!(docker(&hosts, ["history", "-q", "--no-trunc", "busybox"]), id);

    hosts.run_idle("h1", "user", "").unwrap();
    docker(&hosts, ["rmi", "registry.example:5000/a/b:v1"]);
    let text = refusal(hosts.docker("h1", "rmi busybox"));
    assert!(
        text.contains("conflict: unable to remove repository reference \"busybox:latest\" (must force)"),
        "{text}"
    );
    docker(&hosts, ["rm", "-f", "user"]);
    let pruned = docker(&hosts, ["image", "prune", "-af"]);
    assert!(
        pruned.contains("untagged: busybox:latest") && pruned.contains(&format!("deleted: {id}")),
        "{pruned}"
    );
}

#[test]
fn c8_images_are_pulled_with_and_without_a_password() {
    let hosts = up("pull");
    let open = Registry::start(hosts.host("h1"), "127.0.0.1:5000", false);
    let closed = Registry::start(hosts.host("h1"), "127.0.0.1:5001", true);
    let archive = hosts.host("h1").dir.join("saved.tar");
    docker(&hosts, ["save", "-o", &archive.display().to_string(), "busybox"]);
    let manifest = open.put(&archive, "team/app", "v1");
    closed.put(&archive, "team/app", "v1");
    docker(&hosts, ["rmi", "busybox"]);

    let name = open.name("team/app:v1");
    let pulled = docker(&hosts, ["pull", &name]);
    assert!(pulled.contains("Pull complete") && pulled.contains(&format!("Digest: {manifest}")), "{pulled}");
    assert!(pulled.contains(&format!("Status: Downloaded newer image for {name}")), "{pulled}");
    assert!(docker(&hosts, ["pull", &name]).contains("Image is up to date"));
    let pulled = hosts.weft("h1", ["pull", &name]).unwrap();
    assert!(
        pulled.contains("v1: Pulling from team/app") && pulled.contains("Image is up to date"),
        "{pulled}"
    );
    let digests = docker(&hosts, ["image", "inspect", "--format", "{{index .RepoDigests 0}}", &name]);
    assert_eq!(digests, format!("{}@{manifest}", open.name("team/app")));
    // `run` pulls what is not here, and the daemon runs what it has by digest.
    docker(&hosts, ["rmi", &name]);
    assert!(docker(&hosts, ["run", "--rm", &digests, "echo", "whole"]).ends_with("whole"));

    let name = closed.name("team/app:v1");
    let text = refusal(hosts.docker("h1", ["pull", &name]));
    assert!(text.contains("no basic auth credentials"), "{text}");
    // What `docker login` writes, without the daemon being asked.
    let login = format!(
        r#"{{"auths":{{"{}":{{"auth":"YW5uOnNlY3JldA=="}}}}}}"#,
        closed.name("").trim_end_matches('/')
    );
    std::fs::write(hosts.host("h1").dir.join("config.json"), login).unwrap();
    assert_eq!(shell(&hosts, &format!("docker pull -q {name}")), (format!("{name}\n"), Some(0)));
    for (wanted, words) in [
        ("team/app:nosuch", "manifest unknown"),
        ("nosuch:1", "manifest for 127.0.0.1:5000/nosuch:1 not found: manifest unknown: manifest unknown"),
    ] {
        let text = refusal(hosts.docker("h1", ["pull", &open.name(wanted)]));
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn health_is_probed_and_shown() {
    let hosts = up("health");
    docker(
        &hosts,
        [
            "run",
            "-d",
            "--name",
            "c1",
            "--health-cmd",
            "test -e /tmp/well",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
            "busybox",
            "sleep",
            "1000",
        ],
    );
    let becomes = |wanted: &str| {
        eventually(wanted, SOON, || match hosts.docker("h1", ["ps", "--format", "{{.Status}}"]) {
            Ok(status) if status.ends_with(wanted) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    becomes("(unhealthy)");
    hosts.exec("h1", "c1", "touch /tmp/well").unwrap();
    becomes("(healthy)");
    assert_eq!(docker(&hosts, ["inspect", "--format", "{{.State.Health.Status}}", "c1"]), "healthy");
    docker(&hosts, ["rm", "-f", "c1"]);
}

#[test]
fn a_container_has_the_settings_it_was_given() {
    let hosts = up("setting");
    let bind = hosts.host("h1").dir.join("bind");
    std::fs::create_dir(&bind).unwrap();
    std::fs::write(bind.join("file"), "from the host").unwrap();
    let bind = format!("{}:/bind:ro", bind.display());
    let line = "hostname; echo $A; pwd; id -u; cat /bind/file; echo; touch /bind/x || echo read-only; \
                grep -c ' /scratch tmpfs ' /proc/mounts; touch /x || echo read-only root; cat /etc/hostname";
    let output = docker(
        &hosts,
        [
            "run",
            "--rm",
            "-h",
            "named",
            "-e",
            "A=b",
            "-w",
            "/tmp",
            "-u",
            "1000",
            "-v",
            &bind,
            "--tmpfs",
            "/scratch",
            "--read-only",
            "busybox",
            "sh",
            "-c",
            line,
        ],
    );
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines,
        ["named", "b", "/tmp", "1000", "from the host", "read-only", "1", "read-only root", "named"]
    );
    let entry = docker(&hosts, ["run", "--rm", "--entrypoint", "echo", "busybox", "a", "b"]);
    assert_eq!(entry, "a b");
    docker(
        &hosts,
        ["run", "-d", "--stop-timeout", "0", "--name", "c1", "--label", "x=y", "busybox", "sleep", "1000"],
    );
    let template = "{{.Name}} {{.State.Status}} {{.Config.Labels.x}} {{.Path}} {{.HostConfig.NetworkMode}}";
    assert_eq!(hosts.inspect("h1", "c1", template).unwrap(), "/c1 running y sleep bridge");
    // Volumes outlive their containers.
    docker(&hosts, ["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/f"]);
    assert_eq!(docker(&hosts, ["run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/f"]), "kept");
    assert_eq!(docker(&hosts, ["volume", "ls", "-q"]), "data");
    docker(&hosts, ["volume", "rm", "data"]);
}

#[test]
fn containers_are_confined_as_dockers() {
    let hosts = up("confine");
    let status = docker(&hosts, ["run", "--rm", "busybox", "cat", "/proc/self/status"]);
    let field = |text: &str, name: &str| {
        let line =
            text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(field(&status, "Seccomp:"), "2");
    // Docker's fourteen default capabilities.
    assert_eq!(field(&status, "CapEff:"), "00000000a80425fb");
    assert_eq!(field(&status, "CapBnd:"), "00000000a80425fb");
    assert_ne!(exit_code(hosts.docker("h1", "run --rm busybox mount -t tmpfs t /tmp")), Some(0));
    assert_ne!(
        exit_code(hosts.docker("h1", "run --rm --cap-add SYS_ADMIN busybox cat /proc/kcore")),
        Some(0)
    );
    let masked = docker(
        &hosts,
        [
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "wc -c < /proc/keys; echo 1 > /proc/sys/kernel/domainname || echo no",
        ],
    );
    assert_eq!(masked.lines().collect::<Vec<_>>(), ["0", "no"]);
    let privileged = docker(
        &hosts,
        [
            "run",
            "--rm",
            "--privileged",
            "busybox",
            "sh",
            "-c",
            "cat /proc/self/status; mount -t tmpfs t /tmp && echo mounted",
        ],
    );
    assert_eq!(field(&privileged, "Seccomp:"), "0");
    assert!(privileged.ends_with("mounted"), "{privileged}");
    let dropped = docker(&hosts, ["run", "--rm", "--cap-drop", "ALL", "busybox", "cat", "/proc/self/status"]);
    assert_eq!(field(&dropped, "CapEff:"), "0000000000000000");
}

#[test]
fn streams_and_exit_codes_pass_through() {
    let hosts = up("streams");
    let (out, code) =
        shell(&hosts, "docker run --rm busybox sh -c 'echo out; echo err >&2; exit 3' 2>/dev/null");
    assert_eq!((out.as_str(), code), ("out\n", Some(3)));
    let (out, _) = shell(&hosts, "docker run --rm busybox sh -c 'echo out; echo err >&2' 2>&1 >/dev/null");
    assert_eq!(out, "err\n");
    assert_eq!(exit_code(hosts.docker("h1", "run --rm busybox nosuchcmd")), Some(127));
    // Three megabytes there and back; closing the input ends it.
    let through = "head -c 3000000 /dev/urandom > $DOCKER_CONFIG/bytes; md5sum < $DOCKER_CONFIG/bytes; \
                   docker run --rm -i busybox cat < $DOCKER_CONFIG/bytes | md5sum";
    let (sums, _) = shell(&hosts, through);
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums[0], sums[1]);

    hosts.run_idle("h1", "c1", "").unwrap();
    let (out, code) = shell(&hosts, "echo hello | docker exec -i c1 sh -c 'cat; exit 4'");
    assert_eq!((out.as_str(), code), ("hello\n", Some(4)));
    let text = exit_code(hosts.docker("h1", "exec c1 nosuchcmd"));
    assert_eq!(text, Some(127));
    docker(&hosts, ["exec", "-d", "c1", "touch", "/made"]);
    eventually("the detached exec", SOON, || hosts.docker("h1", "exec c1 ls /made").map(drop));
    let top = docker(&hosts, ["top", "c1"]);
    assert!(top.contains("sleep 100000"), "{top}");
}

#[test]
fn terminals_have_a_size_and_hear_of_its_change() {
    let hosts = up("tty");
    let size = "stty rows 31 cols 101; exec docker run --rm -it busybox sh -c";
    let (out, _) = shell(&hosts, &format!("script -qec \"{size} 'sleep 1; stty size'\" /dev/null"));
    assert!(out.contains("31 101"), "{out}");
    let (out, code) =
        shell(&hosts, "script -qec 'docker run --rm -t busybox sh -c \"tty; exit 5\"' /dev/null");
    assert!(out.contains("/dev/pts/0"), "{out}");
    assert_eq!(code, Some(5));
}

#[test]
fn attached_clients_see_output_and_may_leave() {
    let hosts = up("attach");
    docker(&hosts, ["run", "-d", "--stop-timeout", "0", "-i", "--name", "c1", "busybox", "cat"]);
    let mut client = Command::new("docker")
        .args(["attach", "c1"])
        .env("DOCKER_HOST", hosts.daemon("h1").url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    let mut input = client.stdin.take().unwrap();
    let mut line = String::new();
    input.write_all(b"one\n").unwrap();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(hosts.inspect("h1", "c1", "{{.State.Running}}").unwrap(), "true");
    assert_eq!(docker(&hosts, ["logs", "c1"]), "one");
    let (followed, _) = shell(
        &hosts,
        "(sleep 1; echo two | timeout -s KILL 2 docker attach c1 >/dev/null 2>&1; docker kill c1 >/dev/null)& docker logs -f c1",
    );
    assert_eq!(followed, "one\ntwo\n");
}

#[test]
fn twenty_execs_run_while_a_stream_flows() {
    let hosts = up("execs");
    docker(
        &hosts,
        [
            "run",
            "-d",
            "--stop-timeout",
            "0",
            "--name",
            "c1",
            "busybox",
            "sh",
            "-c",
            "while true; do echo tick; usleep 2000; done",
        ],
    );
    let mut client = Command::new("docker")
        .args(["attach", "--no-stdin", "c1"])
        .env("DOCKER_HOST", hosts.daemon("h1").url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ticks = BufReader::new(client.stdout.take().unwrap()).lines();
    std::thread::scope(|scope| {
        let execs: Vec<_> = (0..20)
            .map(|n| {
                let hosts = &hosts;
                scope.spawn(move || hosts.docker("h1", ["exec", "c1", "echo", &n.to_string()]).unwrap())
            })
            .collect();
        // The stream goes on meanwhile.
        for _ in 0..200 {
            assert_eq!(ticks.next().unwrap().unwrap(), "tick");
        }
        for (n, exec) in execs.into_iter().enumerate() {
            assert_eq!(exec.join().unwrap(), n.to_string());
        }
    });
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn a_container_lives_its_life() {
    let hosts = up("life");
    let state = |name: &str| hosts.inspect("h1", name, "{{.State.Status}} {{.State.ExitCode}}").unwrap();
    docker(
        &hosts,
        [
            "create",
            "--name",
            "c1",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 9' TERM; echo ready; while true; do usleep 10000; done",
        ],
    );
    assert_eq!(state("c1"), "created 0");
    docker(&hosts, ["start", "c1"]);
    wait_for_log(&hosts, "ready");
    assert_eq!(state("c1"), "running 0");
    docker(&hosts, ["pause", "c1"]);
    assert_eq!(state("c1"), "paused 0");
    docker(&hosts, ["unpause", "c1"]);
    docker(&hosts, ["rename", "c1", "d1"]);
    docker(&hosts, ["stop", "d1"]);
    assert_eq!(state("d1"), "exited 9");
    docker(&hosts, ["restart", "d1"]);
    docker(&hosts, ["kill", "d1"]);
    assert_eq!(docker(&hosts, ["wait", "d1"]), "137");
    assert_eq!(docker(&hosts, ["ps", "-q"]), "");
    assert_eq!(docker(&hosts, ["ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}"]), "d1");
    assert_eq!(docker(&hosts, ["ps", "-a", "--filter", "name=x", "-q"]), "");
    docker(&hosts, ["rm", "d1"]);
    assert_eq!(docker(&hosts, ["ps", "-aq"]), "");
    // What ends by itself with --rm leaves nothing, and says how it ended.
    assert_eq!(exit_code(hosts.docker("h1", "run --rm --name gone busybox false")), Some(1));
    assert_eq!(docker(&hosts, ["ps", "-aq"]), "");
    docker(&hosts, ["create", "busybox", "true"]);
    let pruned = docker(&hosts, ["container", "prune", "-f"]);
    assert!(pruned.contains("Deleted Containers:"), "{pruned}");
}

#[test]
fn local_networks_give_names_and_publish_ports() {
    let hosts = up("localnet");
    docker(&hosts, ["network", "create", "--label", "l=1", "front"]);
    docker(&hosts, ["network", "create", "--subnet", "10.88.1.0/24", "back"]);
    hosts.run_idle("h1", "a1", "--network front").unwrap();
    let serve = "mkdir /www; echo page > /www/index.html; httpd -f -p 80 -h /www";
    docker(
        &hosts,
        [
            "run",
            "-d",
            "--name",
            "b1",
            "--network",
            "front",
            "--network-alias",
            "web",
            "-p",
            "8080:80",
            "busybox",
            "sh",
            "-c",
            serve,
        ],
    );
    eventually("HTTP by alias", SOON, || {
        hosts.exec("h1", "a1", "timeout 3 wget -q -O - http://web/").map(drop)
    });
    let page =
        hosts.host("h1").sh("timeout 5 busybox wget -q -O - http://127.0.0.1:8080/ 2>&1 || true").unwrap();
    assert_eq!(page.trim(), "page");
    assert!(docker(&hosts, ["port", "b1"]).contains("80/tcp -> 0.0.0.0:8080"));
    let text = refusal(hosts.run_idle("h1", "taken", "-p 8080:80"));
    assert!(text.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{text}");

    docker(&hosts, ["rename", "b1", "b2"]);
    eventually("HTTP by the new name", SOON, || {
        hosts.exec("h1", "a1", "timeout 3 wget -q -O - http://b2/").map(drop)
    });
    assert!(hosts.exec("h1", "a1", "nslookup b1").is_err(), "the old name is gone");
    let names = "{{range .NetworkSettings.Networks}}{{range .DNSNames}}{{.}} {{end}}{{end}}";
    let names = docker(&hosts, ["inspect", "--format", names, "b2"]);
    let has = |wanted: &str| names.split(' ').any(|name| name == wanted);
    assert!(has("b2") && !has("b1"), "{names}");
    docker(&hosts, ["rename", "b2", "b1"]);

    docker(&hosts, ["network", "connect", "--ip", "10.88.1.50", "back", "a1"]);
    assert_eq!(hosts.address("h1", "a1", "back").unwrap(), "10.88.1.50");
    let names =
        docker(&hosts, ["network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{end}}", "front"]);
    let mut names: Vec<&str> = names.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, ["a1", "b1"]);
    docker(&hosts, ["network", "disconnect", "front", "a1"]);
    assert!(hosts.exec("h1", "a1", "nslookup b1").is_err());
    assert_eq!(docker(&hosts, ["network", "ls", "--filter", "label=l=1", "--format", "{{.Name}}"]), "front");
    docker(&hosts, ["rm", "-f", "a1", "b1", "taken"]);
    let pruned = docker(&hosts, ["network", "prune", "-f"]);
    assert!(pruned.contains("front") && pruned.contains("back"), "{pruned}");
}

#[test]
fn events_tell_what_happens() {
    let hosts = up("events");
    docker(&hosts, ["network", "create", "n"]);
    docker(&hosts, ["run", "--rm", "--name", "c1", "--network", "n", "busybox", "true"]);
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    // The client cuts times to whole seconds.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = (now.as_secs() + 1).to_string();
    let events = docker(&hosts, ["events", "--since", "1", "--until", &until, "--format", format]);
    let wanted = [
        "network create n",
        "container create c1",
        "network connect n",
        "container start c1",
        "container die c1",
        "container destroy c1",
    ];
    let mut rest = events.lines();
    for event in wanted {
        assert!(rest.any(|line| line == event), "{event} is missing or late in:\n{events}");
    }
    let only = ["events", "--since", "1", "--until", &until, "--filter", "event=die", "--format", format];
    assert_eq!(docker(&hosts, only), "container die c1");
}

/// Old clients take the connection over without asking for an upgrade.
#[test]
fn exec_without_upgrade_streams_until_the_end() {
    let hosts = up("noupgr");
    hosts.run_idle("h1", "c1", "").unwrap();
    let body = r#"{"Cmd":["sh","-c","echo out; echo err >&2"],"AttachStdout":true,"AttachStderr":true}"#;
    let created = exchange(&hosts, "POST /v1.41/containers/c1/exec", body);
    let id = created.split("\"Id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let answer = exchange(&hosts, &format!("POST /v1.41/exec/{id}/start"), r#"{"Detach":false,"Tty":false}"#);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 ") && head.contains("application/vnd.docker.raw-stream"), "{head}");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(
        body.contains("\u{1}\0\0\0\0\0\0\u{4}out\n") && body.contains("\u{2}\0\0\0\0\0\0\u{4}err\n"),
        "{body:?}"
    );
}

/// One request over a connection of its own, answered whole.
fn exchange(hosts: &Hosts, line: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(&hosts.daemon("h1").socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn with_live_restore_containers_survive_stop_and_crash() {
    let mut hosts = Hosts::up_with(LabSpec::bridged("restore", 1), |_| {
        DaemonSpec::weft(&weft_exe()).arg("--live-restore")
    });
    docker(&hosts, ["network", "create", "n"]);
    hosts.run_idle("h1", "c1", "--network n").unwrap();
    let pid = hosts.inspect("h1", "c1", "{{.State.Pid}}").unwrap();
    let address = hosts.address("h1", "c1", "n").unwrap();
    for crash in [false, true] {
        let daemon = hosts.daemon("h1").clone();
        if crash {
            daemon.kill().unwrap()
        } else {
            daemon.stop().unwrap()
        }
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "crash {crash}: the container ended");
        hosts.start("h1");
        assert_eq!(
            hosts.inspect("h1", "c1", "{{.State.Status}} {{.State.Pid}}").unwrap(),
            format!("running {pid}")
        );
        assert_eq!(hosts.address("h1", "c1", "n").unwrap(), address);
        assert_eq!(hosts.exec("h1", "c1", "echo alive").unwrap(), "alive");
    }
    docker(&hosts, ["rm", "-f", "c1"]);
}

#[test]
fn without_live_restore_a_stop_ends_containers() {
    let mut hosts = up("ends");
    let line = "trap 'echo bye; exit 0' TERM; echo ready; while true; do usleep 10000; done";
    docker(&hosts, ["run", "-d", "--name", "c1", "busybox", "sh", "-c", line]);
    wait_for_log(&hosts, "ready");
    hosts.daemon("h1").clone().stop().unwrap();
    hosts.start("h1");
    assert_eq!(hosts.inspect("h1", "c1", "{{.State.Status}} {{.State.ExitCode}}").unwrap(), "exited 0");
    assert_eq!(docker(&hosts, ["logs", "c1"]), "ready\nbye");
}

#[test]
fn version_and_info_are_what_the_client_prints() {
    let hosts = up("info");
    let version = docker(
        &hosts,
        ["version", "--format", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}"],
    );
    assert_eq!(version, "1.51 1.24 linux");
    let info = docker(&hosts, ["info"]);
    for line in [
        " Storage Driver: overlay2",
        " Swarm: inactive",
        " OSType: linux",
        "  Network: bridge host null overlay",
    ] {
        assert!(info.lines().any(|l| l == line), "{line:?} is missing in:\n{info}");
    }
    docker(&hosts, ["system", "df"]);
    docker(&hosts, ["system", "prune", "-af"]);
}
