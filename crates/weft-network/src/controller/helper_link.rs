//! The daemon's side of the helper: starting it, adopting it, telling it what to do, hearing from it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use weft_kernel::Netns;
use weft_plan::{EntryNode, NamespaceRef};
use weft_types::{EndpointAddress, MacAddr, NetworkId};
use weft_wire::networkdb::{EndpointRecord, PeerRecord};

use crate::config::HelperLaunch;
use crate::controller::audit::Place;
use crate::controller::doubts::{Doubts, next_doubt};
use crate::controller::{Controller, Touched, swarm::used};
use crate::helper::delta::HelperDelta;
use crate::helper::protocol::{
    FromHelper, GossipWish, HelperState, OwnEntry, Program, ResolverWish, SOCKET, TAKE_OVER, ToHelper,
    VERSION, receive, send,
};
use crate::network::Network;
use crate::peers::{ENDPOINT_TABLE, PEER_TABLE};
use crate::plans;
use crate::resolver::{NameRecord, NamedPort, NetworkNames};
use crate::sandbox::{Endpoint, Sandbox};
use crate::services::{KnownService, Services};
use crate::state::State;
use crate::swarm::{GossipWord, SwarmState};

/// What Docker calls a node's load balancer on the ingress network.
pub(super) const INGRESS_BALANCER: &str = "ingress-endpoint";
/// Port of gossip.
const GOSSIP_PORT: u16 = weft_gossip::GOSSIP_PORT;
/// A new container waits so long for its resolver; afterwards it runs without until the helper is back.
const RESOLVER_WAIT: Duration = Duration::from_secs(2);
/// A finished change waits so long for the helper to know it.
const SETTLE_WAIT: Duration = Duration::from_millis(300);
/// A started helper opens its socket within this time.
const START_WAIT: Duration = Duration::from_secs(2);
/// Between two attempts to reach or start the helper.
const RETRY: Duration = Duration::from_millis(100);
/// So often a helper of this build tries to take over from one of another before that one is left in its place.
const UPGRADES: u32 = 3;
/// The helper gets so long to take the word that it shall stop.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// What the helper last said it follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Applied {
    generation: u64,
    resolvers: BTreeMap<String, (u16, u16)>,
}

/// What the connection's task is to do in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotYet,
    LeaveRunning,
    Stop,
    Done,
}

/// A helper that answers.
struct Found {
    stream: UnixStream,
    version: u32,
    generation: u64,
    program: Option<Program>,
}

/// The way to the helper.
pub(super) struct HelperLink {
    launch: HelperLaunch,
    dir: PathBuf,
    wanted: watch::Sender<Option<Arc<HelperState>>>,
    applied: watch::Sender<Applied>,
    generation: AtomicU64,
    connected: AtomicBool,
    /// How often a new helper did not take over from one of another build.
    failed_upgrades: AtomicU32,
    ending: watch::Sender<Ending>,
    doubts: Doubts,
}

impl HelperLink {
    pub(super) fn new(launch: HelperLaunch, dir: PathBuf) -> Self {
        Self {
            launch,
            dir,
            wanted: watch::channel(None).0,
            applied: watch::channel(Applied::default()).0,
            generation: AtomicU64::new(1),
            connected: AtomicBool::new(false),
            failed_upgrades: AtomicU32::new(0),
            ending: watch::channel(Ending::NotYet).0,
            doubts: Doubts::default(),
        }
    }

    /// What gossip says of the node at `address`, which it looks after from now on.
    pub(super) async fn doubt(&self, address: IpAddr) -> GossipWord {
        self.doubts.ask(address).await
    }

    /// Ends the connection, and unless containers keep running the helper too.
    pub(super) async fn stop(&self, keep_running: bool) {
        let ending = if keep_running { Ending::LeaveRunning } else { Ending::Stop };
        self.ending.send_replace(ending);
        let mut done = self.ending.subscribe();
        let _ = timeout(STOP_WAIT, done.wait_for(|ending| *ending == Ending::Done)).await;
    }

