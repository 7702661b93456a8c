//! Further processes in running containers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bollard_stubs::models::{ExecConfig, ExecInspectResponse, ProcessConfig};
use bytes::Bytes;

use super::attach::into_streams;
use super::{Engine, Result};
use crate::container::live::Container;
use crate::container::record::Phase;
use crate::error::EngineError;
use crate::options::{AttachedStreams, ExecStartOptions, StreamKind};
use crate::shim::protocol::{ExecRequest, Reply, Request};
use crate::shim_client::Pump;
use crate::spec::capabilities::CapabilitySet;
use crate::spec::security::SecurityOptions;
use crate::spec::user::User;
use crate::spec::{self, ProcessInput};

/// Execs that have ended are remembered until their container has this many newer ones.
const REMEMBERED: usize = 100;

/// Docker's exit code of what could not be started.
const NOT_STARTED: i64 = 126;

/// All execs by id.
#[derive(Default)]
pub(super) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

/// A further process.
pub(super) struct Exec {
    id: String,
    container: Arc<Container>,
    config: ExecConfig,
    user: User,
    state: Mutex<ExecState>,
}

#[derive(Debug, Clone, Default)]
struct ExecState {
    started: bool,
    running: bool,
    pid: i64,
    exit_code: Option<i64>,
}

impl Exec {
    fn state(&self) -> MutexGuard<'_, ExecState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn words(&self) -> String {
        self.config.cmd.as_deref().unwrap_or_default().join(" ")
    }
}

impl Execs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock().get(id).cloned().ok_or_else(|| EngineError::NoSuchExec(id.to_owned()))
    }

    fn add(&self, exec: Arc<Exec>) {
        let mut all = self.lock();
        let mut own = exec.container.execs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        own.push(exec.id.clone());
        while own.len() > REMEMBERED {
            let old =
                own.iter().position(|id| all.get(id).is_none_or(|exec| exec.state().exit_code.is_some()));
            let Some(old) = old else { break };
            all.remove(&own.remove(old));
        }
        drop(own);
        all.insert(exec.id.clone(), exec);
    }

    /// Forgets one that nobody asks about.
    pub(super) fn forget_one(&self, id: &str) {
        if let Some(exec) = self.lock().remove(id) {
            exec.container
                .execs
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .retain(|own| own != id);
        }
    }

    /// Forgets those of a removed container.
    pub(super) fn forget(&self, container: &Container) {
        self.lock().retain(|_, exec| exec.container.id != container.id);
    }
}

impl Engine {
    /// Prepares an exec; its id.
    pub async fn exec_create(self: &Arc<Self>, term: &str, config: ExecConfig) -> Result<String> {
        let container = self.find(term)?;
        if config.cmd.as_deref().is_none_or(<[String]>::is_empty) {
            return Err(EngineError::Invalid("No exec command specified".to_owned()));
        }
        let state = container.state();
        if state.phase != Phase::Running {
            return Err(EngineError::NotRunning(container.id.to_string()));
        }
        if state.paused {
            return Err(EngineError::Conflict(format!(
                "Container {term} is paused, unpause the container before exec"
            )));
        }
        let user = self.exec_user(&container, config.user.as_deref().unwrap_or_default()).await?;
        let id = hex::encode(rand::random::<[u8; 32]>());
        let exec = Exec { id: id.clone(), container, config, user, state: Mutex::default() };
        let exec = Arc::new(exec);
        self.exec_event(&exec, &format!("exec_create: {}", exec.words()), &[]);
        self.execs.add(exec);
        Ok(id)
    }

    fn exec_event(&self, exec: &Exec, action: &str, more: &[(&str, String)]) {
        let mut attributes = vec![("execID", exec.id.clone())];
        attributes.extend_from_slice(more);
        self.container_event(&exec.container, action, &attributes);
    }

