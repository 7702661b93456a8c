//! Weft's own client beside docker's: the same verbs, lists, templates and copies.

use std::path::Path;

use weft_e2e::{Hosts, refusal, weft_exe};

use super::{docker, shell, up};

/// Runs a shell line that has to succeed; `weft` speaks to the host's daemon as `docker` does.
fn works(hosts: &Hosts, line: &str) -> String {
    let folder = weft_exe().parent().unwrap().display().to_string();
    let (out, code) = shell(hosts, &format!("PATH={folder}:$PATH; {line}"));
    assert_eq!(code, Some(0), "{line}: {out}");
    out.trim_end().to_owned()
}

/// What both clients print for the same words.
fn same(hosts: &Hosts, args: &[&str]) -> String {
    let (theirs, ours) = (hosts.docker("h1", args).unwrap(), hosts.weft("h1", args).unwrap());
    // docker shows the names of an image in no order.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&ours), sorted(&theirs), "{args:?}");
    ours
}

#[test]
fn templates_print_what_dockers_print() {
    let hosts = up("formats");
    hosts.run_idle("h1", "c1", "-p 8080:80 --label a=one --label b=two -v data:/data").unwrap();
    docker(&hosts, ["tag", "busybox", "host.example:5000/b:v1"]);
    docker(&hosts, ["network", "create", "--internal", "web"]);
    for args in [
        [
            "ps",
            "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Labels}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}}",
        ],
        ["ps", "{{.Ports}}"],
        ["ps", "table {{.Names}}\\t{{.Image}}\\t{{.CreatedAt}}"],
        ["ps", "{{range $i, $p := split .Labels \",\"}}{{$i}}:{{upper $p}} {{end}}"],
        ["images", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.CreatedAt}}"],
        ["images", "table {{.ID}}\\t{{.Repository}}"],
    ] {
        assert!(!same(&hosts, &[args[0], "--format", args[1]]).is_empty());
    }
    for args in [
        &[
            "network",
            "ls",
            "--format",
            "{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.ID}}",
            "--filter",
            "name=web",
        ][..],
        &["network", "ls", "-q", "--no-trunc", "-f", "name=web"],
        &["volume", "ls"],
        &["volume", "ls", "--format", "{{.Name}}@{{.Driver}} {{.Mountpoint}}"],
        &["ps", "-q", "--no-trunc"],
        &["ps", "-aq", "--filter", "label=a=one", "-n", "1"],
        &["images", "-q", "--filter", "reference=busybox"],
        &["history", "-q", "busybox"],
        &["port", "c1"],
        &["port", "c1", "80"],
        &[
            "inspect",
            "-f",
            "{{.Id}} {{.State.Running}} {{json .Config.Labels}} {{.HostConfig.NetworkMode}}",
            "c1",
        ],
        &[
            "inspect",
            "-f",
            "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}}{{end}}",
            "c1",
        ],
        &["inspect", "-f", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "c1"],
        &[
            "inspect",
            "-f",
            "{{with .State}}{{printf \"%-10s|\" .Status}}{{.ExitCode}}{{end}} {{len .Mounts}}",
            "c1",
        ],
        &["inspect", "--type", "volume", "-f", "{{.Name}} {{.Scope}}", "data"],
        &["network", "inspect", "-f", "{{.Internal}} {{range .IPAM.Config}}{{.Subnet}}{{end}}", "web"],
        &["image", "inspect", "-f", "{{join .RepoTags \" \"}} {{.Architecture}}", "busybox"],
        &["container", "ls", "--format", "{{.Names}}"],
        &["version", "-f", "{{.Server.Version}} {{.Server.APIVersion}}"],
        &["info", "-f", "{{.Containers}} {{.Driver}} {{.ID}}"],
        &["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"],
    ] {
        assert!(!same(&hosts, args).is_empty(), "{args:?}");
    }
    // Their JSON has the same names.
    for line in
        ["ps --format json", "images --format json", "network ls --format json", "volume ls --format json"]
    {
        let keys = |text: String| {
            let row: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            row.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        let (theirs, ours) = (hosts.docker("h1", line).unwrap(), hosts.weft("h1", line).unwrap());
        if !theirs.starts_with('{') {
            // Clients before 23 take it for a template that prints itself.
            assert_eq!(theirs.lines().next(), Some("json"));
            continue;
        }
        let (theirs, ours) = (keys(theirs), keys(ours));
        // What builders of images for many platforms have is not ours.
        let missing: Vec<_> = theirs.iter().filter(|key| !ours.contains(key) && *key != "Platform").collect();
        let unknown = ["Group", "Status", "Availability"];
        assert!(missing.iter().all(|key| unknown.contains(&key.as_str())), "{line}: {missing:?}");
    }
    assert!(
        refusal(hosts.weft("h1", ["ps", "--format", "{{.Nosuch}}"])).contains("no entry for key \"Nosuch\"")
    );
    assert!(refusal(hosts.weft("h1", ["ps", "--format", "{{.ID"])).contains("template parsing error"));
    assert!(refusal(hosts.weft("h1", "inspect nosuch")).contains("no such object: nosuch"));
    assert!(refusal(hosts.weft("h1", "inspect --type network nosuch")).contains("network nosuch not found"));
}

