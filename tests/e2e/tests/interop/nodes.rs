//! What users see and do of a node.

use weft_e2e::{Hosts, refusal};
use weft_lab::eventually;

use crate::cell::{Cell, Engine, SOON, cells, converged, idle, node, node_is, running};

/// A node describes itself, is drained, paused, labelled, leaves, is removed, and joins again.
fn a_node_lives(cell: Cell) {
    let hosts = cell.swarm("no", 3);
    describes_itself(&hosts, cell);
    takes_availability(&hosts);

    hosts.docker("h1", "node update --label-add zone=b h3").unwrap();
    idle(&hosts, "labelled", "--constraint node.labels.zone==b");
    converged(&hosts, "labelled", "1/1");
    assert_eq!(running(&hosts, "labelled", "{{.Node}}"), ["h3"]);

    hosts.docker("h2", "swarm leave").unwrap();
    assert_eq!(hosts.docker("h2", ["info", "--format", "{{.Swarm.LocalNodeState}}"]).unwrap(), "inactive");
    node_is(&hosts, "h2", "down active");
    hosts.docker("h1", "node rm h2").unwrap();
    hosts.join("h2", "h1").unwrap();
    hosts.wait_ready(3);
    idle(&hosts, "again", "--constraint node.hostname==h2");
    converged(&hosts, "again", "1/1");
}
cells!(a_node_lives);

fn describes_itself(hosts: &Hosts, cell: Cell) {
    assert_eq!(node(hosts, "h2", "{{.Description.Hostname}} {{.Spec.Role}}"), "h2 worker");
    let version = node(hosts, "h2", "{{.Description.Engine.EngineVersion}}");
    assert_eq!(version.contains("weft"), cell.worker == Engine::Weft, "{version}");
    assert_eq!(
        node(hosts, "h2", "{{.Description.Platform.OS}} {{.Description.Platform.Architecture}}"),
        "linux x86_64"
    );
    let (here, told) = ("{{.NCPU}}", "{{.Description.Resources.NanoCPUs}}");
    let cpus: u64 = hosts.docker("h2", ["info", "--format", here]).unwrap().parse().unwrap();
    assert_eq!(node(hosts, "h2", told), (cpus * 1_000_000_000).to_string());
    let memory = hosts.docker("h2", ["info", "--format", "{{.MemTotal}}"]).unwrap();
    assert_eq!(node(hosts, "h2", "{{.Description.Resources.MemoryBytes}}"), memory);
    assert_eq!(node(hosts, "h2", "{{.Status.Addr}}"), hosts.host("h2").ipv4.to_string());
    let plugins = node(hosts, "h2", "{{range .Description.Engine.Plugins}}{{.Type}}/{{.Name}} {{end}}");
    for plugin in ["Network/overlay", "Network/bridge", "Volume/local"] {
        assert!(plugins.contains(plugin), "{plugin} of {plugins}");
    }
    assert!(!node(hosts, "h2", "{{.Description.TLSInfo.TrustRoot}}").is_empty());
}

fn takes_availability(hosts: &Hosts) {
    idle(hosts, "s", "--replicas 2 --restart-delay 0s --constraint node.role==worker");
    converged(hosts, "s", "2/2");
    assert_eq!(running(hosts, "s", "{{.Node}}"), ["h2", "h3"]);
    hosts.docker("h1", "node update --availability drain h2").unwrap();
    eventually("h2 is empty", SOON, || {
        let nodes = running(hosts, "s", "{{.Node}}");
        if nodes == ["h3", "h3"] { Ok(()) } else { Err(nodes.join(" ")) }
    });
    converged(hosts, "s", "2/2");
    hosts.docker("h1", "node update --availability pause h2").unwrap();
    hosts.docker("h1", "service scale -d s=3").unwrap();
    converged(hosts, "s", "3/3");
    assert_eq!(running(hosts, "s", "{{.Node}}"), ["h3", "h3", "h3"]);
    hosts.docker("h1", "node update --availability active h2").unwrap();
    hosts.docker("h1", "service scale -d s=4").unwrap();
    converged(hosts, "s", "4/4");
    assert_eq!(running(hosts, "s", "{{.Node}}"), ["h2", "h3", "h3", "h3"]);
    hosts.docker("h1", "service rm s").unwrap();
}

/// Managers of two engines are no quorum: whoever is asked for one says so, and the swarm goes on.
fn managers_are_of_one_engine(cell: Cell) {
    if cell.is_pure() {
        return;
    }
    let hosts = cell.hosts("mq", 2);
    hosts.docker("h1", format!("swarm init --advertise-addr {}", hosts.host("h1").ipv4)).unwrap();
    let token = hosts.docker("h1", "swarm join-token -q manager").unwrap();
    let refused =
        refusal(hosts.docker("h2", format!("swarm join --token {token} {}:2377", hosts.host("h1").ipv4)));
    if cell.manager == Engine::Weft {
        assert!(refused.to_lowercase().contains("manager"), "{refused}");
    }
    // It may still be what it can be.
    let _ = hosts.docker("h2", "swarm leave --force");
    hosts.join("h2", "h1").unwrap();
    eventually("h2 is ready as a worker", SOON, || {
        let list = hosts
            .docker("h1", ["node", "ls", "--format", "{{.Hostname}} {{.Status}} [{{.ManagerStatus}}]"])
            .map_err(|e| e.to_string())?;
        if list.lines().any(|line| line == "h2 Ready []") { Ok(()) } else { Err(list) }
    });
    if cell.manager == Engine::Weft {
        let refused = refusal(hosts.docker("h1", "node promote h2"));
        assert!(refused.contains("Docker"), "{refused}");
    }
    assert!(hosts.docker("h1", ["node", "ls", "-q"]).is_ok());
}
cells!(managers_are_of_one_engine);
