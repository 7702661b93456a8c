//! Virtual IPs beside direct access, across two hosts.
//!
//! Docker's virtual IPs need IPVS, which not every kernel has: its lane goes straight to a task of a service without one.
//! Weft's own direct lane goes to a container that is no task, because flows to tasks may be tracked just as those to
//! virtual IPs are. Beside a virtual IP of many tasks goes one straight to all of them in turn: a hundred namespaces
//! leave no cache warm, whoever chooses among them.

use weft_e2e::Hosts;
use weft_e2e::dns::Inside;
use weft_lab::eventually;

use super::lanes::{Lane, Reading, measure as race};
use super::{Arena, Effort};
use crate::burst::Kind;
use crate::path::{Path, Place};
use crate::requests;
use crate::row::Bound::AtLeast;
use crate::row::{Goal, Row};
use crate::services::{self, CONVERGED, Task};
use crate::side::{NETWORK, Side};

/// Real tasks behind the two virtual IPs.
const FEW: usize = 3;
const MANY: usize = 100;
/// Services beside them in the end: no task is behind these.
const OTHERS: usize = 998;

/// What one of Weft's engines has.
struct Ways<'a> {
    side: &'a Side,
    few: Path,
    /// Straight to each of the many in turn.
    in_turn: Path,
    many: Path,
}

pub(crate) fn measure(arena: &Arena, effort: Effort) -> Vec<Row> {
    let task = serve(&arena.docker.hosts, "direct", FEW, "dnsrr").swap_remove(0);
    let to_task = Path::between(arena.docker.place("h1", "ann"), Place::of(&task.pid), &task.address);
    let ways: Vec<Ways<'_>> = arena.wefts.iter().map(Ways::open).collect();
    let lanes = lanes(&to_task, &ways);
    let mut rows = race(&lanes, readings(""), effort.rounds);
    if effort.thorough {
        ways.iter().for_each(|ways| crowd(&ways.side.hosts));
        rows.extend(race(&lanes, readings(" among 1,000 services"), effort.rounds));
    }
    rows
}

impl<'a> Ways<'a> {
    fn open(side: &'a Side) -> Self {
        let client = || side.place("h1", "ann");
        let way = |name: &str, tasks: &[Task]| {
            let way = Path::to_all(client(), places(tasks), &[&virtual_ip(&side.hosts, name)]);
            eventually("all tasks answer", CONVERGED, || match way.spread(tasks.len() * 20) {
                Ok(spread) if spread == tasks.len() => Ok(()),
                Ok(spread) => Err(format!("{spread} of {} answer", tasks.len())),
                Err(error) => Err(error),
            });
            way
        };
        let few = way("vip-few", &serve(&side.hosts, "vip-few", FEW, "vip"));
        let tasks = serve(&side.hosts, "vip-many", MANY, "vip");
        let addresses: Vec<&str> = tasks.iter().map(|task| task.address.as_str()).collect();
        let in_turn = Path::to_all(client(), places(&tasks), &addresses);
        Self { side, few, in_turn, many: way("vip-many", &tasks) }
    }
}

fn places(tasks: &[Task]) -> Vec<Place> {
    tasks.iter().map(|task| Place::of(&task.pid)).collect()
}

fn lanes<'a>(to_task: &'a Path, ways: &'a [Ways<'a>]) -> Vec<Lane<'a>> {
    let mut lanes = vec![Lane::beside("Docker, straight to a task", to_task)];
    for ways in ways {
        let (name, first) = (ways.side.name, lanes.len());
        lanes.push(Lane::beside(format!("{name}: without VIP"), &ways.side.far));
        lanes.push(Lane::judged(format!("{name}: VIP of {FEW}"), &ways.few, Some(first)));
        lanes.push(Lane::beside(format!("{name}: {MANY} tasks in turn"), &ways.in_turn));
        lanes.push(Lane::judged(format!("{name}: VIP of {MANY}"), &ways.many, Some(first + 2)));
    }
    lanes
}

fn readings(among: &str) -> Vec<Reading> {
    let title = |what: &str| format!("virtual IP{among}: {what}");
    // RR's value is a time: a flow that has 0.97 of the rate takes 1 / 0.97 of the time.
    let slower = crate::row::Bound::AtMost(1.03);
    vec![
        Reading::of(Kind::Connect, title("connections"))
            .goals([Goal::beside_docker(AtLeast(1.35)), Goal::beside_limit(AtLeast(0.93))]),
        Reading::cpu_of(Kind::Connect, title("CPU of both ends of a connection")),
        Reading::of(Kind::Echo, title("TCP RR of an established flow, p50"))
            .goals([Goal::beside_limit(slower)]),
        Reading::of(Kind::Stream, title("TCP, 1 stream")).goals([Goal::beside_limit(AtLeast(0.97))]),
    ]
}

/// Creates a service on `h2`; its containers once all run.
fn serve(hosts: &Hosts, name: &str, replicas: usize, mode: &str) -> Vec<Task> {
    let create = format!(
        "service create -d -q --name {name} --network {NETWORK} --endpoint-mode {mode} --replicas {replicas} \
         --constraint node.hostname==h2 --no-resolve-image --stop-grace-period 1s busybox sleep 100000"
    );
    hosts.docker("h1", create).unwrap();
    services::tasks(hosts, "h2", name, replicas)
}

fn virtual_ip(hosts: &Hosts, service: &str) -> String {
    let format = "{{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}";
    let address = hosts.docker("h1", ["service", "inspect", "--format", format, service]).unwrap();
    address.trim().split('/').next().unwrap_or_default().to_owned()
}

/// Makes the client's node know a thousand services. Names follow the kernel: when the last one has an address, all are
/// programmed.
fn crowd(hosts: &Hosts) {
    (0..OTHERS).for_each(|number| requests::create_service(hosts, &format!("other{number}"), NETWORK));
    let inside = Inside::of(hosts, "h1", "ann").unwrap();
    let last = format!("other{}", OTHERS - 1);
    eventually("the services are known", CONVERGED, || match inside.addresses(&last) {
        Some(addresses) if !addresses.is_empty() => Ok(()),
        other => Err(format!("{last}: {other:?}")),
    });
}
