//! What the agent must know when it comes back while no manager answers: managers, keys, node, tasks.
//!
//! One file, replaced as a whole. The keys in it decrypt gossip, so only root may read it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use prost::Message;
use serde::{Deserialize, Serialize};
use weft_wire::swarmkit::{EncryptionKey, Node, Task, TaskStatus};
use weft_wire::weft_v1::WatchMessage;

use crate::error::StoreError;

const FILE_NAME: &str = "agent.json";
const FORMAT: u32 = 1;

/// The agent's memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) managers: Vec<SocketAddr>,
    pub(crate) node: Option<Node>,
    pub(crate) keys: Vec<EncryptionKey>,
    pub(crate) tasks: Vec<Task>,
    /// What was last said of each task.
    pub(crate) statuses: BTreeMap<String, TaskStatus>,
    /// The managers' last word about the networks of this node, as one full message.
    pub(crate) outlook: Option<WatchMessage>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    managers: Vec<SocketAddr>,
    /// Protobuf in hexadecimal, here and below.
    node: Option<String>,
    keys: Vec<String>,
    tasks: Vec<String>,
    /// By task id.
    #[serde(default)]
    statuses: BTreeMap<String, String>,
    outlook: Option<String>,
}

fn to_hex(message: &impl Message) -> String {
    hex::encode(message.encode_to_vec())
}

fn from_hex<M: Message + Default>(text: &str) -> Option<M> {
    M::decode(&hex::decode(text).ok()?[..]).ok()
}

impl Memory {
    fn to_stored(&self) -> Stored {
        Stored {
            format: FORMAT,
            managers: self.managers.clone(),
            node: self.node.as_ref().map(to_hex),
            keys: self.keys.iter().map(to_hex).collect(),
            tasks: self.tasks.iter().map(to_hex).collect(),
            statuses: self.statuses.iter().map(|(id, status)| (id.clone(), to_hex(status))).collect(),
            outlook: self.outlook.as_ref().map(to_hex),
        }
    }

    fn from_stored(stored: Stored) -> Option<Self> {
        if stored.format != FORMAT {
            return None;
        }
        Some(Self {
            managers: stored.managers,
            node: stored.node.as_deref().and_then(from_hex),
            keys: stored.keys.iter().map(|text| from_hex(text)).collect::<Option<_>>()?,
            tasks: stored.tasks.iter().map(|text| from_hex(text)).collect::<Option<_>>()?,
            statuses: stored
                .statuses
                .into_iter()
                .map(|(id, text)| Some((id, from_hex(&text)?)))
                .collect::<Option<_>>()?,
            outlook: stored.outlook.as_deref().and_then(from_hex),
        })
    }
}

/// The file that keeps a [`Memory`].
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Makes `dir` if it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Io {
            action: "create",
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// What was kept last; nothing at the first start.
    pub(crate) fn load(&self) -> Result<Memory, StoreError> {
        let path = self.dir.join(FILE_NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Memory::default()),
            Err(source) => return Err(StoreError::Io { action: "read", path, source }),
        };
        let stored = serde_json::from_slice(&bytes).ok().and_then(Memory::from_stored);
        stored.ok_or(StoreError::Malformed { path })
    }

    /// Replaces what was kept; returns when it is safe on disk.
    pub(crate) fn save(&self, memory: &Memory) -> Result<(), StoreError> {
        let path = self.dir.join(FILE_NAME);
        let bytes = serde_json::to_vec(&memory.to_stored()).unwrap_or_default();
        weft_durable::replace(&path, &bytes, 0o600).map_err(|source| StoreError::Io {
            action: "write",
            path,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("agent")).unwrap();
        assert_eq!(store.load().unwrap(), Memory::default());
        let memory = Memory {
            managers: vec!["10.0.0.1:2377".parse().unwrap()],
            node: Some(Node { id: "n".into(), ..Node::default() }),
            keys: vec![EncryptionKey { key: vec![1; 16], lamport_time: 3, ..EncryptionKey::default() }],
            tasks: vec![Task { id: "t".into(), ..Task::default() }],
            statuses: [("t".to_owned(), TaskStatus { message: "started".into(), ..TaskStatus::default() })]
                .into(),
            outlook: Some(WatchMessage { index: 9, ..WatchMessage::default() }),
        };
        store.save(&memory).unwrap();
        assert_eq!(store.load().unwrap(), memory);
        let path = dir.path().join("agent").join(FILE_NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"{}").unwrap();
        assert!(matches!(store.load(), Err(StoreError::Malformed { .. })));
    }
}
