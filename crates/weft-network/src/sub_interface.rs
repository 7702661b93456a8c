//! The drivers macvlan and ipvlan: reading their options, as Docker's do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_plan::{
    IpvlanFlag, IpvlanMode, LinkKind, LinkName, MacvlanMode, NamespaceRef, Observed, ParentLink, Sharing,
    SubInterface, Vlan,
};
use weft_types::{Mtu, NetworkId};

use crate::error::NetworkError;
use crate::network::Network;
use crate::options::{interface_prefix, network_mtu};

const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";
const IPVLAN_FLAG: &str = "ipvlan_flag";
/// VLAN 0 is no VLAN and 4095 is reserved (IEEE 802.1Q, table 9-2).
const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;

/// What these drivers need to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubInterfaceSettings {
    /// The host's interface that containers' ones share.
    pub parent: LinkName,
    /// Where that comes from.
    pub origin: ParentOrigin,
    /// How they share it.
    pub sharing: Sharing,
    /// MTU of its interfaces; the parent's without one.
    pub mtu: Option<Mtu>,
    /// Begin of the interfaces' names inside.
    pub interface_prefix: String,
}

/// Where a shared interface comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParentOrigin {
    /// It was there.
    Found,
    /// It is made, as a VLAN of one that was there.
    Vlan(Vlan),
    /// It is made and leads nowhere; the name of its other end.
    Isolated(LinkName),
}

impl SubInterfaceSettings {
    /// The driver's settings from its options. `links` are the host's interfaces, `others` the networks there are.
    pub(crate) fn read<'a>(
        id: &NetworkId,
        driver: &str,
        options: &BTreeMap<String, String>,
        host: &Observed,
        others: impl Iterator<Item = &'a Network>,
    ) -> Result<Self, NetworkError> {
        let text = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        let sharing = sharing(driver, text(MACVLAN_MODE), text(IPVLAN_MODE), text(IPVLAN_FLAG))?;
        let (parent, origin) = match text(PARENT) {
            "" => isolated(id)?,
            "lo" => return Err(invalid(format!("loopback interface is not a valid {driver} parent link"))),
            name => named(name, driver, host)?,
        };
        let settings = Self {
            parent,
            origin,
            sharing,
            mtu: network_mtu(options)?,
            interface_prefix: interface_prefix(options)?,
        };
        settings.refuse_sharing(others)?;
        Ok(settings)
    }

    /// Who has an interface alone shares it with nobody, and the kernel has either the one kind or the other on it.
    fn refuse_sharing<'a>(&self, others: impl Iterator<Item = &'a Network>) -> Result<(), NetworkError> {
        const ALONE: Sharing = Sharing::Macvlan(MacvlanMode::Passthru);
        for (other, of) in others.filter_map(|network| Some((network.sub_interface()?, &network.name))) {
            if other.parent != self.parent {
                continue;
            }
            if self.sharing == ALONE || other.sharing == ALONE {
                return Err(invalid(format!(
                    "parent interface {} is in use by network {of}: only one network may have it with macvlan_mode=passthru",
                    self.parent
                )));
            }
            if self.sharing.name() != other.sharing.name() {
                return Err(invalid(format!(
                    "parent interface {} is in use by the {} network {of}: the kernel has one kind on it only",
                    self.parent,
                    other.sharing.name()
                )));
            }
        }
        Ok(())
    }

    /// Whether packets get out by the parent.
    pub(crate) fn leads_outside(&self) -> bool {
        !matches!(self.origin, ParentOrigin::Isolated(_))
    }

    /// What a container's interface is.
    pub(crate) fn device(&self, host: &NamespaceRef) -> SubInterface {
        SubInterface { parent: Some(self.parent.clone()), underlay: host.clone(), sharing: self.sharing }
    }

    /// The parent, if it has to be made.
    fn made_parent(&self, host: &NamespaceRef) -> Option<ParentLink> {
        match &self.origin {
            ParentOrigin::Found => None,
            ParentOrigin::Vlan(vlan) => Some(ParentLink::Vlan(self.parent.clone(), vlan.clone())),
            ParentOrigin::Isolated(other) => Some(ParentLink::Isolated {
                name: self.parent.clone(),
                other: other.clone(),
                host: host.clone(),
            }),
        }
    }
}

/// All interfaces that are made for containers to share; networks may have one together.
pub(crate) fn made_parents<'a>(
    networks: impl Iterator<Item = &'a Network>,
    host: &NamespaceRef,
) -> Vec<ParentLink> {
    let mut seen = BTreeSet::new();
    networks
        .filter_map(Network::sub_interface)
        .filter(|settings| seen.insert(settings.parent.clone()))
        .filter_map(|settings| settings.made_parent(host))
        .collect()
}

fn invalid(text: String) -> NetworkError {
    NetworkError::InvalidOption(text)
}

