//! Containers of tasks on this node's engine.

mod body;
mod files;
mod log;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bollard_stubs::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use tokio::sync::{broadcast, mpsc, oneshot};
use weft_engine::{
    Engine, EngineError, ListOptions, PullOptions, RegistryAuth, RemoveOptions, StopOptions, WaitCondition,
};
use weft_orchestration::{PlaceholderFunctions, PlaceholderNode, Placeholders};
use weft_wire::swarmkit::{FileTarget, LogSubscriptionOptions, Task, config_reference, secret_reference};

use self::body::FileMount;
pub(crate) use self::body::container_spec;
use self::files::{TaskFile, TaskFiles};
use super::naming::{self, TASK_ID_LABEL, TASK_LABEL, task_name};
use super::runtime::{
    Adopted, ContainerEvent, Dependencies, LogLine, Payload, StepFailed, TaskRuntime, Work,
};
use super::words::{Exit, Found, Running};

/// Where secrets are seen if their name is no path.
const SECRETS_DIR: &str = "/run/secrets";
/// Exit code of what could not be started for another reason than its program (Docker's).
const CANNOT_START: i32 = 128;
/// The zero time that Docker shows for what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// What the engine says of health checks.
const HEALTH_ACTION: &str = "health_status: ";

/// The engine of this node.
pub(crate) struct EngineRuntime {
    engine: Arc<Engine>,
    files: Arc<TaskFiles>,
    /// Pulls under way by image.
    pulls: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl EngineRuntime {
    /// `run_dir` need not survive a reboot.
    pub(crate) fn new(engine: Arc<Engine>, run_dir: &Path) -> Self {
        Self { engine, files: Arc::new(TaskFiles::below(run_dir)), pulls: Mutex::default() }
    }

    /// Everything that was made for tasks goes: this node leaves the swarm.
    pub(crate) async fn clear(&self) {
        let tasks = self.found().await;
        let removals = tasks.iter().map(|task| self.remove(&task.task_id, &task.container_id));
        for outcome in futures_util::future::join_all(removals).await {
            if let Err(error) = outcome {
                tracing::warn!(%error, "a task's container is left behind");
            }
        }
        self.files.close();
    }

    /// The container that was made for this task before, by a daemon that crashed or a step that was repeated.
    fn made_before(&self, task: &Task) -> Option<String> {
        let found = self.engine.inspect(&task_name(task), false).ok()?;
        let own = label(&found, TASK_ID_LABEL) == Some(&task.id);
        found.id.filter(|_| own)
    }

    async fn create(&self, work: &Work, mounts: &[FileMount]) -> Result<String, CreateFailed> {
        let context = placeholders(work);
        let body = body::body(&work.task, &context, mounts)
            .map_err(|error| CreateFailed::Task(StepFailed(error.to_string())))?;
        let (engine, name) = (self.engine.clone(), task_name(&work.task));
        // A creation that has begun is carried to its end.
        let creation = tokio::spawn(async move { engine.create(Some(&name), body).await });
        match creation.await {
            Ok(Ok(created)) => Ok(created.id.to_string()),
            Ok(Err(error)) => Err(CreateFailed::Engine(error)),
            Err(panic) => Err(CreateFailed::Task(StepFailed(panic.to_string()))),
        }
    }

    /// Writes the files of secrets and configs; answers where each is to be seen.
    async fn write_files(&self, work: &Work) -> Result<Vec<FileMount>, StepFailed> {
        let context = placeholders(work);
        let wanted = contents(work, &context)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mount = |(index, (target, _)): (usize, &(std::path::PathBuf, TaskFile))| FileMount {
            source: self.files.path(&work.task.id, index),
            target: target.clone(),
        };
        let mounts = wanted.iter().enumerate().map(mount).collect();
        let (files, task) = (self.files.clone(), work.task.id.clone());
        let contents: Vec<TaskFile> = wanted.into_iter().map(|(_, file)| file).collect();
        let written = tokio::task::spawn_blocking(move || files.write(&task, &contents)).await;
        match written {
            Ok(Ok(())) => Ok(mounts),
            Ok(Err(error)) => Err(StepFailed(format!("secret or config files could not be made: {error}"))),
            Err(panic) => Err(StepFailed(panic.to_string())),
        }
    }

    fn forget_files(&self, task: &str) {
        if let Err(error) = self.files.remove(task) {
            tracing::warn!(task, %error, "files of a task are left behind");
        }
    }

    /// The container as it runs now.
    fn running(&self, task: &Task, container: &str) -> Running {
        let Ok(found) = self.engine.inspect(container, false) else { return Running::default() };
        running(task, &found)
    }

    /// How a container that runs no more has ended.
    fn exit(&self, container: &str) -> Exit {
        match self.engine.inspect(container, false) {
            Ok(found) => exit(&found),
            Err(_) => Exit { code: 0, error: String::new() },
        }
    }
}

enum CreateFailed {
    Engine(EngineError),
    Task(StepFailed),
}

fn failed(error: &EngineError) -> StepFailed {
    StepFailed(error.to_string())
}

fn label<'a>(found: &'a ContainerInspectResponse, name: &str) -> Option<&'a String> {
    found.config.as_ref()?.labels.as_ref()?.get(name)
}

