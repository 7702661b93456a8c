//! Flags of `docker run` that no other test needs: each does what it says, or is refused in words that say why.

use weft_e2e::{Hosts, refusal};
use weft_lab::eventually;

use crate::{SOON, docker, shell, up};

/// Flags, what the container runs, and what it writes.
const WORK: &[(&str, &str, &str)] = &[
    (
        "--add-host db:10.1.2.3 --add-host gate:host-gateway",
        "grep -cE '^(10.1.2.3\tdb|172.17.0.1\tgate)$' /etc/hosts",
        "2",
    ),
    ("--cap-add NET_ADMIN --cap-drop CHOWN", "grep CapEff /proc/self/status | cut -f2", "00000000a80435fa"),
    ("--cgroupns private", "cut -d: -f3 /proc/self/cgroup | sort -u", "/"),
    (
        "--device /dev/null:/dev/other",
        "echo x > /dev/other && stat -c %F /dev/other",
        "character special file",
    ),
    (
        "--dns 10.0.0.9 --dns-search example.org --dns-option ndots:3",
        "grep -cE '^(nameserver 10.0.0.9|search example.org|options ndots:3)$' /etc/resolv.conf",
        "3",
    ),
    (
        "-h inner --domainname example.org",
        "hostname; cat /proc/sys/kernel/domainname; grep -c 'inner.example.org inner' /etc/hosts",
        "inner\nexample.org\n1",
    ),
    ("--entrypoint /bin/echo", "one", "-c one"),
    ("-e ONE=1 --env TWO=2", "echo $ONE$TWO", "12"),
    ("--group-add 1234 -u 5:6", "id -u; id -g; id -G", "5\n6\n6 1234"),
    ("--init", "cat /proc/1/comm", "docker-init"),
    ("--ipc shareable --shm-size 2m", "df -k /dev/shm | tail -1 | awk '{ print $2 }'", "2048"),
    ("--ipc none", "grep -c ' /dev/shm ' /proc/mounts || true", "0"),
    ("--isolation default", "echo runs", "runs"),
    ("--mac-address 02:11:22:33:44:55", "cat /sys/class/net/eth0/address", "02:11:22:33:44:55"),
    (
        "--mount type=tmpfs,dst=/scratch,tmpfs-size=1m,tmpfs-mode=700",
        "df -k /scratch | tail -1 | awk '{ print $2 }'; stat -c %a /scratch",
        "1024\n700",
    ),
    ("--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500"),
    ("--pid host", "test $$ -ne 1 && echo outside", "outside"),
    ("--platform linux/amd64 --pull never", "echo runs", "runs"),
    (
        "--read-only --tmpfs /scratch:size=1m,mode=700",
        "touch /file 2> /dev/null || touch /scratch/file && stat -c %a /scratch",
        "700",
    ),
    ("--runtime runc", "echo runs", "runs"),
    ("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status | cut -f2", "1"),
    ("--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status | cut -f2", "0"),
    ("--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/mounts || true", "0"),
    (
        "--sysctl net.ipv4.ip_forward=0 --sysctl kernel.msgmax=9000",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
        "0\n9000",
    ),
    ("--ulimit nofile=100:200 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c", "100\n200\n0"),
    ("--userns host", "echo runs", "runs"),
    ("--uts host", "hostname", "h1"),
    ("-w /made/anew", "pwd", "/made/anew"),
    ("-a stdout", "echo seen; echo unseen >&2", "seen"),
];

