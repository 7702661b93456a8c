//! Entries of the kernel are deleted and poisoned under traffic; all of them are put back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weft_lab::eventually;

use super::kernel::overlay_netns;
use crate::Hosts;
use crate::dice::Dice;
use crate::load::Load;
use crate::slices::{Game, Played, Text};
use crate::updates::{CLIENTS, by_virtual_ip, hosts, published, running, serve};

const REPLICAS: usize = 3;
/// What was damaged is whole again within this time, by the issue.
const REPAIRED: Duration = Duration::from_secs(1);
/// Longest time that a client may be without an answer: a repair, a request that was lost, and one retransmission.
const SILENCE: Duration = Duration::from_secs(5);
/// A client's request that was lost does not keep it from the next.
const PATIENCE: Duration = Duration::from_secs(1);
/// A daemon's log has this word for every repair, with what and where.
const WORD: &str = "repaired";

/// Where something is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The namespace of an overlay network.
    Overlay,
    /// That of a container, a client's or a task's.
    Container,
    Host,
}

/// One kind of damage: what to look at, and what to do. `any` prints one of its input's lines, `$R` is a number.
struct Damage {
    name: &'static str,
    place: Place,
    look: &'static str,
    line: &'static str,
}

const fn damage(name: &'static str, place: Place, look: &'static str, line: &'static str) -> Damage {
    Damage { name, place, look, line }
}

const FDB: &str = "bridge fdb show dev vxlan0";
const BRIDGE: &str = "bridge fdb show br br0; bridge link";
const NEIGHBOURS: &str = "ip neigh show nud permanent";
const LINKS: &str = "ip -o link show up | cut -d ' ' -f 2-4; ip -o -4 addr; ip route; bridge link";
const BALANCE: &str = "nft -s list table ip weft-balance";
const NAMES: &str = "nft -s list table netdev weft-resolver";
const INGRESS: &str = "nft -s list table ip weft-ingress";
const GUARD: &str = "nft -s list chain inet weft-vxlan check; nft -s list set inet weft-vxlan members4; nft -s list \
                     table ip weft-bridge";
const MESH: &str = "ip rule; ip -4 route show table all; ip -4 neigh show nud permanent";

