//! Key-value mode: this node in a store that all hosts share, and the other nodes there.
//!
//! ```text
//! docker/nodes/<address:port>  ->  <address:port>      under a lease: dead nodes vanish
//! ```
//! The daemon starts and works without the store; what is to be told there is told once it answers. A swarm has its own
//! store: one daemon is never in both.

mod options;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use weft_kv::{Change, LeasedKey, Store, Watch};

pub(super) use options::{KeyValueOptions, RawOptions};

use self::options::{Advertise, AdvertiseHost};
use super::cluster;

/// A store that can be spoken to, as far as this host can tell without asking it.
pub(super) struct KeyValueMode<'a> {
    options: &'a KeyValueOptions,
    store: Store,
    advertise: Option<String>,
}

/// This node's part in the store.
pub(super) struct KeyValueNode {
    /// Where others find this node, as `address:port`.
    advertise: Option<String>,
    registration: Option<LeasedKey>,
    followed: JoinHandle<()>,
}

impl<'a> KeyValueMode<'a> {
    /// Refuses what cannot be used: files of TLS, an interface that is not there.
    pub(super) fn prepare(options: &'a KeyValueOptions) -> anyhow::Result<Self> {
        let store = Store::open(&options.address, options.tls.as_ref()).context("cluster-store-opts")?;
        let advertise = options.advertise.as_ref().map(resolve).transpose()?;
        Ok(Self { options, store, advertise })
    }

    /// Registers this node, if it advertises an address, and follows the others, as soon as the store answers.
    pub(super) fn enter(self) -> KeyValueNode {
        let Self { options, store, advertise } = self;
        let followed = tokio::spawn(follow(store.watch(&options.nodes), options.nodes.clone()));
        let registration = advertise.as_ref().map(|address| {
            let key = format!("{}/{address}", options.nodes);
            LeasedKey::keep(store, key, address.clone().into_bytes(), options.timing)
        });
        KeyValueNode { advertise, registration, followed }
    }
}

impl KeyValueNode {
    pub(super) fn advertise(&self) -> Option<&str> {
        self.advertise.as_deref()
    }

    /// Takes this node out of the store.
    pub(super) async fn stop(self) {
        self.followed.abort();
        if let Some(registration) = self.registration {
            registration.release().await;
        }
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
fn resolve(advertise: &Advertise) -> anyhow::Result<String> {
    let address = match &advertise.host {
        AdvertiseHost::Address(address) => *address,
        AdvertiseHost::Interface(name) => cluster::address_of_interface(name).with_context(|| {
            let port = advertise.port;
            format!("invalid cluster advertise IP address or interface name ({name}:{port}): no such interface with an address")
        })?,
    };
    Ok(std::net::SocketAddr::new(address, advertise.port).to_string())
}

/// Tells of nodes that come and go.
async fn follow(mut watch: Watch, folder: String) {
    let name = |key: &str| key.strip_prefix(&folder).unwrap_or(key).trim_start_matches('/').to_owned();
    loop {
        for change in watch.next().await {
            match change {
                Change::Put(entry) => {
                    tracing::info!(node = name(&entry.key), "a node is in the key-value store");
                }
                Change::Removed(key) => {
                    tracing::info!(node = name(&key), "a node is no longer in the key-value store");
                }
            }
        }
    }
}
