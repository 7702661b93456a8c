//! The managers' word, gossip, and what both make of the overlay networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use weft_plan::{LinkName, NamespaceState};
use weft_types::{MacAddr, NetworkId, TaskId};

use crate::controller::helper_wish::gossip_wish;
use crate::controller::{Controller, Touched};
use crate::error::NetworkError;
use crate::helper::protocol::{FromHelper, HelperState};
use crate::paths::Paths;
use crate::peers::{self, GossipKey, GossipTables, GossipValue, Refusal};
use crate::services::{Services, known_services};
use crate::state::State;
use crate::store::MODE;
use crate::swarm::{LocalSwarmEndpoint, SwarmEndpoint, SwarmNetworkState, SwarmState};

/// What gossip says, and what of it was refused.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Gossiped {
    /// As a list: keys of JSON objects are texts.
    #[serde(with = "as_list")]
    tables: GossipTables,
    /// Members' addresses by name.
    members: BTreeMap<String, IpAddr>,
    #[serde(skip)]
    refused: BTreeMap<GossipKey, Refusal>,
    #[serde(skip)]
    path: PathBuf,
}

impl Gossiped {
    /// What was known when the daemon last ran: stands until the helper tells anew.
    pub(super) fn load(paths: &Paths) -> Self {
        let path = paths.gossip();
        let known: Self = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self { path, ..known }
    }

    /// What is said of a network in one table.
    pub(super) fn of_network<'a>(
        &'a self,
        network: &'a NetworkId,
        table: &'a str,
    ) -> impl Iterator<Item = (&'a GossipKey, &'a GossipValue)> {
        self.tables.iter().filter(move |(key, _)| key.network == network.as_str() && key.table == table)
    }

    /// Losing the last instant is no harm, so nothing is synced.
    fn save(&self) {
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| weft_durable::replace_unsynced(&self.path, &bytes, MODE));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "gossip not kept");
        }
    }

    fn take(&mut self, news: FromHelper) {
        match news {
            FromHelper::GossipAll { entries, members } => {
                self.tables = entries.into_iter().collect();
                self.members = members;
            }
            FromHelper::GossipNetwork { network, entries, members } => {
                self.tables.retain(|key, _| key.network != network);
                self.tables.extend(entries);
                self.members = members;
            }
            FromHelper::EntryUp(key, value) => {
                self.tables.insert(key, value);
            }
            FromHelper::EntryDown(key) => {
                self.tables.remove(&key);
            }
            FromHelper::MemberUp(name, address) => {
                self.members.insert(name, address);
            }
            FromHelper::MemberDown(name) => {
                self.members.remove(&name);
            }
            FromHelper::Hello { .. }
            | FromHelper::Applied { .. }
            | FromHelper::Repaired(_)
            | FromHelper::Encryption(_)
            | FromHelper::Word { .. }
            | FromHelper::HandedOver(_)
            | FromHelper::GossipName(_) => {}
        }
    }
}

mod as_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::peers::{GossipKey, GossipTables, GossipValue};

    pub(super) fn serialize<S: Serializer>(tables: &GossipTables, to: S) -> Result<S::Ok, S::Error> {
        tables.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GossipTables, D::Error> {
        Ok(Vec::<(GossipKey, GossipValue)>::deserialize(from)?.into_iter().collect())
    }
}

