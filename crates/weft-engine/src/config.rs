//! How the engine of one daemon is set up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// How to start this program again as a shim or as a runtime child.
#[derive(Debug, Clone)]
pub struct Reexec {
    /// The program, an absolute path.
    pub exe: PathBuf,
    /// Arguments before `shim …` or `runtime …`.
    pub args: Vec<OsString>,
}

impl Reexec {
    /// The running program itself, without further arguments.
    pub fn current_exe() -> std::io::Result<Self> {
        Ok(Self { exe: std::env::current_exe()?, args: Vec::new() })
    }

    /// A command that runs the hidden subcommand `role`.
    pub(crate) fn command(&self, role: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(&self.args).arg(role);
        command
    }
}

/// Settings of the engine; the daemon fills them from its flags and `daemon.json`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Images, containers and volumes live here and survive reboots.
    pub data_root: PathBuf,
    /// Bundles, sockets and exit files of running containers; need not survive a reboot.
    pub exec_root: PathBuf,
    /// Whether a stop of the daemon leaves containers running.
    pub live_restore: bool,
    /// How to start shims.
    pub reexec: Reexec,
    /// Directory below each cgroup hierarchy that holds the containers' cgroups.
    pub cgroup_parent: String,
    /// Default of `--log-opt`: `max-size`, `max-file`.
    pub log_options: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes when the container does not say.
    pub default_shm_size: i64,
    /// Seconds that containers get to stop when the daemon stops and the container does not say.
    pub shutdown_timeout: u64,
    /// Bind sources below it are the daemon's own (secrets of tasks) and not shown.
    pub private_sources: Option<PathBuf>,
    /// `--insecure-registry`: networks or `host[:port]` that may be spoken to without verified TLS.
    pub insecure_registries: Vec<String>,
}

impl EngineConfig {
    /// Docker's defaults below the two roots.
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>, reexec: Reexec) -> Self {
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            live_restore: false,
            reexec,
            cgroup_parent: "/weft".to_owned(),
            log_options: BTreeMap::new(),
            default_shm_size: 64 << 20,
            shutdown_timeout: 15,
            private_sources: None,
            insecure_registries: Vec::new(),
        }
    }
}
