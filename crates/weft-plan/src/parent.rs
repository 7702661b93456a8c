//! Interfaces of the host that are made for containers to share.

use serde::{Deserialize, Serialize};

use crate::{Link, LinkKind, LinkName, NamespaceRef, NamespaceState, VethPeer, Vlan};

/// One interface that containers' ones share, and that was not there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParentLink {
    /// A VLAN of an interface that was there.
    Vlan(LinkName, Vlan),
    /// One that leads nowhere. Docker takes a dummy, which not every kernel has: a pair whose ends are both here does the same
    /// (a bridge without ports would not: without a carrier the kernel sends nothing).
    Isolated {
        /// Its name.
        name: LinkName,
        /// The pair's other end.
        other: LinkName,
        /// The host's own namespace.
        host: NamespaceRef,
    },
}

impl ParentLink {
    pub(crate) fn plan(&self, state: &mut NamespaceState) {
        match self {
            Self::Vlan(name, vlan) => {
                state.links.insert(name.clone(), Link::new(LinkKind::Vlan(vlan.clone())));
            }
            Self::Isolated { name, other, host } => {
                let peer = VethPeer::plain(host.clone(), other.clone());
                state.links.insert(name.clone(), Link::new(LinkKind::Veth(Some(peer))));
                state.links.insert(other.clone(), Link::new(LinkKind::VethEnd));
                // The host has no part in what goes on there.
                for end in [name, other] {
                    state.set(format!("net/ipv6/conf/{end}/disable_ipv6"), "1");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff;
    use crate::model;

    #[test]
    fn parents_are_made_kept_and_taken_away() {
        let name = |text: &str| text.parse::<LinkName>().unwrap();
        let mut state = NamespaceState::default();
        ParentLink::Vlan(name("eth0.10"), Vlan { parent: name("eth0"), id: 10 }).plan(&mut state);
        let (isolated, other) = (name("dm-0123456789ab"), name("dp-0123456789ab"));
        ParentLink::Isolated { name: isolated.clone(), other, host: NamespaceRef::host() }.plan(&mut state);
        let mut observed = model::observed(&NamespaceState::default());
        for op in diff(&observed, &state) {
            model::apply(&mut observed, &op);
        }
        assert!(observed.links[&isolated].link.up);
        assert_eq!(diff(&observed, &state).len(), 0, "{:?}", diff(&observed, &state));
        let gone = diff(&observed, &NamespaceState::default());
        assert_eq!(gone.iter().filter(|op| matches!(op, crate::Op::DeleteLink { .. })).count(), 3);
    }
}
