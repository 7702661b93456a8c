//! What is known of a container, as it is kept on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bollard_stubs::models::{ContainerConfig, EndpointSettings, HostConfig};
use serde::{Deserialize, Serialize};
use weft_types::ContainerId;

use super::health::Health;
use crate::error::EngineError;
use crate::image::Digest;

/// The zero time that Docker shows for what has not happened.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";
const WISH_FILE: &str = "container.json";
const STATE_FILE: &str = "state.json";

/// A container: what was asked for and how it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    /// Without the slash.
    pub(crate) name: String,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) image: Digest,
    /// As the user called it.
    pub(crate) image_name: String,
    /// Layers of the image, lowest first: the image may be untagged later.
    pub(crate) layers: Vec<Digest>,
    pub(crate) config: ContainerConfig,
    pub(crate) host: HostConfig,
    /// Wished endpoints by what the user called the network.
    pub(crate) endpoints: BTreeMap<String, EndpointSettings>,
    pub(crate) mounts: Vec<MountRecord>,
    pub(crate) path: String,
    pub(crate) args: Vec<String>,
    #[serde(skip)]
    pub(crate) state: RunState,
    /// While it runs.
    #[serde(skip)]
    pub(crate) sandbox: Option<crate::network::SandboxView>,
    /// Endpoints as they are, while it runs; keys as in `endpoints`.
    #[serde(skip)]
    pub(crate) connected: BTreeMap<String, EndpointSettings>,
}

/// The part of a record that changes with each start.
#[derive(Serialize, Deserialize)]
struct Now {
    state: RunState,
    sandbox: Option<crate::network::SandboxView>,
    connected: BTreeMap<String, EndpointSettings>,
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountRecord {
    pub(crate) kind: MountKind,
    /// Of a volume.
    pub(crate) name: String,
    /// On the host; empty for tmpfs.
    pub(crate) source: PathBuf,
    pub(crate) destination: PathBuf,
    pub(crate) writable: bool,
    /// As the user gave it: `ro`, `z`, tmpfs options.
    pub(crate) mode: String,
    /// `rprivate`, `rshared`, …
    pub(crate) propagation: String,
    /// A volume that nobody has named: removed by `rm -v`.
    pub(crate) anonymous: bool,
    /// A volume that does not get what the image has at its place.
    #[serde(default)]
    pub(crate) no_copy: bool,
    /// A bind without what is mounted below its source.
    #[serde(default)]
    pub(crate) non_recursive: bool,
}

impl MountRecord {
    /// A writable mount of nothing yet.
    pub(crate) fn new(kind: MountKind, destination: PathBuf) -> Self {
        Self {
            kind,
            name: String::new(),
            source: PathBuf::new(),
            destination,
            writable: true,
            mode: String::new(),
            propagation: String::new(),
            anonymous: false,
            no_copy: false,
            non_recursive: false,
        }
    }
}

/// Kinds of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MountKind {
    Bind,
    Volume,
    Tmpfs,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    #[default]
    Created,
    Running,
    /// Waits to be started again by its restart policy.
    Restarting,
    Exited,
    /// Its removal has begun; finished at the next start if interrupted.
    Removing,
}

/// How a container is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) phase: Phase,
    pub(crate) paused: bool,
    /// Paused for as long as an image is made of it, and by nobody else.
    #[serde(default)]
    pub(crate) paused_by_commit: bool,
    pub(crate) pid: i64,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
    pub(crate) restart_count: i64,
    /// Stopped by the user: `unless-stopped` then means stopped.
    pub(crate) manually_stopped: bool,
    /// With a health check only.
    #[serde(default)]
    pub(crate) health: Option<Health>,
}

impl Default for RunState {
    fn default() -> Self {
        Self {
            phase: Phase::Created,
            paused: false,
            paused_by_commit: false,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
            restart_count: 0,
            manually_stopped: false,
            health: None,
        }
    }
}

impl RunState {
    /// Running for Docker: also while it waits for its next start.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Restarting)
    }

    /// Docker's word.
    pub(crate) fn status(&self) -> &'static str {
        match self.phase {
            Phase::Created => "created",
            Phase::Running if self.paused => "paused",
            Phase::Running => "running",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
        }
    }
}