    async fn exec_user(&self, container: &Arc<Container>, text: &str) -> Result<User> {
        let record = container.record();
        let text = match text {
            "" => record.config.user.clone().unwrap_or_default(),
            given => given.to_owned(),
        };
        // The container's own view: mounts over /etc count, and it is there after a restart of the daemon too.
        let root = PathBuf::from(format!("/proc/{}/root", record.state.pid));
        super::blocking(move || {
            spec::user::resolve(&root, &text, record.host.group_add.as_deref().unwrap_or_default())
        })
        .await
    }

    /// Whether it can be started now, for who must answer before it is; whether it has a terminal.
    pub fn exec_startable(&self, exec_id: &str) -> Result<bool> {
        let exec = self.execs.find(exec_id)?;
        if exec.state().started {
            return Err(already_running(exec_id));
        }
        if exec.container.state().phase != Phase::Running {
            return Err(EngineError::NotRunning(exec.container.id.to_string()));
        }
        Ok(exec.config.tty == Some(true))
    }

    /// Starts it attached. What prevents that is told in its output, as Docker does; the exit code is in
    /// [`Engine::exec_inspect`].
    pub async fn exec_start_told(
        self: &Arc<Self>,
        exec_id: &str,
        console_size: Option<(u16, u16)>,
    ) -> AttachedStreams {
        let options = ExecStartOptions { detach: false, console_size };
        let text = match self.exec_start(exec_id, options).await {
            Ok(Some(streams)) => return streams,
            Ok(None) => Bytes::new(),
            Err(error) => Bytes::from(format!("{error}\r\n")),
        };
        let tty = self.execs.find(exec_id).is_ok_and(|exec| exec.config.tty == Some(true));
        let output = futures_util::stream::iter([Ok((StreamKind::Stdout, text))]);
        AttachedStreams { stdin: None, output: Box::pin(output), tty }
    }

    /// Starts it; `None` when detached.
    pub async fn exec_start(
        self: &Arc<Self>,
        exec_id: &str,
        options: ExecStartOptions,
    ) -> Result<Option<AttachedStreams>> {
        let exec = self.execs.find(exec_id)?;
        {
            let mut state = exec.state();
            if state.started {
                return Err(already_running(exec_id));
            }
            state.started = true;
        }
        let started = self.exec_run(&exec, options).await;
        if started.is_err() {
            exec.state().exit_code.get_or_insert(NOT_STARTED);
        }
        started
    }

    async fn exec_run(
        self: &Arc<Self>,
        exec: &Arc<Exec>,
        options: ExecStartOptions,
    ) -> Result<Option<AttachedStreams>> {
        if exec.container.state().phase != Phase::Running {
            return Err(EngineError::NotRunning(exec.container.id.to_string()));
        }
        let wants = |wish: Option<bool>| wish == Some(true) && !options.detach;
        let (stdin, stdout, stderr) = (
            wants(exec.config.attach_stdin),
            wants(exec.config.attach_stdout),
            wants(exec.config.attach_stderr),
        );
        let tty = exec.config.tty == Some(true);
        let request = ExecRequest {
            id: exec.id.clone(),
            process: self.exec_process(exec, options.console_size)?,
            stdin,
            stdout,
            stderr,
            tty,
        };
        self.exec_event(exec, &format!("exec_start: {}", exec.words()), &[]);
        let mut connection = exec.container.shim().open(&Request::Exec(Box::new(request))).await?;
        match connection.reply().await? {
            Reply::Started { pid } => {
                let mut state = exec.state();
                state.running = true;
                state.pid = i64::from(pid);
            }
            Reply::Failed { reason, exit_code } => {
                exec.state().exit_code = Some(exit_code);
                let error = EngineError::ExecStart { reason, exit_code };
                self.exec_event(exec, "exec_die", &[("exitCode", exit_code.to_string())]);
                return Err(error);
            }
            other => {
                return Err(EngineError::Shim {
                    container: exec.container.id.to_string(),
                    detail: format!("unexpected answer {other:?}"),
                });
            }
        }
        let (pump, client) = Pump::new(stdin, stdout, stderr);
        let (engine, exec) = (self.clone(), exec.clone());
        connection.pump(pump, move |exit| {
            let exit_code = exit.map_or(137, |exit| exit.code);
            {
                let mut state = exec.state();
                state.running = false;
                state.exit_code = Some(exit_code);
            }
            engine.exec_event(&exec, "exec_die", &[("exitCode", exit_code.to_string())]);
        });
        if options.detach {
            return Ok(None);
        }
        Ok(Some(into_streams(client, tty)))
    }

