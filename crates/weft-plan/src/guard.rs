//! Who may send VXLAN to this node.
//!
//! VXLAN has no authentication: whoever reaches the port can put frames into every network. Accepted is only what a
//! member's data-path address sends to ours, on the interface that holds it; everything else to the port is dropped
//! and counted. The table works before connection tracking, and accepted tunnel packets skip tracking altogether.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_types::Vni;

use crate::{
    Chain, EncryptionEngine, Family, Hook, HookKind, LinkName, NamespaceState, NftRule, NftSet, SourcePorts,
    Table, TableId,
};

/// Priority before connection tracking (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;

/// The rules for a node's data-path port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VxlanGuard {
    /// This node's data-path address.
    pub address: IpAddr,
    /// UDP port of the data path.
    pub port: u16,
    /// The interface that packets must come in by; none where the address is on no real interface (routed fabrics).
    pub interface: Option<LinkName>,
    /// Data-path addresses of the other members.
    pub members: Vec<IpAddr>,
    /// What is encrypted; none where nothing is.
    pub encryption: Option<EncryptedPath>,
}

/// The encrypted networks of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedPath {
    /// UDP port of ESP.
    pub port: u16,
    /// Networks that never come or go in the clear.
    pub vnis: BTreeSet<Vni>,
    /// What encrypts them here.
    pub engine: EncryptionEngine,
}

impl VxlanGuard {
    /// The table's name.
    pub fn table_id() -> TableId {
        TableId::new(Family::Inet, "vxlan")
    }

    /// Counter of packets from senders that are no members.
    pub const STRANGER: &'static str = "stranger";
    /// Counter of packets to another address, or through another interface, than the data path's.
    pub const MISDIRECTED: &'static str = "misdirected";

    /// Counter of packets of encrypted networks in the clear, in either direction.
    pub const CLEARTEXT: &'static str = "cleartext";

    /// The table for the host's namespace.
    pub fn table(&self) -> Table {
        let mut table = Table::new(Self::table_id());
        table.counters = [Self::STRANGER, Self::MISDIRECTED].map(str::to_owned).into();
        table.sets.insert("members4".to_owned(), self.members(false));
        table.sets.insert("members6".to_owned(), self.members(true));
        let port = self.port;
        let hooked = |hook: &str, rule: NftRule| Chain {
            hook: Some(Hook::new(HookKind::Filter, hook, RAW)),
            rules: vec![rule],
        };
        let incoming = NftRule::new("data path in", format!("udp dport {port} jump check"));
        table.chains.insert("prerouting".to_owned(), hooked("prerouting", incoming));
        let outgoing = NftRule::new("data path out", format!("udp dport {port} notrack"));
        table.chains.insert("output".to_owned(), hooked("output", outgoing));
        table.chains.insert("check".to_owned(), Chain { hook: None, rules: self.check() });
        if let Some(encryption) = &self.encryption {
            self.encrypt(encryption, &mut table);
        }
        table
    }

    /// Only members may send ESP, and what must be encrypted is dropped where it is not, before anything else looks at it.
    fn encrypt(&self, encryption: &EncryptedPath, table: &mut Table) {
        table.counters.insert(Self::CLEARTEXT.to_owned());
        let esp = encryption.port;
        for (name, verdict) in [("prerouting", "jump check"), ("output", "notrack")] {
            let Some(chain) = table.chains.get_mut(name) else { continue };
            chain.rules.splice(0..0, self.drops(encryption, name == "output"));
            chain.rules.push(NftRule::new("encrypted data path", format!("udp dport {esp} {verdict}")));
            chain.rules.push(NftRule::new("ESP alone", format!("meta l4proto esp {verdict}")));
        }
    }