/// A folder's tree: names, modes, contents, links.
fn tree(hosts: &Hosts, folder: &Path) -> String {
    works(
        hosts,
        &format!(
            "cd {} && find . -printf '%P %y %m %l\\n' | sort; cat $(find . -type f | sort)",
            folder.display()
        ),
    )
}

#[test]
fn copies_go_where_dockers_go() {
    let hosts = up("owncp");
    let here = hosts.host("h1").dir.join("copies");
    for client in ["docker", "weft"] {
        hosts.run_idle("h1", client, "-v data:/data").unwrap();
        hosts
            .exec("h1", client, "mkdir -p /srv/deep; echo file > /srv/deep/file; chmod 640 /srv/deep/file; ln -s deep /srv/link; ln -s /srv/deep /way")
            .unwrap();
        std::fs::create_dir_all(here.join(client)).unwrap();
    }
    std::fs::create_dir_all(here.join("tree/deep")).unwrap();
    std::fs::write(here.join("tree/deep/file"), "from the host").unwrap();
    std::fs::write(here.join("one"), "one").unwrap();
    std::os::unix::fs::symlink("tree", here.join("led")).unwrap();
    let each = |words: &str| {
        for client in ["docker", "weft"] {
            let line =
                format!("cd {}/{client} && {client} cp {}", here.display(), words.replace('@', client));
            works(&hosts, &line);
        }
        assert_eq!(tree(&hosts, &here.join("weft")), tree(&hosts, &here.join("docker")), "{words}");
    };
    // Out of it: a file, under another name, over another; a folder, its content, under another name; links.
    for words in [
        "@:/srv/deep/file .",
        "@:/srv/deep/file named",
        "@:/bin/sh named",
        "@:/srv .",
        "@:/srv other",
        "@:/srv other",
        "@:/srv/. content",
        "@:/srv/deep/. .",
        "@:/way .",
        "-L @:/way followed",
        "-L @:/srv/link .",
        "@:srv/deep/ slashed",
    ] {
        each(words);
    }
    // Into it.
    for words in [
        "../one @:/tmp",
        "../one @:/tmp/two",
        "../one @:/srv/link/three",
        "../tree @:/tmp",
        "../tree @:/made",
        "../tree/. @:/made2",
        "../tree/. @:/tmp",
        "../led @:/tmp",
        "-L ../led @:/tmp/ledger",
        "../one @:/data/",
        "../one @:/way",
    ] {
        each(words);
    }
    let inside = |client: &str| {
        let find = "for d in /tmp /made /made2 /data /srv /way; do find $d | sort | while read f; do stat -c '%n %F %a %u' $f; done; done; cat /tmp/two /made/deep/file /srv/deep/one";
        hosts.exec("h1", client, find).unwrap()
    };
    assert_eq!(inside("weft"), inside("docker"));
    // Streams, and what is refused.
    assert_eq!(
        works(
            &hosts,
            &format!(
                "cd {} && tar -c one | weft cp - weft:/tmp && weft cp weft:/tmp/one - | tar -xO",
                here.display()
            )
        ),
        "one"
    );
    for (words, wanted) in [
        ("weft:/nosuch .", "Could not find the file /nosuch in container weft"),
        ("weft:/srv /nosuch/dir/x", "does not exist"),
        ("one two", "must specify at least one container source"),
        ("weft:/a docker:/b", "copying between containers is not supported"),
        ("/etc/passwd weft:/nosuch/", "no such directory"),
        ("/etc weft:/tmp/two", "cannot copy directory"),
        ("/nosuch weft:/tmp", "No such file or directory"),
        ("nosuch:/a /tmp", "No such container: nosuch"),
    ] {
        let text = refusal(hosts.weft("h1", format!("cp {words}")));
        assert!(text.contains(wanted), "{words}: {text}");
    }
}