fn running(task: &Task, found: &ContainerInspectResponse) -> Running {
    let state = found.state.as_ref();
    let ports = found.network_settings.as_ref().and_then(|settings| settings.ports.as_ref());
    let publishes = body::host_ports(task).next().is_some();
    Running {
        pid: state.and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0),
        ports: ports.filter(|_| publishes).map(body::bound_ports).unwrap_or_default(),
        health_checked: health(found).is_some(),
    }
}

/// The word of the health check; none where none is run.
fn health(found: &ContainerInspectResponse) -> Option<HealthStatusEnum> {
    let status = found.state.as_ref()?.health.as_ref()?.status?;
    (!matches!(status, HealthStatusEnum::EMPTY | HealthStatusEnum::NONE)).then_some(status)
}

fn exit(found: &ContainerInspectResponse) -> Exit {
    let state = found.state.as_ref();
    Exit {
        code: state.and_then(|state| state.exit_code).map_or(0, |code| code as i32),
        error: state.and_then(|state| state.error.clone()).unwrap_or_default(),
    }
}

/// What became of a container that an earlier daemon made.
fn found(container: &ContainerInspectResponse) -> Found {
    let state = container.state.as_ref();
    let status = state.and_then(|state| state.status);
    let started = state.and_then(|state| state.started_at.as_deref()).is_some_and(|at| at != NEVER);
    match status {
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING,
        ) => {
            let healthy = health(container).is_none_or(|health| health == HealthStatusEnum::HEALTHY);
            Found::Running(running(&Task::default(), container), healthy)
        }
        _ if started => Found::Exited(exit(container)),
        _ => Found::Created,
    }
}

fn placeholders(work: &Work) -> Placeholders {
    let (task, node) = (&work.task, &work.node);
    let node = PlaceholderNode {
        id: &node.id,
        hostname: &node.hostname,
        architecture: &node.architecture,
        os: &node.os,
    };
    Placeholders::of(task, task_name(task), naming::slot(task), node)
}

/// Targets and contents of the files, templates expanded.
fn contents(work: &Work, context: &Placeholders) -> Result<Vec<(std::path::PathBuf, TaskFile)>, StepFailed> {
    let mut files = Vec::new();
    for (reference, payload) in &work.dependencies.secrets {
        if let Some(secret_reference::Target::File(file)) = &reference.target {
            let data = content(work, context, payload)?;
            files.push((body::target(SECRETS_DIR, &file.name), task_file(file, data)));
        }
    }
    for (reference, payload) in &work.dependencies.configs {
        if let Some(config_reference::Target::File(file)) = &reference.target {
            let data = content(work, context, payload)?;
            files.push((body::target("/", &file.name), task_file(file, data)));
        }
    }
    Ok(files)
}

fn task_file(file: &FileTarget, data: Vec<u8>) -> TaskFile {
    let id = |text: &str| text.parse().unwrap_or(0);
    TaskFile { data, uid: id(&file.uid), gid: id(&file.gid), mode: file.mode }
}