    /// Says what the helper shall do from now on. Returns the wish's generation.
    fn push(&self, mut state: HelperState) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        state.generation = generation;
        self.wanted.send_replace(Some(Arc::new(state)));
        generation
    }

    /// Waits until the helper follows that wish, or a newer one.
    async fn applied(&self, generation: u64, limit: Duration) -> Option<Applied> {
        let mut applied = self.applied.subscribe();
        let waited = timeout(limit, applied.wait_for(|now| now.generation >= generation)).await;
        waited.ok()?.ok().map(|now| now.clone())
    }

    /// A helper that answers: the running one, or a new one.
    async fn reach(&self, host: &NamespaceRef) -> io::Result<(UnixStream, u64)> {
        let own = Program::own()?;
        let mut replaced = None;
        match self.greet().await {
            Ok(found) if found.version == VERSION && (found.program == Some(own) || self.stays_old()) => {
                tracing::info!(generation = found.generation, "helper adopted");
                return Ok((found.stream, found.generation));
            }
            Ok(mut found) if found.program.is_none() => {
                tracing::info!(
                    theirs = found.version,
                    ours = VERSION,
                    "helper of an old version is replaced"
                );
                send(&mut found.stream, &ToHelper::Stop).await?;
                self.spawn(host, false)?;
            }
            Ok(found) => {
                tracing::info!(theirs = found.version, ours = VERSION, "helper of another build hands over");
                replaced = found.program;
                self.spawn(host, true)?;
            }
            Err(_) => self.spawn(host, false)?,
        }
        let greet = async {
            loop {
                match self.greet().await {
                    Ok(found)
                        if found.version == VERSION && (replaced.is_none() || found.program != replaced) =>
                    {
                        return (found.stream, found.generation);
                    }
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let reached = timeout(START_WAIT, greet).await;
        if reached.is_err() && replaced.is_some() {
            self.failed_upgrades.fetch_add(1, Ordering::SeqCst);
        }
        reached.map_err(|_| io::Error::other("the helper does not answer"))
    }

    /// Whether a helper of another build does, because none of this build could take over.
    fn stays_old(&self) -> bool {
        self.failed_upgrades.load(Ordering::SeqCst) >= UPGRADES
    }

    async fn greet(&self) -> io::Result<Found> {
        let mut stream = UnixStream::connect(self.dir.join(SOCKET)).await?;
        let hello = timeout(START_WAIT, receive(&mut stream));
        match hello.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            FromHelper::Hello { version, generation, program } => {
                Ok(Found { stream, version, generation, program })
            }
            _ => Err(io::Error::other("the helper does not say hello")),
        }
    }

    /// Starts a helper in the host's namespace. It is reaped here while this process lives.
    fn spawn(&self, host: &NamespaceRef, takes_over: bool) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut command = Command::new(&self.launch.exe);
        command.args(&self.launch.args).arg("--dir").arg(&self.dir);
        command.args(takes_over.then_some(TAKE_OVER));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let netns = Netns::resolve(host).map_err(io::Error::other)?;
        let mut child = netns.run_in(|| command.spawn()).map_err(io::Error::other)??;
        tracing::info!(pid = child.id(), "helper started");
        std::thread::Builder::new().name("helper-reaper".to_owned()).stack_size(64 << 10).spawn(
            move || match child.wait() {
                Ok(status) => tracing::info!(pid = child.id(), %status, "helper ended"),
                Err(error) => tracing::warn!(%error, "helper not reaped"),
            },
        )?;
        Ok(())
    }
}

impl Controller {
    pub(super) fn start_helper(self: &Arc<Self>) {
        if self.helper.is_none() {
            return;
        }
        self.push_helper();
        tokio::spawn(keep_connected(Arc::downgrade(self)));
    }

    /// Tells the helper the present state.
    pub(super) fn push_helper(&self) {
        if let Some(helper) = &self.helper {
            helper.push(self.helper_state(&self.state.load()));
        }
    }