/// All kinds.
const DAMAGES: &[Damage] = &[
    damage(
        "forwarding entry deleted",
        Place::Overlay,
        FDB,
        "set -- $(bridge fdb show dev vxlan0 | grep ' dst ' | any); bridge fdb del $1 dev vxlan0 dst $3 self",
    ),
    damage(
        "forwarding entry poisoned",
        Place::Overlay,
        FDB,
        "set -- $(bridge fdb show dev vxlan0 | grep ' dst ' | any); \
         bridge fdb replace $1 dev vxlan0 dst 10.99.0.250 self permanent",
    ),
    damage(
        "foreign forwarding entry",
        Place::Overlay,
        FDB,
        "bridge fdb add 02:00:00:00:00:$((R % 90 + 10)) dev vxlan0 dst 10.99.0.250 self permanent",
    ),
    damage(
        "bridge entry deleted",
        Place::Overlay,
        BRIDGE,
        "set -- $(bridge fdb show br br0 | grep sticky | any); bridge fdb del $1 dev $3 master",
    ),
    damage(
        "neighbour deleted",
        Place::Overlay,
        NEIGHBOURS,
        "set -- $(ip neigh show nud permanent | any); ip neigh del $1 dev br0",
    ),
    damage(
        "neighbour poisoned",
        Place::Overlay,
        NEIGHBOURS,
        "set -- $(ip neigh show nud permanent | any); ip neigh replace $1 lladdr 02:00:00:00:00:66 dev br0 nud permanent",
    ),
    damage("VXLAN device down", Place::Overlay, LINKS, "ip link set vxlan0 down"),
    damage("bridge down", Place::Overlay, LINKS, "ip link set br0 down"),
    damage(
        "port out of the bridge",
        Place::Overlay,
        BRIDGE,
        "set -- $(bridge link | grep -v vxlan0 | any); dev=${2%%@*}; ip link set ${dev%:} nomaster",
    ),
    damage("bridge's address deleted", Place::Overlay, LINKS, "ip -4 addr flush dev br0"),
    damage("default route deleted", Place::Container, LINKS, "ip route del default"),
    // One without our mark is the user's, and stays.
    damage("default route poisoned", Place::Container, LINKS, "ip route replace blackhole default proto 119"),
    damage(
        "address deleted",
        Place::Container,
        LINKS,
        "set -- $(ip -o -4 addr | grep eth | any); ip addr del $4 dev $2",
    ),
    damage(
        "interface down",
        Place::Container,
        LINKS,
        "set -- $(ip -o -4 addr | grep eth | any); ip link set $2 down",
    ),
    damage("backends flushed", Place::Container, BALANCE, "nft flush map ip weft-balance slots"),
    damage(
        "foreign backend",
        Place::Container,
        BALANCE,
        "nft add element ip weft-balance backends '{ 10.0.1.250 }'",
    ),
    damage("services flushed", Place::Container, BALANCE, "nft flush set ip weft-balance vips"),
    damage("rules of a chain flushed", Place::Container, BALANCE, "nft flush chain ip weft-balance output"),
    damage("foreign rule", Place::Container, BALANCE, "nft insert rule ip weft-balance output drop"),
    damage("table deleted", Place::Container, BALANCE, "nft delete table ip weft-balance"),
    damage("resolver's rules deleted", Place::Container, NAMES, "nft delete table netdev weft-resolver"),
    damage("ruleset of a container flushed", Place::Container, BALANCE, "nft flush ruleset"),
    damage("ruleset of a host flushed", Place::Host, INGRESS, "nft flush ruleset"),
    damage("mesh's table deleted", Place::Host, INGRESS, "nft delete table ip weft-ingress"),
    damage("mesh's backends flushed", Place::Host, INGRESS, "nft flush map ip weft-ingress slots"),
    damage("mesh's ports flushed", Place::Host, INGRESS, "nft flush map ip weft-ingress ports"),
    damage(
        "member deleted from the guard",
        Place::Host,
        GUARD,
        "set -- $(nft list set inet weft-vxlan members4 | grep -o '10[.]99[.]0[.][0-9]*' | any); \
         nft delete element inet weft-vxlan members4 \"{ $1 }\"",
    ),
    damage("guard's rules flushed", Place::Host, GUARD, "nft flush chain inet weft-vxlan check"),
    damage("mesh's rule deleted", Place::Host, MESH, "ip rule del pref 100"),
    damage(
        "mesh's route deleted",
        Place::Host,
        MESH,
        "table=$(ip rule | grep ^100: | sed 's/.*lookup \\([0-9]*\\).*/\\1/'); \
         ip route del $(ip route show table $table | any) table $table",
    ),
    damage("mesh's device down", Place::Host, LINKS, "ip link set weft-ingress down"),
    damage("gateway's address deleted", Place::Host, LINKS, "ip -4 addr flush dev docker_gwbridge"),
    damage("gateway down", Place::Host, LINKS, "ip link set docker_gwbridge down"),
    damage(
        "port out of the gateway",
        Place::Host,
        LINKS,
        "set -- $(bridge link | grep docker_gwbridge | any); dev=${2%%@*}; ip link set ${dev%:} nomaster",
    ),
];

/// Damages in turn, in places that follow from the seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Damages;

/// A swarm whose service is asked without a pause.
#[derive(Debug)]
pub struct Damaged {
    hosts: Hosts,
    network_id: String,
    load: Load,
}

impl Damages {
    /// How many kinds there are.
    pub const KINDS: u64 = DAMAGES.len() as u64;

    fn damage(round: u64) -> &'static Damage {
        &DAMAGES[(round % Self::KINDS) as usize]
    }
}

impl Game for Damages {
    type Arena = Damaged;

    fn up(&self, _lab: u64) -> Damaged {
        let hosts = hosts("damage");
        serve(&hosts, &format!("--replicas {REPLICAS} --publish 8080:80"));
        running(&hosts, REPLICAS);
        let network_id = hosts.docker("h1", "network inspect --format {{.Id}} web").expect("network");
        let doors = CLIENTS.map(|(host, _)| published(&hosts, host));
        let servers: Vec<SocketAddr> = [&[by_virtual_ip(&hosts)][..], &doors].concat();
        let load = Load::begin_with(PATIENCE, &hosts, &CLIENTS, &servers);
        Damaged { hosts, network_id: network_id.trim().to_owned(), load }
    }

