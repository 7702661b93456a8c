//! Things of which there is only one, and which object holds each.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::ObjectKind;
use super::ordered::Ordered;

/// One thing that only one object may hold at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// An address of a network.
    Address {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// A subnet: held exclusively together with everything it overlaps.
    Subnet(IpNet),
    /// A VXLAN network identifier.
    Vni(u32),
    /// A name among the objects of one kind, without regard to case.
    Name {
        /// The kind.
        kind: ObjectKind,
        /// In lower case.
        name: String,
    },
    /// A port published on every node.
    Port {
        /// SwarmKit's number of the protocol: ports of different protocols do not meet.
        protocol: i32,
        /// The port.
        port: u16,
    },
}

impl Claim {
    /// The name of a network.
    pub fn network_name(name: &str) -> Self {
        Self::name(ObjectKind::Network, name)
    }

    /// The name of an object.
    pub fn name(kind: ObjectKind, name: &str) -> Self {
        Self::Name { kind, name: name.to_ascii_lowercase() }
    }

    /// The text it is stored as.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Address { network, address } => format!("address {network} {address}"),
            Self::Subnet(subnet) => format!("subnet {subnet}"),
            Self::Vni(vni) => format!("vni {vni}"),
            Self::Name { kind, name } => format!("name {kind} {name}"),
            Self::Port { protocol, port } => format!("port {protocol} {port}"),
        }
    }

    /// The inverse of [`Self::to_text`].
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        match kind {
            "address" => {
                let (network, address) = rest.split_once(' ')?;
                Some(Self::Address { network: network.to_owned(), address: address.parse().ok()? })
            }
            "subnet" => rest.parse().ok().map(Self::Subnet),
            "vni" => rest.parse().ok().map(Self::Vni),
            "name" => {
                let (kind, name) = rest.split_once(' ')?;
                Some(Self::Name { kind: kind.parse().ok()?, name: name.to_owned() })
            }
            "port" => {
                let (protocol, port) = rest.split_once(' ')?;
                Some(Self::Port { protocol: protocol.parse().ok()?, port: port.parse().ok()? })
            }
            _ => None,
        }
    }
}

/// Who holds what, both ways round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    holder: Ordered<Claim, Arc<str>>,
    by_holder: Ordered<(Arc<str>, Claim), ()>,
}

impl Claims {
    /// The holder of a claim, or of one that excludes it.
    pub(crate) fn conflicting(&self, claim: &Claim) -> Option<(&Claim, &str)> {
        match claim {
            Claim::Subnet(wanted) => {
                self.subnets().find(|(held, _)| overlap(wanted, held)).map(|(held, holder)| {
                    let (key, _) = self
                        .holder
                        .get_key_value(&Claim::Subnet(*held))
                        .expect("it was just found in this map");
                    (key, holder)
                })
            }
            other => self.holder.get_key_value(other).map(|(claim, holder)| (claim, holder.as_ref())),
        }
    }

    pub(crate) fn holder(&self, claim: &Claim) -> Option<&str> {
        self.holder.get(claim).map(AsRef::as_ref)
    }

    pub(crate) fn subnets(&self) -> impl Iterator<Item = (&IpNet, &str)> {
        let first = Claim::Subnet(IpNet::V4(ipnet::Ipv4Net::default()));
        self.holder.from(&first).map_while(|(claim, holder)| match claim {
            Claim::Subnet(subnet) => Some((subnet, holder.as_ref())),
            _ => None,
        })
    }

    pub(crate) fn addresses<'a>(&'a self, network: &'a str) -> impl Iterator<Item = (IpAddr, &'a str)> + 'a {
        let first = Claim::Address {
            network: network.to_owned(),
            address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        };
        self.holder.from(&first).map_while(move |(claim, holder)| match claim {
            Claim::Address { network: of, address } if of == network => Some((*address, holder.as_ref())),
            _ => None,
        })
    }

    pub(crate) fn highest_vni(&self) -> Option<u32> {
        match self.holder.last_until(&Claim::Vni(u32::MAX)) {
            Some((Claim::Vni(vni), _)) => Some(*vni),
            _ => None,
        }
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = (i32, u16, &str)> {
        let first = Claim::Port { protocol: i32::MIN, port: 0 };
        self.holder.from(&first).map_while(|(claim, holder)| match claim {
            Claim::Port { protocol, port } => Some((*protocol, *port, holder.as_ref())),
            _ => None,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Claim, &str)> {
        self.holder.iter().map(|(claim, holder)| (claim, holder.as_ref()))
    }

    pub(crate) fn insert(&mut self, claim: Claim, holder: &str) {
        let holder: Arc<str> = holder.into();
        self.by_holder.insert((Arc::clone(&holder), claim.clone()), ());
        self.holder.insert(claim, holder);
    }

    pub(crate) fn remove(&mut self, claim: &Claim) {
        if let Some(holder) = self.holder.remove(claim) {
            self.by_holder.remove(&(holder, claim.clone()));
        }
    }

    /// Frees everything that an object holds.
    pub(crate) fn remove_holder(&mut self, holder: &str) {
        let held: Vec<Claim> = self.held_by(holder).cloned().collect();
        for claim in held {
            self.remove(&claim);
        }
    }

    pub(crate) fn held_by<'a>(&'a self, holder: &'a str) -> impl Iterator<Item = &'a Claim> + 'a {
        let least =
            Claim::Address { network: String::new(), address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED) };
        self.by_holder
            .from(&(Arc::from(holder), least))
            .take_while(move |((of, _), ())| of.as_ref() == holder)
            .map(|((_, claim), ())| claim)
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
