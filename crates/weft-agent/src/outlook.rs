//! The managers' word about the networks of this node: who is where, kept in step with the Watch stream.

use std::collections::BTreeMap;

use weft_wire::weft_v1::{Member, NetworkView, RemoteEndpoint, ServiceView, WatchMessage};

/// One network in the managers' word.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NetworkOutlook {
    pub(crate) mtu: u32,
    /// By endpoint id.
    pub(crate) endpoints: BTreeMap<String, RemoteEndpoint>,
    /// By service id.
    pub(crate) services: BTreeMap<String, ServiceView>,
}

/// Everything the managers said so far, true as of `index`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outlook {
    pub(crate) index: u64,
    /// By network id.
    pub(crate) networks: BTreeMap<String, NetworkOutlook>,
    pub(crate) members: Vec<Member>,
}

impl Outlook {
    /// What a full message says.
    pub(crate) fn from_full(message: WatchMessage) -> Self {
        let mut outlook = Self::default();
        outlook.apply(WatchMessage { full: true, ..message });
        outlook
    }

    /// Takes a message over. A full one replaces everything; another one adds to what is there.
    pub(crate) fn apply(&mut self, message: WatchMessage) {
        if message.full {
            self.networks.clear();
        }
        self.index = message.index;
        self.members = message.members;
        for view in message.networks {
            let network = self.networks.entry(view.network_id).or_default();
            if view.whole {
                *network = NetworkOutlook::default();
            }
            if view.mtu != 0 {
                network.mtu = view.mtu;
            }
            for id in view.removed_endpoint_ids {
                network.endpoints.remove(&id);
            }
            for remote in view.endpoints {
                if let Some(id) = remote.endpoint.as_ref().map(|endpoint| endpoint.id.clone()) {
                    network.endpoints.insert(id, remote);
                }
            }
            for id in view.removed_service_ids {
                network.services.remove(&id);
            }
            network.services.extend(view.services.into_iter().map(|service| (service.id.clone(), service)));
        }
    }

    /// All of it as one full message, for the disk.
    pub(crate) fn to_full(&self) -> WatchMessage {
        let view = |(id, network): (&String, &NetworkOutlook)| NetworkView {
            network_id: id.clone(),
            mtu: network.mtu,
            endpoints: network.endpoints.values().cloned().collect(),
            removed_endpoint_ids: Vec::new(),
            services: network.services.values().cloned().collect(),
            removed_service_ids: Vec::new(),
            whole: true,
        };
        WatchMessage {
            index: self.index,
            full: true,
            networks: self.networks.iter().map(view).collect(),
            members: self.members.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::weft_v1::Endpoint;

    use super::*;

    fn remote(id: &str, vtep: &str) -> RemoteEndpoint {
        let endpoint = Endpoint { id: id.into(), ..Endpoint::default() };
        RemoteEndpoint {
            endpoint: Some(endpoint),
            node_id: "n".into(),
            vtep: vtep.into(),
            ..RemoteEndpoint::default()
        }
    }

    fn view(endpoints: Vec<RemoteEndpoint>, removed: &[&str]) -> NetworkView {
        NetworkView {
            network_id: "net".into(),
            mtu: 1450,
            endpoints,
            removed_endpoint_ids: removed.iter().map(|id| (*id).to_owned()).collect(),
            ..NetworkView::default()
        }
    }

    #[test]
    fn full_replaces_and_delta_adds_moves_and_removes() {
        let mut outlook = Outlook::default();
        let both = vec![remote("a", "10.0.0.1"), remote("b", "10.0.0.1")];
        outlook.apply(WatchMessage {
            index: 4,
            full: true,
            networks: vec![view(both, &[])],
            members: vec![],
        });
        let change = vec![remote("a", "10.0.0.2"), remote("c", "10.0.0.3")];
        outlook.apply(WatchMessage {
            index: 6,
            full: false,
            networks: vec![view(change, &["b"])],
            members: vec![],
        });
        let network = &outlook.networks["net"];
        assert_eq!(outlook.index, 6);
        assert_eq!(network.endpoints.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(network.endpoints["a"].vtep, "10.0.0.2");
        assert_eq!(Outlook::from_full(outlook.to_full()), outlook);
        outlook.apply(WatchMessage { index: 7, full: true, ..WatchMessage::default() });
        assert!(outlook.networks.is_empty());
    }

    #[test]
    fn services_come_change_and_go_and_a_first_word_replaces() {
        let service =
            |id: &str, name: &str| ServiceView { id: id.into(), name: name.into(), ..Default::default() };
        let message = |index, view| WatchMessage { index, networks: vec![view], ..WatchMessage::default() };
        let mut outlook = Outlook::default();
        let both = vec![service("s1", "web"), service("s2", "db")];
        outlook.apply(message(1, NetworkView { services: both, ..view(vec![remote("a", "10.0.0.1")], &[]) }));
        let gone = NetworkView {
            services: vec![service("s2", "cache")],
            removed_service_ids: vec!["s1".into()],
            ..view(vec![], &[])
        };
        outlook.apply(message(2, gone));
        let names: Vec<&str> = outlook.networks["net"].services.values().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["cache"]);
        assert_eq!(Outlook::from_full(outlook.to_full()), outlook);
        // The node was away from the network meanwhile.
        outlook.apply(message(3, NetworkView { whole: true, ..view(vec![remote("b", "10.0.0.2")], &[]) }));
        let network = &outlook.networks["net"];
        assert!(network.services.is_empty() && network.endpoints.keys().eq(["b"]));
    }
}
