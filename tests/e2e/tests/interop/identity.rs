//! Certificates, tokens and keys over time.

use weft_e2e::refusal;
use weft_lab::eventually;

use crate::cell::{Cell, SOON, cells, converged, idle, node, node_is};

/// Tokens are rotated, the root is replaced, and workers follow without a break.
fn identities_are_renewed(cell: Cell) {
    let hosts = cell.swarm("id", 3);
    let manager = format!("{}:2377", hosts.host("h1").ipv4);
    let before = hosts.docker("h1", "swarm join-token -q worker").unwrap();
    let now = hosts.docker("h1", "swarm join-token -q --rotate worker").unwrap();
    assert_ne!(before, now);
    hosts.docker("h3", "swarm leave").unwrap();
    node_is(&hosts, "h3", "down active");
    hosts.docker("h1", "node rm h3").unwrap();
    let refused = refusal(hosts.docker("h3", format!("swarm join --token {before} {manager}")));
    assert!(refused.contains("A valid join token is necessary to join this cluster"), "{refused}");
    let _ = hosts.docker("h3", "swarm leave --force");
    hosts.docker("h3", format!("swarm join --token {now} {manager}")).unwrap();
    hosts.wait_ready(3);

    let root = |host: &str| node(&hosts, host, "{{.Description.TLSInfo.TrustRoot}}");
    let old = root("h2");
    hosts.docker("h1", "swarm ca --rotate --detach --quiet").unwrap();
    eventually("all nodes trust the new root alone", SOON, || {
        let new = hosts.docker("h1", "swarm ca").map_err(|e| e.to_string())?;
        let all: Vec<bool> = ["h1", "h2", "h3"].iter().map(|host| root(host).trim() == new.trim()).collect();
        let done = new.trim() != old.trim() && all.iter().all(|same| *same);
        if done { Ok(()) } else { Err(format!("{all:?}")) }
    });
    hosts.wait_ready(3);
    idle(&hosts, "s", "--mode global");
    converged(&hosts, "s", "3/3");
}
cells!(identities_are_renewed);
