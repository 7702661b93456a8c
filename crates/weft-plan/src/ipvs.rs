//! Virtual services of IPVS as values, and the difference between two sets of them.
//!
//! A service is known by a packet mark, which covers every port and protocol of an address at once; nft sets the mark.
//! Services by address and port are somebody else's (keepalived in a privileged container) and are never looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Op;

/// The virtual services of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipvs {
    /// How long connections are remembered; none leaves the kernel's.
    pub timeouts: Option<IpvsTimeouts>,
    /// The services.
    #[serde(with = "as_list")]
    pub services: BTreeMap<IpvsServiceId, IpvsService>,
}

/// What names a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpvsServiceId {
    /// Of IPv6; marks of the two families are apart.
    pub ipv6: bool,
    /// The mark of its packets.
    pub mark: u32,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpvsService {
    /// How it chooses.
    pub scheduler: IpvsScheduler,
    /// Weights by address.
    pub destinations: BTreeMap<IpAddr, u16>,
}

/// How a destination is chosen for a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvsScheduler {
    /// In turn. The kernel's module that Docker needs, so it is there where Docker runs.
    #[default]
    RoundRobin,
    /// In turn, by weight.
    WeightedRoundRobin,
}

impl IpvsScheduler {
    /// The kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
        }
    }

    /// The one of that name, if it is one that Weft uses.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::RoundRobin, Self::WeightedRoundRobin].into_iter().find(|scheduler| scheduler.name() == name)
    }
}

/// How long IPVS remembers connections, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpvsTimeouts {
    /// TCP connections that are open and idle.
    pub tcp: u32,
    /// TCP connections after a FIN.
    pub tcp_fin: u32,
    /// UDP flows.
    pub udp: u32,
}

impl fmt::Display for IpvsScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for IpvsServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mark {:#x}", if self.ipv6 { "ip6" } else { "ip" }, self.mark)
    }
}

impl fmt::Display for IpvsTimeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp {} fin {} udp {}", self.tcp, self.tcp_fin, self.udp)
    }
}

/// What to do so that `have` becomes `want`: services go first, so that a mark that changes hands is free.
pub(crate) fn diff(have: &Ipvs, want: &Ipvs, ops: &mut Vec<Op>) {
    for id in have.services.keys().filter(|id| !want.services.contains_key(id)) {
        ops.push(Op::DeleteIpvsService(*id));
    }
    if let Some(timeouts) = want.timeouts.filter(|timeouts| have.timeouts != Some(*timeouts)) {
        ops.push(Op::SetIpvsTimeouts(timeouts));
    }
    let nothing = IpvsService::default();
    for (id, wanted) in &want.services {
        let seen = have.services.get(id);
        if seen.is_none_or(|seen| seen.scheduler != wanted.scheduler) {
            ops.push(Op::SetIpvsService { id: *id, scheduler: wanted.scheduler });
        }
        destinations(*id, seen.unwrap_or(&nothing), wanted, ops);
    }
}

/// What is added comes before what is removed: a service is never without a destination for an instant.
fn destinations(service: IpvsServiceId, have: &IpvsService, want: &IpvsService, ops: &mut Vec<Op>) {
    for (ip, weight) in &want.destinations {
        if have.destinations.get(ip) != Some(weight) {
            ops.push(Op::SetIpvsDestination { service, ip: *ip, weight: *weight });
        }
    }
    for ip in have.destinations.keys().filter(|ip| !want.destinations.contains_key(ip)) {
        ops.push(Op::DeleteIpvsDestination { service, ip: *ip });
    }
}

/// Keys of JSON objects are texts, so a map by mark travels as a list.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{IpvsService, IpvsServiceId};

    pub(super) fn serialize<S: Serializer>(
        services: &BTreeMap<IpvsServiceId, IpvsService>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        services.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<IpvsServiceId, IpvsService>, D::Error> {
        Ok(Vec::<(IpvsServiceId, IpvsService)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn service(destinations: &[(&str, u16)]) -> IpvsService {
        let destinations = destinations.iter().map(|(ip, weight)| (ip.parse().unwrap(), *weight)).collect();
        IpvsService { scheduler: IpvsScheduler::RoundRobin, destinations }
    }

    fn words(have: &Ipvs, want: &Ipvs) -> Vec<String> {
        let mut ops = Vec::new();
        diff(have, want, &mut ops);
        ops.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_task_is_one_message_and_a_draining_one_another() {
        let id = IpvsServiceId { ipv6: false, mark: 0x0a00_0002 };
        let of = |service| Ipvs { timeouts: None, services: [(id, service)].into() };
        let have = of(service(&[("10.0.0.3", 1)]));
        let want = of(service(&[("10.0.0.3", 0), ("10.0.0.4", 1)]));
        assert_eq!(
            words(&have, &want),
            [
                "set destination 10.0.0.3 weight 0 of virtual service ip mark 0xa000002",
                "set destination 10.0.0.4 weight 1 of virtual service ip mark 0xa000002",
            ]
        );
        assert_eq!(words(&want, &want), Vec::<String>::new());
        assert_eq!(words(&want, &Ipvs::default()), ["delete virtual service ip mark 0xa000002"]);
    }

    #[test]
    fn it_survives_json() {
        let id = IpvsServiceId { ipv6: true, mark: 7 };
        let timeouts = Some(IpvsTimeouts { tcp: 1, tcp_fin: 2, udp: 3 });
        let ipvs = Arc::new(Ipvs { timeouts, services: [(id, service(&[("fd00::3", 1)]))].into() });
        let text = serde_json::to_string(&ipvs).unwrap();
        assert_eq!(serde_json::from_str::<Arc<Ipvs>>(&text).unwrap(), ipvs);
    }
}