    /// Where the kernel encrypts, packets pass the hooks twice: in the clear with a word that they will be encrypted, or
    /// were, and as ESP.
    fn drops(&self, encryption: &EncryptedPath, output: bool) -> Vec<NftRule> {
        let (port, counter) = (self.port, Self::CLEARTEXT);
        let by_kernel = encryption.engine == EncryptionEngine::Kernel;
        let unless = match (by_kernel, output) {
            (false, _) => "",
            (true, false) => "meta secpath missing ",
            (true, true) => "rt ipsec missing ",
        };
        // The identifier is the 24 bits at offset 4 of VXLAN's header (RFC 7348, section 5), behind UDP's 8 bytes.
        let of_network = |vni: &Vni| {
            let vni = vni.get();
            let rule = format!("udp dport {port} @th,96,24 {vni} {unless}counter name {counter} drop");
            NftRule::new(&format!("network {vni} in the clear"), rule)
        };
        let mut drops: Vec<NftRule> = encryption.vnis.iter().map(of_network).collect();
        if by_kernel && output {
            // Beside the policies of the kernel's ESP, for when somebody takes them away.
            let (first, last) = SourcePorts::Encrypted.range();
            let rule =
                format!("udp sport {first}-{last} udp dport {port} {unless}counter name {counter} drop");
            drops.push(NftRule::new("encrypted ports in the clear", rule));
        }
        drops
    }

    /// [`VxlanGuard::table`] as a wish for the host's namespace.
    pub fn plan(&self) -> NamespaceState {
        let mut state = NamespaceState::default();
        state.add_table(self.table());
        state
    }

    fn members(&self, ipv6: bool) -> NftSet {
        let mut set = NftSet::set(&[if ipv6 { "ipv6_addr" } else { "ipv4_addr" }]);
        let ours = self.members.iter().filter(|ip| ip.is_ipv6() == ipv6 && **ip != self.address);
        set.elements = ours.map(IpAddr::to_string).collect();
        set
    }

    fn check(&self) -> Vec<NftRule> {
        let (family, set) = if self.address.is_ipv4() { ("ip", "members4") } else { ("ip6", "members6") };
        let address = self.address;
        let mut place = format!("{family} daddr {address}");
        if let Some(interface) = &self.interface {
            place = format!("iifname \"{interface}\" {place}");
        }
        vec![
            NftRule::new("member", format!("{place} {family} saddr @{set} notrack accept")),
            NftRule::new("not a member", format!("{place} counter name {} drop", Self::STRANGER)),
            NftRule::new("wrong address or interface", format!("counter name {} drop", Self::MISDIRECTED)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> VxlanGuard {
        VxlanGuard {
            address: "192.0.2.1".parse().unwrap(),
            port: 4789,
            interface: Some("eth0".parse().unwrap()),
            members: ["192.0.2.1", "192.0.2.2", "198.51.100.7"].map(|ip| ip.parse().unwrap()).to_vec(),
            encryption: None,
        }
    }

    #[test]
    fn golden_ipv4() {
        crate::golden::assert_golden("vxlan_guard.nft", &guard().table().to_string());
    }

    #[test]
    fn golden_encrypted() {
        let vnis = BTreeSet::from([4098, 4100].map(|vni| Vni::try_from(vni).unwrap()));
        for (engine, file) in [
            (EncryptionEngine::Userspace, "vxlan_guard_encrypted.nft"),
            (EncryptionEngine::Kernel, "vxlan_guard_encrypted_kernel.nft"),
        ] {
            let vnis = BTreeSet::clone(&vnis);
            let guard =
                VxlanGuard { encryption: Some(EncryptedPath { port: 4500, vnis, engine }), ..guard() };
            crate::golden::assert_golden(file, &guard.table().to_string());
        }
    }

    #[test]
    fn golden_ipv6() {
        let members = vec!["2001:db8::2".parse().unwrap()];
        let guard =
            VxlanGuard { address: "2001:db8::1".parse().unwrap(), interface: None, members, ..guard() };
        crate::golden::assert_golden("vxlan_guard_ipv6.nft", &guard.table().to_string());
    }

    #[test]
    fn a_new_member_changes_only_the_set() {
        let before = crate::model::observed(&guard().plan());
        let mut more = guard();
        more.members.push("192.0.2.9".parse().unwrap());
        let ops = crate::diff(&before, &more.plan());
        assert_eq!(
            ops.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["change set inet weft-vxlan members4: +1 -0"]
        );
    }
}
