//! Places whose interface is handed on: another program moves it from the host's namespace to where it likes.
//!
//! Only the bridge's end of the pair is looked after. The pair lives and dies as one, so that end is there as long as the
//! other is, wherever that went.

use weft_types::{ContainerId, MacAddr};

use crate::controller::endpoints::note_swarm_network;
use crate::controller::{Controller, Touched};
use crate::error::NetworkError;
use crate::network::Network;
use crate::spec::EndpointSpec;
use crate::state::State;

/// What becomes known of such a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandedOn {
    /// Whose it is now, in the other program's words.
    pub claim: String,
    /// The container's name, if it is told.
    pub name: Option<String>,
    /// An Ethernet address that the other program gives the interface.
    pub mac: Option<MacAddr>,
}

impl Controller {
    /// A network by name or id, also one of the swarm that nobody on this node is on.
    pub async fn look_up(&self, term: &str) -> Result<Network, NetworkError> {
        if let Ok(network) = self.state.load().find_whole(term) {
            return Ok(network.clone());
        }
        let probe = ContainerId::random(&mut rand::rng());
        // The managers tell of a network with the attachments to it, and only then.
        match self.attach(&probe, term, &EndpointSpec::default()).await? {
            Some(attached) => {
                let mut known = State::clone(&self.state.load());
                let network = note_swarm_network(&mut known, &attached.network).clone();
                self.detach(vec![attached.attachment]).await;
                Ok(network)
            }
            None => self.find(term),
        }
    }

    /// Notes whose a place is that was got for another program.
    pub async fn hand_on(&self, container: &ContainerId, handed: HandedOn) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        self.note_change(|state| {
            let sandbox = state.sandbox_mut(container)?;
            if let Some(name) = handed.name {
                sandbox.spec.name = name;
            }
            for endpoint in &mut sandbox.endpoints {
                endpoint.claim.clone_from(&handed.claim);
                endpoint.mac = handed.mac.unwrap_or(endpoint.mac);
            }
            let overlays = sandbox.endpoints.iter().map(|endpoint| endpoint.network.clone()).collect();
            Ok(((), Touched { overlays, ..Touched::default() }))
        })
        .await
    }
}
