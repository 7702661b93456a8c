//! What a container is given, and what it is kept from.

use crate::{docker, exit_code, up};

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