/// Flags, and a part of the refusal.
const REFUSED: &[(&str, &str)] = &[
    ("--blkio-weight 5", "Range of blkio weight is from 10 to 1000"),
    ("--blkio-weight-device /dev/null:300", "weights of devices are not implemented"),
    ("--cap-add BOGUS", "invalid CapAdd: unknown capability: \"CAP_BOGUS\""),
    ("--cpu-rt-runtime 1000", "realtime limits of processors are not implemented"),
    ("--cpus 9999", "range of CPUs is from 0.01 to"),
    ("--cpuset-cpus 7000", "Requested CPUs are not available - requested 7000"),
    (
        "--device /dev/nosuch",
        "error gathering device information while adding custom device \"/dev/nosuch\": no such file or directory",
    ),
    ("--device-read-bps /dev/null:1mb", "limit of device \"/dev/null\": not a block device"),
    ("--gpus all", "could not select device driver \"\" with capabilities: [[gpu]]"),
    ("--group-add nosuch", "unable to find group nosuch"),
    ("--ipc bogus", "invalid IPC mode: bogus"),
    ("--ipc container:nosuch", "No such container: nosuch"),
    ("--isolation hyperv", "invalid isolation (hyperv): linux only supports 'default'"),
    ("--network bridge --link-local-ip 169.254.1.1", "link-local addresses are not implemented"),
    ("--log-driver syslog", "error looking up logging plugin syslog: plugin \"syslog\" not found"),
    ("--log-opt bogus=1", "unknown log opt 'bogus' for json-file log driver"),
    ("-m 1m", "Minimum memory limit allowed is 6MB"),
    ("-m 64m --memory-swap 32m", "Minimum memoryswap limit should be larger than memory limit, see usage"),
    ("--oom-score-adj 5000", "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
    ("--pid container:nosuch", "No such container: nosuch"),
    ("--runtime bogus", "unknown or invalid runtime name: bogus"),
    (
        "--storage-opt size=1G",
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ),
    (
        "--sysctl net.ipv4.ip_forward=1 --network host",
        "sysctl net.ipv4.ip_forward not allowed in host network namespace",
    ),
    ("-u nosuch", "unable to find user nosuch: no matching entries in passwd file"),
    ("--uts host -h other", "conflicting options: hostname and the UTS mode"),
    ("-v /tmp:/x:bogus", "invalid mode: bogus"),
];

fn words<'a>(flags: &'a str, line: &'a str) -> Vec<&'a str> {
    let begin = ["run", "--rm"].into_iter();
    begin.chain(flags.split_whitespace()).chain(["busybox", "/bin/sh", "-c", line]).collect()
}

fn ran(hosts: &Hosts, flags: &str, line: &str) -> String {
    // An entry point of the user's own takes the rest as its words.
    let mut words = words(flags, line);
    if flags.starts_with("--entrypoint") {
        words.retain(|word| *word != "/bin/sh");
    }
    hosts.docker("h1", words.as_slice()).unwrap_or_else(|error| format!("{error:?}"))
}

#[test]
fn flags_of_run_do_what_they_say() {
    let hosts = up("flags");
    let wrong: Vec<String> = WORK
        .iter()
        .map(|(flags, line, wanted)| (flags, ran(&hosts, flags, line), wanted))
        .filter(|(_, found, wanted)| found.trim() != **wanted)
        .map(|(flags, found, wanted)| format!("{flags}: {found:?} instead of {wanted:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(docker(&hosts, ["ps", "-aq"]), "", "--rm leaves nothing");
}

#[test]
fn flags_of_run_that_cannot_be_are_refused() {
    let hosts = up("noflags");
    let wrong: Vec<String> = REFUSED
        .iter()
        .map(|(flags, wanted)| (flags, hosts.docker("h1", words(flags, "true").as_slice()), wanted))
        .map(|(flags, outcome, wanted)| match outcome {
            Ok(output) => (flags, format!("it ran: {output}"), wanted),
            Err(failed) => (flags, failed.stderr, wanted),
        })
        .filter(|(_, found, wanted)| !found.contains(**wanted))
        .map(|(flags, found, wanted)| format!("{flags}: {found:?} instead of {wanted:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(docker(&hosts, ["ps", "-aq"]), "", "what was refused is not there");
}

#[test]
fn limits_given_to_run_are_in_the_kernel_and_shown() {
    let hosts = up("limits");
    let flags = "--cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --cpuset-mems 0 -m 64m --memory-reservation 32m \
                 --memory-swap 96m --pids-limit 20 --annotation a=b --label c=d --stop-signal USR1 --stop-timeout 1";
    hosts.run_idle("h1", "limited", flags).unwrap();
    let shown = "{{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.Memory}} \
                 {{.HostConfig.MemoryReservation}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} \
                 {{.HostConfig.Annotations.a}} {{.Config.Labels.c}} {{.Config.StopSignal}}";
    assert_eq!(
        hosts.inspect("h1", "limited", shown).unwrap(),
        "500000000 512 0 67108864 33554432 100663296 20 b d USR1"
    );
    assert_eq!(hosts.exec("h1", "limited", "nproc").unwrap(), "1");
    // The twenty-first process cannot be.
    let forks = "for i in $(seq 30); do sleep 5 & done 2>&1 | grep -c fork";
    assert_ne!(hosts.exec("h1", "limited", forks).unwrap_or_default(), "0");
    let flood = "run --rm -m 16m --memory-swap 16m busybox sh -c";
    let mut words: Vec<&str> = flood.split_whitespace().collect();
    words.push("head -c 64m /dev/zero | tail -c 64m > /dev/null; exit $?");
    assert!(hosts.docker("h1", words.as_slice()).is_err(), "more memory than it may have");
    // A device's limits and the OOM killer's absence are in the files of version 1, where the kernel has them.
    let memory = "/sys/fs/cgroup/memory/memory.oom_control";
    let line = format!("test ! -f {memory} || grep -q 'oom_kill_disable 1' {memory}");
    let deaf = "run --rm -m 32m --oom-kill-disable busybox sh -c";
    let mut words: Vec<&str> = deaf.split_whitespace().collect();
    words.push(&line);
    hosts.docker("h1", words.as_slice()).unwrap();
    hosts.docker("h1", "update --cpus 1 --pids-limit 30 --restart unless-stopped limited").unwrap();
    let shown = "{{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(hosts.inspect("h1", "limited", shown).unwrap(), "1000000000 30 unless-stopped");
}

#[test]
fn logs_are_kept_by_either_driver_and_rotated() {
    let hosts = up("logs");
    let line =
        "for i in $(seq 400); do echo line $i of a log that is long enough to be cut; done; sleep 1000";
    for (name, options) in [
        (
            "json",
            "--log-driver json-file --log-opt max-size=4k --log-opt max-file=3 --log-opt mode=non-blocking",
        ),
        ("local", "--log-driver local --log-opt max-size=4k --log-opt max-file=3 --log-opt compress=false"),
        ("whole", "--log-driver local"),
    ] {
        let options = format!("run -d --stop-timeout 0 --name {name} {options} busybox sh -c");
        let mut words: Vec<&str> = options.split_whitespace().collect();
        words.push(line);
        hosts.docker("h1", words.as_slice()).unwrap();
        eventually("the last line", SOON, || match hosts.docker("h1", format!("logs --tail 1 {name}")) {
            Ok(log) if log.contains("line 400 of") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let lines = docker(&hosts, ["logs", name]).lines().count();
        if name == "whole" {
            assert_eq!(lines, 400);
        } else {
            assert!((60..200).contains(&lines), "{name}: three files of 4 KiB hold {lines} lines");
        }
        let id = hosts.inspect("h1", name, "{{.Id}}").unwrap();
        let root = docker(&hosts, ["info", "--format", "{{.DockerRootDir}}"]);
        let (files, _) = shell(&hosts, &format!("ls {root}/engine/containers/{id} | grep -c -- -json.log"));
        assert_eq!(files.trim(), if name == "whole" { "1" } else { "3" });
        assert_eq!(
            hosts.inspect("h1", name, "{{.HostConfig.LogConfig.Type}}").unwrap(),
            if name == "json" { "json-file" } else { "local" }
        );
    }
    hosts.run_idle("h1", "silent", "--log-driver none").unwrap();
    let text = refusal(hosts.docker("h1", "logs silent"));
    assert!(text.contains("configured logging driver does not support reading"), "{text}");
}