    /// Tells the helper the present state, and waits a little so that who joined a network finds its names.
    pub(super) async fn settle_helper(&self) {
        let Some(helper) = &self.helper else { return };
        let generation = helper.push(self.helper_state(&self.state.load()));
        if helper.connected.load(Ordering::SeqCst) && helper.applied(generation, SETTLE_WAIT).await.is_none()
        {
            tracing::warn!("the helper is slow to follow");
        }
    }

    /// Makes sure that containers which need a resolver have one, before names are needed.
    pub(super) async fn open_resolvers(&self, state: &mut State) {
        let Some(helper) = &self.helper else { return };
        let missing = |s: &Sandbox| s.has_namespace() && s.resolver.is_none();
        if !state.sandboxes.values().any(|s| missing(s) && state.has_resolver(s)) {
            return;
        }
        let generation = helper.push(self.helper_state(state));
        let Some(applied) = helper.applied(generation, RESOLVER_WAIT).await else {
            tracing::warn!("no resolver yet: the helper does not answer");
            return;
        };
        for sandbox in state.sandboxes_mut().values_mut().filter(|sandbox| missing(sandbox)) {
            sandbox.resolver = applied.resolvers.get(&sandbox.id).copied();
        }
    }

    /// Ports that the helper got, where they are others than those known.
    async fn note_resolvers(&self, applied: &Applied) {
        let _turn = self.turn.lock().await;
        let state = self.state.load_full();
        let differs = |s: &Sandbox| {
            let ports = applied.resolvers.get(&s.id);
            ports.is_some() && ports != s.resolver.as_ref() && state.has_resolver(s)
        };
        let changed: std::collections::BTreeSet<_> =
            state.sandboxes.values().filter(|s| differs(s)).map(|s| s.spec.container.clone()).collect();
        if changed.is_empty() {
            return;
        }
        let noted = self
            .note_change(|state| {
                for container in &changed {
                    let sandbox = state.sandbox_mut(container)?;
                    sandbox.resolver = applied.resolvers.get(&sandbox.id).copied();
                }
                Ok(((), Touched { sandboxes: changed.clone(), ..Touched::default() }))
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "new ports of resolvers not brought into the kernel");
        }
    }

    fn helper_state(&self, state: &State) -> HelperState {
        let sandboxes = state.sandboxes.values().filter(|s| s.has_namespace() && state.has_resolver(s));
        let named =
            state.networks().filter(|n| n.gives_names() && state.endpoints_on(&n.id).next().is_some());
        HelperState {
            generation: 0,
            sandboxes: sandboxes.map(|sandbox| self.resolver_wish(state, sandbox)).collect(),
            networks: named.map(|network| self.names(state, network)).collect(),
            gossip: state.swarm().and_then(|swarm| gossip_wish(state, swarm)),
            encryption: plans::encryption(state, &self.around, &self.peers.load()),
            balance: self.balanced_places(state),
            audit: self
                .desired_with(|sandbox| plans::sandbox(state, &self.around, sandbox).plan())
                .into_iter()
                .map(|(place, want)| match place {
                    Place::Host => (NamespaceRef::host(), want),
                    Place::Pinned(path) => (NamespaceRef::at(path), want),
                })
                .collect(),
        }
    }

    fn resolver_wish(&self, state: &State, sandbox: &Sandbox) -> ResolverWish {
        let resolver = self.resolver_of(state, sandbox);
        let mut networks: Vec<&Network> = sandbox
            .endpoints
            .iter()
            .filter_map(|e| state.network(&e.network))
            .filter(|n| n.gives_names())
            .collect();
        // The swarm's networks are asked before local ones.
        networks.sort_by_key(|network| (network.overlay().is_none(), network.name.clone()));
        let private = sandbox.endpoints.iter().flat_map(|endpoint| {
            endpoint.links.iter().filter_map(|(alias, target)| {
                let found = state.endpoints_on(&endpoint.network).find(|(other, theirs)| {
                    other.dns_names(theirs).contains(target) || other.spec.container.as_str() == target
                });
                found.map(|(_, theirs)| (alias.clone(), theirs.ips().collect()))
            })
        });
        let way_out = [false, true].iter().any(|v6| state.gateway_endpoint(sandbox, *v6).is_some());
        ResolverWish {
            id: sandbox.id.clone(),
            netns: self.around.paths.sandbox_netns(&sandbox.id),
            ports: sandbox.resolver,
            networks: networks.iter().map(|network| network.id.to_string()).collect(),
            private: private.collect(),
            upstreams: resolver.upstreams,
            ndots_set: resolver.ndots_set,
            isolated: !way_out,
            stack: sandbox.endpoints.iter().find_map(|e| e.service.as_ref()?.stack.clone()),
        }
    }