fn sharing(driver: &str, macvlan: &str, ipvlan: &str, flag: &str) -> Result<Sharing, NetworkError> {
    let bad = |what: &str, word: &str, usual: &str| {
        invalid(format!(
            "requested {what} '{word}' is not valid, '{usual}' mode is the {driver} driver default"
        ))
    };
    if driver == "macvlan" {
        let mode = MacvlanMode::of(macvlan).ok_or_else(|| bad("macvlan mode", macvlan, "bridge"))?;
        return Ok(Sharing::Macvlan(mode));
    }
    let mode = IpvlanMode::of(ipvlan).ok_or_else(|| bad("ipvlan mode", ipvlan, "l2"))?;
    let flag = IpvlanFlag::of(flag).ok_or_else(|| bad("ipvlan flag", flag, "bridge"))?;
    Ok(Sharing::Ipvlan(mode, flag))
}

/// Docker's name for it, and one like it for the other end.
fn isolated(id: &NetworkId) -> Result<(LinkName, ParentOrigin), NetworkError> {
    let name = |begin: &str| {
        let name = format!("{begin}-{}", id.short());
        name.parse::<LinkName>().map_err(|error| invalid(error.to_string()))
    };
    Ok((name("dm")?, ParentOrigin::Isolated(name("dp")?)))
}

/// One that is there and not ours is taken as it is; else its name has to say which VLAN of which interface is meant.
fn named(name: &str, driver: &str, host: &Observed) -> Result<(LinkName, ParentOrigin), NetworkError> {
    let parent: LinkName =
        name.parse().map_err(|error| invalid(format!("invalid parent interface: {error}")))?;
    match host.links.get(&parent) {
        // One that another network has made: it stays as long as one of them is there.
        Some(seen) if seen.owner == weft_plan::Owner::Weft => {
            let LinkKind::Vlan(vlan) = &seen.link.kind else {
                return Err(invalid(format!("{name} is an interface of Weft's own and no {driver} parent")));
            };
            return Ok((parent, ParentOrigin::Vlan(vlan.clone())));
        }
        Some(_) => return Ok((parent, ParentOrigin::Found)),
        None => {}
    }
    let Some((base, id)) = name.rsplit_once('.') else {
        return Err(invalid(format!("invalid subinterface vlan name {name}, example formatting is eth0.10")));
    };
    let number: i64 = id.parse().map_err(|_| {
        invalid(format!("unable to parse a valid vlan id from: {id} (ex. eth0.10 for vlan 10)"))
    })?;
    let bad = || invalid(format!("vlan id must be between 1-4094, received: {number}"));
    let id = u16::try_from(number).ok().filter(|id| VLAN_IDS.contains(id)).ok_or_else(bad)?;
    let missing =
        || invalid(format!("failed to find master interface {base} on the Docker host: Link not found"));
    let base: LinkName = base.parse().map_err(|_| missing())?;
    if !host.links.contains_key(&base) {
        return Err(missing());
    }
    Ok((parent, ParentOrigin::Vlan(Vlan { parent: base, id })))
}

#[cfg(test)]
mod tests {
    use weft_plan::{Link, NamespaceState, Owner, SeenLink};

    use super::*;

    fn host() -> Observed {
        let mut host = weft_plan::model::observed(&NamespaceState::default());
        let seen = SeenLink { link: Link::new(LinkKind::Other("device".into())), owner: Owner::Foreign };
        host.links.insert("eth0".parse().unwrap(), seen);
        host
    }

    fn read(driver: &str, options: &[(&str, &str)]) -> Result<SubInterfaceSettings, String> {
        let id = NetworkId::random_local(&mut rand::rng());
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        SubInterfaceSettings::read(&id, driver, &options, &host(), std::iter::empty())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn parents_are_found_or_made() {
        assert_eq!(read("macvlan", &[("parent", "eth0")]).unwrap().origin, ParentOrigin::Found);
        let vlan = read("macvlan", &[("parent", "eth0.10")]).unwrap();
        assert_eq!(vlan.origin, ParentOrigin::Vlan(Vlan { parent: "eth0".parse().unwrap(), id: 10 }));
        let alone = read("ipvlan", &[]).unwrap();
        assert!(alone.parent.as_str().starts_with("dm-") && !alone.leads_outside());
    }

    #[test]
    fn modes_are_dockers() {
        let mode = |mode| read("macvlan", &[("macvlan_mode", mode)]).map(|settings| settings.sharing);
        assert_eq!(mode("vepa").unwrap(), Sharing::Macvlan(MacvlanMode::Vepa));
        assert_eq!(
            mode("x").unwrap_err(),
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"
        );
        let l3 = read("ipvlan", &[("ipvlan_mode", "l3"), ("ipvlan_flag", "private")]).unwrap().sharing;
        assert_eq!(l3, Sharing::Ipvlan(IpvlanMode::L3, IpvlanFlag::Private));
        assert!(!l3.has_neighbours());
    }

    #[test]
    fn what_cannot_be_a_parent_is_refused_in_dockers_words() {
        for (parent, words) in [
            ("lo", "loopback interface is not a valid macvlan parent link"),
            ("eth9", "invalid subinterface vlan name eth9, example formatting is eth0.10"),
            ("eth0.5000", "vlan id must be between 1-4094, received: 5000"),
            ("eth0.x", "unable to parse a valid vlan id from: x"),
            ("eth9.10", "failed to find master interface eth9"),
            ("a b", "invalid parent interface"),
        ] {
            let text = read("macvlan", &[("parent", parent)]).unwrap_err();
            assert!(text.contains(words), "{parent}: {text}");
        }
    }
}
