//! What goes with the routing mesh's rules on this node: ports that are held, and connections that are forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::PoisonError;

use weft_kernel::ConntrackFilter;
use weft_plan::IngressHost;
use weft_types::PortProtocol;

use crate::controller::Controller;
use crate::ingress::MeshKey;

/// The mesh as the kernel last got it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Followed {
    /// Published ports with their backends; true: takes new connections.
    ports: BTreeMap<MeshKey, BTreeMap<IpAddr, bool>>,
    /// Ports that another program of this host has.
    occupied: BTreeSet<MeshKey>,
    /// Chains of others that drop what they do not know.
    dropping: BTreeSet<String>,
    /// False until the first look: what there was before this daemon is not known.
    begun: bool,
}

impl Followed {
    /// Connections that lead nowhere any more, or never led to a backend. Datagrams know no end: they go on to another
    /// backend as soon as theirs takes nothing new. Streams keep theirs until it is gone.
    fn to_forget(&self, now: &BTreeMap<MeshKey, BTreeMap<IpAddr, bool>>) -> Vec<ConntrackFilter> {
        let mut filters = Vec::new();
        for ((protocol, published), backends) in &self.ports {
            let left = now.get(&(*protocol, *published));
            for (ip, was_ready) in backends {
                let leaves = match left.and_then(|left| left.get(ip)) {
                    Some(ready) => *was_ready && !ready && *protocol == PortProtocol::Udp,
                    None => true,
                };
                if leaves {
                    filters.push(filter(*protocol, *published, Some(*ip)));
                }
            }
        }
        if self.begun {
            // Datagrams that came before there was a backend went to the host, and would for ever.
            let ready =
                |backends: Option<&BTreeMap<IpAddr, bool>>| backends.is_some_and(|b| b.values().any(|r| *r));
            let new =
                now.iter().filter(|(key, backends)| ready(Some(backends)) && !ready(self.ports.get(*key)));
            let datagrams = new.filter(|((protocol, _), _)| *protocol == PortProtocol::Udp);
            filters.extend(datagrams.map(|((protocol, published), _)| filter(*protocol, *published, None)));
        }
        filters
    }
}

fn filter(protocol: PortProtocol, published: u16, backend: Option<IpAddr>) -> ConntrackFilter {
    ConntrackFilter {
        protocol: Some(protocol),
        original_port: Some(published),
        reply_source: backend,
        ..ConntrackFilter::default()
    }
}

impl Controller {
    /// To be called when the host's rules stand.
    pub(super) async fn follow_mesh(&self, mesh: Option<&IngressHost>) {
        let mut now: BTreeMap<MeshKey, BTreeMap<IpAddr, bool>> = BTreeMap::new();
        for port in mesh.into_iter().flat_map(|mesh| &mesh.ports) {
            let backends = port.backends.iter().map(|backend| (backend.ip, backend.ready));
            now.entry((port.protocol, port.published)).or_default().extend(backends);
        }
        let filters = {
            let mut followed = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
            let occupied = self.ports.hold_mesh(&now.keys().copied().collect());
            for (protocol, port) in occupied.difference(&followed.occupied) {
                tracing::warn!(
                    %protocol,
                    port,
                    "published port is in use by another program of this host: the routing mesh takes what comes to it"
                );
            }
            let filters = followed.to_forget(&now);
            *followed = Followed {
                ports: now,
                occupied,
                begun: true,
                dropping: std::mem::take(&mut followed.dropping),
            };
            filters
        };
        if filters.is_empty() {
            return;
        }
        match self.dataplane.host().forget_any(&filters).await {
            Ok(forgotten) => {
                tracing::debug!(?filters, forgotten, "connections of the routing mesh forgotten")
            }
            Err(error) => tracing::warn!(%error, ?filters, "connections of the routing mesh not forgotten"),
        }
    }

    /// Looks for rules of others that keep published ports from being reached. They are the user's: said, not changed.
    pub(super) async fn watch_firewalls(&self) {
        let dropping = match self.dataplane.host().foreign_forward_drops().await {
            Ok(dropping) => dropping,
            Err(error) => {
                tracing::debug!(%error, "chains of others not read");
                return;
            }
        };
        let mut followed = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        for chain in dropping.difference(&followed.dropping) {
            tracing::warn!(
                %chain,
                "another program's chain drops forwarded packets that it does not know: published ports are reached from outside only if its rules accept them"
            );
        }
        followed.dropping = dropping;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port with its backends and whether they are ready.
    type Port<'a> = (PortProtocol, u16, &'a [(&'a str, bool)]);

    fn ports(of: &[Port<'_>]) -> BTreeMap<MeshKey, BTreeMap<IpAddr, bool>> {
        of.iter()
            .map(|(protocol, port, backends)| {
                let backends = backends.iter().map(|(ip, ready)| (ip.parse().unwrap(), *ready)).collect();
                ((*protocol, *port), backends)
            })
            .collect()
    }

    #[test]
    fn datagrams_leave_at_once_and_streams_when_the_task_is_gone() {
        use PortProtocol::{Tcp, Udp};
        let both = [("10.0.0.5", true), ("10.0.0.6", true)];
        let before = Followed {
            ports: ports(&[(Tcp, 80, &both), (Udp, 53, &both)]),
            begun: true,
            ..Followed::default()
        };
        assert!(before.to_forget(&before.ports).is_empty());
        let leaving = [("10.0.0.5", false), ("10.0.0.6", true)];
        let forgotten = before.to_forget(&ports(&[(Tcp, 80, &leaving), (Udp, 53, &leaving)]));
        let five: Option<IpAddr> = "10.0.0.5".parse().ok();
        assert_eq!(forgotten, [filter(Udp, 53, five)]);
        let gone = [("10.0.0.6", true)];
        let forgotten = before.to_forget(&ports(&[(Tcp, 80, &gone), (Udp, 53, &gone)]));
        assert_eq!(forgotten, [filter(Tcp, 80, five), filter(Udp, 53, five)]);
    }

    #[test]
    fn datagrams_before_the_first_backend_are_forgotten_except_after_a_restart() {
        let now = ports(&[(PortProtocol::Udp, 53, &[("10.0.0.5", true)])]);
        assert!(Followed::default().to_forget(&now).is_empty());
        let begun = Followed { begun: true, ..Followed::default() };
        assert_eq!(begun.to_forget(&now), [filter(PortProtocol::Udp, 53, None)]);
    }
}
