//! What is refused, with docker's words.

use weft_e2e::{Hosts, refusal};
use weft_lab::LabSpec;

#[test]
fn outside_a_swarm() {
    let hosts = Hosts::up(LabSpec::bridged("nosw", 1));
    for command in ["node ls", "network create -d overlay x", "swarm join-token worker"] {
        let text = refusal(hosts.docker("h1", command));
        assert!(
            text.contains("This node is not a swarm manager. Use \"docker swarm init\" or"),
            "{command}: {text}"
        );
    }
    let text = refusal(hosts.docker("h1", "swarm leave"));
    assert!(text.contains("This node is not part of a swarm"), "{text}");
    for (options, message) in [
        ("--advertise-addr nosuchif", "advertise address must be a non-zero IP address or network interface"),
        (
            "--advertise-addr 10.99.0.1 --data-path-addr 9.9.9.9x",
            "data path address must be a non-zero IP address",
        ),
        (
            "--advertise-addr 10.99.0.1 --data-path-port 80",
            "Datapath port number is not in valid range (1024-49151) : 80",
        ),
        ("--advertise-addr 10.99.0.1 --listen-addr 10.98.0.77:2377", "cannot assign requested address"),
        (
            "--advertise-addr 10.99.0.1 --default-addr-pool 10.97.0.0/24 --default-addr-pool-mask-length 20",
            "Subnet size is too small for pool: 20",
        ),
    ] {
        let text = refusal(hosts.docker("h1", format!("swarm init {options}")));
        assert!(text.contains(message), "{options}: {text}");
    }
    // None of them left anything behind.
    assert_eq!(hosts.docker("h1", ["info", "--format", "{{.Swarm.LocalNodeState}}"]).unwrap(), "inactive");
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1").unwrap();
}

#[test]
fn joining_with_what_does_not_open() {
    let hosts = Hosts::up(LabSpec::bridged("badtok", 2));
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1").unwrap();
    let token = hosts.docker("h1", "swarm join-token -q worker").unwrap();
    let (digest, secret) = token.trim_start_matches("SWMTKN-1-").split_once('-').unwrap();
    let other_secret = format!("{}{}", if secret.starts_with('0') { '1' } else { '0' }, &secret[1..]);
    for (bad, port, message) in [
        ("SWMTKN-bad".to_owned(), 2377, "invalid join token"),
        (
            format!("SWMTKN-1-{digest}-{other_secret}"),
            2377,
            "A valid join token is necessary to join this cluster",
        ),
        (format!("SWMTKN-1-{}-{secret}", "0".repeat(50)), 2377, "remote CA does not match fingerprint"),
        (token.clone(), 9, "dial tcp 10.99.0.1:9: connect: connection refused"),
    ] {
        let text = refusal(hosts.docker("h2", format!("swarm join --token {bad} 10.99.0.1:{port}")));
        assert!(text.contains(message), "{bad}: {text}");
        assert_eq!(
            hosts.docker("h2", ["info", "--format", "{{.Swarm.LocalNodeState}}"]).unwrap(),
            "inactive"
        );
    }
    hosts.docker("h1", "swarm join-token --rotate worker").unwrap();
    let text = refusal(hosts.docker("h2", format!("swarm join --token {token} 10.99.0.1:2377")));
    assert!(text.contains("A valid join token is necessary to join this cluster"), "rotated: {text}");
    hosts.join("h2", "h1").unwrap();
    hosts.wait_ready(2);

    for (host, command) in [
        ("h1", "swarm init --advertise-addr 10.99.0.1".to_owned()),
        ("h2", "swarm init --advertise-addr 10.99.0.2".to_owned()),
        ("h2", format!("swarm join --token {token} 10.99.0.1:2377")),
    ] {
        let text = refusal(hosts.docker(host, command));
        assert!(text.contains("This node is already part of a swarm."), "{host}: {text}");
    }
    for command in ["node ls", "network create -d overlay x", "swarm join-token worker"] {
        let text = refusal(hosts.docker("h2", command));
        assert!(
            text.contains("Worker nodes can't be used to view or modify cluster state"),
            "{command}: {text}"
        );
    }
}

#[test]
fn unknown_images_names_and_conflicts() {
    let hosts = Hosts::up(LabSpec::bridged("refuse", 1));
    hosts.swarm();
    let text = refusal(hosts.docker("h1", "run --rm --pull never nosuch true"));
    assert!(text.contains("No such image: nosuch:latest"), "{text}");
    hosts.run_idle("h1", "ann", "").unwrap();
    let text = refusal(hosts.run_idle("h1", "ann", ""));
    assert!(text.contains("Conflict. The container name \"/ann\" is already in use by container"), "{text}");
    let text = refusal(hosts.docker("h1", "network connect nosuch ann"));
    assert!(text.contains("network nosuch not found"), "{text}");
    let text = refusal(hosts.docker("h1", "network connect ingress nosuch"));
    assert!(text.contains("No such container: nosuch"), "{text}");
    let text = refusal(hosts.docker("h1", "node inspect nosuch"));
    assert!(text.contains("No such node: nosuch") || text.contains("node nosuch not found"), "{text}");
    let text = refusal(hosts.docker("h1", "network create -d overlay --ingress second"));
    assert!(text.contains("is already present"), "{text}");
    let text = refusal(hosts.docker("h1", "network create -d overlay --scope local x"));
    assert!(text.contains("cannot downgrade network scope for overlay networks"), "{text}");
}