fn content(work: &Work, context: &Placeholders, payload: &Payload) -> Result<Vec<u8>, StepFailed> {
    if !payload.is_template {
        return Ok(payload.data.to_vec());
    }
    let Dependencies { secrets, configs } = &work.dependencies;
    let spec = container_spec(&work.task);
    let environment = match spec {
        Some(spec) => body::environment(spec, context).map_err(|error| StepFailed(error.to_string()))?,
        None => Vec::new(),
    };
    let env = |name: &str| {
        let value = |entry: &String| {
            entry.strip_prefix(name)?.strip_prefix('=').map(|value| value.as_bytes().to_vec())
        };
        environment.iter().find_map(value)
    };
    // By the name of the file inside, as SwarmKit finds them.
    let secret = |name: &str| {
        let wanted = |reference: &weft_wire::swarmkit::SecretReference| {
            matches!(&reference.target,
            Some(secret_reference::Target::File(file)) if file.name == name)
        };
        secrets.iter().find(|(reference, _)| wanted(reference)).map(|(_, payload)| payload.data.to_vec())
    };
    let config = |name: &str| {
        let wanted = |reference: &weft_wire::swarmkit::ConfigReference| {
            matches!(&reference.target,
            Some(config_reference::Target::File(file)) if file.name == name)
        };
        configs.iter().find(|(reference, _)| wanted(reference)).map(|(_, payload)| payload.data.to_vec())
    };
    let functions = PlaceholderFunctions { env: Some(&env), secret: Some(&secret), config: Some(&config) };
    context.expand_with(&payload.data, &functions).map_err(|error| StepFailed(error.to_string()))
}

#[async_trait]
impl TaskRuntime for EngineRuntime {
    async fn found(&self) -> Vec<Adopted> {
        let filters = [("label".to_owned(), vec![TASK_LABEL.to_owned()])].into();
        let listed = self.engine.list(&ListOptions { all: true, filters, ..ListOptions::default() });
        let listed = listed.unwrap_or_else(|error| {
            tracing::error!(%error, "containers of tasks could not be listed");
            Vec::new()
        });
        let adopted = |id: Option<String>| {
            let container = self.engine.inspect(&id?, false).ok()?;
            Some(Adopted {
                task_id: label(&container, TASK_ID_LABEL)?.clone(),
                found: found(&container),
                container_id: container.id?,
            })
        };
        listed.into_iter().filter_map(|container| adopted(container.id)).collect()
    }

    async fn prepare(&self, work: &Work, cancelled: oneshot::Receiver<()>) -> Result<String, StepFailed> {
        if let Some(container) = self.made_before(&work.task) {
            return Ok(container);
        }
        let mounts = self.write_files(work).await?;
        let outcome = match self.create(work, &mounts).await {
            Err(CreateFailed::Engine(EngineError::NoSuchImage(_))) => {
                self.pull(work, cancelled).await?;
                self.create(work, &mounts).await
            }
            other => other,
        };
        outcome.map_err(|error| {
            self.forget_files(&work.task.id);
            match error {
                CreateFailed::Engine(error) => failed(&error),
                CreateFailed::Task(error) => error,
            }
        })
    }

    async fn start(&self, work: &Work, container: &str) -> Result<Running, Exit> {
        let needed = !work.dependencies.secrets.is_empty() || !work.dependencies.configs.is_empty();
        if needed && !self.files.has(&work.task.id) {
            // Lost with a reboot.
            let written = self.write_files(work).await;
            written.map_err(|error| Exit { code: CANNOT_START, error: error.to_string() })?;
        }
        match self.engine.start(container).await {
            Ok(()) | Err(EngineError::NotModified(_)) => Ok(self.running(&work.task, container)),
            Err(error) => {
                self.forget_files(&work.task.id);
                let code = self.exit(container).code;
                let error = format!("starting container failed: {error}");
                Err(Exit { code: if code == 0 { CANNOT_START } else { code }, error })
            }
        }
    }

