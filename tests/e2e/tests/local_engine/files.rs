//! `docker cp`, `docker diff`, `docker export`, `docker update`.

use weft_e2e::{Hosts, refusal};

use super::{docker, shell, up};

/// Runs a shell line that has to succeed.
fn works(hosts: &Hosts, line: &str) -> String {
    let (out, code) = shell(hosts, line);
    assert_eq!(code, Some(0), "{line}: {out}");
    out.trim_end().to_owned()
}

#[test]
fn files_are_copied_both_ways() {
    let hosts = up("copied");
    let here = hosts.host("h1").dir.join("copies");
    std::fs::create_dir_all(here.join("tree/deep")).unwrap();
    std::fs::write(here.join("tree/deep/file"), "from the host").unwrap();
    std::fs::write(here.join("one"), "one").unwrap();
    let run = |line: &str| works(&hosts, &format!("cd {} && {line}", here.display()));
    hosts.run_idle("h1", "c1", "-v data:/data").unwrap();
    // Into a running container: a file under another name, a directory, a volume, a stream.
    run("docker cp one c1:/tmp/two && docker cp tree c1:/srv && docker cp one c1:/data/");
    run("tar -c one | docker cp - c1:/tmp");
    let seen = hosts.exec("h1", "c1", "cat /tmp/two /srv/deep/file /data/one /tmp/one").unwrap();
    assert_eq!(seen, "onefrom the hostoneone");
    // Out of it: a directory to a new name, what a link leads to, a link itself, a stream.
    hosts
        .exec("h1", "c1", "ln -s /srv/deep /link; chmod 600 /srv/deep/file; chown 7:8 /srv/deep/file")
        .unwrap();
    run("docker cp c1:/srv out && docker cp -L c1:/link followed && docker cp c1:/link .");
    assert_eq!(run("cat out/deep/file followed/file; readlink link"), "from the hostfrom the host/srv/deep");
    assert_eq!(
        run("docker cp c1:/srv/deep/file - | tar -tv --numeric-owner | cut -d' ' -f1,2"),
        "-rw------- 7/8"
    );
    assert_eq!(run("docker cp c1:/srv/deep/file own && stat -c %a own"), "600");
    // Stopped, also before the first start.
    docker(&hosts, ["stop", "c1"]);
    run("docker cp one c1:/data/late && docker cp c1:/data/late back && cmp one back");
    docker(&hosts, ["create", "--name", "c2", "busybox", "cat", "/given"]);
    run("docker cp one c2:/given");
    assert_eq!(docker(&hosts, ["start", "-a", "c2"]), "one");
    // Refusals, in Docker's words.
    docker(&hosts, ["create", "--name", "c3", "--read-only", "-v", "data:/data:ro", "busybox", "true"]);
    let one = here.join("one").display().to_string();
    for (target, words) in [
        ("c1:/nosuch/dir/", "no such directory"),
        ("c3:/tmp/x", "container rootfs is marked read-only"),
        ("c3:/data/x", "mounted volume is marked read-only"),
        ("nosuch:/x", "No such container: nosuch"),
    ] {
        let text = refusal(hosts.docker("h1", ["cp", &one, target]));
        assert!(text.contains(words), "{target}: {text}");
    }
    let text = refusal(hosts.docker("h1", ["cp", "c1:/nosuch", "-"]));
    assert!(text.contains("Could not find the file /nosuch in container c1"), "{text}");
    let tree = here.join("tree").display().to_string();
    let text = refusal(hosts.docker("h1", ["cp", &tree, "c1:/tmp/two"]));
    assert!(text.contains("cannot copy directory"), "{text}");
}

#[test]
fn changes_are_shown_and_trees_exported() {
    let hosts = up("diffed");
    hosts.run_idle("h1", "c1", "-v data:/data").unwrap();
    assert_eq!(docker(&hosts, ["diff", "c1"]), "A /data");
    hosts.exec("h1", "c1", "echo x > /tmp/new; rm /bin/vi; echo x > /data/unseen").unwrap();
    assert_eq!(docker(&hosts, ["diff", "c1"]), "C /bin\nD /bin/vi\nA /data\nC /tmp\nA /tmp/new");
    let archive = hosts.host("h1").dir.join("tree.tar").display().to_string();
    docker(&hosts, ["export", "-o", &archive, "c1"]);
    let names = works(&hosts, &format!("tar -tf {archive}"));
    let has = |name: &str| names.lines().any(|line| line == name);
    assert!(has("tmp/new") && has("bin/busybox") && !has("bin/vi") && !has("data/unseen"), "{names}");
    works(&hosts, &format!("docker import {archive} again"));
    assert_eq!(docker(&hosts, ["run", "--rm", "again", "cat", "/tmp/new"]), "x");
}

