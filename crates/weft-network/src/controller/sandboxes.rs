//! Making, publishing, adopting and removing sandboxes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rand::RngCore;
use weft_types::{ContainerId, PortMapping, TaskId};

use crate::controller::{Controller, Touched};
use crate::error::{NetworkError, PortFailure};
use crate::sandbox::Sandbox;
use crate::spec::{PortWish, SandboxKind, SandboxSpec};
use crate::state::State;
use crate::view::{NetworkEvent, SandboxView};

impl Controller {
    /// Makes the namespace of a container and its `/etc` files.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxView, NetworkError> {
        let _turn = self.turn.lock().await;
        let container = spec.container.clone();
        let id = match spec.kind {
            SandboxKind::Host => String::new(),
            _ => random_id(),
        };
        self.change(|state| {
            if state.sandboxes.contains_key(&container) {
                return Err(NetworkError::SandboxExists(container.to_string()));
            }
            if let SandboxKind::Shared(other) = &spec.kind {
                state.sandbox(other)?;
            }
            if let SandboxKind::Foreign(path) = &spec.kind {
                self.take_foreign(&id, path)?;
            }
            let sandbox = Sandbox { id, spec, endpoints: Vec::new(), ports: Vec::new(), resolver: None };
            state.sandboxes_mut().insert(container.clone(), sandbox);
            Ok(((), touch(&container, false)))
        })
        .await?;
        self.sandbox(&container)
    }

    /// A sandbox as it stands.
    pub fn sandbox(&self, container: &ContainerId) -> Result<SandboxView, NetworkError> {
        let state = self.state.load();
        let sandbox = state.sandbox(container)?;
        let owner = match &sandbox.spec.kind {
            SandboxKind::Shared(other) => state.sandbox(other)?,
            _ => sandbox,
        };
        let etc = self.around.paths.etc(&owner.spec.container);
        Ok(SandboxView {
            id: owner.id.clone(),
            netns: owner.has_namespace().then(|| self.around.paths.sandbox_netns(&owner.id)),
            hosts: etc.join("hosts"),
            resolv_conf: etc.join("resolv.conf"),
            hostname: etc.join("hostname"),
            ports: owner.ports.clone(),
        })
    }

    /// The container has a new name: its networks know it by that one from now on. Without a sandbox there is nothing
    /// to do.
    pub async fn rename(&self, container: &ContainerId, name: &str) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        if !self.state.load().sandboxes.contains_key(container) {
            return Ok(());
        }
        self.note_change(|state| {
            name.clone_into(&mut state.sandbox_mut(container)?.spec.name);
            Ok(((), Touched::default()))
        })
        .await
    }

    /// Publishes the sandbox's ports where its default route is. Does nothing the second time.
    pub async fn publish(&self, container: &ContainerId) -> Result<Vec<PortMapping>, NetworkError> {
        let _turn = self.turn.lock().await;
        drop(self.settled().await);
        let state = self.state.load_full();
        let sandbox = state.sandbox(container)?;
        if !sandbox.ports.is_empty() || sandbox.spec.ports.is_empty() {
            return Ok(sandbox.ports.clone());
        }
        let taken = self.take_ports(&state, sandbox)?;
        let published = self
            .change(|state| {
                state.sandbox_mut(container)?.ports.clone_from(&taken);
                Ok(((), Touched { host: true, ..Touched::default() }))
            })
            .await;
        if let Err(error) = published {
            self.ports.release(&taken);
            return Err(error);
        }
        self.forget_udp(&taken).await;
        if self.is_foreign(container) {
            // Other engines hold their containers' ports by sockets of their own (Podman does), or by none.
            self.ports.release(&taken);
        }
        Ok(taken)
    }

    fn take_ports(&self, state: &State, sandbox: &Sandbox) -> Result<Vec<PortMapping>, NetworkError> {
        let v4 = state.gateway_endpoint(sandbox, false).map(|(endpoint, _)| endpoint);
        let v6 = state.gateway_endpoint(sandbox, true).map(|(endpoint, _)| endpoint);
        let Some(endpoint) = v4.or(v6) else { return Ok(Vec::new()) };
        let target4 = v4.and_then(|e| e.address).map(|address| address.ip());
        let target6 = v6.and_then(|e| e.address6).map(|address| address.ip());
        let binding = state.network(&endpoint.network).and_then(|n| n.bridge()).and_then(|b| b.host_binding);
        let mut taken: Vec<PortMapping> = Vec::new();
        for wish in &sandbox.spec.ports {
            let addresses = addresses(wish, binding, target4.is_some(), target6.is_some());
            let Some(target) = target4.or(target6).filter(|_| !addresses.is_empty()) else { continue };
            let refused = match self.ports.take(wish, &addresses, target) {
                Ok(mappings) => {
                    taken.extend(mappings);
                    foreign_port(state, sandbox, &taken).map(PortFailure::Allocated)
                }
                Err(failure) => Some(failure),
            };
            if let Some(source) = refused {
                self.ports.release(&taken);
                return Err(NetworkError::Publish {
                    name: sandbox.spec.name.clone(),
                    endpoint: endpoint.id.to_string(),
                    source,
                });
            }
        }
        Ok(taken)
    }

    /// Flows that the kernel tracked before the rules changed would never meet them; for TCP a new SYN does.
    async fn forget_udp(&self, mappings: &[PortMapping]) {
        for mapping in mappings.iter().filter(|m| m.protocol == weft_types::PortProtocol::Udp) {
            let filter = weft_kernel::ConntrackFilter {
                protocol: Some(mapping.protocol),
                original_port: Some(mapping.host_port),
                ..weft_kernel::ConntrackFilter::default()
            };
            if let Err(error) = self.dataplane.host().forget_connections(&filter).await {
                tracing::debug!(%error, "tracked connections not forgotten");
            }
        }
    }

    /// Removes a container's network with all endpoints. Removing what is gone is no error.
    pub async fn remove_sandbox(&self, container: &ContainerId) -> Result<(), NetworkError> {
        let detached = {
            let _turn = self.turn.lock().await;
            self.drop_sandboxes(&[container.clone()].into()).await?
        };
        self.detach(detached).await;
        Ok(())
    }

    /// The same for a container that will be started again: its places on networks of the swarm stay its own. With the
    /// managers away it gets them back then; with them there it gets others, and these are given back.
    pub async fn suspend_sandbox(&self, container: &ContainerId) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        self.drop_sandboxes(&[container.clone()].into()).await.map(drop)
    }

    /// After a restart of the daemon: these containers run, everything else of ours is an orphan and goes. What a
    /// crash or someone else took away is put back; traffic of running containers is not touched.
    pub async fn adopt(&self, running: &[ContainerId]) -> Result<(), NetworkError> {
        let running: BTreeSet<&ContainerId> = running.iter().collect();
        let detached = {
            let _turn = self.turn.lock().await;
            let state = self.state.load_full();
            let is_orphan = |sandbox: &&Sandbox| {
                // What was handed on without a place left is what a crash, or who took the place away, left of it.
                let is_handed_on = sandbox.is_handed() && !sandbox.endpoints.is_empty();
                let lives = is_handed_on || self.foreign_lives(sandbox);
                !running.contains(&sandbox.spec.container) && !lives
            };
            let orphans =
                state.sandboxes.values().filter(is_orphan).map(|s| s.spec.container.clone()).collect();
            let detached = self.drop_sandboxes(&orphans).await?;
            let state = self.state.load_full();
            for sandbox in state.sandboxes.values().filter(|s| s.foreign_netns().is_none()) {
                for missed in self.ports.retake(&sandbox.ports) {
                    tracing::warn!(container = %sandbox.spec.container, port = missed.host_port,
                        "published port is held by another program; its rules stand");
                }
            }
            self.remove_stray_namespaces(&state).await;
            self.remove_stray_files(&state);
            self.note_change(|state| Ok(((), Touched::all(state)))).await?;
            detached
        };
        self.detach(detached).await;
        Ok(())
    }

    pub(super) async fn drop_sandboxes(
        &self,
        containers: &BTreeSet<ContainerId>,
    ) -> Result<Vec<TaskId>, NetworkError> {
        self.noted().await;
        let before = self.state.load_full();
        let gone: Vec<&Sandbox> = containers.iter().filter_map(|id| before.sandboxes.get(id)).collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let networks: BTreeSet<_> =
            gone.iter().flat_map(|s| s.endpoints.iter().map(|e| e.network.clone())).collect();
        let edit = |state: &mut State| {
            for container in containers {
                state.sandboxes_mut().remove(container);
            }
            super::endpoints::forget_unused(state, &networks);
            let touched = Touched {
                host: true,
                overlays: networks.clone(),
                sandboxes: containers.clone(),
                ..Touched::default()
            };
            Ok(((), touched))
        };
        if gone.iter().all(|sandbox| is_local(&before, sandbox)) {
            self.note_departure(edit).await?;
        } else {
            self.note_change(edit).await?;
        }
        for sandbox in &gone {
            self.ports.release(&sandbox.ports);
            self.forget_udp(&sandbox.ports).await;
            for endpoint in sandbox.endpoints.iter().filter(|endpoint| !endpoint.automatic) {
                if let Some(network) = before.network(&endpoint.network) {
                    self.tell(NetworkEvent::Disconnected(network.subject(), sandbox.spec.container.clone()));
                }
            }
        }
        Ok(gone.iter().flat_map(|s| s.endpoints.iter().filter_map(|e| e.attachment.clone())).collect())
    }

    /// Namespace files that no sandbox and no network accounts for.
    async fn remove_stray_namespaces(&self, state: &State) {
        let paths = &self.around.paths;
        let sandboxes = state.sandboxes.values().map(|s| paths.sandbox_netns(&s.id));
        let overlays = state.networks().filter(|n| n.overlay().is_some()).map(|n| paths.overlay_netns(&n.id));
        let known: BTreeSet<_> = sandboxes.chain(overlays).collect();
        let Ok(entries) = std::fs::read_dir(paths.netns_dir()) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !known.contains(path)) {
            tracing::info!(path = %path.display(), "namespace without a container removed");
            if let Err(error) = self.dataplane.remove(&path).await {
                tracing::warn!(path = %path.display(), %error, "namespace not removed");
            }
        }
    }

    /// Gives attachments back to the managers. They also notice by themselves, so failures are only noted.
    pub(super) async fn detach(&self, attachments: Vec<TaskId>) {
        let Some(swarm) = self.swarm_networks() else { return };
        for attachment in attachments {
            if let Err(error) = swarm.detach(&attachment).await {
                tracing::warn!(%attachment, %error, "attachment not given back");
            }
        }
    }
}

