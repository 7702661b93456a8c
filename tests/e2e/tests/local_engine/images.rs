//! Images: here, and from registries.

use weft_e2e::{Hosts, Registry, refusal, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::{SOON, docker, shell, up};

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
        text.contains("conflict: unable to remove repository reference \"busybox\" (must force)"),
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
fn lists_and_prunes_of_images_are_narrowed_by_filters() {
    let hosts = up("imgfilt");
    let names = |filters: &[&str]| {
        let words: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        let command = [&["images", "--format", "{{.Repository}}:{{.Tag}}"][..], &words].concat();
        let mut found: Vec<String> =
            hosts.docker("h1", command.as_slice()).unwrap().lines().map(str::to_owned).collect();
        found.sort_unstable();
        found
    };
    docker(&hosts, ["run", "--name", "c1", "busybox", "touch", "/x"]);
    // Times of images are told in whole seconds.
    eventually("the next second", SOON, || {
        docker(&hosts, ["commit", "-c", "LABEL kind=late", "c1", "host.example/team/late:v1"]);
        if names(&["since=busybox"]).is_empty() { Err("as old".to_owned()) } else { Ok(()) }
    });
    docker(&hosts, ["rm", "c1"]);
    let late = ["host.example/team/late:v1"];
    assert_eq!(names(&["since=busybox", "dangling=false"]), late);
    assert_eq!(names(&["before=host.example/team/late:v1", "dangling=false"]), ["busybox:latest"]);
    assert_eq!(names(&["label=kind=late", "dangling=false"]), late);
    assert_eq!(names(&["label=kind=early"]), [""; 0]);
    assert_eq!(names(&["reference=host.example/*/late"]), late);
    assert_eq!(names(&["reference=busy*", "reference=*/*/late:v1"]), ["busybox:latest", late[0]]);
    assert_eq!(names(&["until=1h"]), [""; 0]);
    docker(&hosts, ["image", "prune", "-f"]);
    assert_eq!(names(&["dangling=true"]), [""; 0]);
    assert_eq!(names(&[]).len(), 2);
    for kept in ["until=1h", "label=kind=early", "label!=kind=late"] {
        docker(&hosts, ["tag", "busybox", "busybox:kept"]);
        docker(&hosts, ["run", "--name", "user", "busybox", "true"]);
        let pruned = docker(&hosts, ["image", "prune", "-af", "--filter", kept]);
        assert_eq!(pruned, "Total reclaimed space: 0B", "{kept}");
        docker(&hosts, ["rm", "user"]);
    }
    assert!(docker(&hosts, ["image", "prune", "-af", "--filter", "label=kind=late"]).contains("late:v1"));
    assert_eq!(names(&[]), ["busybox:kept", "busybox:latest"]);
}

/// With a terminal `docker load` asks to hear of it.
#[test]
fn a_load_tells_how_it_gets_on() {
    let hosts = up("loadbar");
    let archive = hosts.host("h1").dir.join("saved.tar").display().to_string();
    docker(&hosts, ["save", "-o", &archive, "busybox"]);
    docker(&hosts, ["rmi", "busybox"]);
    let url = hosts.daemon("h1").url();
    let post = |query: &str| {
        let socket = url.trim_start_matches("unix://");
        let line = format!(
            "curl -sS --unix-socket {socket} -H Content-Type:application/x-tar --data-binary @{archive} http://d/images/load{query}"
        );
        hosts.host("h1").sh(&line).unwrap()
    };
    let told = post("");
    assert!(told.contains(r#"{"status":"Loading layer","progressDetail":{"current":"#), "{told}");
    assert!(told.trim_end().ends_with(r#"{"stream":"Loaded image: busybox:latest\n"}"#), "{told}");
    assert_eq!(told.lines().last(), post("?quiet=1").lines().last());
    // A layer that is here is no work, and what takes a name from another image says so.
    assert_eq!(post("").lines().count(), 1);
    docker(&hosts, ["run", "--name", "c1", "busybox", "touch", "/x"]);
    docker(&hosts, ["commit", "c1", "busybox"]);
    let told = post("");
    assert!(
        told.contains("The image busybox:latest already exists, renaming the old one with ID sha256:"),
        "{told}"
    );
}

/// A prune that overlooks a filter takes what somebody needs.
#[test]
fn prunes_keep_what_is_younger_than_asked_for() {
    let hosts = up("until");
    docker(&hosts, ["create", "--name", "c1", "busybox", "true"]);
    docker(&hosts, ["network", "create", "n1"]);
    docker(&hosts, ["tag", "busybox", "busybox:other"]);
    for what in ["container", "network"] {
        let pruned = docker(&hosts, [what, "prune", "-f", "--filter", "until=1h"]);
        assert!(!pruned.contains("Deleted"), "{pruned}");
        let text = refusal(hosts.docker("h1", [what, "prune", "-f", "--filter", "until=yesterday"]));
        assert!(text.contains("failed to parse value as time or duration"), "{text}");
    }
    docker(&hosts, ["system", "prune", "-af", "--filter", "until=2h"]);
    assert_eq!(docker(&hosts, ["ps", "-aq"]).lines().count(), 1);
    assert_eq!(docker(&hosts, ["network", "ls", "-q", "--filter", "name=n1"]).lines().count(), 1);
    assert_eq!(docker(&hosts, ["images", "-q"]).lines().count(), 2);
    for what in ["container", "network"] {
        let pruned = docker(&hosts, [what, "prune", "-f", "--filter", "until=0s"]);
        assert!(pruned.contains("Deleted"), "{pruned}");
    }
    assert!(docker(&hosts, ["image", "prune", "-af", "--filter", "until=0s"]).contains("busybox:other"));
}

/// A host's answers, with ids named in the order in which they appear.
struct Transcript<'a> {
    hosts: &'a Hosts,
    host: &'a str,
    ids: Vec<String>,
    lines: Vec<String>,
}

impl Transcript<'_> {
    /// Runs a command; `{base}` and `{child}` stand for images, `{dir}` for a folder of the host.
    fn run(&mut self, line: &str) {
        let id = |name: &str| self.hosts.docker(self.host, ["image", "inspect", "--format", "{{.Id}}", name]);
        let mut command = line.replace("{dir}", &self.hosts.host(self.host).dir.display().to_string());
        for (word, name) in [("{base}", "busybox"), ("{child}", "child:1")] {
            if command.contains(word) {
                command = command.replace(word, &id(name).unwrap());
            }
        }
        let answer = match self.hosts.docker(self.host, command.as_str()) {
            Ok(text) => text,
            Err(failed) => failed.stderr,
        };
        let mut answer: Vec<String> = self.named(&answer).lines().map(str::to_owned).collect();
        if line.starts_with("images") {
            // Of those of one second any may come first.
            answer.sort_unstable();
        }
        let answer = answer.join("\n");
        self.lines.push(format!("$ {line}\n{answer}"));
    }

    fn named(&mut self, text: &str) -> String {
        let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let mut named = String::new();
        for word in words {
            let id = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if !matches!(id.len(), 12 | 64) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
                named.push_str(word);
                continue;
            }
            let known = self.ids.iter().position(|known| known.starts_with(id) || id.starts_with(known));
            let number = known.unwrap_or_else(|| {
                self.ids.push(id.to_owned());
                self.ids.len() - 1
            });
            named.push_str(&format!("ID{number}{}", &word[id.len()..]));
        }
        named
    }
}

/// Command by command beside a real `dockerd`.
#[test]
fn images_go_and_stay_by_dockers_rules() {
    let hosts = Hosts::up_with(LabSpec::bridged("rmi", 2), |host| match host {
        "h1" => DaemonSpec::weft(&weft_exe()),
        _ => DaemonSpec::docker(),
    });
    let list = "images -a --no-trunc --format {{.Repository}}:{{.Tag}}={{.ID}}";
    let lines = [
        "save -o {dir}/base.tar busybox",
        "run --name c1 busybox touch /x",
        "commit c1 child:1",
        "rm c1",
        "history -q --no-trunc child:1",
        "image inspect --format {{.Parent}} child:1",
        // An image below another one.
        "rmi {base}",
        "rmi -f {base}",
        "tag child:1 child:2",
        "rmi {child}",
        "rmi child:2",
        // A stopped container's.
        "create --name c2 child:1 true",
        "rmi child:1",
        "rmi {child}",
        "rmi busybox",
        "images -q --no-trunc",
        list,
        "rmi -f child:1",
        "start c2",
        "wait c2",
        "rm c2",
        list,
        // Names in several repositories, and a running container.
        "load -q -i {dir}/base.tar",
        "tag busybox host.example/a/b:1",
        "rmi {base}",
        "rmi -f {base}",
        "load -q -i {dir}/base.tar",
        "run -d --name c3 busybox sleep 100000",
        "rmi {base}",
        "rmi -f {base}",
        "rmi busybox",
        "rmi -f busybox",
        list,
        "image prune -f",
        "rm -f c3",
        "image prune -f",
        list,
        "rmi nosuch",
        "rmi -f nosuch",
        "history nosuch",
        "tag nosuch x:1",
        "save nosuch",
    ];
    let [ours, theirs] = ["h1", "h2"].map(|host| {
        let mut transcript = Transcript { hosts: &hosts, host, ids: Vec::new(), lines: Vec::new() };
        lines.iter().for_each(|line| transcript.run(line));
        transcript.lines
    });
    assert_eq!(ours, theirs);
}
