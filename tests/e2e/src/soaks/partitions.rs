//! Partitions: hosts are cut off from each other for a while, the swarm changes meanwhile, and then all are alike.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use weft_lab::{LabSpec, eventually};

use super::kernel::{View, Wish, read};
use crate::Hosts;
use crate::dice::Dice;
use crate::dns::Inside;
use crate::pause::pause;
use crate::slices::{Game, Played, Text};

/// Partitions are mostly waiting.
const LABS: u64 = 4;
const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
const NETWORK: &str = "web";
/// Shortest and longest partition.
const SHORTEST_MS: u64 = 10_000;
const LONGEST_MS: u64 = 30_000;
/// Fewest tasks of the service, and how many more there may be.
const TASKS: u64 = 3;
const MORE_TASKS: u64 = 5;
/// Time in which the swarm is in order again after a partition: nodes are ready and tasks run, which on a machine with
/// several labs takes as long as it takes to start them.
const IN_ORDER: Duration = Duration::from_secs(120);
/// From then on until every node has what the managers say.
const ALIKE: Duration = Duration::from_secs(5);
/// What takes longer is told.
const LATE: Duration = Duration::from_secs(8);

/// Who is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// A worker from all others.
    Worker,
    /// Two workers from each other; both hear the manager.
    Between,
    /// The manager from all others.
    Manager,
}

/// Partitions of 10 to 30 seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Partitions;

/// A swarm with a service and containers.
#[derive(Debug)]
pub struct Parted {
    hosts: Hosts,
    network_id: String,
    /// A container on each host, with its process.
    inside: Vec<(Inside, i32)>,
    /// Host and name of containers that come and go.
    guests: Vec<(&'static str, String)>,
    /// Names that nobody has any more.
    gone: BTreeSet<String>,
}

impl Partitions {
    fn cut(round: u64) -> Cut {
        match round / LABS % 4 {
            1 => Cut::Between,
            3 => Cut::Manager,
            _ => Cut::Worker,
        }
    }
}

impl Game for Partitions {
    type Arena = Parted;

    fn labs(&self) -> u64 {
        LABS
    }

    fn up(&self, lab: u64) -> Parted {
        Parted::up(&format!("part{lab}"))
    }

    fn hosts<'a>(&self, arena: &'a Parted) -> &'a Hosts {
        &arena.hosts
    }

    fn kind(&self, round: u64) -> String {
        let kind = match Self::cut(round) {
            Cut::Worker => "a worker cut off",
            Cut::Between => "two workers cut from each other",
            Cut::Manager => "the manager cut off",
        };
        kind.to_owned()
    }

    fn play(&self, arena: &mut Parted, round: u64, seed: u64) -> Played {
        let mut dice = Dice::new(seed);
        let length = Duration::from_millis(SHORTEST_MS + dice.below(LONGEST_MS - SHORTEST_MS));
        arena.part(Self::cut(round), length, round, &mut dice);
        let healed = Instant::now();
        let counts = arena.alike();
        Played { settled: healed.elapsed(), counts }
    }

    fn text(&self) -> Text {
        Text {
            title: "Partitions",
            hosts: "a manager and two workers, four times beside each other",
            counts: "entries compared, of them names",
            settled: "all nodes alike after it",
            rules: "Each round: for 10 to 30 seconds a worker, or the manager, is cut off from all others, or two workers \
                    from each other. Meanwhile the service is scaled, a container is started and another one ends, on \
                    the cut side, too. After the end of the cut these must be equal on every node: the forwarding \
                    entries of the VXLAN device and the neighbours of the bridge (read with `bridge fdb`, `ip neigh`), \
                    the backends of the virtual IP in a container's namespace and of the published port on the host \
                    (`nft list map`), and what the resolver of a container says about every service, `tasks.` name and \
                    container, the names of containers that are gone among them. They are compared with what the manager \
                    answers about nodes, services and tasks, for plain containers with their hosts' own answers. All \
                    must be equal within 5 s from when the manager says that nodes are ready and tasks run; the table \
                    has what it took from the end of the cut, restarts of tasks included.",
            name: "partitions",
        }
    }
}

