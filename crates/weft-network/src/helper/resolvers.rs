//! The resolvers of all containers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::time::timeout;
use weft_kernel::Netns;

use crate::helper::delta::{HelperDelta, NetworkDelta};
use crate::helper::handover::{Legacy, ResolverSockets};
use crate::helper::protocol::{HandedSocket, HelperState, ResolverWish};
use crate::resolver::{ClusterNames, Common, NameTable, Server, Settings, SharedTable, Threads, Turns, View};

/// Questions to other servers under way, of all containers together. Each may take a file for each of three servers.
const TURNS: usize = 2048;
/// So long a successor waits for answers that are under way.
const ANSWERS_WAIT: Duration = Duration::from_millis(500);
/// Files left for everything else.
const FILES_KEPT: u64 = 256;

/// Running resolvers by sandbox, and the names they know.
pub(super) struct Resolvers {
    servers: HashMap<String, Server>,
    tables: HashMap<String, SharedTable>,
    cluster: Arc<ArcSwap<ClusterNames>>,
    /// Made for the first container.
    common: Option<Common>,
    /// From the helper before, by sandbox.
    inherited: HashMap<String, ResolverSockets>,
}

impl Resolvers {
    /// With sockets that are open already.
    pub(super) fn new(inherited: HashMap<String, ResolverSockets>) -> Self {
        Self {
            inherited,
            servers: HashMap::new(),
            tables: HashMap::new(),
            cluster: Arc::new(ArcSwap::from_pointee(ClusterNames::default())),
            common: None,
        }
    }

    /// Starts, updates and ends resolvers. `state` is what `change` led to. One that cannot be started is tried again with
    /// the next change.
    pub(super) fn follow(&mut self, state: &HelperState, change: &HelperDelta) {
        let now = Instant::now();
        let known = self.tables.len() + change.gone_networks.len();
        for id in &change.gone_networks {
            self.tables.remove(id);
        }
        change.networks.iter().for_each(|network| self.follow_names(network, now));
        let others = known != self.tables.len() || !change.gone_networks.is_empty();
        if others {
            self.cluster.store(Arc::new(ClusterNames::new(self.tables.values().cloned().collect())));
        }
        for id in &change.gone_sandboxes {
            self.servers.remove(id);
        }
        for wish in &state.sandboxes {
            match self.servers.get(&wish.id) {
                // What a table says is found there; only other tables or settings are news.
                Some(server) if others || change.sandboxes.iter().any(|changed| changed.id == wish.id) => {
                    server.update(self.settings(wish));
                }
                Some(_) => {}
                None => self.start(wish),
            }
        }
        // Whoever is not wished for has gone meanwhile.
        self.inherited.clear();
    }

    fn follow_names(&mut self, network: &NetworkDelta, now: Instant) {
        if let Some(table) = self.tables.get(&network.id) {
            let mut newer = NameTable::clone(&table.load());
            newer.describe(&network.name, &network.subnets);
            newer.change(&network.records, now);
            table.store(Arc::new(newer));
        } else {
            let table = NameTable::new(&network.clone().into_names(), now);
            self.tables.insert(network.id.clone(), Arc::new(ArcSwap::from_pointee(table)));
        }
    }

    fn start(&mut self, wish: &ResolverWish) {
        let settings = self.settings(wish);
        let common = match self.common() {
            Ok(common) => common,
            Err(error) => {
                tracing::error!(%error, "threads for resolvers");
                return;
            }
        };
        let started = Netns::open(&wish.netns).and_then(|netns| match self.inherited.remove(&wish.id) {
            Some(sockets) => Server::serve(&netns, sockets, settings, &common),
            None => Server::start(&netns, wish.ports, settings, &common),
        });
        match started {
            Ok(server) => {
                let (udp, tcp) = server.ports;
                tracing::debug!(sandbox = wish.id, udp, tcp, "resolver starts");
                self.servers.insert(wish.id.clone(), server);
            }
            Err(error) => tracing::warn!(sandbox = wish.id, %error, "resolver not started"),
        }
    }

    fn common(&mut self) -> io::Result<Common> {
        if let Some(common) = &self.common {
            return Ok(common.clone());
        }
        let common = Common {
            cluster: self.cluster.clone(),
            turns: Turns::new(turns()),
            threads: Arc::new(Threads::start()?),
        };
        Ok(self.common.insert(common).clone())
    }

    fn settings(&self, wish: &ResolverWish) -> Settings {
        let lower = |name: &String| name.to_ascii_lowercase();
        Settings {
            view: View {
                private: wish.private.iter().map(|(name, ips)| (lower(name), ips.clone())).collect(),
                tables: wish.networks.iter().filter_map(|id| self.tables.get(id).cloned()).collect(),
                stack: wish.stack.clone(),
            },
            upstreams: wish.upstreams.clone(),
            ndots_set: wish.ndots_set,
            isolated: wish.isolated,
        }
    }

    /// Stops reading questions, lets answers to those that were read arrive, and gives all sockets away.
    pub(super) async fn hand_over(&mut self, legacy: &mut Legacy) {
        for (id, server) in self.servers.drain() {
            match server.sockets() {
                Ok((udp, tcp)) => {
                    legacy.add(HandedSocket::ResolverUdp(id.clone()), udp);
                    legacy.add(HandedSocket::ResolverTcp(id), tcp);
                }
                Err(error) => tracing::warn!(sandbox = id, %error, "sockets of a resolver not handed over"),
            }
        }
        if let Some(common) = &self.common {
            // Questions into the void are asked again by whoever asks, as with any server.
            let _ = timeout(ANSWERS_WAIT, common.turns.all_back()).await;
        }
    }

    /// The ports of each.
    pub(super) fn ports(&self) -> BTreeMap<String, (u16, u16)> {
        self.servers.iter().map(|(id, server)| (id.clone(), server.ports)).collect()
    }
}

/// As many turns as the limit of open files allows.
fn turns() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(files.saturating_sub(FILES_KEPT) / 4).unwrap_or(TURNS).clamp(64, TURNS)
}
