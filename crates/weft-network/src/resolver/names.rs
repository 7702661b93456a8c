//! Which names stand for which addresses, as one container sees it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_types::PortProtocol;

/// Names of one endpoint or service on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    /// All its names.
    pub(crate) names: Vec<String>,
    /// The name its addresses stand for in reverse; none for services.
    pub(crate) canonical: Option<String>,
    /// Its addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// The stack whose containers it is for before others.
    pub(crate) stack: Option<String>,
    /// Its addresses are the service's own (virtual ones), which stay while tasks come and go.
    pub(crate) lasting: bool,
    /// Ports with names, for SRV questions.
    pub(crate) ports: Vec<NamedPort>,
}

/// A port that can be found by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedPort {
    /// The user's name for it.
    pub(crate) name: String,
    pub(crate) protocol: PortProtocol,
    /// Where the service listens.
    pub(crate) port: u16,
}

/// The names of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkNames {
    /// The network's id.
    pub(crate) id: String,
    /// The network's name, which can follow a dot.
    pub(crate) name: String,
    /// Its subnets: what has no name there has none anywhere else.
    pub(crate) subnets: Vec<IpNet>,
    /// All that have names on it.
    pub(crate) records: Vec<NameRecord>,
}

/// [`NetworkNames`], ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    network: String,
    forward: HashMap<String, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, String>,
}

impl NameTable {
    pub(crate) fn new(names: &NetworkNames) -> Self {
        let mut table = Self { network: names.name.to_ascii_lowercase(), ..Self::default() };
        for record in &names.records {
            for name in &record.names {
                let known = table.forward.entry(name.to_ascii_lowercase()).or_default();
                // Several may share a name: the answer is the union.
                for ip in &record.ips {
                    if !known.contains(ip) {
                        known.push(*ip);
                    }
                }
            }
            if let Some(canonical) = &record.canonical {
                let full = format!("{canonical}.{}", names.name);
                table.reverse.extend(record.ips.iter().map(|ip| (*ip, full.clone())));
            }
        }
        table
    }
}

/// What one container sees: its networks in order, and names that only it has (`--link`).
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) private: HashMap<String, Vec<IpAddr>>,
    pub(crate) tables: Vec<Arc<NameTable>>,
}

impl View {
    /// Addresses of a name in lower case without last dot; none if the name is not local. First the whole name in all
    /// networks, then split at each dot from the right into name and network, as Docker does.
    pub(crate) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(ips) = self.private.get(name) {
            return Some(ips.clone());
        }
        if let Some(ips) = self.tables.iter().find_map(|table| table.forward.get(name)) {
            return Some(ips.clone());
        }
        let dots = name.rmatch_indices('.').map(|(at, _)| at);
        dots.into_iter().find_map(|at| {
            let (name, network) = (&name[..at], &name[at + 1..]);
            let named = self.tables.iter().filter(|table| table.network == network);
            named.into_iter().find_map(|table| table.forward.get(name)).cloned()
        })
    }

    /// The name of an address.
    pub(crate) fn name(&self, ip: IpAddr) -> Option<&str> {
        self.tables.iter().find_map(|table| table.reverse.get(&ip)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn view() -> View {
        let net = |id: &str, name: &str, records| {
            let (id, name) = (id.to_owned(), name.to_owned());
            Arc::new(NameTable::new(&NetworkNames { id, name, records, ..NetworkNames::default() }))
        };
        let front = vec![
            record(&["web", "www", "0123456789ab"], Some("web"), &["10.0.1.2", "fd00::2"]),
            record(&["web2", "www"], Some("web2"), &["10.0.1.3"]),
            record(&["my.db"], Some("my.db"), &["10.0.1.4"]),
            record(&["svc"], None, &["10.0.1.9"]),
        ];
        let back = vec![record(&["web", "only"], Some("web"), &["10.0.2.2"])];
        View {
            private: [("lk".to_owned(), ips(&["10.0.1.3"]))].into(),
            tables: vec![net("1", "Front", front), net("2", "back.net", back)],
        }
    }

    #[test]
    fn names_resolve_as_docker_does() {
        let view = view();
        let asked = |name: &str| view.addresses(name);
        assert_eq!(asked("web"), Some(ips(&["10.0.1.2", "fd00::2"])));
        assert_eq!(asked("www"), Some(ips(&["10.0.1.2", "fd00::2", "10.0.1.3"])));
        assert_eq!(asked("0123456789ab.front"), Some(ips(&["10.0.1.2", "fd00::2"])));
        assert_eq!(asked("web.back.net"), Some(ips(&["10.0.2.2"])));
        assert_eq!(asked("my.db"), Some(ips(&["10.0.1.4"])));
        assert_eq!(asked("my.db.front"), Some(ips(&["10.0.1.4"])));
        assert_eq!(asked("lk"), Some(ips(&["10.0.1.3"])));
        assert_eq!(asked("only"), Some(ips(&["10.0.2.2"])));
        assert_eq!(asked("only.front"), None);
        assert_eq!(asked("example.org"), None);
        assert_eq!(asked(""), None);
    }

    #[test]
    fn addresses_have_one_name_services_none() {
        let view = view();
        assert_eq!(view.name("10.0.1.3".parse().unwrap()), Some("web2.Front"));
        assert_eq!(view.name("10.0.1.9".parse().unwrap()), None);
    }
}