    fn names(&self, state: &State, network: &Network) -> NetworkNames {
        let known = self.services.load().get(&network.id).cloned().unwrap_or_default();
        let stacks: BTreeMap<&str, Option<&String>> =
            known.iter().map(|service| (service.id.as_str(), service.stack.as_ref())).collect();
        let stack = |service: Option<&str>| service.and_then(|id| stacks.get(id).copied().flatten()).cloned();
        let local = state.endpoints_on(&network.id).filter(|(_, endpoint)| state.takes_traffic(endpoint));
        let mut records: Vec<NameRecord> = local
            .map(|(sandbox, endpoint)| NameRecord {
                names: sandbox.dns_names(endpoint),
                canonical: Some(sandbox.spec.name.clone()),
                ips: endpoint.ips().collect(),
                stack: stack(endpoint.service.as_ref().map(|service| service.id.as_str())),
                ..NameRecord::default()
            })
            .collect();
        let peers = self.peers.load();
        let remote = peers.get(&network.id).map(|known| known.names.as_slice()).unwrap_or_default();
        records.extend(remote.iter().map(|name| NameRecord {
            names: name.names.clone(),
            canonical: Some(name.canonical.clone()),
            ips: name.ips.clone(),
            stack: stack(name.service.as_deref()),
            ..NameRecord::default()
        }));
        let named_ports = named_ports(&self.services.load());
        let ports = |service: &KnownService| named_ports.get(&service.id).cloned().unwrap_or_default();
        records.extend(known.iter().flat_map(|service| service_names(service, ports(service))));
        let subnets = network.subnets();
        NetworkNames { id: network.id.to_string(), name: network.name.clone(), subnets, records }
    }
}

/// A service answers with its own addresses, or with its tasks'; `tasks.` always with its tasks'. Its names stand as
/// long as it does, also while none of its tasks takes traffic: nobody outside is asked for them.
fn service_names(service: &KnownService, ports: Vec<NamedPort>) -> [NameRecord; 2] {
    let names: Vec<String> = std::iter::once(&service.name).chain(&service.aliases).cloned().collect();
    let ready = service.backends.iter().filter(|backend| backend.ready);
    let tasks: Vec<IpAddr> = ready.flat_map(|backend| &backend.ips).copied().collect();
    let lasting = !service.virtual_ips.is_empty();
    let ips = if lasting { service.named_virtual_ips() } else { tasks.clone() };
    let of_tasks = NameRecord {
        names: names.iter().map(|name| format!("tasks.{name}")).collect(),
        ips: tasks,
        stack: service.stack.clone(),
        ..NameRecord::default()
    };
    [of_tasks, NameRecord { names, ips, stack: service.stack.clone(), lasting, ports, canonical: None }]
}

/// Published ports with names, by service: only on the ingress network they are known.
fn named_ports(services: &Services) -> BTreeMap<String, Vec<NamedPort>> {
    let mut named: BTreeMap<String, Vec<NamedPort>> = BTreeMap::new();
    for service in services.values().flat_map(|services| services.iter()) {
        let ports = service.ports.iter().filter(|port| !port.name.is_empty());
        let ports = ports.map(|port| NamedPort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.target,
        });
        named.entry(service.id.clone()).or_default().extend(ports);
    }
    named
}

