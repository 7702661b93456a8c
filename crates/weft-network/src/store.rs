//! The controller's files: written whole, so that a crash leaves the old or the new content.
//!
//! `<state>/networks.json` and `<state>/swarm.json` survive reboots; `<run>/sandboxes.json` and `<run>/serving.json`
//! describe what runs, which does not.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::NetworkError;
use crate::ipam::unique_local_prefix;
use crate::state::{Lasting, State};
use crate::swarm::SwarmState;

/// Gossip keys are among what is kept.
pub(crate) const MODE: u32 = 0o600;

/// Where the files are, and what was last written.
#[derive(Debug)]
pub(crate) struct Store {
    lasting: PathBuf,
    sandboxes: PathBuf,
    swarm: PathBuf,
    serving: PathBuf,
}

impl Store {
    /// Makes the folders.
    pub(crate) fn open(state_dir: &Path, run_dir: &Path) -> Result<Self, NetworkError> {
        for dir in [state_dir, run_dir] {
            fs::create_dir_all(dir).map_err(file("make folder", dir))?;
        }
        let store = Self {
            lasting: state_dir.join("networks.json"),
            sandboxes: run_dir.join("sandboxes.json"),
            swarm: state_dir.join("swarm.json"),
            serving: run_dir.join("serving.json"),
        };
        for path in [&store.lasting, &store.sandboxes, &store.swarm, &store.serving] {
            weft_durable::forget_unfinished(path).map_err(file("remove what a crash left of", path))?;
        }
        Ok(store)
    }

    /// The state at the last save; a fresh one where there is none.
    pub(crate) fn load(&self) -> Result<State, NetworkError> {
        let lasting = read(&self.lasting)?.unwrap_or_else(|| Lasting {
            unique_local: unique_local_prefix(&mut rand::rng()),
            networks: BTreeMap::new(),
        });
        let sandboxes = read(&self.sandboxes)?.unwrap_or_default();
        let swarm = read::<Option<SwarmState>>(&self.swarm)?.flatten().map(Arc::new);
        let serving = read(&self.serving)?.unwrap_or_default();
        Ok(State {
            lasting: Arc::new(lasting),
            sandboxes: Arc::new(sandboxes),
            swarm,
            serving: Arc::new(serving),
        })
    }

    /// Saves what differs from `before`, but for the managers' word.
    pub(crate) fn save(&self, state: &State, before: Option<&State>) -> Result<(), NetworkError> {
        if before.is_none_or(|before| before.lasting != state.lasting) {
            write(&self.lasting, &*state.lasting)?;
        }
        if before.is_none_or(|before| before.sandboxes != state.sandboxes) {
            // Namespaces do not survive a loss of power either: nothing to wait for the disk for.
            let bytes = encode(&self.sandboxes, &*state.sandboxes)?;
            weft_durable::replace_unsynced(&self.sandboxes, &bytes, MODE)
                .map_err(file("write", &self.sandboxes))?;
        }
        if before.is_none_or(|before| before.serving != state.serving) {
            let bytes = encode(&self.serving, &*state.serving)?;
            weft_durable::replace_unsynced(&self.serving, &bytes, MODE)
                .map_err(file("write", &self.serving))?;
        }
        Ok(())
    }

    /// Saves the managers' word if it differs from `before`. It is long, comes with every endpoint of the swarm, and the
    /// managers tell it again: nothing waits for it, and it is not worth a sync.
    pub(crate) fn save_word(&self, state: &State, before: Option<&State>) -> Result<(), NetworkError> {
        if before.is_none_or(|before| before.swarm != state.swarm) {
            let bytes = encode(&self.swarm, &state.swarm())?;
            weft_durable::replace_unsynced(&self.swarm, &bytes, MODE).map_err(file("write", &self.swarm))?;
        }
        Ok(())
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetworkError {
    let path = path.to_owned();
    move |source| NetworkError::File { action, path, source }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, NetworkError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| NetworkError::Damaged { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file("read", path)(error)),
    }
}

fn encode<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, NetworkError> {
    serde_json::to_vec(value).map_err(|source| NetworkError::Damaged { path: path.to_owned(), source })
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), NetworkError> {
    weft_durable::replace(path, &encode(path, value)?, MODE).map_err(file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_half_written_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        Store::open(&state, &run).unwrap();
        for unfinished in [state.join(".networks.json.tmp"), run.join(".sandboxes.json.tmp")] {
            fs::write(unfinished, "{").unwrap();
        }
        let store = Store::open(&state, &run).unwrap();
        for folder in [&state, &run] {
            assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "{}", folder.display());
        }
        assert!(store.load().unwrap().lasting.networks.is_empty());
    }
}
