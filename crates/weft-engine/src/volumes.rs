//! Local volumes: a directory each, `volumes/<name>/_data`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::create::VolumeMaker;
use crate::error::EngineError;
use crate::events::{EventBus, EventType};

type Result<T> = std::result::Result<T, EngineError>;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name: the user's, or 64 hexadecimal digits.
    pub name: String,
    /// Where its content is.
    pub mountpoint: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Made for a container without a name.
    pub anonymous: bool,
}

/// The volumes of this host.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    events: EventBus,
}

impl Volumes {
    pub(crate) fn open(root: PathBuf, events: EventBus) -> Result<Self> {
        fs::create_dir_all(&root).map_err(EngineError::file("create", &root))?;
        Ok(Self { root, events })
    }

    fn event(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.events.send(EventType::Volume, action, name, attributes);
    }

    /// All volumes by name.
    pub fn list(&self) -> Vec<Volume> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut volumes: Vec<Volume> =
            entries.filter_map(|entry| self.get(&entry.file_name().to_string_lossy()).ok()).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        volumes
    }

    /// One volume.
    pub fn get(&self, name: &str) -> Result<Volume> {
        let missing = || EngineError::NoSuchVolume(name.to_owned());
        check_name(name).map_err(|_| missing())?;
        let bytes = fs::read(self.root.join(name).join("volume.json")).map_err(|_| missing())?;
        serde_json::from_slice(&bytes).map_err(|_| missing())
    }

    /// Makes a volume, or finds the one of that name.
    pub fn create(&self, name: Option<&str>, labels: BTreeMap<String, String>) -> Result<Volume> {
        let wanted = name.filter(|name| !name.is_empty());
        if let Some(name) = wanted {
            check_name(name)?;
            if let Ok(volume) = self.get(name) {
                return Ok(volume);
            }
        }
        let name = wanted.map_or_else(|| hex::encode(rand::random::<[u8; 32]>()), str::to_owned);
        let dir = self.root.join(&name);
        let mountpoint = dir.join("_data");
        fs::create_dir_all(&mountpoint).map_err(EngineError::file("create", &mountpoint))?;
        let created = jiff::Timestamp::now().to_string();
        let volume = Volume { name, mountpoint, created, labels, anonymous: wanted.is_none() };
        let path = dir.join("volume.json");
        let bytes = serde_json::to_vec(&volume).unwrap_or_default();
        weft_durable::replace(&path, &bytes, 0o600).map_err(EngineError::file("write", path))?;
        self.event("create", &volume.name);
        Ok(volume)
    }

    /// Bytes of the files in a volume.
    pub fn size(&self, name: &str) -> i64 {
        self.get(name).map(|volume| crate::engine::directory_size(&volume.mountpoint)).unwrap_or(0)
    }

    /// Removes a volume; whether it is in use the caller knows.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.get(name)?;
        let dir = self.root.join(name);
        fs::remove_dir_all(&dir).map_err(EngineError::file("remove", dir))?;
        self.event("destroy", name);
        Ok(())
    }
}

impl VolumeMaker for Volumes {
    fn volume(&self, name: Option<&str>, labels: BTreeMap<String, String>) -> Result<(String, PathBuf)> {
        let volume = self.create(name, labels)?;
        Ok((volume.name, volume.mountpoint))
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.parse::<weft_types::ObjectName>().is_ok() {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_live_in_their_directory_only() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().join("volumes"), EventBus::new()).unwrap();
        let named = volumes.create(Some("data"), BTreeMap::new()).unwrap();
        assert_eq!(volumes.create(Some("data"), BTreeMap::new()).unwrap(), named);
        let anonymous = volumes.create(None, BTreeMap::new()).unwrap();
        assert!(anonymous.anonymous && anonymous.name.len() == 64);
        assert_eq!(volumes.list().len(), 2);
        for bad in ["../x", "rel/path", "", "."] {
            assert!(volumes.get(bad).is_err());
            assert!(volumes.remove(bad).is_err());
        }
        assert!(
            volumes
                .create(Some("rel/path"), BTreeMap::new())
                .unwrap_err()
                .to_string()
                .starts_with("create rel/path:")
        );
        volumes.remove("data").unwrap();
        assert!(volumes.get("data").is_err());
    }
}
