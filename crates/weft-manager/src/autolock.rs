//! Autolock: the store of every manager opens only with a key that users keep.
//!
//! The swarm knows the key (`Cluster.unlock_keys`); each manager wraps the data key of its own store with it, and with
//! nothing again once autolock is off. A manager that starts does not have the key: it is asked for.

use std::sync::Weak;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::broadcast::error::RecvError;
use weft_wire::swarmkit::{Cluster, ClusterSpec, EncryptionKey, encryption_key::Algorithm};

use crate::brain::Brain;
use crate::seal::{KeyEncryptionKey, KeyFile};
use crate::store::Object;

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
pub(crate) async fn follow(brain: Weak<Brain>, file: KeyFile) {
    let file = std::sync::Arc::new(file);
    let Some((mut commits, stopping)) =
        brain.upgrade().map(|brain| (brain.core.store.watch(), brain.core.stopping.clone()))
    else {
        return;
    };
    loop {
        let Some(cluster) = brain.upgrade().and_then(|brain| brain.core.view().cluster().cloned()) else {
            // A manager that joins has no state yet.
            if stopping.run_until_cancelled(commits.recv()).await.is_none() {
                return;
            }
            continue;
        };
        let kek = key_of(&cluster).map(|key| KeyEncryptionKey::new(key.key.clone())).unwrap_or_default();
        let file = std::sync::Arc::clone(&file);
        match tokio::task::spawn_blocking(move || file.rewrap(&kek)).await {
            Ok(Ok(true)) => {
                tracing::info!(locked = key_of(&cluster).is_some(), "wrapped the key of the store anew")
            }
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "the key of the store cannot be wrapped anew"),
        }
        loop {
            match stopping.run_until_cancelled(commits.recv()).await {
                None | Some(Err(RecvError::Closed)) => return,
                Some(Err(RecvError::Lagged(_))) => break,
                Some(Ok(commit)) => {
                    if commit.changes.iter().any(|change| matches!(change.after, Some(Object::Cluster(_)))) {
                        break;
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