    fn hosts<'a>(&self, arena: &'a Damaged) -> &'a Hosts {
        &arena.hosts
    }

    fn kind(&self, round: u64) -> String {
        Self::damage(round).name.to_owned()
    }

    fn play(&self, arena: &mut Damaged, round: u64, seed: u64) -> Played {
        arena.play(Self::damage(round), &mut Dice::new(seed))
    }

    fn text(&self) -> Text {
        Text {
            title: "Damaged kernels under traffic",
            hosts: "a manager and two workers, three tasks, a client on each host",
            counts: "repairs counted by the audit, requests lost meanwhile",
            settled: "whole again",
            rules: "Each round damages one thing on one host, in the namespace of the overlay, of a container or of the \
                    host itself: it is deleted, or replaced by something wrong. What the usual tools show there (`ip`, \
                    `bridge`, `nft`) must be the same as before within a second; a daemon's log names every repair, and \
                    there must be at least one. A client on every host asks the service on its virtual IP and at the \
                    port of every host all the while. Requests may be lost until the repair, and no client may be \
                    without an answer for more than five seconds, given a second for each request.",
            name: "damage",
        }
    }
}

impl Damaged {
    fn play(&mut self, damage: &Damage, dice: &mut Dice) -> Played {
        let (host, client) = *dice.pick(&CLIENTS).expect("hosts");
        let enter = match damage.place {
            Place::Overlay => format!("nsenter --net={}", overlay_netns(&self.network_id)),
            Place::Container => self.container(host, client, dice),
            Place::Host => String::new(),
        };
        self.load.go_on();
        let (_, _) = (self.load.silence(), self.load.failures());
        let before = self.look(host, &enter, damage.look);
        let repairs = self.repairs(host);
        let began = Instant::now();
        let number = dice.below(1_000_000);
        let any = r#"any() { awk -v r=$R '{ line[NR] = $0 } END { print line[r % NR + 1] }'; }"#;
        self.run(host, &enter, &format!("R={number}; {any}; {}", damage.line));
        let mut now = Vec::new();
        // The limit is checked below, by the time of the last look that found it damaged.
        eventually("it is put back", REPAIRED * 5, || {
            now = self.look(host, &enter, damage.look);
            let is_told = self.repairs(host) > repairs;
            if now == before && is_told { Ok(()) } else { Err(difference(&before, &now, is_told)) }
        });
        let settled = began.elapsed();
        self.load.go_on();
        let (silence, failures) = (self.load.silence(), self.load.failures());
        assert!(settled <= REPAIRED, "{} of {host} took {settled:?}", damage.name);
        assert!(
            silence <= SILENCE,
            "{} of {host}: a client was without an answer for {silence:?}",
            damage.name
        );
        Played { settled, counts: (self.repairs(host) - repairs, failures.len() as u64) }
    }

    /// How to enter the namespace of the client or of a task on the host.
    fn container(&self, host: &str, client: &str, dice: &mut Dice) -> String {
        let tasks = self.hosts.docker(host, "ps -q --filter label=com.docker.swarm.service.name=web");
        let tasks = tasks.expect("containers");
        let mut all: Vec<&str> = tasks.lines().collect();
        all.push(client);
        let container = *dice.pick(&all).expect("a container");
        let pid = self.hosts.inspect(host, container, "{{.State.Pid}}").expect("a container");
        format!("nsenter -t {} --net", pid.trim())
    }

    fn run(&self, host: &str, enter: &str, line: &str) -> String {
        let quoted = line.replace('\'', r"'\''");
        let shell = format!("{enter} sh -c '{quoted}'");
        self.hosts.host(host).sh(&shell).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What tools show, without an order: the kernel has none for elements.
    fn look(&self, host: &str, enter: &str, line: &str) -> Vec<String> {
        // A table that is gone is an error, and something else than before.
        let shown = self.run(host, enter, &format!("( {line} ) 2>&1 || true"));
        let mut words: Vec<String> =
            shown.split_whitespace().map(|word| word.trim_end_matches(',').to_owned()).collect();
        words.sort_unstable();
        words
    }

    /// How many repairs the host's daemon has told of.
    fn repairs(&self, host: &str) -> u64 {
        let log = std::fs::read(&self.hosts.daemon(host).log).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(WORD)).count() as u64
    }
}

/// What is missing and what is too much.
fn difference(before: &[String], now: &[String], is_told: bool) -> String {
    let without = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|word| !those.contains(word)).cloned().collect()
    };
    format!("missing {:?}, foreign {:?}, repair told: {is_told}", without(before, now), without(now, before))
}
