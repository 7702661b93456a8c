//! What the daemon tells of itself.

use crate::{docker, up};

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
        "  Network: bridge host ipvlan macvlan null overlay",
    ] {
        assert!(info.lines().any(|l| l == line), "{line:?} is missing in:\n{info}");
    }
    docker(&hosts, ["system", "df"]);
    docker(&hosts, ["system", "prune", "-af"]);
}
