//! Where the API is served: TCP with certificates on both sides and without, the socket's owner, sockets of systemd.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use weft_e2e::{Authority, Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::{SOON, docker, up};

/// A shell line inside the host, as a client with these certificates.
fn client(hosts: &Hosts, certificates: Option<&Path>, line: &str) -> Output {
    let host = hosts.host("h1");
    let mut command = host.command("timeout");
    command.args(["-s", "KILL", "60", "sh", "-c", line]).env_remove("DOCKER_CONTEXT");
    command.env("DOCKER_HOST", format!("tcp://{}:2376", host.ipv4)).env("DOCKER_CONFIG", &host.dir);
    command.env("weft", weft_exe());
    if let Some(dir) = certificates {
        command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", dir);
    }
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// What a daemon says that does not start.
fn does_not_start(hosts: &Hosts, args: &[&str]) -> String {
    let host = hosts.host("h1");
    let mut command = host.command("timeout");
    command.args(["-s", "KILL", "20"]).arg(weft_exe()).arg("daemon").args(args);
    let dir = host.dir.join("refused");
    command.arg("--data-root").arg(&dir).arg("--exec-root").arg(&dir).arg("--pidfile").arg(dir.join("pid"));
    std::fs::create_dir_all(&dir).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    format!("{}{}", stdout(&output), stderr(&output))
}

#[test]
fn clients_with_a_certificate_use_the_api_over_tcp_and_others_do_not() {
    let mut hosts = up("tls");
    let (dir, address) = (hosts.host("h1").dir.clone(), hosts.host("h1").ipv4);
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.daemon(&dir.join("daemon"), address.into());
    ours.client(&dir.join("client"));
    theirs.client(&dir.join("stranger"));
    let file = |name: &str| dir.join("daemon").join(name).display().to_string();
    let daemon = DaemonSpec::weft(&weft_exe()).arg("-H").arg(format!("tcp://{address}:2376"));
    let daemon = daemon.arg("--tlsverify").arg("--tlscacert").arg(file("ca.pem"));
    hosts.replace("h1", daemon.arg("--tlscert").arg(file("cert.pem")).arg("--tlskey").arg(file("key.pem")));

    let certificates = dir.join("client");
    let good = |line: &str| {
        let output = client(&hosts, Some(&certificates), line);
        assert!(output.status.success(), "{line}: {output:?}");
        stdout(&output).trim_end().to_owned()
    };
    assert_eq!(good("docker run --rm busybox echo by-tls"), "by-tls");
    // Streams of both directions: input that ends is seen while output goes on.
    good("docker run -d -i --stop-timeout 0 --name c1 busybox cat");
    assert_eq!(good("echo hello | docker exec -i c1 sh -c 'cat; echo and more'"), "hello\nand more");
    let through = "head -c 3000000 /dev/urandom > $DOCKER_CONFIG/bytes; md5sum < $DOCKER_CONFIG/bytes; \
                   docker run --rm -i busybox cat < $DOCKER_CONFIG/bytes | md5sum";
    let sums = good(through);
    assert_eq!(sums.lines().next(), sums.lines().nth(1), "{sums}");
    good("docker create -i --name c2 busybox cat");
    assert_eq!(good("echo attached | docker start -ai c2"), "attached");
    assert_eq!(good("$weft run --rm busybox echo by-weft"), "by-weft");
    assert_eq!(good("echo hello | $weft exec -i c1 cat"), "hello");
    // The unix socket beside it is open to root as ever.
    assert_eq!(docker(&hosts, ["inspect", "--format", "{{.State.Running}}", "c1"]), "true");

    for (certificates, line) in [
        (Some(dir.join("stranger")), "docker ps"),
        (Some(dir.join("stranger")), "$weft ps"),
        (None, "docker ps"),
        (None, &format!("curl -sS --cacert {} https://{address}:2376/_ping", file("ca.pem"))),
    ] {
        let output = client(&hosts, certificates.as_deref(), line);
        assert!(!output.status.success() && output.stdout.is_empty(), "{line}: {output:?}");
    }
    assert!(!docker(&hosts, ["info"]).contains("API is accessible"));
}

#[test]
fn an_open_tcp_address_works_and_is_warned_of() {
    let mut hosts = up("opentcp");
    let host = hosts.host("h1").clone();
    let daemon = DaemonSpec::weft(&weft_exe()).arg("-H").arg("tcp://0.0.0.0:2376");
    // A group that every Debian has.
    hosts.replace("h1", daemon.arg("--group").arg("daemon"));
    let output = client(&hosts, None, "docker run --rm busybox echo open");
    assert_eq!(stdout(&output), "open\n", "{output:?}");
    let output = client(&hosts, None, "docker info 2>&1");
    assert!(
        stdout(&output).contains("WARNING: API is accessible on http://0.0.0.0:2376 without encryption.")
    );
    let log = std::fs::read_to_string(&hosts.daemon("h1").log).unwrap();
    assert!(log.contains("insecure and gives root access on this machine"), "{log}");
    let socket = std::fs::metadata(&hosts.daemon("h1").socket).unwrap();
    let group = host.sh("getent group daemon").unwrap();
    assert_eq!(socket.gid().to_string(), group.trim().split(':').nth(2).unwrap());
    assert_eq!(socket.mode() & 0o777, 0o660);
}

#[test]
fn settings_of_listeners_that_cannot_be_are_refused() {
    let hosts = up("badhost");
    let file = hosts.host("h1").dir.join("daemon.json");
    std::fs::write(&file, r#"{"hosts": ["tcp://127.0.0.1:2376"], "tlsverify": true, "group": "a"}"#).unwrap();
    let file = file.display().to_string();
    let text = does_not_start(
        &hosts,
        &["--config-file", &file, "-H", "unix:///run/x.sock", "--tlsverify=false", "--group", "b"],
    );
    for words in [
        "the following directives are specified both as a flag and in the configuration file:",
        "hosts: (from flag: [unix:///run/x.sock], from file: [tcp://127.0.0.1:2376])",
        "tlsverify: (from flag: false, from file: true)",
        "group: (from flag: b, from file: a)",
    ] {
        assert!(text.contains(words), "{words} is missing in {text}");
    }
    for (args, words) in [
        (&["-H", "fd://"][..], "no sockets found via socket activation"),
        (&["-H", "unix:///run/x.sock", "--group", "nosuch"], "group \"nosuch\" does not exist"),
        (&["-H", "tcp://127.0.0.1:1", "--tlsverify", "--tlscacert", "/nosuch.pem"], "pem"),
        (&["-H", "http://127.0.0.1"], "hosts: \"http://127.0.0.1\" is not"),
    ] {
        let text = does_not_start(&hosts, args);
        assert!(text.contains(words), "{words} is missing in {text}");
    }
}

#[test]
fn sockets_that_systemd_opened_are_served() {
    let hosts = Hosts::up(LabSpec::bridged("activate", 1));
    hosts.daemon("h1").stop().unwrap();
    let host = hosts.host("h1");
    let at = |name: &str| host.dir.join(name).display().to_string();
    let own = format!("unix://{}", at("own.sock"));
    let mut command = host.command("systemd-socket-activate");
    command
        .args(["-l", &at("given.sock"), "-l", &format!("{}:2376", host.ipv4)])
        .arg(weft_exe())
        .arg("daemon");
    command.args(["--data-root", &at("weft.data"), "--pidfile", &at("weft.pid"), "-H", "fd://", "-H", &own]);
    let log = std::fs::File::create(host.dir.join("activated.log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut daemon = command.spawn().unwrap();
    let version = |address: &str| {
        let mut docker = host.command("docker");
        docker.args(["-H", address, "version", "--format", "{{.Server.Version}}"]);
        docker.env("DOCKER_CONFIG", &host.dir).output().unwrap()
    };
    // The first connection starts the daemon, and is answered by it.
    let given = format!("unix://{}", at("given.sock"));
    eventually("the activated daemon", SOON, || {
        let output = version(&given);
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    });
    for address in [own, format!("tcp://{}:2376", host.ipv4)] {
        let output = version(&address);
        assert!(output.status.success(), "{address}: {output:?}");
    }
    // systemd's own variables are for the daemon alone.
    let pid = std::fs::read_to_string(at("weft.pid")).unwrap().trim().to_owned();
    let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap();
    for child in stdout(&children).lines() {
        let environment = std::fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("LISTEN_FDS"), "{child}");
    }
    Command::new("kill").arg(&pid).status().unwrap();
    assert!(daemon.wait().unwrap().success());
    assert!(Path::new(&at("given.sock")).exists(), "that socket is systemd's");
}