impl Record {
    /// Writes it to its directory, or what of it differs from `before`.
    ///
    /// What the user asked for is made durable. How the container is right now only has to survive the daemon, not
    /// the machine: no waiting for the disk on the way to a running process.
    pub(crate) fn save(&self, dir: &Path, before: Option<&Self>) -> Result<(), EngineError> {
        let (wish, now) = self.encode()?;
        let old = before.map(Self::encode).transpose()?;
        if old.as_ref().is_none_or(|(old, _)| *old != wish) {
            let path = dir.join(WISH_FILE);
            weft_durable::replace(&path, &wish, 0o600).map_err(EngineError::file("write", path))?;
        }
        if old.as_ref().is_none_or(|(_, old)| *old != now) {
            let path = dir.join(STATE_FILE);
            weft_durable::replace_unsynced(&path, &now, 0o600).map_err(EngineError::file("write", path))?;
        }
        Ok(())
    }

    fn encode(&self) -> Result<(Vec<u8>, Vec<u8>), EngineError> {
        let failed = |error: serde_json::Error| EngineError::Malformed {
            what: "container",
            detail: error.to_string(),
        };
        let now = Now {
            state: self.state.clone(),
            sandbox: self.sandbox.clone(),
            connected: self.connected.clone(),
        };
        let wish = serde_json::to_vec_pretty(self).map_err(failed)?;
        Ok((wish, serde_json::to_vec(&now).map_err(failed)?))
    }

    /// Whether a folder holds one, readable or not.
    pub(crate) fn is_in(dir: &Path) -> bool {
        !matches!(dir.join(WISH_FILE).try_exists(), Ok(false))
    }

    /// Reads it back. A lost or damaged state is that of a container that never ran.
    pub(crate) fn load(dir: &Path) -> Result<Self, EngineError> {
        let path = dir.join(WISH_FILE);
        let bytes = std::fs::read(&path).map_err(EngineError::file("read", &path))?;
        let mut record: Self = serde_json::from_slice(&bytes)
            .map_err(|error| EngineError::Malformed { what: "container.json", detail: error.to_string() })?;
        let state = std::fs::read(dir.join(STATE_FILE)).ok();
        if let Some(now) = state.and_then(|bytes| serde_json::from_slice::<Now>(&bytes).ok()) {
            record.state = now.state;
            record.sandbox = now.sandbox;
            record.connected = now.connected;
        }
        Ok(record)
    }

    pub(crate) fn tty(&self) -> bool {
        self.config.tty == Some(true)
    }

    /// `default` is `bridge`, as Docker stores it.
    pub(crate) fn network_mode(&self) -> &str {
        match self.host.network_mode.as_deref() {
            None | Some("" | "default") => "bridge",
            Some(mode) => mode,
        }
    }

    pub(crate) fn restart_policy(&self) -> (&'static str, i64) {
        use bollard_stubs::models::RestartPolicyNameEnum as Name;
        let policy = self.host.restart_policy.as_ref();
        let retries = policy.and_then(|policy| policy.maximum_retry_count).unwrap_or(0);
        let name = match policy.and_then(|policy| policy.name) {
            Some(Name::ALWAYS) => "always",
            Some(Name::ON_FAILURE) => "on-failure",
            Some(Name::UNLESS_STOPPED) => "unless-stopped",
            _ => "no",
        };
        (name, retries)
    }

    /// Whether its process is the first one of a PID namespace.
    pub(crate) fn has_own_pids(&self) -> bool {
        self.host.pid_mode.as_deref().is_none_or(|mode| mode.is_empty() || mode == "private")
    }

    /// Whether the restart policy wants it started again after an end with `exit_code`.
    pub(crate) fn wants_restart(&self, exit_code: i64) -> bool {
        match self.restart_policy() {
            ("always", _) => true,
            ("unless-stopped", _) => !self.state.manually_stopped,
            ("on-failure", retries) => exit_code != 0 && (retries == 0 || self.state.restart_count < retries),
            _ => false,
        }
    }

    /// Attributes of this container's events: labels, image, name.
    pub(crate) fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes: BTreeMap<String, String> =
            self.config.labels.clone().unwrap_or_default().into_iter().collect();
        attributes.insert("image".to_owned(), self.image_name.clone());
        attributes.insert("name".to_owned(), self.name.clone());
        attributes
    }
}
