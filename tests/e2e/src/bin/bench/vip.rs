//! Virtual IPs beside direct access, across two hosts.
//!
//! Directly means: a container that is no task of a service, because flows to tasks are tracked just as those to virtual
//! IPs are. Docker's virtual IPs need IPVS, which this kernel may lack, so there is nothing of Docker's to compare with.

use weft_e2e::{Hosts, updates};
use weft_lab::{LabSpec, eventually};

use crate::traffic::{Kind, Path, in_turn, of};
use crate::{DEADLINE, report, requests};

/// Real tasks behind the virtual IP.
const BACKENDS: usize = 3;
/// Services in the client's maps beside the one that is asked: no task is behind them.
const OTHERS: usize = 999;

pub(crate) fn measure() {
    let hosts = Hosts::up(LabSpec::bridged("bvip", 2));
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable --subnet 10.80.0.0/16 web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    let create = format!(
        "service create -d -q --name web --network web --replicas {BACKENDS} --constraint node.hostname==h2 \
         --no-resolve-image --stop-grace-period 1s busybox sleep 100000"
    );
    hosts.docker("h1", create).unwrap();
    let pid = |host: &str, container: &str| hosts.inspect(host, container, "{{.State.Pid}}").unwrap();
    let (client, plain) = (pid("h1", "ann"), pid("h2", "bob"));
    let tasks: Vec<String> = tasks(&hosts).iter().map(|task| pid("h2", task)).collect();
    let direct = Path::between(&client, &plain, &hosts.address("h2", "bob", "web").unwrap());
    let port = direct.port();
    let by_vip = Path::balanced(&client, &tasks, port, (&updates::virtual_ip(&hosts), port));
    programmed(&hosts, 1);
    compare("1 service", &direct, &by_vip);
    (0..OTHERS).for_each(|number| requests::create_service(&hosts, &format!("other{number}"), "web"));
    programmed(&hosts, OTHERS + 1);
    compare("1,000 services", &direct, &by_vip);
}

/// The running tasks' containers.
fn tasks(hosts: &Hosts) -> Vec<String> {
    let mut tasks = Vec::new();
    eventually("the tasks run", DEADLINE, || {
        let list = hosts.docker("h2", "ps -q --filter label=com.docker.swarm.service.name=web");
        let list = list.map_err(|error| error.to_string())?;
        tasks = list.lines().map(str::to_owned).collect();
        if tasks.len() == BACKENDS { Ok(()) } else { Err(list) }
    });
    tasks
}

/// Waits until the client's namespace has so many services, and the one with tasks all of them.
fn programmed(hosts: &Hosts, services: usize) {
    let pid = hosts.inspect("h1", "ann", "{{.State.Pid}}").unwrap();
    let count = |kind: &str, name: &str| {
        let list = format!("nsenter -t {} -n nft -j list {kind} ip weft-balance {name}", pid.trim());
        let list = hosts.host("h1").sh(&list).map_err(|error| error.to_string())?;
        Ok::<usize, String>(list.matches("10.80.").count())
    };
    eventually("the services are programmed", DEADLINE, || {
        // A slot names the virtual IP and the task.
        let found = (count("set", "vips")?, count("map", "slots")? / 2);
        if found == (services, BACKENDS) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Bursts both ways in turn.
fn compare(among: &str, direct: &Path, by_vip: &Path) {
    for (what, kind) in
        [("connections per second (goal >= 0.85)", Kind::Connect), ("TCP, Gb/s (goal >= 0.9)", Kind::Stream)]
    {
        let samples = in_turn([direct, by_vip], kind);
        let both = |part| samples.each_ref().map(|all| of(all, part));
        report(&format!("VIP, {BACKENDS} tasks, {among}: {what}"), both(|sample| sample.value));
        report("  CPU of both ends", both(|sample| sample.cpu));
    }
}
