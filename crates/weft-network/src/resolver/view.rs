//! What one container sees of the names, and which names never leave the node.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use weft_types::PortProtocol;

use crate::resolver::table::{Found, NameTable};

/// The names of a network, whoever asks: always the newest version.
pub(crate) type SharedTable = Arc<ArcSwap<NameTable>>;

/// A place where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) ip: IpAddr,
}

/// What one container sees: its networks in order, and names that only it has (`--link`).
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) private: HashMap<String, Vec<IpAddr>>,
    pub(crate) tables: Vec<SharedTable>,
    /// Names of this stack come first.
    pub(crate) stack: Option<String>,
}

impl View {
    /// What a name in lower case without last dot stands for; none if it is not local. First the whole name in all
    /// networks, then split at each dot from the right into name and network, as Docker does.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Found>> {
        if let Some(ips) = self.private.get(name) {
            return Some(Arc::new(Found { ips: ips.clone(), ..Found::default() }));
        }
        self.find_in(name, None).or_else(|| {
            let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
            dots.find_map(|at| self.find_in(&name[..at], Some(&name[at + 1..])))
        })
    }

    /// In one network or all. The container's own stack comes first, in whichever of its networks; otherwise the first
    /// network that knows the name answers.
    fn find_in(&self, name: &str, network: Option<&str>) -> Option<Arc<Found>> {
        let tables = || {
            let loaded = self.tables.iter().map(|table| table.load());
            loaded.filter(|table| network.is_none_or(|network| table.network == network))
        };
        let own = self
            .stack
            .as_ref()
            .and_then(|stack| tables().find_map(|table| table.find_own(name, stack).cloned()));
        own.or_else(|| tables().find_map(|table| table.find(name).cloned()))
    }

    /// The name of an address.
    pub(super) fn name_of(&self, ip: IpAddr) -> Option<String> {
        self.tables.iter().find_map(|table| table.load().name_of(ip))
    }

    /// Whether the address is of one of its networks.
    pub(super) fn covers(&self, ip: IpAddr) -> bool {
        self.tables.iter().any(|table| table.load().covers(ip))
    }

    /// Where the service of an SRV question listens: `_<port name>._<protocol>.<name>`, with or without underscores.
    pub(super) fn places(&self, name: &str) -> Option<Vec<Place>> {
        let mut labels = name.splitn(3, '.');
        let (port_name, protocol, rest) = (labels.next()?, labels.next()?, labels.next()?);
        let port_name = port_name.strip_prefix('_').unwrap_or(port_name);
        let protocol: PortProtocol = protocol.strip_prefix('_').unwrap_or(protocol).parse().ok()?;
        let found = self.find(rest)?;
        let mut places = Vec::new();
        for service in &found.services {
            let mut ports = service.ports.iter();
            let named = |port: &&crate::resolver::NamedPort| {
                port.protocol == protocol && port.name.eq_ignore_ascii_case(port_name)
            };
            let Some(port) = ports.find(named) else { continue };
            for ip in &service.ips {
                let host = self.name_of(*ip).unwrap_or_else(|| rest.to_owned());
                places.push(Place { host, port: port.port, ip: *ip });
            }
        }
        Some(places)
    }
}

/// All names that this node knows of its networks, for deciding what must not be asked elsewhere.
#[derive(Debug, Default)]
pub(crate) struct ClusterNames {
    tables: Vec<SharedTable>,
}

impl ClusterNames {
    pub(crate) fn new(tables: Vec<SharedTable>) -> Self {
        Self { tables }
    }

    /// Whether a name in lower case is the cluster's business, though the container that asks has no answer to it:
    /// a name of any network here, now or lately; `tasks.` with such a name; and such a name, or anything at all where
    /// the network's name cannot end an Internet name, before a network's name.
    ///
    /// A network may be called `app` and a task `org`: `cash.app` and `tasks.org` are still the Internet's as long as no
    /// network knows `cash` or `org`.
    pub(super) fn owns(&self, name: &str) -> bool {
        let name = without_underscores(name);
        let knows = |name: &str| {
            let name = name.strip_prefix("tasks.").unwrap_or(name);
            self.tables.iter().any(|table| {
                let table = table.load();
                table.knows(name) || table.knows(&format!("tasks.{name}"))
            })
        };
        if knows(name) {
            return true;
        }
        name.rmatch_indices('.').any(|(at, _)| {
            let (before, network) = (&name[..at], &name[at + 1..]);
            let is_network = self.tables.iter().any(|table| table.load().network == network);
            is_network && (!could_end_a_name(network) || knows(before))
        })
    }
}

