//! What virtual IPs do for users, whatever carries flows to tasks: rows C3, D2 and B4 with services.

#![allow(clippy::unwrap_used, reason = "every step panics when services do not do what they shall")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use weft_lab::{eventually, patient};

use crate::Hosts;

/// Time for a service to answer everywhere: images are there already. Multiplied in the virtual machine.
const CONVERGED: Duration = Duration::from_secs(30);
/// A refusal that takes longer is no refusal at once.
const AT_ONCE: Duration = Duration::from_secs(2);
/// UDP flows leave a task that is gone within this time.
const MOVED: Duration = Duration::from_secs(1);

/// A swarm whose services are reached by virtual IP, and the program that both ends are made of.
pub struct Balanced<'a> {
    hosts: &'a Hosts,
    program: &'a Path,
}

impl<'a> Balanced<'a> {
    /// `program` is `peer-echo`.
    pub fn new(hosts: &'a Hosts, program: &'a Path) -> Self {
        Self { hosts, program }
    }

    /// Everything that users expect, in turn.
    ///
    /// # Panics
    /// When something is not as it shall be.
    pub fn check(&self, engine: &str) {
        let info = self.hosts.docker("h1", ["info", "--format", "{{.Labels}}"]).unwrap();
        assert!(info.contains(&format!("weft.service-balancer={engine}")), "{info}");
        self.hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
        self.serve("api", "web", "--replicas 3");
        self.serve("other", "web", "--replicas 1");
        self.client("cli", "web");
        let (api, other) = (self.virtual_ips("api"), self.virtual_ips("other"));
        self.spreads(&api);
        self.stays_and_moves(&api[0], &other[0]);
        self.refuses(&other);
    }

    /// B4: a container on two networks reaches the services of both, one on a single network only that one's.
    ///
    /// # Panics
    /// When something is not as it shall be.
    pub fn check_networks(&self) {
        for name in ["one", "two"] {
            self.hosts.docker("h1", format!("network create -d overlay --attachable {name}")).unwrap();
            self.serve(&format!("on-{name}"), name, "--replicas 2");
        }
        self.client("first", "one");
        self.client("both", "one");
        self.hosts.docker("h1", "network connect two both").unwrap();
        let vips = ["on-one", "on-two"].map(|service| self.virtual_ips(service).remove(0));
        for vip in &vips {
            self.answers("both", vip, 2);
        }
        self.answers("first", &vips[0], 2);
        let foreign = self.exec("first", &format!("/peer-echo ask tcp {}:80", vips[1]));
        assert!(foreign.is_err(), "{foreign:?}");
    }

    /// C3 on a network of both families: an address of each, which names give and which lead to all tasks.
    ///
    /// # Panics
    /// When something is not as it shall be.
    pub fn check_families(&self) {
        let create =
            "network create -d overlay --attachable --ipv6 --subnet 10.60.0.0/24 --subnet fd60::/64 six";
        self.hosts.docker("h1", create).unwrap();
        self.serve("api", "six", "--replicas 3");
        self.client("cli", "six");
        let vips = self.virtual_ips("api");
        assert!(
            vips.len() == 2 && vips[0].starts_with("10.60.0.") && vips[1].starts_with("fd60::"),
            "{vips:?}"
        );
        let network = |field: &str| format!("{{{{.NetworkSettings.Networks.six.{field}}}}}");
        for (vip, field) in vips.iter().zip(["IPAddress", "GlobalIPv6Address"]) {
            let own = self.hosts.inspect("h1", "cli", &network(field)).unwrap();
            assert_eq!(self.answers("cli", vip, 3), BTreeSet::from([own.trim().to_owned()]));
            let server = server(vip);
            let answer = self.exec("cli", &format!("/peer-echo ask udp {server}")).unwrap();
            assert!(answer.starts_with(own.trim()), "{answer}");
            // By name it is this family's, and the other way round.
            let ping = if vip.contains(':') { "ping -6" } else { "ping -4" };
            let ping = self.exec("cli", &format!("{ping} -c 1 -W 5 api")).unwrap();
            assert!(ping.contains(vip), "{ping}");
            let name = self.exec("cli", &format!("nslookup {vip}")).unwrap();
            assert!(name.contains("api.six"), "{name}");
        }
        self.hosts.docker("h1", "service scale -d api=0").unwrap();
        vips.iter().for_each(|vip| self.refused("cli", &server(vip)));
    }

    fn mount(&self) -> String {
        let program = self.program.display();
        let mount = |from: &str, to: &str| format!("--mount type=bind,src={from},dst={to},ro");
        [mount(&program.to_string(), "/peer-echo"), mount("/lib", "/lib"), mount("/lib64", "/lib64")]
            .join(" ")
    }

    /// A service of `peer-echo` at port 80.
    ///
    /// # Panics
    /// When it is refused.
    pub fn serve(&self, name: &str, network: &str, flags: &str) {
        let line = format!(
            "service create -d --name {name} --network {network} --stop-grace-period 1s {flags} {} busybox /peer-echo serve 80",
            self.mount()
        );
        self.hosts.docker("h1", line).unwrap();
    }