/// This node's part in gossip: the networks it is on, its endpoints, and its load-balancer addresses.
fn gossip_wish(state: &State, swarm: &SwarmState) -> Option<GossipWish> {
    if swarm.gossip_keys.is_empty() {
        return None;
    }
    let networks = used(state);
    let mut entries = Vec::new();
    for network in &networks {
        for (sandbox, endpoint) in state.endpoints_on(network) {
            let serving = state.takes_traffic(endpoint);
            entries.extend(endpoint_entries(network, sandbox, endpoint, swarm, serving));
        }
        let known = swarm.networks.get(network);
        if let Some(address) = known.and_then(|known| known.load_balancer) {
            let ingress = state.network(network).is_some_and(Network::is_ingress);
            entries.extend(load_balancer_entries(network, address, swarm, ingress));
        }
    }
    let owners = swarm.managed.then(|| swarm.members.iter().map(|member| member.data_path).collect());
    Some(GossipWish {
        advertise: SocketAddr::new(swarm.advertise, GOSSIP_PORT),
        keys: swarm.gossip_keys.clone(),
        join: swarm.gossip_join.clone(),
        networks: networks.iter().map(NetworkId::to_string).collect(),
        entries,
        owners,
    })
}

/// Docker's nodes have a name for it on the ingress network only.
fn load_balancer_entries(
    network: &NetworkId,
    address: EndpointAddress,
    swarm: &SwarmState,
    ingress: bool,
) -> Vec<OwnEntry> {
    let entry = |table: &str, value: Vec<u8>| OwnEntry {
        network: network.to_string(),
        table: table.to_owned(),
        key: load_balancer_key(network, swarm),
        value,
    };
    // Replies of Docker's tasks come to where clients enter this node.
    let mac = if ingress { EntryNode(swarm.data_path).mac() } else { MacAddr::from_ip(address.ip()) };
    let peer = PeerRecord { address, mac, vtep: swarm.data_path };
    let name = EndpointRecord {
        name: INGRESS_BALANCER.to_owned(),
        service_name: String::new(),
        service_id: String::new(),
        virtual_ip: None,
        endpoint_ip: address.ip(),
        ingress_ports: Vec::new(),
        aliases: Vec::new(),
        task_aliases: Vec::new(),
        service_disabled: false,
    };
    let name = ingress.then(|| entry(ENDPOINT_TABLE, name.encode()));
    std::iter::once(entry(PEER_TABLE, peer.encode())).chain(name).collect()
}

/// An endpoint's id has 64 hexadecimal digits; this one is the same at every start.
pub(super) fn load_balancer_key(network: &NetworkId, swarm: &SwarmState) -> String {
    let text = format!("{network}{}", swarm.node_id);
    hex::encode(&text.as_bytes()[..32.min(text.len())])
}

fn endpoint_entries(
    network: &NetworkId,
    sandbox: &Sandbox,
    endpoint: &Endpoint,
    swarm: &SwarmState,
    serving: bool,
) -> Vec<OwnEntry> {
    let Some(address) = endpoint.address.or(endpoint.address6) else { return Vec::new() };
    let entry = |table: &str, value: Vec<u8>| OwnEntry {
        network: network.to_string(),
        table: table.to_owned(),
        key: endpoint.id.to_string(),
        value,
    };
    let mut names = sandbox.dns_names(endpoint);
    let service = endpoint.service.as_ref();
    let names = EndpointRecord {
        name: names.remove(0),
        service_name: service.map(|service| service.name.clone()).unwrap_or_default(),
        service_id: service.map(|service| service.id.clone()).unwrap_or_default(),
        virtual_ip: service.and_then(|service| service.virtual_ip),
        endpoint_ip: address.ip(),
        ingress_ports: service.into_iter().flat_map(|service| &service.ports).map(Into::into).collect(),
        aliases: service.map(|service| service.aliases.clone()).unwrap_or_default(),
        task_aliases: names,
        service_disabled: !serving,
    };
    let peer = PeerRecord { address, mac: endpoint.mac, vtep: swarm.data_path };
    vec![entry(PEER_TABLE, peer.encode()), entry(ENDPOINT_TABLE, names.encode())]
}