impl Parted {
    fn up(name: &str) -> Self {
        let hosts = Hosts::up(LabSpec::bridged(name, HOSTS.len()));
        hosts.swarm();
        hosts.docker("h1", format!("network create -d overlay --attachable {NETWORK}")).expect("network");
        let network_id = hosts.docker("h1", format!("network inspect --format {{{{.Id}}}} {NETWORK}"));
        let network_id = network_id.expect("network").trim().to_owned();
        let service = format!(
            "service create -d --name s --network {NETWORK} --replicas {TASKS} --publish 8080:80 \
             --stop-grace-period 1s --restart-delay 100ms busybox sleep 100000"
        );
        hosts.docker("h1", service).expect("service");
        let inside = HOSTS.map(|host| {
            let name = format!("own-{host}");
            hosts.run_idle(host, &name, &format!("--network {NETWORK}")).expect("container");
            let pid = hosts.inspect(host, &name, "{{.State.Pid}}").expect("container");
            (Inside::of(&hosts, host, &name).expect("container"), pid.trim().parse().expect("a pid"))
        });
        let parted =
            Self { hosts, network_id, inside: inside.into(), guests: Vec::new(), gone: BTreeSet::new() };
        parted.alike();
        parted
    }

    /// Cuts, changes the swarm, waits, heals.
    fn part(&mut self, cut: Cut, length: Duration, round: u64, dice: &mut Dice) {
        let began = Instant::now();
        let worker = ["h2", "h3"][dice.below(2) as usize];
        let lab = self.hosts.lab();
        let alone = match cut {
            Cut::Worker => worker,
            Cut::Between => "h2",
            Cut::Manager => "h1",
        };
        for other in HOSTS.into_iter().filter(|other| *other != alone) {
            if cut != Cut::Between || other == "h3" {
                lab.cut(alone, other).expect("cut");
            }
        }
        let replicas = TASKS + dice.below(MORE_TASKS);
        self.hosts.docker("h1", format!("service scale -d s={replicas}")).expect("scale");
        // A new one needs the manager's word for its address.
        let hearing: Vec<&'static str> = HOSTS
            .into_iter()
            .filter(|host| match cut {
                Cut::Worker => *host != alone,
                Cut::Between => true,
                Cut::Manager => *host == "h1",
            })
            .collect();
        let host = *dice.pick(&hearing).expect("the manager hears itself");
        let name = format!("guest-{round}");
        pause(Duration::from_millis(dice.below(3000)));
        self.hosts.run_idle(host, &name, &format!("--network {NETWORK}")).expect("container");
        self.guests.push((host, name));
        // One goes wherever it is, on a host that nobody hears, too.
        if self.guests.len() > 2 {
            let (host, name) = self.guests.remove(dice.below(2) as usize);
            self.hosts.docker(host, format!("rm -f {name}")).expect("rm");
            self.gone.insert(name);
        }
        pause(length.saturating_sub(began.elapsed()));
        self.hosts.lab().heal().expect("heal");
    }

    /// Waits until every node has what the manager says. Returns how many entries are the same, and how many of them are
    /// names.
    fn alike(&self) -> (u64, u64) {
        let (began, mut late, mut in_order) = (Instant::now(), String::new(), None);
        let sizes = eventually("all nodes are alike", IN_ORDER + ALIKE, || {
            let compared = Wish::ask(&self.hosts, NETWORK, &self.gone)
                .inspect_err(|_| in_order = None)
                .and_then(|wish| {
                    let since: Instant = *in_order.get_or_insert_with(Instant::now);
                    let compared = self.compare(&wish);
                    assert!(since.elapsed() <= ALIKE || compared.is_ok(), "not alike in time: {compared:?}");
                    compared
                });
            compared.inspect_err(|reason| {
                if began.elapsed() > LATE {
                    late.clone_from(reason);
                }
            })
        });
        if !late.is_empty() {
            tell(&format!("after {:.1} s; what was missing last: {late}", began.elapsed().as_secs_f64()));
        }
        sizes
    }

    fn compare(&self, wish: &Wish) -> Result<(u64, u64), String> {
        let mut sizes = (0, 0);
        for (host, (inside, pid)) in HOSTS.into_iter().zip(&self.inside) {
            let want: View = wish.of(host);
            let names = want.names.keys().cloned();
            let have = read(&self.hosts, host, &self.network_id, (inside, *pid), names)?;
            if let Some(difference) = have.difference(&want) {
                return Err(format!("{host}: {difference}"));
            }
            let size = have.size();
            sizes = (sizes.0 + size.0, sizes.1 + size.1);
        }
        Ok(sizes)
    }
}

#[allow(clippy::print_stderr, reason = "who plays a soak learns what took long")]
fn tell(text: &str) {
    eprintln!("{text}");
}
