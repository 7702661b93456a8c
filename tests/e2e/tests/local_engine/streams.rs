//! Streams of containers and execs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use weft_e2e::{Hosts, api};
use weft_lab::eventually;

use crate::{SOON, docker, exit_code, shell, up};

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

/// Old clients take the connection over without asking for an upgrade.
#[test]
fn exec_without_upgrade_streams_until_the_end() {
    let hosts = up("noupgr");
    hosts.run_idle("h1", "c1", "").unwrap();
    let body = r#"{"Cmd":["sh","-c","echo out; echo err >&2"],"AttachStdout":true,"AttachStderr":true}"#;
    let id = exec(&hosts, body);
    let answer = exchange(&hosts, &format!("POST /v1.41/exec/{id}/start"), r#"{"Detach":false,"Tty":false}"#);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 ") && head.contains("application/vnd.docker.raw-stream"), "{head}");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(
        body.contains("\u{1}\0\0\0\0\0\0\u{4}out\n") && body.contains("\u{2}\0\0\0\0\0\0\u{4}err\n"),
        "{body:?}"
    );
}

/// The SDK for Python loses what its HTTP library reads together with the head.
#[test]
fn output_of_an_exec_does_not_come_with_the_head() {
    let hosts = up("headonly");
    hosts.run_idle("h1", "c1", "").unwrap();
    let id = exec(&hosts, r#"{"Cmd":["echo","out"],"AttachStdout":true}"#);
    let body = r#"{"Detach":false,"Tty":false}"#;
    let mut stream = UnixStream::connect(&hosts.daemon("h1").socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let head = format!(
        "POST /v1.41/exec/{id}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A client that has other work than to read, until the process is done.
    eventually("the exec's end", SOON, || match api::get(&hosts, "h1", &format!("/exec/{id}/json")) {
        Ok(exec) if exec["ExitCode"] == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let mut answer = [0; 8192];
    let length = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 101 UPGRADED\r\n") && answer.ends_with("\r\n\r\n"), "{answer:?}");
    let mut output = String::new();
    stream.read_to_string(&mut output).unwrap();
    assert_eq!(output, "\u{1}\0\0\0\0\0\0\u{4}out\n");
}

/// Prepares an exec in the container `c1`; its id.
fn exec(hosts: &Hosts, body: &str) -> String {
    let created = exchange(hosts, "POST /v1.41/containers/c1/exec", body);
    created.split("\"Id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
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