/// Whether nobody waits for the kernel when it goes: no other engine, which gives the namespace to others then; nobody on
/// other hosts; and no flow of UDP has to be forgotten once its rules are gone.
fn is_local(state: &State, sandbox: &Sandbox) -> bool {
    let is_bridge = |network| state.network(network).is_some_and(|network| network.bridge().is_some());
    !matches!(sandbox.spec.kind, SandboxKind::Foreign(_) | SandboxKind::Handed)
        && sandbox.endpoints.iter().all(|endpoint| is_bridge(&endpoint.network))
        && sandbox.ports.iter().all(|port| port.protocol != weft_types::PortProtocol::Udp)
}

pub(super) fn touch(container: &ContainerId, host: bool) -> Touched {
    Touched { host, sandboxes: [container.clone()].into(), ..Touched::default() }
}

fn random_id() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// Where another engine's container has one of these ports: no socket of ours tells.
fn foreign_port(state: &State, sandbox: &Sandbox, taken: &[PortMapping]) -> Option<String> {
    let others =
        state.sandboxes.values().filter(|other| other.id != sandbox.id && other.foreign_netns().is_some());
    let mut theirs = others.flat_map(|other| &other.ports);
    let collides = |theirs: &&PortMapping| {
        taken.iter().any(|own| {
            let meet = own.host_ip == theirs.host_ip
                || (own.host_ip.is_ipv4() == theirs.host_ip.is_ipv4()
                    && (own.host_ip.is_unspecified() || theirs.host_ip.is_unspecified()));
            own.protocol == theirs.protocol && own.host_port == theirs.host_port && meet
        })
    };
    theirs.find(collides).map(|theirs| SocketAddr::new(theirs.host_ip, theirs.host_port).to_string())
}

/// Host addresses to publish on: the wished one, else the network's, else all of each family the container has.
fn addresses(wish: &PortWish, binding: Option<IpAddr>, v4: bool, v6: bool) -> Vec<IpAddr> {
    let wanted = wish.host_ip.or(binding);
    let all: Vec<IpAddr> = match wanted {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    all.into_iter().filter(|ip| if ip.is_ipv4() { v4 } else { v6 }).collect()
}