    async fn stop(&self, task: &Task, container: &str) -> Result<Exit, StepFailed> {
        let grace = container_spec(task).and_then(|spec| spec.stop_grace_period.as_ref());
        let timeout = grace.map(|grace| grace.seconds + i64::from(grace.nanos > 0));
        match self.engine.stop(container, StopOptions { signal: None, timeout }).await {
            Ok(())
            | Err(
                EngineError::NotModified(_) | EngineError::NoSuchContainer(_) | EngineError::NotRunning(_),
            ) => {
                self.forget_files(&task.id);
                Ok(self.exit(container))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    async fn remove(&self, task_id: &str, container: &str) -> Result<(), StepFailed> {
        self.forget_files(task_id);
        if container.is_empty() {
            return Ok(());
        }
        match self.engine.remove(container, RemoveOptions { force: true, volumes: true }).await {
            Ok(()) | Err(EngineError::NoSuchContainer(_)) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }

    fn release(&self, task_id: &str) {
        self.forget_files(task_id);
    }

    fn watch(&self, container: &str) -> mpsc::UnboundedReceiver<ContainerEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let events = self.engine.events();
        let (engine, container) = (self.engine.clone(), container.to_owned());
        let found = self.engine.inspect(&container, false);
        let runs = found.is_ok_and(|found| matches!(self::found(&found), Found::Running(..)));
        let condition = if runs { WaitCondition::NotRunning } else { WaitCondition::NextExit };
        let ended = self.engine.wait(&container, condition);
        tokio::spawn(async move {
            let Ok(ended) = ended else { return };
            let ended = tokio::select! {
                ended = ended => ended,
                () = tell_health(events, &engine, &container, &sender) => return,
                () = sender.closed() => return,
            };
            let error = ended.error.unwrap_or_default();
            let code = i32::try_from(ended.status_code).unwrap_or(i32::MAX);
            let _ = sender.send(ContainerEvent::Exited(Exit { code, error }));
        });
        receiver
    }

    async fn logs(
        &self,
        container: &str,
        options: &LogSubscriptionOptions,
    ) -> Result<mpsc::Receiver<LogLine>, StepFailed> {
        log::read(&self.engine, container, options).await.map_err(|error| failed(&error))
    }
}

impl EngineRuntime {
    /// Gets the image from its registry. Tasks that want the same one wait for the first of them.
    async fn pull(&self, work: &Work, cancelled: oneshot::Receiver<()>) -> Result<(), StepFailed> {
        let Some(spec) = container_spec(&work.task) else { return Ok(()) };
        let pull = async {
            let turn = self.turn(&spec.image);
            let _turn = turn.lock().await;
            if self.engine.images().inspect(&spec.image).is_ok() {
                return Ok(());
            }
            let auth = spec.pull_options.as_ref().map_or("", |options| &options.registry_auth);
            let auth = RegistryAuth::from_header(auth).unwrap_or_default();
            // Nobody looks at the progress.
            let (progress, _) = mpsc::unbounded_channel();
            let options = PullOptions { auth, platform: None };
            self.engine.images().pull(&spec.image, &options, &progress).await.map(drop)
        };
        let outcome = tokio::select! {
            outcome = pull => outcome,
            _ = cancelled => return Err(StepFailed("context canceled".to_owned())),
        };
        outcome.map_err(|error| {
            // As Docker: what the user reads is that there is no such image.
            tracing::warn!(image = spec.image, %error, "pulling the image of a task failed");
            failed(&EngineError::NoSuchImage(spec.image.clone()))
        })
    }

    fn turn(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, turn| Arc::strong_count(turn) > 1);
        pulls.entry(image.to_owned()).or_default().clone()
    }
}

/// Passes on what the health check says, until nobody listens. Only events tell a probe's verdict: the state of a
/// container that ended is unhealthy, too.
async fn tell_health(
    mut events: broadcast::Receiver<weft_engine::Event>,
    engine: &Engine,
    container: &str,
    sender: &mpsc::UnboundedSender<ContainerEvent>,
) {
    let say = |health: HealthStatusEnum| match health {
        HealthStatusEnum::HEALTHY => sender.send(ContainerEvent::Health(true)).is_ok(),
        HealthStatusEnum::UNHEALTHY => sender.send(ContainerEvent::Health(false)).is_ok(),
        _ => true,
    };
    loop {
        let listening = match events.recv().await {
            Ok(event) if event.id == container => match event.action.strip_prefix(HEALTH_ACTION) {
                Some("healthy") => say(HealthStatusEnum::HEALTHY),
                Some("unhealthy") => say(HealthStatusEnum::UNHEALTHY),
                _ => true,
            },
            Ok(_) => true,
            // Missed some: the present state is as good.
            Err(broadcast::error::RecvError::Lagged(_)) => {
                let now = engine.inspect(container, false).ok().and_then(|found| health(&found));
                now.is_none_or(say)
            }
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        };
        if !listening {
            return;
        }
    }
}
