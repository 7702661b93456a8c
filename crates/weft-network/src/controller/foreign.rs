//! Containers of other programs: their namespaces are taken by reference, and given back when they are gone.
//!
//! Weft pins such a namespace at a place of its own, so that plans, audit and resolver work as for its own containers.
//! Our pin would keep it alive for ever: whether the container lives is told by the other program's own file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::PoisonError;

use weft_kernel::Netns;
use weft_plan::Op;
use weft_types::{ContainerId, Mtu};

use crate::controller::Controller;
use crate::error::NetworkError;
use crate::sandbox::Sandbox;
use crate::view::EndpointView;

/// A place that another program asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignPlace {
    /// Its name for the network.
    pub claim: String,
    /// The place.
    pub endpoint: EndpointView,
}

impl Controller {
    /// All places that other programs asked for.
    pub fn foreign_places(&self) -> Vec<ForeignPlace> {
        let state = self.state.load();
        let foreign = state.sandboxes.values().filter(|sandbox| sandbox.is_others());
        let places = foreign.flat_map(|sandbox| {
            let asked = sandbox.endpoints.iter().filter(|endpoint| !endpoint.automatic);
            asked.filter_map(|endpoint| {
                let network = state.network(&endpoint.network)?;
                let view = sandbox.view(endpoint, network);
                Some(ForeignPlace { claim: endpoint.claim.clone(), endpoint: view })
            })
        });
        places.collect()
    }

    /// Where another program keeps a container's namespace; none: it is our own, or unknown.
    pub fn foreign_netns(&self, container: &ContainerId) -> Option<std::path::PathBuf> {
        self.state.load().sandboxes.get(container)?.foreign_netns().map(Path::to_owned)
    }

    /// Where a container's default routes lead: routers, with the interfaces that they are reached through.
    pub fn default_routes(&self, container: &ContainerId) -> Vec<(std::net::IpAddr, String)> {
        let state = self.state.load();
        let Some(sandbox) = state.sandboxes.get(container) else { return Vec::new() };
        let routes = [false, true].into_iter().filter_map(|ipv6| state.gateway_endpoint(sandbox, ipv6));
        routes.map(|(endpoint, gateway)| (gateway, endpoint.interface.to_string())).collect()
    }

    /// Whether there is a way to the managers of a swarm.
    pub fn reaches_swarm(&self) -> bool {
        self.swarm_networks().is_some()
    }

    /// MTU of a container's interface, in bytes.
    pub fn interface_mtu(&self, container: &ContainerId, interface: &str) -> Option<u32> {
        let state = self.state.load();
        let plan = crate::plans::sandbox(&state, &self.around, state.sandboxes.get(container)?);
        plan.interfaces.iter().find(|i| i.name.as_str() == interface).and_then(|i| i.mtu).map(Mtu::get)
    }

    /// What a container's namespace lacks of what it shall hold, one line each; also what somebody else's object stands
    /// in the way of, which repairs leave alone.
    pub async fn missing(&self, container: &ContainerId) -> Result<Vec<String>, NetworkError> {
        let _turn = self.turn.lock().await;
        let _settled = self.settled().await;
        let state = self.state.load_full();
        let sandbox = state.sandbox(container)?;
        let want = self.sandbox_state(&state, sandbox);
        let kernel = self.dataplane.at(&self.around.paths.sandbox_netns(&sandbox.id)).await?;
        let seen = kernel.observe(&want).await?;
        let mut missing: BTreeSet<String> =
            weft_plan::diff(&seen, &want).iter().map(ToString::to_string).collect();
        let routes = want.routes.iter().filter(|route| !seen.routes.contains_key(route));
        missing.extend(routes.map(|route| Op::SetRoute(route.clone()).to_string()));
        Ok(missing.into_iter().collect())
    }

    /// Removes containers of other programs that are gone without a word: their namespace's file is, or leads elsewhere.
    /// Only what was gone at the look before, too, so that a file that is being replaced does no harm.
    pub(super) async fn drop_vanished(&self) {
        let state = self.state.load_full();
        let foreign = state.sandboxes.values().filter(|sandbox| sandbox.foreign_netns().is_some());
        let gone: BTreeSet<ContainerId> =
            foreign.filter(|s| !self.foreign_lives(s)).map(|s| s.spec.container.clone()).collect();
        let before = std::mem::replace(
            &mut *self.vanished.lock().unwrap_or_else(PoisonError::into_inner),
            gone.clone(),
        );
        for container in gone.intersection(&before) {
            tracing::info!(%container, "the namespace of another program's container is gone");
            if let Err(error) = self.remove_sandbox(container).await {
                tracing::warn!(%container, %error, "what it leaves behind is not removed");
            }
        }
    }

    /// Pins another program's namespace at the place of a new sandbox.
    pub(super) fn take_foreign(&self, sandbox_id: &str, source: &Path) -> Result<(), NetworkError> {
        let netns = Netns::open(source)?;
        let pin = self.around.paths.sandbox_netns(sandbox_id);
        netns.pin(&pin)?;
        self.dataplane.note_foreign(pin, source.to_owned());
        Ok(())
    }

    /// At the start: which namespaces must never be made anew.
    pub(super) fn know_foreign(&self) {
        for sandbox in self.state.load().sandboxes.values() {
            if let Some(source) = sandbox.foreign_netns() {
                self.dataplane.note_foreign(self.around.paths.sandbox_netns(&sandbox.id), source.to_owned());
            }
        }
    }

    /// Whether a container is another program's.
    pub(super) fn is_foreign(&self, container: &ContainerId) -> bool {
        self.foreign_netns(container).is_some()
    }

    /// Whether any is.
    pub(super) fn has_foreign(&self) -> bool {
        self.state.load().sandboxes.values().any(Sandbox::is_others)
    }

    /// Whether a sandbox is another program's whose file still leads to the namespace that we hold.
    pub(super) fn foreign_lives(&self, sandbox: &Sandbox) -> bool {
        let id = |path: &Path| Netns::open(path).and_then(|netns| netns.id()).ok();
        let Some(source) = sandbox.foreign_netns().and_then(id) else { return false };
        let pin = id(&self.around.paths.sandbox_netns(&sandbox.id));
        // Without our pin there is nothing to compare with; it is made again from the other program's file.
        pin.is_none_or(|pin| pin == source)
    }
}
