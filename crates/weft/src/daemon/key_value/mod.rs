//! Key-value mode: this node in a store that all hosts share, the other nodes there, and the networks of all.
//!
//! ```text
//! docker/nodes/<address:port>  ->  <address:port>      under a lease: dead nodes vanish
//! weft/v1/…                                            networks, addresses, endpoints: weft-global
//! ```
//! The daemon starts and works without the store; what is to be told there is told once it answers. A swarm has its own
//! store: one daemon is never in both.

mod options;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedReceiver;
use weft_engine::Engine;
use weft_global::{GlobalConfig, GlobalNetworks, Host, Withdrawn};
use weft_kv::Store;
use weft_network::Controller;

pub(super) use options::{KeyValueOptions, RawOptions};

use self::options::{Advertise, AdvertiseHost};
use super::cluster;

/// A store that can be spoken to, as far as this host can tell without asking it.
pub(super) struct KeyValueMode<'a> {
    options: &'a KeyValueOptions,
    store: Store,
    advertise: Option<SocketAddr>,
}

/// This node's part in the store.
pub(super) struct KeyValueNode {
    /// Where others find this node, as `address:port`.
    advertise: Option<String>,
    networks: Arc<GlobalNetworks>,
    /// Until the engine is there to hear of it.
    withdrawn: Option<UnboundedReceiver<Withdrawn>>,
}

impl<'a> KeyValueMode<'a> {
    /// Refuses what cannot be used: files of TLS, an interface that is not there.
    pub(super) fn prepare(options: &'a KeyValueOptions) -> anyhow::Result<Self> {
        let store = Store::open(&options.address, options.tls.as_ref()).context("cluster-store-opts")?;
        let advertise = options.advertise.as_ref().map(resolve).transpose()?;
        Ok(Self { options, store, advertise })
    }

    /// Registers this node, if it advertises an address, and follows the others, as soon as the store answers.
    pub(super) fn enter(self, controller: &Arc<Controller>) -> KeyValueNode {
        let Self { options, store, advertise } = self;
        let config = GlobalConfig {
            store,
            nodes: options.nodes.clone(),
            timing: options.timing,
            host: advertise.map(Host::at),
        };
        let (networks, withdrawn) = GlobalNetworks::start(config, controller);
        KeyValueNode {
            advertise: advertise.map(|address| address.to_string()),
            networks,
            withdrawn: Some(withdrawn),
        }
    }
}

impl KeyValueNode {
    pub(super) fn advertise(&self) -> Option<&str> {
        self.advertise.as_deref()
    }

    /// Disconnects containers whose addresses are another's now.
    pub(super) fn serve(&mut self, engine: Arc<Engine>) {
        let Some(mut withdrawn) = self.withdrawn.take() else { return };
        tokio::spawn(async move {
            while let Some(Withdrawn { container, network }) = withdrawn.recv().await {
                if let Err(error) = engine.withdraw(&container, network.as_str()).await {
                    tracing::warn!(%container, %network, %error, "a container could not be disconnected");
                }
            }
        });
    }

    /// The networks of the store.
    pub(super) fn networks(&self) -> Arc<GlobalNetworks> {
        Arc::clone(&self.networks)
    }

    /// Takes this node out of the store; with containers that go on, when its lease ends.
    pub(super) async fn stop(self, keep_running: bool) {
        self.networks.stop(keep_running).await;
    }
}

/// What users should know of the options.
pub(super) fn warning(options: &KeyValueOptions) -> Option<String> {
    let plain = options.tls.is_none();
    plain.then(|| {
        "WARNING: the key-value store of --cluster-store is spoken to without TLS: whoever is on the path reads and \
         changes what is there. Give it kv.cacertfile with --cluster-store-opt"
            .to_owned()
    })
}

/// Docker's words for what is not there.
fn resolve(advertise: &Advertise) -> anyhow::Result<SocketAddr> {
    let address = match &advertise.host {
        AdvertiseHost::Address(address) => *address,
        AdvertiseHost::Interface(name) => cluster::address_of_interface(name).with_context(|| {
            let port = advertise.port;
            format!("invalid cluster advertise IP address or interface name ({name}:{port}): no such interface with an address")
        })?,
    };
    Ok(SocketAddr::new(address, advertise.port))
}
