//! Starting: root file system, network, specification, shim, process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::{Engine, Result, blocking, now};
use crate::container::create::parse_size;
use crate::container::live::Container;
use crate::container::record::{MountKind, Phase, Record};
use crate::error::EngineError;
use crate::network::SandboxView;
use crate::shim::bundle::{LogConfig, ShimConfig};
use crate::shim::protocol::{Reply, Request};
use crate::shim_client::{Pump, ShimConnection};
use crate::spec::user::User;
use crate::spec::{self, Joined, Namespace, SpecInput, filter};

/// Exit code of a container that could not be started for another reason than its program.
const CANNOT_START: i64 = 128;

/// Bytes of a log file with the driver `local`, and how many are kept; Docker's.
const LOCAL_LOG_SIZE: u64 = 20 << 20;
const LOCAL_LOG_FILES: u32 = 5;
/// First processes for `--init`, statically linked: they run in any image.
const INIT_PROGRAMS: [&str; 2] = ["docker-init", "tini-static"];

/// A process that runs, and the connection that tells its end.
struct Launched {
    pid: i32,
    watcher: ShimConnection,
    sandbox: SandboxView,
}

impl Engine {
    /// Starts it. `NotModified` if it runs.
    pub async fn start(self: &Arc<Self>, term: &str) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        let state = container.state();
        match state.phase {
            Phase::Running if state.paused => {
                return Err(EngineError::Conflict(
                    "cannot start a paused container, try unpause instead".to_owned(),
                ));
            }
            Phase::Running => {
                return Err(EngineError::NotModified(format!("container {} is running", container.id)));
            }
            Phase::Removing => {
                return Err(EngineError::Conflict(
                    "container is marked for removal and cannot be started".to_owned(),
                ));
            }
            Phase::Restarting => container.restart_cancel.notify_waiters(),
            Phase::Created | Phase::Exited => {}
        }
        container.update(|record| {
            record.state.restart_count = 0;
            record.state.manually_stopped = false;
        })?;
        self.start_locked(&container).await
    }

    /// Starts a container whose operation lock the caller holds.
    pub(super) async fn start_locked(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        match self.launch(container).await {
            Ok(launched) => {
                container.note(|record| {
                    record.state.phase = Phase::Running;
                    record.state.paused = false;
                    record.state.paused_by_commit = false;
                    record.state.pid = i64::from(launched.pid);
                    record.state.exit_code = 0;
                    record.state.error.clear();
                    record.state.oom_killed = false;
                    record.state.started_at = now();
                    record.sandbox = Some(launched.sandbox);
                });
                container.life.send_modify(|life| {
                    life.running = true;
                    life.error = None;
                });
                self.container_event(container, "start", &[]);
                self.start_health(container);
                self.watch_exit(container.clone(), launched.watcher);
                Ok(())
            }
            Err(error) => {
                self.start_failed(container, &error).await;
                Err(error)
            }
        }
    }

    async fn start_failed(self: &Arc<Self>, container: &Arc<Container>, error: &EngineError) {
        let exit_code = match error {
            EngineError::Start { exit_code, .. } => *exit_code,
            _ => CANNOT_START,
        };
        self.release(container).await;
        container.pending_pumps().clear();
        let text = error.to_string();
        container.note(|record| {
            // A container that never ran stays `created`, with its error.
            if record.state.phase != Phase::Created {
                record.state.phase = Phase::Exited;
                record.state.finished_at = now();
            }
            record.state.pid = 0;
            record.state.exit_code = exit_code;
            record.state.error = text.clone();
        });
        container.life.send_modify(|life| {
            life.running = false;
            life.exits += 1;
            life.exit_code = exit_code;
            life.error = Some(text);
        });
        if container.with(|record| record.host.auto_remove == Some(true)) {
            self.remove_ended(container).await;
        }
    }

    async fn launch(self: &Arc<Self>, container: &Arc<Container>) -> Result<Launched> {
        let record = container.record();
        self.prepare_bundle(container)?;
        // Side by side: both wait for the kernel most of the time.
        let (network, process) =
            tokio::join!(self.make_sandbox(container, &record), self.prepare_process(container, &record));
        let (user, shim) = match process {
            Ok(process) => process,
            Err(error) => return Err(network.err().unwrap_or(error)),
        };
        let specified = match network {
            Ok((hostname, sandbox)) => {
                self.specify(container, &record, &user, &hostname, &sandbox).await.map(|()| sandbox)
            }
            Err(error) => Err(error),
        };
        match specified {
            Ok(sandbox) => {
                let (pid, watcher) = self.run_shim(container, &record, shim).await?;
                Ok(Launched { pid, watcher, sandbox })
            }
            Err(error) => {
                if let Err(left) = shim.abandon().await {
                    tracing::warn!(container = %container.id, error = %left, "shim left behind");
                }
                Err(error)
            }
        }
    }

    /// Completes the bundle: what its runtime waits for.
    async fn specify(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &Record,
        user: &User,
        hostname: &str,
        sandbox: &SandboxView,
    ) -> Result<()> {
        let apparmor = self.apparmor_profile(record);
        if let Some(profile) = apparmor.clone() {
            let engine = self.clone();
            blocking(move || engine.apparmor.ready(&profile)).await?;
        }
        let spec = spec::build(&SpecInput {
            record,
            rootfs: &container.rootfs().merged(),
            user,
            hostname,
            sandbox,
            joined: &self.joined_namespaces(record)?,
            cgroup: &container.cgroup(&self.config.cgroup_parent),
            hierarchies: &self.hierarchies,
            apparmor,
            init: init_program(record)?.as_deref(),
        })?;
        self.write_spec(container, spec).await
    }

    /// All that needs no network: its files, and a shim whose runtime waits for the specification.
    async fn prepare_process(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &Record,
    ) -> Result<(User, ShimConnection)> {
        self.mount_rootfs(container, record).await?;
        let user = self.prepare_files(container, record).await?;
        let config = self.shim_config(container, record, &user)?;
        let shim = container.shim().spawn(&config, &self.config.reexec).await?;
        Ok((user, shim))
    }

    /// The specification, and beside it the filter of system calls where it can be compiled ahead.
    async fn write_spec(self: &Arc<Self>, container: &Arc<Container>, mut spec: Value) -> Result<()> {
        let (engine, bundle) = (self.clone(), container.bundle.clone());
        blocking(move || {
            match engine.filters.of(&spec)? {
                Some(program) => {
                    std::fs::write(bundle.filter(), &*program)
                        .map_err(EngineError::file("write", bundle.filter()))?;
                    spec["linux"]["seccomp"].take();
                }
                None => filter::for_library(&mut spec),
            }
            let bytes = serde_json::to_vec(&spec).map_err(|error| EngineError::Malformed {
                what: "specification",
                detail: error.to_string(),
            })?;
            std::fs::write(bundle.spec(), bytes).map_err(EngineError::file("write", bundle.spec()))
        })
        .await
    }

    /// A fresh bundle: what the last run has left is of no use.
    fn prepare_bundle(&self, container: &Container) -> Result<()> {
        let path = container.bundle.path();
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::file("empty", path)(error));
            }
            _ => {}
        }
        super::make_private(path.to_owned())
    }

    async fn mount_rootfs(&self, container: &Arc<Container>, record: &Record) -> Result<()> {
        let lower = self.images.lower_directories(&record.layers);
        let rootfs = container.rootfs();
        let _alone = container.files.take().await;
        blocking(move || rootfs.mount(&lower)).await
    }

    /// Working directory, volumes' first content, missing bind sources; answers whom the process runs as.
    async fn prepare_files(self: &Arc<Self>, container: &Arc<Container>, record: &Record) -> Result<User> {
        let (rootfs, record, engine) = (container.rootfs(), record.clone(), self.clone());
        blocking(move || {
            let merged = rootfs.merged();
            let text = record.config.user.as_deref().unwrap_or_default();
            let groups = record.host.group_add.as_deref().unwrap_or_default();
            // At the start Docker answers this mistake with 500.
            let user = spec::user::resolve(&merged, text, groups)
                .map_err(|error| EngineError::Refused(error.to_string()))?;
            if let Some(dir) = record.config.working_dir.as_deref().filter(|dir| !dir.is_empty()) {
                rootfs.make_directory(Path::new(dir), (0, 0)).map_err(EngineError::file("create", dir))?;
            }
            for mount in &record.mounts {
                if mount.kind == MountKind::Volume {
                    engine.volumes.enter(mount, &record.id)?;
                }
                match mount.kind {
                    MountKind::Volume if mount.no_copy => {}
                    MountKind::Volume => rootfs
                        .fill_volume(&mount.destination, &mount.source)
                        .map_err(EngineError::file("fill", &mount.source))?,
                    MountKind::Bind if !mount.source.exists() => std::fs::create_dir_all(&mount.source)
                        .map_err(EngineError::file("create", &mount.source))?,
                    MountKind::Bind | MountKind::Tmpfs => {}
                }
            }
            Ok(user)
        })
        .await
    }

    fn joined_namespaces(&self, record: &Record) -> Result<Joined> {
        let mut joined = Joined::default();
        let running = |term: &str, what: &str| -> Result<i64> {
            let other = self.find(term)?;
            let state = other.state();
            if state.phase == Phase::Running {
                return Ok(state.pid);
            }
            Err(EngineError::Conflict(format!(
                "cannot join {what} of a non running container: container {} is {}",
                other.name(),
                state.status()
            )))
        };
        match record.host.pid_mode.as_deref() {
            Some("host") => joined.pid = Namespace::Host,
            Some(mode) if mode.starts_with("container:") => {
                let pid = running(&mode["container:".len()..], "PID namespace")?;
                joined.pid = Namespace::Path(format!("/proc/{pid}/ns/pid").into());
            }
            _ => {}
        }
        match record.host.ipc_mode.as_deref() {
            Some("host") => {
                joined.ipc = Namespace::Host;
                joined.shm = Some("/dev/shm".into());
            }
            Some(mode) if mode.starts_with("container:") => {
                let pid = running(&mode["container:".len()..], "IPC namespace")?;
                joined.ipc = Namespace::Path(format!("/proc/{pid}/ns/ipc").into());
                joined.shm = Some(format!("/proc/{pid}/root/dev/shm").into());
            }
            _ => {}
        }
        Ok(joined)
    }

    fn shim_config(&self, container: &Container, record: &Record, user: &User) -> Result<ShimConfig> {
        let reexec = &self.config.reexec;
        Ok(ShimConfig {
            id: container.id.to_string(),
            tty: record.tty(),
            open_stdin: record.config.open_stdin == Some(true),
            stdin_once: record.config.stdin_once == Some(true),
            uid: user.uid,
            gid: user.gid,
            log: self.log_config(container, record)?,
            cgroup: container.cgroup(&self.config.cgroup_parent),
            exe: reexec.exe.clone(),
            args: reexec.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        })
    }

    async fn run_shim(
        &self,
        container: &Arc<Container>,
        record: &Record,
        mut watcher: ShimConnection,
    ) -> Result<(i32, ShimConnection)> {
        watcher.send(&Request::Create).await?;
        let pid = match watcher.reply().await? {
            Reply::Started { pid } => pid,
            Reply::Failed { reason, exit_code } => {
                return Err(EngineError::Start { reason: start_reason(&reason, exit_code), exit_code });
            }
            other => return Err(shim_error(container, &other)),
        };
        if record.host.oom_kill_disable == Some(true) {
            // The runtime library leaves it out.
            let done = self.hierarchies.disable_oom_killer(&container.cgroup(&self.config.cgroup_parent));
            let reason = |error| format!("disable the OOM killer: {error}");
            done.map_err(|e| EngineError::Start { reason: reason(e), exit_code: CANNOT_START })?;
        }
        let shim = container.shim();
        let pumps = std::mem::take(&mut *container.pending_pumps());
        for pump in pumps {
            self.attach_pump(container, pump).await?;
        }
        match shim.request(&Request::Start).await? {
            Reply::Done => Ok((pid, watcher)),
            Reply::Failed { reason, exit_code } => Err(EngineError::Start { reason, exit_code }),
            other => Err(shim_error(container, &other)),
        }
    }

    /// Connects a client's streams to the shim; they flow on their own from here.
    pub(super) async fn attach_pump(&self, container: &Container, pump: Pump) -> Result<()> {
        let request =
            Request::Attach { stdin: pump.stdin.is_some(), stdout: pump.stdout, stderr: pump.stderr };
        let mut connection = container.shim().open(&request).await?;
        match connection.reply().await? {
            Reply::Done => {
                connection.pump(pump, |_| {});
                Ok(())
            }
            other => Err(shim_error(container, &other)),
        }
    }

    fn log_config(&self, container: &Container, record: &Record) -> Result<Option<LogConfig>> {
        let Some(log) = &record.host.log_config else { return Ok(None) };
        if log.typ.as_deref() == Some("none") {
            return Ok(None);
        }
        let option = |key: &str| log.config.as_ref().and_then(|options| options.get(key)).cloned();
        // Both drivers write the same form, which only the daemon reads; they differ in what is kept.
        let (size, files) = match log.typ.as_deref() {
            Some("local") => (Some(LOCAL_LOG_SIZE), LOCAL_LOG_FILES),
            _ => (None, 1),
        };
        let max_size = match option("max-size") {
            Some(text) => Some(parse_size(&text)?).filter(|size| *size > 0),
            None => size,
        };
        let max_files = option("max-file").and_then(|text| text.parse().ok()).unwrap_or(files).max(1);
        Ok(Some(LogConfig { path: container.log_path(), max_size, max_files }))
    }
}

/// The program of `--init`. Of no use where another's first process reaps.
fn init_program(record: &Record) -> Result<Option<PathBuf>> {
    if record.host.init != Some(true) || !record.has_own_pids() {
        return Ok(None);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        std::env::split_paths(&path).flat_map(|dir| INIT_PROGRAMS.iter().map(move |name| dir.join(name)));
    let missing =
        || EngineError::Refused(format!("exec: {:?}: executable file not found in $PATH", INIT_PROGRAMS[0]));
    places.find(|place| place.is_file()).map(Some).ok_or_else(missing)
}

/// runc says so for what fails inside the new process.
fn start_reason(reason: &str, exit_code: i64) -> String {
    if exit_code == CANNOT_START {
        reason.to_owned()
    } else {
        format!("error during container init: {reason}")
    }
}

fn shim_error(container: &Container, reply: &Reply) -> EngineError {
    EngineError::Shim { container: container.id.to_string(), detail: format!("unexpected answer {reply:?}") }
}