/// Names of services begin with labels like `_http._tcp`.
fn without_underscores(mut name: &str) -> &str {
    while let Some((first, rest)) = name.split_once('.')
        && first.starts_with('_')
    {
        name = rest;
    }
    name
}

/// Top-level domains have letters only, or begin with `xn--` (RFC 3696 section 2).
fn could_end_a_name(network: &str) -> bool {
    let last = network.rsplit('.').next().unwrap_or(network);
    last.starts_with("xn--") || last.bytes().all(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::resolver::{NameRecord, NamedPort, NetworkNames};

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn record(names: &[&str], canonical: Option<&str>, addresses: &[&str]) -> NameRecord {
        NameRecord {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            canonical: canonical.map(str::to_owned),
            ips: ips(addresses),
            ..NameRecord::default()
        }
    }

    fn net(name: &str, records: Vec<NameRecord>) -> SharedTable {
        let subnets = vec!["10.0.0.0/16".parse().unwrap()];
        let names = NetworkNames { id: name.to_owned(), name: name.to_owned(), subnets, records };
        Arc::new(ArcSwap::from_pointee(NameTable::new(&names, Instant::now())))
    }

    fn view() -> View {
        let front = vec![
            record(&["web", "www", "0123456789ab"], Some("web"), &["10.0.1.2", "fd00::2"]),
            record(&["web2", "www"], Some("web2"), &["10.0.1.3"]),
            record(&["my.db"], Some("my.db"), &["10.0.1.4"]),
            NameRecord { lasting: true, ..record(&["svc"], None, &["10.0.1.9"]) },
            record(&["rr"], None, &[]),
        ];
        let back = vec![record(&["web", "only"], Some("web"), &["10.0.2.2"])];
        View {
            private: [("lk".to_owned(), ips(&["10.0.1.3"]))].into(),
            tables: vec![net("Front", front), net("back.net", back)],
            stack: None,
        }
    }

    #[test]
    fn names_resolve_as_docker_does() {
        let view = view();
        let asked = |name: &str| view.find(name).map(|found| found.ips.clone());
        assert_eq!(asked("web"), Some(ips(&["10.0.1.2", "fd00::2"])));
        assert_eq!(asked("www"), Some(ips(&["10.0.1.2", "fd00::2", "10.0.1.3"])));
        assert_eq!(asked("0123456789ab.front"), Some(ips(&["10.0.1.2", "fd00::2"])));
        assert_eq!(asked("web.back.net"), Some(ips(&["10.0.2.2"])));
        assert_eq!(asked("my.db"), Some(ips(&["10.0.1.4"])));
        assert_eq!(asked("my.db.front"), Some(ips(&["10.0.1.4"])));
        assert_eq!(asked("lk"), Some(ips(&["10.0.1.3"])));
        assert_eq!(asked("only"), Some(ips(&["10.0.2.2"])));
        assert_eq!(asked("rr"), Some(Vec::new()));
        assert_eq!(asked("only.front"), None);
        assert_eq!(asked("example.org"), None);
        assert_eq!(asked(""), None);
    }

    #[test]
    fn addresses_have_one_name() {
        let view = view();
        let name = |ip: &str| view.name_of(ip.parse().unwrap());
        assert_eq!(name("10.0.1.3").as_deref(), Some("web2.Front"));
        assert_eq!(name("fd00::2").as_deref(), Some("web.Front"));
        assert_eq!(name("10.0.1.9").as_deref(), Some("svc.Front"));
        assert_eq!(name("10.0.1.77"), None);
        assert!(view.covers("10.0.1.77".parse().unwrap()) && !view.covers("10.1.0.1".parse().unwrap()));
    }

    #[test]
    fn the_own_stack_comes_first_in_any_network() {
        let of = |stack: &str, ip: &str, names: &[&str]| NameRecord {
            stack: Some(stack.to_owned()),
            ..record(names, None, &[ip])
        };
        let shared = || {
            net(
                "shared",
                vec![
                    of("a", "10.0.1.1", &["db"]),
                    of("b", "10.0.1.2", &["db", "cache"]),
                    record(&["db"], None, &["10.0.1.3"]),
                ],
            )
        };
        let seen = |stack: Option<&str>, tables: Vec<SharedTable>, name: &str| {
            let view = View { tables, stack: stack.map(str::to_owned), ..View::default() };
            view.find(name).map(|found| found.ips.clone())
        };
        assert_eq!(seen(Some("a"), vec![shared()], "db"), Some(ips(&["10.0.1.1"])));
        assert_eq!(seen(Some("b"), vec![shared()], "db.shared"), Some(ips(&["10.0.1.2"])));
        // Another stack's name is found where the own one has none.
        assert_eq!(seen(Some("a"), vec![shared()], "cache"), Some(ips(&["10.0.1.2"])));
        let all = Some(ips(&["10.0.1.1", "10.0.1.2", "10.0.1.3"]));
        assert_eq!(seen(Some("c"), vec![shared()], "db"), all);
        assert_eq!(seen(None, vec![shared()], "db"), all);
        // Also where the shared network is asked first and has only the other's.
        let own = || net("z", vec![of("a", "10.0.2.9", &["cache"])]);
        assert_eq!(seen(Some("a"), vec![shared(), own()], "cache"), Some(ips(&["10.0.2.9"])));
        assert_eq!(seen(None, vec![shared(), own()], "cache"), Some(ips(&["10.0.1.2"])));
    }

    #[test]
    fn named_ports_lead_to_places() {
        let http = NamedPort { name: "http".to_owned(), protocol: PortProtocol::Tcp, port: 8080 };
        let service =
            NameRecord { lasting: true, ports: vec![http.clone()], ..record(&["web"], None, &["10.0.1.9"]) };
        let spread = NameRecord { ports: vec![http], ..record(&["rr"], None, &["10.0.1.2", "10.0.1.3"]) };
        let tasks = [("rr.1.x", "10.0.1.2"), ("rr.2.y", "10.0.1.3")]
            .map(|(name, ip)| record(&[name], Some(name), &[ip]));
        let records = [service, spread].into_iter().chain(tasks).collect();
        let view = View { tables: vec![net("front", records)], ..View::default() };
        let hosts = |name: &str| {
            let places = view.places(name);
            places.map(|all| all.into_iter().map(|place| (place.host, place.port)).collect::<Vec<_>>())
        };
        let place = |host: &str| (host.to_owned(), 8080);
        assert_eq!(hosts("_http._tcp.web"), Some(vec![place("web.front")]));
        assert_eq!(hosts("http.tcp.web.front"), Some(vec![place("web.front")]));
        assert_eq!(hosts("_http._tcp.rr"), Some(vec![place("rr.1.x.front"), place("rr.2.y.front")]));
        assert_eq!(hosts("_http._udp.web"), Some(Vec::new()));
        assert_eq!(hosts("_http._tcp.nobody"), None);
        assert_eq!(hosts("web"), None);
    }

    #[test]
    fn names_of_the_cluster_stay_here() {
        let tables = vec![
            net("app", vec![record(&["db", "tasks.db"], None, &[]), record(&["only.tasks"], None, &[])]),
            net("shop_default", vec![record(&["tasks.cart"], None, &[])]),
        ];
        let cluster = ClusterNames::new(tables);
        for own in [
            "db",
            "tasks.db",
            "db.app",
            "tasks.db.app",
            "gone.shop_default",
            "a.b.shop_default",
            "cart",
            "_http._tcp.db",
            "_http._tcp.gone.shop_default",
            "cart.app",
        ] {
            assert!(cluster.owns(own), "{own}");
        }
        for other in ["cash.app", "tasks.org", "tasks.google.com", "example.org", "dbs", "app", "org", ""] {
            assert!(!cluster.owns(other), "{other}");
        }
    }
}
