//! What a node keeps of its membership, next to its identity.
//!
//! The record is the commit point of `init` and `join`: written last, removed first. A folder without it is the
//! rest of an attempt that did not finish, and is cleared.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_manager::Manager;

use super::addresses::NodeAddresses;

const RECORD: &str = "node.json";
/// Form of the record; another one is not ours to read.
const VERSION: u32 = 1;

/// A node's membership, apart from its certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    version: u32,
    pub(super) addresses: NodeAddresses,
    /// Managers to begin with after a restart.
    pub(super) managers: Vec<SocketAddr>,
    /// Whether the store of a manager must be here: this node founded the swarm, or started it anew.
    #[serde(default)]
    pub(super) founded: bool,
}

impl NodeRecord {
    pub(super) fn new(addresses: NodeAddresses, managers: Vec<SocketAddr>) -> Self {
        Self { version: VERSION, addresses, managers, founded: false }
    }

    /// Of a node that begins with a store of its own.
    pub(super) fn founded(addresses: NodeAddresses, managers: Vec<SocketAddr>) -> Self {
        Self { founded: true, ..Self::new(addresses, managers) }
    }
}

/// The folder of a node's swarm state.
#[derive(Debug, Clone)]
pub(super) struct SwarmDir(PathBuf);

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the swarm state in {path} is damaged: {source}; leave the swarm with --force and join again")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("the swarm state in {path} has form {found}; this version of Weft reads form {VERSION}")]
    Version { path: PathBuf, found: u32 },
}

impl SwarmDir {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where the certificate and its key are.
    pub(super) fn identity(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// Where a manager keeps its store.
    pub(super) fn store(&self) -> PathBuf {
        self.0.join("raft")
    }

    /// Where the agent keeps what it knows.
    pub(super) fn agent(&self) -> PathBuf {
        self.0.join("worker")
    }

    /// Whether this node is a member, be its record readable or not.
    pub(super) fn is_recorded(&self) -> Result<bool, RecordError> {
        let path = self.0.join(RECORD);
        path.try_exists().map_err(|source| RecordError::File { path, source })
    }

    /// The record, if this node is a member.
    pub(super) fn load(&self) -> Result<Option<NodeRecord>, RecordError> {
        let path = self.0.join(RECORD);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordError::File { path, source }),
        };
        let record: NodeRecord = serde_json::from_slice(&text)
            .map_err(|source| RecordError::Damaged { path: path.clone(), source })?;
        if record.version != VERSION {
            return Err(RecordError::Version { path, found: record.version });
        }
        Ok(Some(record))
    }

    /// Makes this node a member.
    pub(super) fn save(&self, record: &NodeRecord) -> Result<(), RecordError> {
        let path = self.0.join(RECORD);
        let json = serde_json::to_vec_pretty(record)
            .map_err(|source| RecordError::Damaged { path: path.clone(), source })?;
        std::fs::create_dir_all(&self.0)
            .and_then(|()| weft_durable::replace(&path, &json, 0o600))
            .map_err(|source| RecordError::File { path, source })
    }

    /// Forgets the swarm: the record first, then what it stood for.
    pub(super) fn clear(&self) -> Result<(), RecordError> {
        let file = |path: &Path, source| RecordError::File { path: path.to_owned(), source };
        let record = self.0.join(RECORD);
        absent(std::fs::remove_file(&record)).map_err(|e| file(&record, e))?;
        if self.0.exists() {
            weft_durable::sync_dir(&self.0).map_err(|e| file(&self.0, e))?;
        }
        Manager::erase(&self.store()).map_err(|e| file(&self.store(), e))?;
        absent(std::fs::remove_dir_all(&self.0)).map_err(|e| file(&self.0, e))
    }
}

fn absent(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_is_cleared() {
        let root = std::env::temp_dir().join(format!("weft-record-{}", std::process::id()));
        let dir = SwarmDir::new(root.clone());
        assert!(dir.load().unwrap().is_none() && !dir.is_recorded().unwrap());
        let addresses = NodeAddresses {
            listen: "0.0.0.0:2377".parse().unwrap(),
            advertise: "10.0.0.1:2377".parse().unwrap(),
            data_path: "10.0.0.1".parse().unwrap(),
            places: std::iter::once(("10.0.0.1".parse().unwrap(), "eth0".to_owned())).collect(),
        };
        dir.save(&NodeRecord::new(addresses.clone(), vec![addresses.advertise])).unwrap();
        assert_eq!(dir.load().unwrap().unwrap().addresses, addresses);
        std::fs::write(root.join(RECORD), "{").unwrap();
        assert!(matches!(dir.load(), Err(RecordError::Damaged { .. })) && dir.is_recorded().unwrap());
        dir.clear().unwrap();
        assert!(!root.exists());
        dir.clear().unwrap();
    }
}
