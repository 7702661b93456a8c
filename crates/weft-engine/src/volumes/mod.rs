//! Local volumes: a directory each, `volumes/<name>/_data`; with options, something else is mounted there.

mod mount;
mod options;
mod users;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::mount::LocalMount;
use self::users::UsersByVolume;
use crate::container::create::VolumeMaker;
use crate::error::EngineError;
use crate::events::{EventBus, EventType};

/// Label of volumes that nobody named; prunes take those only. Docker's.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// Before the name of a folder that is being made, or removed. No volume's name begins like that.
const MADE: &str = ".made-";
const REMOVED: &str = ".removed-";

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
    /// What is mounted as its content: `type`, `device`, `o`. Empty for a plain directory.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Volume {
    /// Whether nobody named it, or somebody says so by its label.
    pub fn is_anonymous(&self) -> bool {
        self.anonymous || self.labels.contains_key(ANONYMOUS_LABEL)
    }
}

/// What a volume is made with.
#[derive(Debug, Clone, Default)]
pub struct VolumeWish {
    /// Who makes it; empty or `local`, for there is no other.
    pub driver: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// What to mount as its content.
    pub options: BTreeMap<String, String>,
}

/// The volumes of this host.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    users: UsersByVolume,
    events: EventBus,
}

impl Volumes {
    pub(crate) fn open(root: PathBuf, events: EventBus) -> Result<Self> {
        fs::create_dir_all(&root).map_err(EngineError::file("create", &root))?;
        remove_halves(&root);
        Ok(Self { root, users: UsersByVolume::default(), events })
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
    ///
    /// As with Docker, one that is there stays as it is, whatever is wished for.
    pub fn create(&self, name: Option<&str>, wish: VolumeWish) -> Result<Volume> {
        let wanted = name.filter(|name| !name.is_empty());
        let VolumeWish { driver, mut labels, options } = wish;
        if !matches!(driver.as_str(), "" | "local") {
            let name = wanted.map_or_else(random_name, str::to_owned);
            return Err(EngineError::NoSuchPlugin(driver).context(format!("create {name}")));
        }
        if let Some(name) = wanted {
            check_name(name)?;
            if let Ok(volume) = self.get(name) {
                return Ok(volume);
            }
        }
        let name = wanted.map_or_else(random_name, str::to_owned);
        options::check(&options)
            .map_err(|mistake| EngineError::Invalid(format!("create {name}: {mistake}")))?;
        if wanted.is_none() {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let mountpoint = self.root.join(&name).join("_data");
        let created = jiff::Timestamp::now().to_string();
        let volume = Volume { name, mountpoint, created, labels, anonymous: wanted.is_none(), options };
        self.make(&volume)?;
        self.tell(&volume.name, "create", &[]);
        Ok(volume)
    }

    /// Its folder is there whole or not at all. Data without a description, as somebody put it there, is taken over.
    fn make(&self, volume: &Volume) -> Result<()> {
        let whole = self.root.join(&volume.name);
        let dir =
            if whole.exists() { whole.clone() } else { self.root.join(format!("{MADE}{}", volume.name)) };
        let data = dir.join("_data");
        fs::create_dir_all(&data).map_err(EngineError::file("create", data))?;
        let path = dir.join("volume.json");
        let bytes = serde_json::to_vec(volume).unwrap_or_default();
        weft_durable::replace(&path, &bytes, 0o600).map_err(EngineError::file("write", path))?;
        if dir != whole {
            fs::rename(&dir, &whole).map_err(EngineError::file("create", &whole))?;
            weft_durable::sync_dir(&self.root).map_err(EngineError::file("save", &self.root))?;
        }
        Ok(())
    }

    /// Removes a volume; whether it is in use the caller knows.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let volume = self.get(name)?;
        // Before anything is removed: what is mounted there is not ours.
        if !volume.options.is_empty() {
            users::unmounted(&volume)?;
        }
        self.users.forget(name);
        let (dir, removed) = (self.root.join(name), self.root.join(format!("{REMOVED}{name}")));
        fs::rename(&dir, &removed).map_err(EngineError::file("remove", dir))?;
        fs::remove_dir_all(&removed).map_err(EngineError::file("remove", removed))?;
        self.tell(name, "destroy", &[]);
        Ok(())
    }

    fn tell(&self, volume: &str, action: &str, attributes: &[(&str, &str)]) {
        let driver = std::iter::once(&("driver", "local"));
        let attributes =
            driver.chain(attributes).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.events.send(EventType::Volume, action, volume, attributes.collect());
    }
}

impl VolumeMaker for Volumes {
    fn volume(&self, name: Option<&str>, wish: VolumeWish) -> Result<(String, PathBuf)> {
        let volume = self.create(name, wish)?;
        Ok((volume.name, volume.mountpoint))
    }
}

/// What a daemon was making or removing when it was killed.
fn remove_halves(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_half = |name: &str| name.starts_with(MADE) || name.starts_with(REMOVED);
        if name.to_str().is_some_and(is_half)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), %error, "half a volume left behind");
        }
    }
}

/// Of a volume that nobody names.
fn random_name() -> String {
    hex::encode(rand::random::<[u8; 32]>())
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
        let named = volumes.create(Some("data"), VolumeWish::default()).unwrap();
        assert_eq!(volumes.create(Some("data"), VolumeWish::default()).unwrap(), named);
        let anonymous = volumes.create(None, VolumeWish::default()).unwrap();
        assert!(anonymous.is_anonymous() && anonymous.name.len() == 64);
        assert_eq!(volumes.list().len(), 2);
        // What a crash left of others goes.
        for half in [".made-x", ".removed-data"] {
            fs::create_dir_all(dir.path().join("volumes").join(half).join("_data/d")).unwrap();
        }
        let volumes = Volumes::open(dir.path().join("volumes"), EventBus::new()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("volumes")).unwrap().count(), 2);
        assert_eq!(volumes.list().len(), 2);
        for bad in ["../x", "rel/path", "", "."] {
            assert!(volumes.get(bad).is_err());
            assert!(volumes.remove(bad).is_err());
        }
        assert!(
            volumes
                .create(Some("rel/path"), VolumeWish::default())
                .unwrap_err()
                .to_string()
                .starts_with("create rel/path:")
        );
        volumes.remove("data").unwrap();
        assert!(volumes.get("data").is_err());
    }
}
