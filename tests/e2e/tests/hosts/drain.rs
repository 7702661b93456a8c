//! Row C6: tasks leave every balancer before they are told to stop, and count as running only once every balancer
//! knows them; a node that does not answer holds them up for a limited time, and is named.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weft_e2e::updates::{by_virtual_ip, hosts, published, running, serve, update, update_under_load};
use weft_lab::eventually;

/// Time for all containers of a service to end.
const GONE: Duration = Duration::from_secs(40);
/// Fifty are the soak's.
const UPDATES: usize = 2;

fn updates_lose_nothing(name: &str, flags: &str, replicas: usize) {
    let hosts = hosts(name);
    // The usual limit is for nodes that are silent: one that is slow because the machine does much else is waited for.
    let patient = "--label weft.drain.timeout=20s";
    serve(&hosts, &format!("--replicas {replicas} --publish 8080:80 {patient} {flags}"));
    running(&hosts, replicas);
    let servers = [by_virtual_ip(&hosts), published(&hosts, "h2")];
    let updated = update_under_load(&hosts, &servers, replicas, UPDATES);
    assert!(updated.failures.is_empty(), "{updated:#?}");
}

#[test]
fn c6_rolling_updates_lose_no_request_stop_first() {
    updates_lose_nothing("drstop", "--update-order stop-first", 2);
}

#[test]
fn c6_rolling_updates_lose_no_request_start_first() {
    updates_lose_nothing("drfrst", "--update-order start-first", 1);
}

#[test]
fn c6_a_node_that_does_not_answer_holds_updates_up_for_a_limited_time_and_is_named() {
    let hosts = hosts("drmiss");
    let flags = "--replicas 1 --update-order start-first --constraint node.hostname!=h3 --label weft.drain.timeout=2s";
    serve(&hosts, flags);
    running(&hosts, 1);
    let usual = update(&hosts, 1);
    let stopped = hosts.daemon("h3").pid().to_string();
    hosts.host("h1").run("kill", ["-STOP", &stopped]).unwrap();
    let held_up = update(&hosts, 1);
    // The new task settles for as long as the service allows, and the update goes on without the node.
    assert!(held_up >= Duration::from_secs(2), "{held_up:?}");
    assert!(held_up <= usual + Duration::from_secs(4), "{held_up:?}");
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes}}";
    let args = ["events", "--since", "10m", "--until", "0s", "--filter", "scope=swarm", "--format", format];
    // The old task drains behind it, within the same limit.
    eventually("events that name the node", Duration::from_secs(5), || {
        let told = hosts.docker("h1", args).map_err(|e| e.to_string())?;
        for kind in ["node unacknowledged map[name:h3 ", "service unacknowledged map[name:web "] {
            for turn in ["turn:settle", "turn:drain"] {
                let names = |line: &str| line.starts_with(kind) && line.contains("node.name:h3 ");
                if !told.lines().any(|line| names(line) && line.contains(turn)) {
                    return Err(format!("{kind} {turn} in\n{told}"));
                }
            }
        }
        Ok(())
    });
    hosts.host("h1").run("kill", ["-CONT", &stopped]).unwrap();
    hosts.wait_ready(3);
    // It is back, and holds nobody up.
    // The client's own `--until 0s` is the begin of this second, and an update may take less than one.
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64().to_string();
    let since = now();
    update(&hosts, 1);
    let until = now();
    let args =
        ["events", "--since", &since, "--until", &until, "--filter", "scope=swarm", "--format", format];
    let told = hosts.docker("h1", args).unwrap();
    assert!(told.contains("service update"), "{told}");
    assert!(!told.contains("unacknowledged"), "{told}");
}

#[test]
fn c6_a_service_is_removed_as_fast_as_its_tasks_stop() {
    let hosts = hosts("drgone");
    serve(&hosts, "--replicas 9");
    running(&hosts, 9);
    let start = Instant::now();
    hosts.docker("h1", "service rm web").unwrap();
    eventually("all containers are gone", GONE, || {
        let left: Vec<String> = ["h1", "h2", "h3"]
            .iter()
            .map(|host| hosts.docker(host, "ps -q --filter label=com.docker.swarm.service.name=web").unwrap())
            .collect();
        if left.concat().is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // One after the other would take longer than Docker's wait for gossip, nine times; all at once it is a second on a
    // machine with nothing else to do.
    assert!(start.elapsed() < Duration::from_secs(18), "{:?}", start.elapsed());
}
