//! All networks in one document: one write makes name, subnets and identifiers unique at once.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_orchestration::{Allocator, AllocatorConfig, Claim, InUse};
use weft_types::NetworkId;
use weft_wire::swarmkit::{Network, NetworkSpec};

use super::{Document, GlobalNetwork};
use crate::error::Refused;

const ENCRYPTED_OPTION: &str = "encrypted";

/// The networks, by their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkBook {
    format: u32,
    /// Tells the hosts of this store from those of others: their IPv6 subnets are mixed from it.
    site: String,
    networks: BTreeMap<NetworkId, GlobalNetwork>,
}

impl Document for NetworkBook {
    fn format(&self) -> u32 {
        self.format
    }
}

impl NetworkBook {
    /// The first of a store; `site` is random.
    pub fn new(site: String) -> Self {
        Self { format: Self::FORMAT, site, networks: BTreeMap::new() }
    }

    /// The network of that id.
    pub fn get(&self, id: &NetworkId) -> Option<&GlobalNetwork> {
        self.networks.get(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&NetworkId, &GlobalNetwork)> {
        self.networks.iter()
    }

    /// Docker's rule: full id, then name, then a prefix of one id only.
    pub fn find(&self, term: &str) -> Result<(&NetworkId, &GlobalNetwork), Refused> {
        let whole = self.iter().find(|(id, _)| id.as_str() == term);
        if let Some(found) = whole.or_else(|| self.iter().find(|(_, network)| network.name == term)) {
            return Ok(found);
        }
        let mut prefixed = self.iter().filter(|(id, _)| !term.is_empty() && id.as_str().starts_with(term));
        let first = prefixed.next().ok_or_else(|| Refused::NotFound(term.to_owned()))?;
        match prefixed.count() {
            0 => Ok(first),
            more => Err(Refused::Ambiguous(term.to_owned(), more + 1)),
        }
    }

    /// Adds a network, with what it does not ask for chosen. Done again for the same id it changes nothing. Subnets that
    /// `near` this host are in use outside are left out as far as there are others.
    pub fn add(
        &mut self,
        id: &NetworkId,
        spec: &NetworkSpec,
        created: Timestamp,
        near: &[IpNet],
    ) -> Result<(), Refused> {
        if self.networks.contains_key(id) {
            return Ok(());
        }
        let driver = spec.driver_config.clone().unwrap_or_default();
        if driver.options.contains_key(ENCRYPTED_OPTION) {
            return Err(Refused::Encrypted);
        }
        if spec.ingress {
            return Err(Refused::Ingress);
        }
        let name = spec.annotations.as_ref().map(|named| named.name.clone()).unwrap_or_default();
        self.name_is_free(&name)?;
        let taken = self.in_use(near);
        let mut allocator = Allocator::rebuild(AllocatorConfig::of_site(&self.site), [], &taken);
        let allocation = allocator.network(id.as_str(), spec, &taken)?;
        let mut object = Network { id: id.to_string(), spec: Some(spec.clone()), ..Network::default() };
        allocation.write_to(&mut object);
        let network = GlobalNetwork::of(&object, created).ok_or(Refused::NotFound(name))?;
        self.networks.insert(id.clone(), network);
        Ok(())
    }

    /// Puts a network back that containers are on and the store has lost. Refused if something of it is another's now.
    pub fn put_back(&mut self, id: &NetworkId, network: &GlobalNetwork) -> Result<(), Refused> {
        if self.networks.contains_key(id) {
            return Ok(());
        }
        self.name_is_free(&network.name)?;
        // With its subnets and identifiers given, all that the allocator does is to look whether they are free.
        let object = network.to_object(id);
        let spec = NetworkSpec { driver_config: object.driver_state, ..object.spec.unwrap_or_default() };
        let taken = self.in_use(&[]);
        let config = AllocatorConfig::of_site(&self.site);
        Allocator::rebuild(config, [], &taken).network(id.as_str(), &spec, &taken)?;
        self.networks.insert(id.clone(), network.clone());
        Ok(())
    }

    /// Takes a network out; nothing if it is not there.
    pub fn remove(&mut self, id: &NetworkId) {
        self.networks.remove(id);
    }

    fn name_is_free(&self, name: &str) -> Result<(), Refused> {
        match self.networks.values().any(|network| network.name == name) {
            true => Err(Refused::NameTaken(name.to_owned())),
            false => Ok(()),
        }
    }

    fn in_use(&self, near: &[IpNet]) -> InUse {
        let mut in_use = InUse::default();
        for (id, network) in &self.networks {
            for subnet in &network.subnets {
                in_use.insert(Claim::Subnet(subnet.subnet), id.as_str());
            }
            for vni in &network.vnis {
                in_use.insert(Claim::Vni(*vni), id.as_str());
            }
        }
        near.iter().for_each(|subnet| in_use.insert_subnet_of_node(*subnet));
        in_use
    }
}