#[test]
fn limits_are_changed_while_a_container_runs() {
    let hosts = up("updated");
    hosts.run_idle("h1", "c1", "-m 64m").unwrap();
    let limit =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(hosts.exec("h1", "c1", limit).unwrap(), (64 << 20).to_string());
    let text = refusal(hosts.docker("h1", "update --memory 1g c1"));
    assert!(text.contains("update the memoryswap at the same time"), "{text}");
    let update = "update --memory 128m --memory-swap 128m --cpus 1 --restart always --pids-limit 33 c1";
    assert_eq!(hosts.docker("h1", update).unwrap(), "c1");
    assert_eq!(hosts.exec("h1", "c1", limit).unwrap(), (128 << 20).to_string());
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(hosts.inspect("h1", "c1", shown).unwrap(), "134217728 1000000000 33 always");
    for (flags, words) in [
        ("--memory 1m", "Minimum memory limit allowed is 6MB"),
        ("--cpu-period 50000", "CPU Period cannot be updated as NanoCPUs has already been set"),
        ("--memory 256m --memory-swap 256m --cpuset-cpus 4000", "Requested CPUs are not available"),
        ("--blkio-weight 5", "Range of blkio weight is from 10 to 1000"),
    ] {
        let text = refusal(hosts.docker("h1", format!("update {flags} c1")));
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(hosts.exec("h1", "c1", limit).unwrap(), (128 << 20).to_string(), "nothing of it was done");
    let text = refusal(hosts.docker("h1", "update --memory 1g --memory-swap 1g nosuch"));
    assert!(text.contains("No such container: nosuch"), "{text}");
}

#[test]
fn a_container_becomes_an_image() {
    let hosts = up("commit");
    hosts.run_idle("h1", "c0", "").unwrap();
    // Nothing has changed: the image's layers, with another configuration.
    docker(&hosts, ["commit", "c0", "same"]);
    let layers =
        |image: &str| docker(&hosts, ["image", "inspect", "--format", "{{json .RootFS.Layers}}", image]);
    assert_eq!(layers("same"), layers("busybox"));
    hosts.run_idle("h1", "c1", "-e A=container -v data:/data").unwrap();
    hosts.exec("h1", "c1", "echo mine > /tmp/own; rm /bin/vi; mkdir /made; echo x > /data/volume").unwrap();
    let id = docker(
        &hosts,
        [
            "commit",
            "-a",
            "ann",
            "-m",
            "a message",
            "-c",
            "ENV B=2",
            "-c",
            "CMD [\"cat\",\"/tmp/own\"]",
            "c1",
            "made:1",
        ],
    );
    let shown = "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Cmd}} {{.Config.Env}}";
    let shown = docker(&hosts, ["image", "inspect", "--format", shown, "made:1"]);
    assert!(shown.starts_with(&format!("{id} ann a message [cat /tmp/own] [B=2 A=container")), "{shown}");
    assert_eq!(hosts.inspect("h1", "c1", "{{.State.Status}}").unwrap(), "running");
    assert_eq!(docker(&hosts, ["run", "--rm", "made:1"]), "mine");
    let seen = docker(
        &hosts,
        ["run", "--rm", "made:1", "sh", "-c", "ls -d /bin/vi /made /data/volume 2>&1; echo $A $B"],
    );
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 4, "{seen}");
    assert!(lines.contains(&"/made") && lines[3] == "container 2", "{seen}");
    let history = docker(&hosts, ["history", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1"]);
    assert_eq!(history.lines().next(), Some("sleep 100000|a message"), "{history}");
    // It is whole without its container, also elsewhere.
    docker(&hosts, ["rm", "-f", "c1"]);
    let archive = hosts.host("h1").dir.join("made.tar").display().to_string();
    docker(&hosts, ["save", "-o", &archive, "made:1"]);
    docker(&hosts, ["rmi", "made:1"]);
    docker(&hosts, ["load", "-i", &archive]);
    assert_eq!(docker(&hosts, ["run", "--rm", "made:1"]), "mine");
    let text = refusal(hosts.docker("h1", "commit nosuch x"));
    assert!(text.contains("No such container: nosuch"), "{text}");
}

#[test]
fn wefts_own_client_does_the_same() {
    let hosts = up("ownfiles");
    let weft = |line: &str| hosts.weft("h1", line).unwrap();
    hosts.run_idle("h1", "c1", "").unwrap();
    let exe = weft_e2e::weft_exe().display().to_string();
    let here = hosts.host("h1").dir.display().to_string();
    let copied = format!(
        "cd {here} && echo hello > given && tar -c given | {exe} cp - c1:/tmp && {exe} cp c1:/tmp/given - | tar -xO"
    );
    assert_eq!(works(&hosts, &copied), "hello");
    assert_eq!(weft("diff c1"), "C /tmp\nA /tmp/given");
    weft(&format!("export -o {here}/tree.tar c1"));
    assert!(works(&hosts, &format!("tar -tf {here}/tree.tar")).contains("tmp/given"));
    let id = weft("commit -m message c1 made");
    assert_eq!(docker(&hosts, ["image", "inspect", "--format", "{{.Id}}", "made"]), id);
    assert_eq!(weft("update --memory 64m --memory-swap -1 --restart always c1"), "c1");
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(hosts.inspect("h1", "c1", shown).unwrap(), "67108864 -1 always");
    let stats = weft("stats --no-stream");
    let row: Vec<&str> = stats.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row[5]), ("c1", "64MiB"), "{stats}");
}