    /// Kills it, if it runs.
    pub(super) fn exec_kill(&self, exec_id: &str) {
        let Ok(exec) = self.execs.find(exec_id) else { return };
        let state = exec.state().clone();
        let pid = i32::try_from(state.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let (true, Some(pid)) = (state.running, pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    fn exec_process(&self, exec: &Exec, console_size: Option<(u16, u16)>) -> Result<serde_json::Value> {
        let record = exec.container.record();
        let capabilities = if exec.config.privileged == Some(true) {
            CapabilitySet::all()
        } else {
            spec::capabilities_of(&record)?
        };
        let options = SecurityOptions::parse(record.host.security_opt.as_deref().unwrap_or_default())?;
        let tty = exec.config.tty == Some(true);
        let mut env = record.config.env.clone().unwrap_or_default();
        env.extend(exec.config.env.clone().unwrap_or_default());
        let hostname = record.config.hostname.clone().unwrap_or_default();
        let cwd = [&exec.config.working_dir, &record.config.working_dir]
            .into_iter()
            .find_map(|dir| dir.clone().filter(|dir| !dir.is_empty()))
            .unwrap_or_else(|| "/".to_owned());
        let from_config = exec.config.console_size.as_deref().and_then(|size| match size {
            [height, width] => Some((*height as u16, *width as u16)),
            _ => None,
        });
        spec::process(
            &record,
            ProcessInput {
                args: exec.config.cmd.clone().unwrap_or_default(),
                env: spec::environment(&hostname, tty, &exec.user.home, &env),
                cwd,
                user: &exec.user,
                tty,
                capabilities: &capabilities,
                no_new_privileges: options.no_new_privileges,
                console_size: console_size.or(from_config),
            },
        )
    }

    /// What became of it.
    pub fn exec_inspect(&self, exec_id: &str) -> Result<ExecInspectResponse> {
        let exec = self.execs.find(exec_id)?;
        let state = exec.state().clone();
        let mut words = exec.config.cmd.clone().unwrap_or_default().into_iter();
        Ok(ExecInspectResponse {
            can_remove: Some(false),
            detach_keys: Some(exec.config.detach_keys.clone().unwrap_or_default()),
            id: Some(exec.id.clone()),
            running: Some(state.running),
            exit_code: state.exit_code,
            process_config: Some(ProcessConfig {
                privileged: Some(exec.config.privileged == Some(true)),
                user: exec.config.user.clone().filter(|user| !user.is_empty()),
                tty: Some(exec.config.tty == Some(true)),
                entrypoint: Some(words.next().unwrap_or_default()),
                arguments: Some(words.collect()),
            }),
            open_stdin: Some(exec.config.attach_stdin == Some(true)),
            open_stderr: Some(exec.config.attach_stderr == Some(true)),
            open_stdout: Some(exec.config.attach_stdout == Some(true)),
            container_id: Some(exec.container.id.to_string()),
            pid: Some(state.pid),
        })
    }

    /// Sets the size of its terminal.
    pub async fn exec_resize(&self, exec_id: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.execs.find(exec_id)?;
        let missing = || EngineError::NoSuchProcess(exec.id.clone());
        if !exec.state().running {
            return Err(missing());
        }
        let request = Request::Resize { exec: Some(exec.id.clone()), height, width };
        match exec.container.shim().request(&request).await? {
            Reply::Failed { .. } => Err(missing()),
            _ => Ok(()),
        }
    }
}

fn already_running(exec_id: &str) -> EngineError {
    EngineError::Conflict(format!("Error: Exec command {exec_id} is already running"))
}
