//! Registries: `docker push`, `docker login`, and what a real `dockerd` makes of a pushed image.

use weft_e2e::{Hosts, Registry, refusal, weft_exe};
use weft_lab::{DaemonSpec, LabSpec};

use crate::docker;

/// `h1` runs Weft and a registry, `h2` a real `dockerd`; both may use the registry without TLS.
fn up(name: &str) -> Hosts {
    Hosts::up_with(LabSpec::bridged(name, 2), |host| match host {
        "h1" => DaemonSpec::weft(&weft_exe()).arg("--insecure-registry").arg("0.0.0.0/0"),
        _ => DaemonSpec::docker().arg("--insecure-registry").arg("0.0.0.0/0"),
    })
}

#[test]
fn images_are_pushed_for_docker_to_pull_and_the_other_way_round() {
    let hosts = up("push");
    let registry = Registry::start(hosts.host("h1"), &format!("{}:5000", hosts.host("h1").ipv4), false);
    let name = registry.name("team/app:v1");
    docker(&hosts, ["run", "--name", "c1", "busybox", "sh", "-c", "echo pushed > /words"]);
    docker(&hosts, ["commit", "-c", "CMD [\"cat\", \"/words\"]", "c1", &name]);
    docker(&hosts, ["rm", "c1"]);

    let pushed = docker(&hosts, ["push", &name]);
    let first = format!("The push refers to repository [{}]", registry.name("team/app"));
    assert!(pushed.starts_with(&first) && pushed.matches(": Pushed").count() == 2, "{pushed}");
    let digest = pushed.split("v1: digest: ").nth(1).unwrap().split(' ').next().unwrap();
    let canonical = format!("{}@{digest}", registry.name("team/app"));
    let known = docker(&hosts, ["image", "inspect", "--format", "{{json .RepoDigests}}", &name]);
    assert!(known.contains(&canonical), "{known}");
    assert!(docker(&hosts, ["push", &name]).matches(": Layer already exists").count() == 2);

    // The same in a further repository, and under two tags.
    let copy = registry.name("copy");
    for tag in ["a", "b"] {
        docker(&hosts, ["tag", &name, &format!("{copy}:{tag}")]);
    }
    let pushed = docker(&hosts, ["push", "-a", &copy]);
    assert!(pushed.matches(": Mounted from team/app").count() == 2, "{pushed}");
    assert!(
        pushed.contains(&format!("a: digest: {digest}")) && pushed.contains(&format!("b: digest: {digest}"))
    );

    // Docker runs it, by tag and by the digest that Weft told, and gives it on without a byte being sent.
    let ran = hosts.docker("h2", ["run", "--rm", &name]).unwrap();
    assert!(ran.ends_with("pushed"), "{ran}");
    hosts.docker("h2", ["pull", &canonical]).unwrap();
    let other = registry.name("theirs:1");
    hosts.docker("h2", ["tag", &name, &other]).unwrap();
    let theirs = hosts.docker("h2", ["push", &other]).unwrap();
    assert!(theirs.contains(&format!("1: digest: {digest}")), "Docker calls it the same: {theirs}");
    docker(&hosts, ["rmi", "-f", &name, &format!("{copy}:a"), &format!("{copy}:b")]);
    let back = docker(&hosts, ["run", "--rm", &other]);
    assert!(back.ends_with("pushed"), "{back}");
}

#[test]
fn a_push_that_cannot_be_is_refused_in_dockers_words() {
    let hosts = up("nopush");
    let address = format!("{}:5000", hosts.host("h1").ipv4);
    let registry = Registry::start(hosts.host("h1"), &address, true);
    let name = registry.name("app:v1");
    hosts.docker("h2", ["tag", "busybox", &name]).unwrap();
    docker(&hosts, ["tag", "busybox", &name]);
    let nosuch = registry.name("nosuch");
    let other_tag = registry.name("app:v2");
    // Each word for word as the real daemon has it.
    for image in [nosuch.as_str(), &other_tag, &name] {
        let words = refusal(hosts.docker("h2", ["push", image]));
        assert_eq!(refusal(hosts.docker("h1", ["push", image])), words, "{image}");
    }

    let login =
        |host: &str, password: &str| hosts.docker(host, ["login", "-u", "ann", "-p", password, &address]);
    let refused = refusal(login("h1", "wrong"));
    assert!(refused.contains("failed with status: 401 Unauthorized"), "{refused}");
    assert_eq!(last_line(&refused), last_line(&refusal(login("h2", "wrong"))));
    assert!(login("h1", "secret").unwrap().contains("Login Succeeded"));
    docker(&hosts, ["push", &name]);
    docker(&hosts, ["rmi", &name]);
    docker(&hosts, ["pull", &name]);
    docker(&hosts, ["logout", &address]);
    let refused = refusal(hosts.docker("h1", ["push", &name]));
    assert!(refused.contains("no basic auth credentials"), "{refused}");
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}
