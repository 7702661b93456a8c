//! Images: here, and from registries.

use weft_e2e::{Registry, refusal};

use crate::{docker, shell, up};

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
