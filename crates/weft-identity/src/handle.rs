//! The identity in use, swapped as a whole when it is renewed or the root changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use crate::{CertificateError, JoinError, KeySeal, NodeIdentity, RootBundle, StoreError, tls};

struct Current {
    identity: Arc<NodeIdentity>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Current {
    fn new(identity: NodeIdentity) -> Result<Self, CertificateError> {
        let roots = RootBundle::parse(&identity.root_pem)?;
        Ok(Self {
            server: Arc::new(tls::server(&identity, &roots)?),
            client: Arc::new(tls::client(&roots, Some(&identity))?),
            identity: Arc::new(identity),
        })
    }
}

struct Shared {
    current: ArcSwap<Current>,
    /// Where updates are kept; none for an identity that lives in memory only (tests).
    dir: Option<PathBuf>,
    changes: watch::Sender<u64>,
    /// Updates come from renewal and from the session; one at a time, so that neither undoes the other. Each is kept
    /// under the seal of that time.
    writer: std::sync::Mutex<Option<Arc<dyn KeySeal>>>,
}

/// Shared access to the node's identity and the TLS configurations made from it. Cheap to clone.
///
/// Connections made before an update keep the certificate they began with; later ones use the new one.
#[derive(Clone)]
pub struct IdentityHandle {
    shared: Arc<Shared>,
}

impl IdentityHandle {
    /// An identity that is not kept anywhere.
    pub fn in_memory(identity: NodeIdentity) -> Result<Self, CertificateError> {
        Self::with_dir(identity, None, None)
    }

    /// Keeps `identity` in `dir` and uses it.
    pub fn create(dir: &Path, identity: NodeIdentity) -> Result<Self, StoreError> {
        identity.store(dir, None)?;
        Self::with_dir(identity, Some(dir.to_owned()), None)
            .map_err(|source| StoreError::Certificate { path: dir.to_owned(), source })
    }

    /// The identity kept in `dir`, by a seal if there was one.
    pub fn open(dir: &Path, seal: Option<Arc<dyn KeySeal>>) -> Result<Self, StoreError> {
        let identity = NodeIdentity::load(dir, seal.as_deref())?;
        Self::with_dir(identity, Some(dir.to_owned()), seal)
            .map_err(|source| StoreError::Certificate { path: dir.to_owned(), source })
    }

    fn with_dir(
        identity: NodeIdentity,
        dir: Option<PathBuf>,
        seal: Option<Arc<dyn KeySeal>>,
    ) -> Result<Self, CertificateError> {
        let current = ArcSwap::from_pointee(Current::new(identity)?);
        let (changes, _) = watch::channel(0);
        Ok(Self { shared: Arc::new(Shared { current, dir, changes, writer: std::sync::Mutex::new(seal) }) })
    }

    /// The identity now.
    pub fn identity(&self) -> Arc<NodeIdentity> {
        self.shared.current.load().identity.clone()
    }

    /// Configuration of a server: client certificates optional, verified against the swarm's root.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.shared.current.load().server.clone()
    }

    /// Configuration of a client that shows this node's certificate.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.shared.current.load().client.clone()
    }

    /// Counts updates: changes whenever the identity was swapped.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Stores `identity` and uses it from now on. On error the old one stays in use and on disk.
    pub fn update(&self, identity: NodeIdentity) -> Result<(), JoinError> {
        let seal = self.lock();
        self.swap(identity, seal.as_deref())
    }

    /// Keeps the private key sealed from now on, or as it is. Whether that is another way than before.
    pub fn set_seal(&self, seal: Option<Arc<dyn KeySeal>>) -> Result<bool, StoreError> {
        let mut current = self.lock();
        if current.is_some() == seal.is_some() {
            return Ok(false);
        }
        if let Some(dir) = &self.shared.dir {
            self.identity().store(dir, seal.as_deref())?;
        }
        *current = seal;
        Ok(true)
    }

    /// Trusts another root bundle from now on, if this node's own certificate is valid under it.
    /// Returns whether anything changed.
    pub fn update_root(&self, root_pem: &str, now: SystemTime) -> Result<bool, JoinError> {
        let seal = self.lock();
        let identity = self.identity();
        if identity.root_pem == root_pem {
            return Ok(false);
        }
        RootBundle::parse(root_pem)?.verify_node(&identity.certificate_pem, now)?;
        let identity = NodeIdentity { root_pem: root_pem.to_owned(), ..(*identity).clone() };
        self.swap(identity, seal.as_deref())?;
        Ok(true)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn KeySeal>>> {
        self.shared.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn swap(&self, identity: NodeIdentity, seal: Option<&dyn KeySeal>) -> Result<(), JoinError> {
        let current = Current::new(identity)?;
        if let Some(dir) = &self.shared.dir {
            current.identity.store(dir, seal)?;
        }
        self.shared.current.store(Arc::new(current));
        self.shared.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}

impl std::fmt::Debug for IdentityHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IdentityHandle").field(&self.identity()).finish()
    }
}