impl Controller {
    /// The managers' word, whole. `None` when this node left the swarm; while managers are only silent, do not call:
    /// the last word stands.
    pub async fn set_swarm_state(&self, swarm: Option<SwarmState>) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        let left = swarm.is_none();
        let before = self.state.load_full();
        if before.swarm() == swarm.as_ref() {
            return Ok(());
        }
        if left {
            let mut gossiped = self.gossiped.lock().unwrap_or_else(PoisonError::into_inner);
            *gossiped = Gossiped { path: std::mem::take(&mut gossiped.path), ..Gossiped::default() };
            gossiped.save();
            self.gossip_name.send_replace(String::new());
        }
        *self.data_path.lock().unwrap_or_else(PoisonError::into_inner) =
            self.find_data_path(swarm.as_ref()).await;
        self.follow_profile().await;
        let first = before.swarm().is_none();
        if let Some(swarm) = swarm.as_ref().filter(|_| first) {
            self.open_gossip(&before, swarm);
        }
        let reserved = if first { self.host_routes().await } else { Vec::new() };
        self.state_fact(|state| {
            state.swarm = swarm.map(Arc::new);
            follow_ingress(&before, state);
            if left {
                // Cached networks of the swarm go with it, unless a container still has its place there.
                let used: BTreeSet<NetworkId> = state
                    .sandboxes
                    .values()
                    .flat_map(|s| s.endpoints.iter().map(|e| e.network.clone()))
                    .collect();
                state.networks_mut().retain(|id, network| network.overlay().is_none() || used.contains(id));
            } else if first && state.swarm().is_some_and(SwarmState::is_of_swarm) {
                // Without a swarm it is made for the first container that needs it, as Docker does.
                super::networks::gateway_bridge(state, &self.config, &reserved)?;
            }
            Ok(((), touched(&before, state)))
        })
        .await
    }

    /// Gossip begins before the kernel follows: it needs nothing there, and Docker's nodes that find nobody at their first
    /// attempt make the next one after a minute.
    fn open_gossip(&self, before: &State, swarm: &SwarmState) {
        let entered = State { swarm: Some(Arc::new(swarm.clone())), ..State::clone(before) };
        let gossip = gossip_wish(&entered, swarm);
        self.tell_helper(HelperState { gossip, ..self.helper_state(before) });
    }

    /// The managers' word as it stands.
    pub fn swarm_state(&self) -> Option<SwarmState> {
        self.state.load().swarm().cloned()
    }

    /// Networks of the swarm that have endpoints here: what the agent watches.
    pub fn used_swarm_networks(&self) -> BTreeSet<NetworkId> {
        used(&self.state.load())
    }

    pub(super) fn gossip_refused(&self) -> u64 {
        self.gossiped.lock().unwrap_or_else(PoisonError::into_inner).refused.len() as u64
    }

    /// News of gossip, in order; brought in by [`Controller::start_gossip`]'s task.
    pub(super) fn hear_gossip(&self, news: FromHelper) {
        let _ = self.gossip_inbox.send(news);
    }

    pub(super) fn start_gossip(self: &Arc<Self>, mut inbox: mpsc::UnboundedReceiver<FromHelper>) {
        let controller = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(first) = inbox.recv().await {
                let mut news = vec![first];
                while let Ok(more) = inbox.try_recv() {
                    news.push(more);
                }
                let Some(controller) = Weak::upgrade(&controller) else { return };
                controller.take_gossip(news).await;
            }
        });
    }

    /// Gossip changed: plans follow.
    async fn take_gossip(&self, news: Vec<FromHelper>) {
        let _turn = self.turn.lock().await;
        let _settled = self.settled().await;
        if self.state.load().swarm.is_none() {
            return;
        }
        {
            let mut gossiped = self.gossiped.lock().unwrap_or_else(PoisonError::into_inner);
            news.into_iter().for_each(|news| gossiped.take(news));
            gossiped.save();
        }
        let (before, members) = (self.peers.load_full(), self.members.load_full());
        let services = self.refresh_peers();
        let after = self.peers.load_full();
        let changed = differing(&before, &after);
        let host = members != self.members.load_full();
        if changed.is_empty() && services.is_empty() && !host {
            return;
        }
        let state = self.state.load_full();
        // Names are the helper's business, not the kernel's.
        let moved = |id: &NetworkId| {
            before.get(id).map(|known| &known.peers) != after.get(id).map(|known| &known.peers)
        };
        let overlays = changed.into_iter().filter(moved).collect();
        let touched = Touched { overlays, host, services, ..Touched::default() };
        if let Err(error) = self.converge(&state, &state, &touched).await {
            tracing::warn!(%error, "news of gossip not brought into the kernel; the audit goes on");
        }
        self.push_helper();
    }

    /// Puts the managers' word and gossip together anew. Gives the networks whose services changed.
    pub(super) fn refresh_peers(&self) -> BTreeSet<NetworkId> {
        let state = self.state.load_full();
        let mut gossiped = self.gossiped.lock().unwrap_or_else(PoisonError::into_inner);
        let swarm = state.swarm();
        let by_gossip: BTreeSet<IpAddr> = gossiped.members.values().copied().collect();
        let (merged, refused) = peers::merge(swarm, &gossiped.tables, &by_gossip, &used(&state));
        self.members.store(Arc::new(peers::tunnel_members(swarm, &by_gossip, &merged)));
        for (key, refusal) in &refused {
            if gossiped.refused.get(key) != Some(refusal) {
                tracing::warn!(
                    network = key.network,
                    table = key.table,
                    owner = key.owner,
                    key = key.key,
                    ?refusal,
                    "entry of gossip refused"
                );
            }
        }
        gossiped.refused = refused;
        let services: Services = used(&state)
            .into_iter()
            .map(|id| {
                let known = known_services(&state, merged.get(&id), &id);
                (id, Arc::new(known))
            })
            .collect();
        let changed = differing(&self.services.load(), &services);
        self.services.store(Arc::new(services));
        self.peers.store(Arc::new(merged));
        changed
    }

    /// This node's service tasks that take traffic, whole. Others of its tasks leave names, balancers and the routing
    /// mesh of this node at once; other nodes learn it from the managers and from gossip.
    pub async fn set_serving(&self, tasks: BTreeSet<TaskId>) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        let before = self.state.load_full();
        if *before.serving == tasks {
            return Ok(());
        }
        self.state_fact(|state| {
            state.serving = Arc::new(tasks);
            Ok(((), Touched::default()))
        })
        .await
    }

    pub(super) async fn refresh_data_path(&self) {
        let state = self.state.load_full();
        let found = self.find_data_path(state.swarm()).await;
        *self.data_path.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The interface with the data-path address; none where that is on `lo` or on no interface of a network (routed
    /// fabrics announce such addresses), because packets to it then come in anywhere.
    async fn find_data_path(&self, swarm: Option<&SwarmState>) -> Option<LinkName> {
        let address = swarm?.data_path;
        let observed = self.dataplane.host().observe(&NamespaceState::empty()).await.ok()?;
        let found =
            observed.addresses.keys().find(|a| a.address.ip() == address && a.link != LinkName::lo())?;
        (found.address.prefix_len() < found.address.subnet().max_prefix_len()).then(|| found.link.clone())
    }

    /// Tells the agent about this node's endpoints, if they changed.
    pub(super) fn tell_local(&self) {
        let state = self.state.load();
        let mut all = Vec::new();
        for sandbox in state.sandboxes.values() {
            for endpoint in &sandbox.endpoints {
                let Some(attachment) = &endpoint.attachment else { continue };
                let mut names = sandbox.dns_names(endpoint);
                all.push(LocalSwarmEndpoint {
                    id: endpoint.id.clone(),
                    network: endpoint.network.clone(),
                    attachment: attachment.clone(),
                    container: sandbox.spec.container.clone(),
                    address: endpoint.address,
                    address6: endpoint.address6,
                    mac: endpoint.mac,
                    name: names.remove(0),
                    aliases: names,
                });
            }
        }
        self.local.send_if_modified(|now| {
            let changed = *now != all;
            *now = all;
            changed
        });
    }
}

/// The keys whose values differ.
fn differing<T: PartialEq>(
    before: &BTreeMap<NetworkId, T>,
    after: &BTreeMap<NetworkId, T>,
) -> BTreeSet<NetworkId> {
    let both = after.keys().chain(before.keys());
    both.filter(|id| before.get(*id) != after.get(*id)).cloned().collect()
}

pub(super) fn used(state: &State) -> BTreeSet<NetworkId> {
    let ids = state.sandboxes.values().flat_map(|sandbox| sandbox.endpoints.iter().map(|e| &e.network));
    let all = ids.chain(state.ingress().map(|ingress| &ingress.id));
    all.filter(|id| state.network(id).is_some_and(|n| n.overlay().is_some())).cloned().collect()
}

/// The ingress network is known here also without endpoints, and forgotten when there is none, or another.
fn follow_ingress(before: &State, state: &mut State) {
    let told = |state: &State| state.swarm().and_then(|swarm| swarm.ingress.clone());
    let (old, new) = (told(before), told(state));
    if let Some(spec) = &new {
        super::endpoints::note_swarm_network(state, spec);
    }
    if let Some(spec) = old.filter(|old| new.as_ref().is_none_or(|new| new.id != old.id)) {
        super::endpoints::forget_unused(state, [&spec.id]);
    }
}

/// Whether frames go where they went: that a task is unwell, or what it is called, is nothing to links and entries.
fn same_places(was: &[SwarmEndpoint], is: &[SwarmEndpoint]) -> bool {
    fn place(endpoint: &SwarmEndpoint) -> (&[IpAddr], MacAddr, IpAddr) {
        (&endpoint.addresses, endpoint.mac, endpoint.vtep)
    }
    was.iter().map(place).eq(is.iter().map(place))
}

/// Which namespaces a newer word of the managers concerns. Mostly it is one endpoint more or less on one network.
fn touched(before: &State, after: &State) -> Touched {
    let (Some(old), Some(new)) = (before.swarm(), after.swarm()) else {
        // Into a swarm, or out of one: networks come and go with it.
        let (mut touched, now) = (Touched::all(before), Touched::all(after));
        touched.overlays.extend(now.overlays);
        return touched;
    };
    if (old.data_path, old.data_path_port) != (new.data_path, new.data_path_port) {
        return Touched::all(after);
    }
    let ingress = |swarm: &SwarmState| swarm.ingress.as_ref().map(|network| network.id.clone());
    let nothing = SwarmNetworkState::default();
    let mut touched =
        Touched { host: (&old.members, old.managed) != (&new.members, new.managed), ..Touched::default() };
    if old.ingress != new.ingress {
        touched.host = true;
        touched.overlays.extend(ingress(old).into_iter().chain(ingress(new)));
    }
    if let Some(mesh) = after.ingress().filter(|_| touched.host) {
        // Tasks answer through the node that let a connection in: each must know all nodes.
        let tasks = after.endpoints_on(&mesh.id).map(|(sandbox, _)| sandbox.spec.container.clone());
        touched.sandboxes.extend(tasks);
    }
    for id in used(after) {
        let (was, is) =
            (old.networks.get(&id).unwrap_or(&nothing), new.networks.get(&id).unwrap_or(&nothing));
        if was.mtu != is.mtu {
            touched
                .sandboxes
                .extend(after.endpoints_on(&id).map(|(sandbox, _)| sandbox.spec.container.clone()));
        }
        // Who counts as a member decides about gossip's entries too.
        if was.mtu != is.mtu || !same_places(&was.endpoints, &is.endpoints) || touched.host {
            touched.overlays.insert(id.clone());
        }
        if was.load_balancer != is.load_balancer && ingress(new) == Some(id) {
            touched.host = true;
        }
    }
    touched
}
