use proptest::collection::btree_map;
use proptest::prelude::*;
use weft_wire::weft_v1::Endpoint;

use super::*;

/// What a node makes of messages: the same as the agent's outlook.
#[derive(Debug, Default, PartialEq)]
struct Told {
    mtu: u32,
    endpoints: BTreeMap<String, RemoteEndpoint>,
    services: BTreeMap<String, ServiceView>,
}

impl Told {
    fn take(&mut self, news: NetworkView) {
        if news.whole {
            *self = Self::default();
        }
        self.mtu = news.mtu;
        self.endpoints.retain(|id, _| !news.removed_endpoint_ids.contains(id));
        self.services.retain(|id, _| !news.removed_service_ids.contains(id));
        let id = |remote: &RemoteEndpoint| remote.endpoint.clone().unwrap().id;
        self.endpoints.extend(news.endpoints.into_iter().map(|remote| (id(&remote), remote)));
        self.services.extend(news.services.into_iter().map(|service| (service.id.clone(), service)));
    }
}

/// A network as of some index; `salt` makes two of the same id differ.
fn known() -> impl Strategy<Value = Known> {
    let endpoints = btree_map("[a-f]", any::<bool>(), 0..6);
    let services = btree_map("[s-x]", 0u8..3, 0..6);
    (prop_oneof![Just(1450u32), Just(8950)], endpoints, services).prop_map(|(mtu, endpoints, services)| {
        Known {
            mtu: Mtu::try_from(mtu).ok(),
            endpoints: endpoints
                .into_iter()
                .map(|(id, healthy)| {
                    let endpoint = Endpoint { id: id.clone(), healthy, ..Endpoint::default() };
                    (id, RemoteEndpoint { endpoint: Some(endpoint), ..RemoteEndpoint::default() })
                })
                .collect(),
            services: services
                .into_iter()
                .map(|(id, salt)| {
                    let aliases = (0..salt).map(|n| n.to_string()).collect();
                    (id.clone(), ServiceView { id, aliases, ..ServiceView::default() })
                })
                .collect(),
        }
    })
}

proptest! {
    #[test]
    fn what_was_sent_equals_the_view(views in proptest::collection::vec(known(), 1..8)) {
        let (mut before, mut told) = (Known::default(), Told::default());
        for (turn, now) in views.into_iter().enumerate() {
            match now.news(&before, "net".to_owned()) {
                Some(news) => {
                    prop_assert_eq!(news.whole, turn == 0);
                    told.take(news);
                }
                None => prop_assert!(turn > 0),
            }
            prop_assert_eq!(told.mtu, now.mtu.map(Mtu::get).unwrap_or_default());
            prop_assert_eq!(&told.endpoints, &now.endpoints);
            prop_assert_eq!(&told.services, &now.services);
            // Nothing is said twice.
            prop_assert!(now.news(&now, "net".to_owned()).is_none());
            before = now;
        }
    }
}
