//! Autolock: the store of every manager opens only with a key that users keep.
//!
//! The swarm knows the key (`Cluster.unlock_keys`); each manager wraps the data key of its own store with it, and with
//! nothing again once autolock is off. With the data key goes the private key of the node's certificate. A manager that starts does not have the key: it is asked for.

use std::sync::{Arc, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use weft_identity::{IdentityHandle, KeySeal};
use weft_wire::swarmkit::{Cluster, ClusterSpec, EncryptionKey, encryption_key::Algorithm};

use crate::brain::Brain;
use crate::seal::{IdentitySeal, KeyEncryptionKey, KeyFile, KeyFileError};
use crate::store::{Commit, Object};

/// SwarmKit's form of the key for users.
const PREFIX: &str = "SWMKEY-1-";
const KEY_LEN: usize = 32;
/// SwarmKit's name of what the key opens.
const SUBSYSTEM: &str = "swarm-manager";

impl KeyEncryptionKey {
    /// The key as users have it; none if it is no such text.
    pub fn from_unlock_key(text: &str) -> Option<Self> {
        let key = STANDARD_NO_PAD.decode(text.trim().strip_prefix(PREFIX)?).ok()?;
        (key.len() == KEY_LEN).then(|| Self::new(key))
    }
}

/// The key that users need; empty while the managers are not locked.
pub(crate) fn unlock_key(cluster: &Cluster) -> String {
    match key_of(cluster) {
        Some(key) => format!("{PREFIX}{}", STANDARD_NO_PAD.encode(&key.key)),
        None => String::new(),
    }
}

/// The keys after a change of the cluster: none without autolock, a new one when it begins or is asked for.
pub(crate) fn next_keys(cluster: &Cluster, spec: &ClusterSpec, rotate: bool) -> Vec<EncryptionKey> {
    if !is_on(spec) {
        return Vec::new();
    }
    if !rotate && key_of(cluster).is_some() {
        return cluster.unlock_keys.clone();
    }
    let mut key = vec![0; KEY_LEN];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut key);
    vec![EncryptionKey {
        subsystem: SUBSYSTEM.to_owned(),
        algorithm: Algorithm::Aes128Gcm.into(),
        key,
        lamport_time: 0,
    }]
}

fn is_on(spec: &ClusterSpec) -> bool {
    spec.encryption_config.as_ref().is_some_and(|config| config.auto_lock_managers)
}

pub(crate) fn key_of(cluster: &Cluster) -> Option<&EncryptionKey> {
    cluster.unlock_keys.iter().find(|key| key.subsystem == SUBSYSTEM)
}

/// Keeps this manager's own key file wrapped as the swarm wants it, until the manager stops.
pub(crate) async fn follow(brain: Weak<Brain>, file: Arc<KeyFile>) {
    let Some(mut keys) = Keys::of(brain) else { return };
    while let Some(key) = keys.next().await {
        let is_locked = key.is_some();
        let kek = key.map(|key| KeyEncryptionKey::new(key.key)).unwrap_or_default();
        let file = Arc::clone(&file);
        match tokio::task::spawn_blocking(move || file.rewrap(&kek)).await {
            Ok(Ok(true)) => tracing::info!(locked = is_locked, "wrapped the key of the store anew"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "the key of the store cannot be wrapped anew"),
        }
    }
}

/// Keeps the private key of this node's certificate sealed for as long as managers are locked, until the manager stops.
pub(crate) async fn follow_identity(brain: Weak<Brain>, file: Arc<KeyFile>) {
    let Some(peers) = brain.upgrade().map(|brain| Arc::clone(&brain.core.peers)) else { return };
    let Some(mut keys) = Keys::of(brain) else { return };
    let Some(identity) = keys.stopping.clone().run_until_cancelled(peers.introduced()).await else { return };
    while let Some(key) = keys.next().await {
        let (file, identity, is_locked) = (Arc::clone(&file), identity.clone(), key.is_some());
        match tokio::task::spawn_blocking(move || seal(&file, &identity, is_locked)).await {
            Ok(Ok(true)) => tracing::info!(sealed = is_locked, "the private key is kept another way"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "the private key cannot be kept another way"),
        }
    }
}

/// Why the private key is kept as before.
#[derive(Debug, thiserror::Error)]
enum SealFailure {
    #[error(transparent)]
    DataKey(#[from] KeyFileError),
    #[error(transparent)]
    Identity(#[from] weft_identity::StoreError),
}

fn seal(file: &KeyFile, identity: &IdentityHandle, is_locked: bool) -> Result<bool, SealFailure> {
    let seal: Option<Arc<dyn KeySeal>> = match is_locked {
        true => Some(Arc::new(IdentitySeal(file.sealer()?))),
        false => None,
    };
    Ok(identity.set_seal(seal)?)
}

/// The swarm's unlock key, or that it has none, now and after each change of the swarm.
struct Keys {
    brain: Weak<Brain>,
    commits: Receiver<Arc<Commit>>,
    stopping: CancellationToken,
    /// The next one is that of now.
    is_due: bool,
}

impl Keys {
    fn of(brain: Weak<Brain>) -> Option<Self> {
        let now = brain.upgrade()?;
        let (commits, stopping) = (now.core.store.watch(), now.core.stopping.clone());
        Some(Self { brain, commits, stopping, is_due: true })
    }

    /// None once the manager stops.
    async fn next(&mut self) -> Option<Option<EncryptionKey>> {
        loop {
            if !self.is_due {
                self.changed().await?;
            }
            self.is_due = false;
            // A manager that joins has no state yet.
            if let Some(cluster) = self.brain.upgrade()?.core.view().cluster() {
                return Some(key_of(cluster).cloned());
            }
        }
    }

    async fn changed(&mut self) -> Option<()> {
        loop {
            match self.stopping.run_until_cancelled(self.commits.recv()).await? {
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => return Some(()),
                Ok(commit) => {
                    if commit.changes.iter().any(|change| matches!(change.after, Some(Object::Cluster(_)))) {
                        return Some(());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::EncryptionConfig;

    use super::*;

    #[test]
    fn the_recorded_form_of_a_key_reads_and_writes() {
        let recorded = "SWMKEY-1-1vE8Rs5JEp/R/C1q1639Zyww/gyxistE2z9EMTvX3aM";
        assert!(KeyEncryptionKey::from_unlock_key(recorded).is_some());
        let key = STANDARD_NO_PAD.decode(recorded.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!(format!("{PREFIX}{}", STANDARD_NO_PAD.encode(&key)), recorded);
        for wrong in
            ["", "SWMKEY-1-bad", "SWMKEY-2-1vE8Rs5JEp/R/C1q1639Zyww/gyxistE2z9EMTvX3aM", "SWMKEY-1-?"]
        {
            assert!(KeyEncryptionKey::from_unlock_key(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn keys_come_with_autolock_and_go_with_it() {
        let on = ClusterSpec {
            encryption_config: Some(EncryptionConfig { auto_lock_managers: true }),
            ..Default::default()
        };
        let mut cluster =
            Cluster { unlock_keys: next_keys(&Cluster::default(), &on, false), ..Default::default() };
        let first = unlock_key(&cluster);
        assert!(first.starts_with(PREFIX) && first.len() == 52, "{first}");
        assert_eq!(next_keys(&cluster, &on, false), cluster.unlock_keys);
        cluster.unlock_keys = next_keys(&cluster, &on, true);
        assert_ne!(unlock_key(&cluster), first);
        cluster.unlock_keys = next_keys(&cluster, &ClusterSpec::default(), true);
        assert_eq!(unlock_key(&cluster), "");
    }
}