    /// A container on `h1` that has `peer-echo`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn client(&self, name: &str, network: &str) {
        let options = format!("--network {network} {}", self.mount());
        self.hosts.run_idle("h1", name, &options).unwrap();
    }

    fn exec(&self, container: &str, line: &str) -> Result<String, String> {
        self.hosts.exec("h1", container, line).map_err(|error| error.to_string())
    }

    /// A service's virtual IPs, IPv4 first.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn virtual_ips(&self, service: &str) -> Vec<String> {
        let format = "{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}";
        let all = self.hosts.docker("h1", ["service", "inspect", "--format", format, service]).unwrap();
        let mut all: Vec<String> = all
            .split_whitespace()
            .filter_map(|address| Some(address.split('/').next()?.to_owned()))
            .collect();
        all.sort_by_key(|address| address.contains(':'));
        all
    }

    /// As whom a container of `h1` is seen by so many tasks, asked many times.
    ///
    /// # Panics
    /// When others answer.
    pub fn answers(&self, container: &str, vip: &str, tasks: usize) -> BTreeSet<String> {
        let server = server(vip);
        let mut seen = BTreeSet::new();
        eventually(&format!("{tasks} tasks answer {container} at {vip}"), CONVERGED, || {
            let asks = format!("for n in $(seq 40); do /peer-echo ask tcp {server} || exit 1; done");
            let answers = self.exec(container, &asks)?;
            let (peers, names): (BTreeSet<_>, BTreeSet<_>) =
                answers.lines().filter_map(|line| line.split_once(' ')).unzip();
            seen = peers.iter().map(|peer| (*peer).to_owned()).collect();
            if names.len() == tasks { Ok(()) } else { Err(format!("{names:?}")) }
        });
        seen
    }

    fn spreads(&self, vips: &[String]) {
        let own = self.hosts.address("h1", "cli", "web").unwrap();
        for vip in vips {
            let peers = self.answers("cli", vip, 3);
            assert!(peers.len() == 1 && peers.contains(&own), "{peers:?}, {own}");
            self.exec("cli", &format!("ping -c 1 -W 5 {vip}")).unwrap();
        }
        // From a task to its own service, itself among those that answer.
        let task = self.hosts.docker("h1", "ps -q --filter label=com.docker.swarm.service.name=api").unwrap();
        let task = task.lines().next().expect("a task of three on h1").to_owned();
        self.answers(&task, &vips[0], 3);
        let name = self.exec(&task, "hostname").unwrap();
        let asked = format!("for n in $(seq 40); do /peer-echo ask tcp {}:80; done", vips[0]);
        assert!(self.exec(&task, &asked).unwrap().contains(name.trim()), "a task does not reach itself");
        // Nobody listens there.
        self.refused("cli", &format!("{}:81", vips[0]));
    }

    /// Connections to one service while another is scaled, and datagrams to it while its tasks are replaced.
    fn stays_and_moves(&self, api: &str, other: &str) {
        for (name, vip) in [("api", api), ("other", other)] {
            let hold = format!(
                "mkfifo /{name}; exec 3<>/{name}; /peer-echo hold {vip}:80 </{name} >/{name}.out 2>&1"
            );
            self.hosts.docker("h1", ["exec", "-d", "cli", "sh", "-c", &hold]).unwrap();
        }
        self.echoes("api", "begin");
        self.echoes("other", "begin");
        self.hosts.docker("h1", "service scale -d api=6").unwrap();
        self.answers("cli", api, 6);
        self.echoes("api", "more");
        self.echoes("other", "more");
        self.hosts.docker("h1", "service scale -d api=2").unwrap();
        self.answers("cli", api, 2);
        self.echoes("other", "fewer");

        let flow = format!("/peer-echo flow {api}:80 40 >/flow.out 2>&1");
        self.hosts.docker("h1", ["exec", "-d", "cli", "sh", "-c", &flow]).unwrap();
        self.hosts.docker("h1", "service update -d --force --update-delay 1s api").unwrap();
        eventually("the flow ends", 3 * CONVERGED, || {
            let out = self.exec("cli", "cat /flow.out")?;
            if out.trim().is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
        });
        let out = self.exec("cli", "cat /flow.out").unwrap();
        let numbers: Vec<u64> = out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let moved = patient(MOVED).as_millis() as u64;
        assert!(matches!(numbers.as_slice(), [gap, servers] if *gap <= moved && *servers >= 2), "{out}");
        self.echoes("other", "end");
    }

    fn echoes(&self, name: &str, word: &str) {
        self.exec("cli", &format!("echo {word} >/{name}")).unwrap();
        eventually(&format!("{name} echoes {word}"), CONVERGED, || {
            let out = self.exec("cli", &format!("cat /{name}.out"))?;
            if out.lines().any(|line| line == word) { Ok(()) } else { Err(out) }
        });
    }

    fn refuses(&self, vips: &[String]) {
        self.hosts.docker("h1", "service scale -d other=0").unwrap();
        for vip in vips {
            self.refused("cli", &server(vip));
        }
        self.hosts.docker("h1", "service scale -d other=1").unwrap();
        self.answers("cli", &vips[0], 1);
    }

    fn refused(&self, from: &str, server: &str) {
        eventually(&format!("{server} refuses {from} at once"), CONVERGED, || {
            let begin = Instant::now();
            match self.exec(from, &format!("/peer-echo ask tcp {server}")) {
                Err(error) if error.contains("refused") && begin.elapsed() < AT_ONCE => Ok(()),
                other => Err(format!("{other:?} after {:?}", begin.elapsed())),
            }
        });
    }
}

/// The tasks' port at an address.
fn server(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:80") } else { format!("{ip}:80") }
}
