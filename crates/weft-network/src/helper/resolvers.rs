//! The resolvers of all containers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Semaphore;
use weft_kernel::Netns;

use crate::helper::protocol::{HelperState, ResolverWish};
use crate::resolver::{NameTable, Server, Settings, View};

/// Forwarded queries of all containers under way: leaves room in the usual limit of open files.
const FORWARDS: usize = 700;

/// Running resolvers by sandbox.
#[derive(Debug)]
pub(super) struct Resolvers {
    servers: HashMap<String, Server>,
    forwards: Arc<Semaphore>,
}

impl Resolvers {
    pub(super) fn new() -> Self {
        Self { servers: HashMap::new(), forwards: Arc::new(Semaphore::new(FORWARDS)) }
    }

    /// Starts, updates and ends resolvers as wished. One that cannot be started is tried again with the next wish.
    pub(super) fn follow(&mut self, state: &HelperState) {
        let tables: HashMap<&str, Arc<NameTable>> =
            state.networks.iter().map(|names| (names.id.as_str(), Arc::new(NameTable::new(names)))).collect();
        self.servers.retain(|id, _| state.sandboxes.iter().any(|wish| wish.id == *id));
        for wish in &state.sandboxes {
            let settings = settings(wish, &tables);
            if let Some(server) = self.servers.get(&wish.id) {
                server.update(settings);
                continue;
            }
            let started = Netns::open(&wish.netns)
                .and_then(|netns| Server::start(&netns, wish.ports, settings, self.forwards.clone()));
            match started {
                Ok(server) => {
                    tracing::debug!(
                        sandbox = wish.id,
                        udp = server.ports.0,
                        tcp = server.ports.1,
                        "resolver starts"
                    );
                    self.servers.insert(wish.id.clone(), server);
                }
                Err(error) => tracing::warn!(sandbox = wish.id, %error, "resolver not started"),
            }
        }
    }

    /// The ports of each.
    pub(super) fn ports(&self) -> BTreeMap<String, (u16, u16)> {
        self.servers.iter().map(|(id, server)| (id.clone(), server.ports)).collect()
    }
}

fn settings(wish: &ResolverWish, tables: &HashMap<&str, Arc<NameTable>>) -> Settings {
    let lower = |name: &String| name.to_ascii_lowercase();
    Settings {
        view: View {
            private: wish.private.iter().map(|(name, ips)| (lower(name), ips.clone())).collect(),
            tables: wish.networks.iter().filter_map(|id| tables.get(id.as_str()).cloned()).collect(),
        },
        upstreams: wish.upstreams.clone(),
        ndots_set: wish.ndots_set,
        isolated: wish.isolated,
    }
}