#[test]
fn wefts_client_has_the_verbs_of_one_host() {
    let hosts = up("ownverbs");
    let weft = |line: &str| hosts.weft("h1", line).unwrap();
    hosts.run_idle("h1", "c1", "").unwrap();
    assert_eq!(weft("rename c1 first"), "");
    assert_eq!(weft("pause first"), "first");
    assert_eq!(weft("inspect -f {{.State.Status}} first"), "paused");
    weft("unpause first");
    assert!(weft("top first").starts_with("UID"), "{}", weft("top first"));
    hosts
        .weft("h1", ["create", "--name", "said", "busybox", "sh", "-c", "echo one; echo two >&2; exit 3"])
        .unwrap();
    let failed = hosts.weft("h1", "start -a said").unwrap_err();
    assert_eq!((failed.code, failed.stdout.as_str(), failed.stderr.as_str()), (Some(3), "one", "two"));
    assert_eq!(works(&hosts, "weft logs --tail 1 --until 0s said 2>&1"), "two");
    assert_eq!(weft("logs --since 10m said").lines().count(), 1);
    let events = weft("events --since 10m --until 0s --filter container=said --format {{.Action}}");
    assert!(
        events.lines().any(|line| line == "start") && events.lines().any(|line| line == "die"),
        "{events}"
    );
    assert!(weft("events --since 10m --until 0s --filter container=said").contains("container create"));
    assert_eq!(weft("volume create --label a=b kept"), "kept");
    assert_eq!(weft("volume ls -q --filter label=a=b"), "kept");
    let archive = hosts.host("h1").dir.join("saved.tar").display().to_string();
    weft(&format!("save -o {archive} busybox"));
    assert!(weft(&format!("load -i {archive}")).contains("busybox:latest"));
    assert!(weft("history busybox").starts_with("IMAGE"));
    assert!(weft("system df").contains("Local Volumes"));
    assert!(weft("system df -v").contains("kept"));
    assert!(weft("container prune -f").contains("Total reclaimed space"));
    assert_eq!(weft("container ls -a --format {{.Names}}"), "first");
    assert!(weft("volume prune -f").starts_with("Total reclaimed space"), "a volume with a name stays");
    assert!(weft("volume prune -af").contains("kept"));
    hosts.weft("h1", "network create lonely").unwrap();
    weft("tag busybox further");
    assert!(weft("rmi further").contains("Untagged: further:latest"));
    let pruned = weft("system prune -f");
    assert!(pruned.contains("lonely") && pruned.contains("Total reclaimed space"), "{pruned}");
    assert!(
        hosts.weft("h1", "image prune -f").is_ok() && hosts.weft("h1", "container inspect first").is_ok()
    );
    // Every verb that docker has for one host, but those that build, and docker's own context and plugins.
    let verbs = |help: String| -> Vec<String> {
        let lines = help.lines().filter(|line| line.starts_with("  ") && !line.trim_start().starts_with('-'));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let ours = verbs(weft("--help"));
    let unbuilt = [
        "build",
        "builder",
        "buildx*",
        "buildx",
        "bake",
        "checkpoint",
        "compose",
        "compose*",
        "context",
        "manifest",
        "plugin",
        "search",
        "stack",
        "trust",
        "--help",
    ];
    let missing: Vec<String> = verbs(hosts.docker("h1", "--help").unwrap())
        .into_iter()
        .filter(|v| v.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter(|v| !ours.contains(v) && !unbuilt.contains(&v.as_str()))
        .collect();
    let words: Vec<&String> = missing
        .iter()
        .filter(|verb| {
            hosts
                .docker("h1", format!("{verb} --help"))
                .is_ok_and(|help| help.contains(&format!("docker {verb}")))
        })
        .collect();
    assert!(words.is_empty(), "{words:?}");
}

#[test]
fn colours_and_bars_are_for_terminals() {
    let hosts = up("plain");
    for line in ["--help", "run --help", "images", "ps -a", "info"] {
        let text = hosts.weft("h1", line).unwrap();
        assert!(!text.contains('\u{1b}'), "{line}: {text}");
    }
    let seen = |prefix: &str| works(&hosts, &format!("script -qec '{prefix} weft --help' /dev/null"));
    assert!(seen("env -u NO_COLOR TERM=xterm").contains('\u{1b}'), "a terminal has colours");
    assert!(!seen("env NO_COLOR=1 TERM=xterm").contains('\u{1b}'), "unless its user wants none");
    let bad = refusal(hosts.weft("h1", "pull localhost:1/nosuch"));
    assert!(!bad.contains('\u{1b}'), "{bad}");
}

#[test]
fn wefts_client_passes_signals_on_and_has_dockers_further_flags() {
    let hosts = up("signals");
    let trap = "trap 'echo heard; exit 7' USR1; echo ready; while :; do sleep 0.1; done";
    let line = format!(
        "weft run --name c1 busybox sh -c \"{trap}\" > {dir}/out & client=$!; \
         for i in $(seq 100); do grep -q ready {dir}/out && break; sleep 0.1; done; \
         kill -USR1 $client; wait $client; echo $?; cat {dir}/out",
        dir = hosts.host("h1").dir.display()
    );
    assert_eq!(works(&hosts, &line), "7\nready\nheard");
    // A program that does not listen keeps nobody: the third time counts.
    let line = format!(
        "weft run --name deaf busybox sh -c 'trap \"\" TERM; echo ready; sleep 100' > {dir}/deaf 2>&1 & client=$!; \
         for i in $(seq 100); do grep -q ready {dir}/deaf && break; sleep 0.1; done; \
         while kill -TERM $client 2> {dir}/gone; do sleep 0.1; done; wait $client; tail -n 1 {dir}/deaf",
        dir = hosts.host("h1").dir.display()
    );
    assert!(works(&hosts, &line).contains("got 3 SIGTERM/SIGINTs, forcefully exiting"));
    docker(&hosts, ["rm", "-f", "deaf"]);
    let vars = hosts.host("h1").dir.join("vars");
    std::fs::write(&vars, "# these\nONE=1\nTWO=2\n").unwrap();
    hosts.run_idle("h1", "c2", "").unwrap();
    let line = format!("weft exec --env-file {} -e TWO=3 c2 sh -c 'echo $ONE$TWO'", vars.display());
    assert_eq!(works(&hosts, &line), "13");
    works(&hosts, "weft update --pids-limit 50 c2 && weft commit --pause=false c2 kept");
    works(&hosts, "weft network create n1 && weft network connect --gw-priority 5 n1 c2");
    let shown = "{{.NetworkSettings.Networks.n1.GwPriority}} {{.HostConfig.PidsLimit}}";
    assert_eq!(hosts.inspect("h1", "c2", shown).unwrap(), "5 50");
    assert!(refusal(hosts.weft("h1", "network rm nosuch")).contains("network nosuch not found"));
    works(&hosts, "weft network rm -f nosuch");
    let text = refusal(hosts.weft("h1", "run --rm --device-read-bps /dev/null:1mb busybox true"));
    assert!(text.contains("limit of device \"/dev/null\": not a block device"), "{text}");
}