/// Holds the connection as long as the controller lives.
async fn keep_connected(controller: Weak<Controller>) {
    loop {
        let Some(strong) = Weak::upgrade(&controller) else { return };
        let Some(helper) = &strong.helper else { return };
        let mut ending = helper.ending.subscribe();
        if *ending.borrow_and_update() != Ending::NotYet {
            helper.ending.send_replace(Ending::Done);
            return;
        }
        let reached = helper.reach(&strong.around.host).await;
        match reached {
            Ok((stream, generation)) => {
                // A fresh start of the daemon goes on from where the helper is.
                if helper.generation.fetch_max(generation, Ordering::SeqCst) < generation {
                    strong.push_helper();
                }
                let talk = Talk { wanted: helper.wanted.subscribe(), ending };
                let host = strong.clone();
                drop(strong);
                let ended = talk.run(stream, &host).await;
                if ended {
                    if let Some(helper) = &host.helper {
                        helper.ending.send_replace(Ending::Done);
                    }
                    return;
                }
                tracing::warn!("connection to the helper is lost");
            }
            Err(error) => {
                tracing::error!(%error, "network helper");
                drop(strong);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// One connection.
struct Talk {
    wanted: watch::Receiver<Option<Arc<HelperState>>>,
    ending: watch::Receiver<Ending>,
}

impl Talk {
    /// Talks until the connection breaks (false) or the daemon stops (true).
    async fn run(mut self, stream: UnixStream, controller: &Arc<Controller>) -> bool {
        let (mut read, mut write) = stream.into_split();
        let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            while let Ok(message) = receive::<FromHelper>(&mut read).await {
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        self.wanted.mark_changed();
        let mut doubts = controller.helper.as_ref().map(|helper| helper.doubts.follow());
        let connected = |yes: bool| {
            if let Some(helper) = &controller.helper {
                helper.connected.store(yes, Ordering::SeqCst);
            }
        };
        connected(true);
        let mut told: Option<Arc<HelperState>> = None;
        let ended = loop {
            tokio::select! {
                changed = self.wanted.changed() => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    if changed.is_err() {
                        break true;
                    }
                    if let Some(wanted) = wanted {
                        let message = match &told {
                            Some(told) => ToHelper::Change(Box::new(HelperDelta::between(told, &wanted))),
                            None => ToHelper::State(Box::new(HelperState::clone(&wanted))),
                        };
                        if send(&mut write, &message).await.is_err() {
                            break false;
                        }
                        told = Some(wanted);
                    }
                }
                message = hear.recv() => match message {
                    Some(message) => on_message(controller, message).await,
                    None => break false,
                },
                doubt = next_doubt(&mut doubts) => {
                    let (number, address) = doubt;
                    if send(&mut write, &ToHelper::Doubt { number, address }).await.is_err() {
                        break false;
                    }
                }
                _ = self.ending.changed() => {
                    let ending = *self.ending.borrow_and_update();
                    if ending == Ending::Stop {
                        let _ = send(&mut write, &ToHelper::Stop).await;
                    }
                    if ending != Ending::NotYet {
                        break true;
                    }
                }
            }
        };
        connected(false);
        reader.abort();
        ended
    }
}

/// Never waits for the turn: whoever has it may wait for the helper.
async fn on_message(controller: &Arc<Controller>, message: FromHelper) {
    match message {
        FromHelper::Hello { .. } => {}
        FromHelper::Repaired { repairs, failures } => controller.note_away(&repairs, failures),
        FromHelper::Encryption(report) => controller.note_encryption(report),
        FromHelper::GossipName(name) => {
            controller.gossip_name.send_if_modified(|known| std::mem::replace(known, name.clone()) != name);
        }
        FromHelper::Applied { generation, resolvers } => {
            let Some(helper) = &controller.helper else { return };
            let applied = Applied { generation, resolvers };
            helper.applied.send_replace(applied.clone());
            let controller = controller.clone();
            tokio::spawn(async move { controller.note_resolvers(&applied).await });
        }
        FromHelper::Word { number, word } => {
            if let Some(helper) = &controller.helper {
                helper.doubts.answer(number, word);
            }
        }
        other => controller.hear_gossip(other),
    }
}
