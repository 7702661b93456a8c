//! An engine with an image of the machine's static busybox, and a worker above it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bollard_stubs::models::{ContainerInspectResponse, EndpointSettings, PortMap};
use bytes::Bytes;
use weft_agent::testing::TaskBench;
use weft_engine::{
    ContainerNetwork, Engine, EngineConfig, ListOptions, NetworkFailure, Reexec, RemoveOptions, SandboxSpec,
    SandboxView,
};
use weft_identity::{IdentityHandle, NodeIdentity, NodeKey, NodeRole, RootCa};
use weft_types::{ContainerId, NodeId, SwarmId};
use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::task_status::RuntimeStatus;
use weft_wire::swarmkit::{Annotations, ContainerSpec, Task, TaskSpec, TaskState, TaskStatus};

const BUSYBOX: &str = "/bin/busybox";
pub(crate) const IMAGE: &str = "busybox:test";
const DEADLINE: Duration = Duration::from_secs(30);

/// Whether this machine can run the tests; a silent pass would be a lie.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    let busybox = Path::new(BUSYBOX).exists();
    if !root || !busybox {
        eprintln!("these tests need root ({root}) and a static busybox at {BUSYBOX} ({busybox})");
    }
    root && busybox
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// Runs a test's future; nothing may be left afterwards.
pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(Arc<Lab>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let lab = Arc::new(Lab::new().await);
        test(lab.clone()).await;
        lab.close().await;
    });
}

/// One node.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    network: Arc<NoNetwork>,
    identity: IdentityHandle,
    engine: Mutex<Arc<Engine>>,
    bench: Mutex<Option<Arc<TaskBench>>>,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("weft-tasks-").tempdir().unwrap();
        let network = Arc::new(NoNetwork);
        let engine = Engine::open(config(dir.path(), false), network.clone()).await.unwrap();
        let image = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(busybox_image()))]);
        engine.images().import(image, Some(IMAGE), None, &[]).await.unwrap();
        let identity = identity();
        let bench = TaskBench::open(engine.clone(), identity.clone(), dir.path()).await.unwrap();
        let bench = Mutex::new(Some(Arc::new(bench)));
        Self { dir, network, identity, engine: Mutex::new(engine), bench }
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        self.engine.lock().unwrap().clone()
    }

    pub(crate) fn bench(&self) -> Arc<TaskBench> {
        self.bench.lock().unwrap().clone().unwrap()
    }

    fn take_bench(&self) -> TaskBench {
        Arc::into_inner(self.bench.lock().unwrap().take().unwrap()).unwrap()
    }

    /// The daemon ends, in the order in which it does; `away` happens while it is gone.
    pub(crate) async fn restart(&self, live_restore: bool, away: impl Future<Output = ()>) {
        self.take_bench().close().unwrap();
        if live_restore {
            self.engine().abandon();
        } else {
            self.engine().shutdown().await;
        }
        away.await;
        let engine = Engine::open(config(self.dir.path(), live_restore), self.network.clone()).await.unwrap();
        *self.engine.lock().unwrap() = engine.clone();
        let bench = TaskBench::open(engine, self.identity.clone(), self.dir.path()).await.unwrap();
        *self.bench.lock().unwrap() = Some(Arc::new(bench));
    }

    async fn close(&self) {
        self.take_bench().leave().await;
        let engine = self.engine();
        for summary in engine.list(&ListOptions { all: true, ..ListOptions::default() }).unwrap() {
            let options = RemoveOptions { force: true, volumes: true };
            engine.remove(&summary.id.unwrap(), options).await.unwrap();
        }
        engine.shutdown().await;
        let dir = self.dir.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir), "mounts left: {mounts}");
    }

    /// Assigns tasks.
    pub(crate) fn assign(&self, tasks: impl IntoIterator<Item = Task>) {
        self.bench().assign(tasks.into_iter().map(Item::Task).collect(), Vec::new());
    }

    /// The managers no longer know these tasks.
    pub(crate) fn unassign(&self, tasks: impl IntoIterator<Item = Task>) {
        self.bench().assign(Vec::new(), tasks.into_iter().map(Item::Task).collect());
    }

    pub(crate) fn status(&self, task: &str) -> Option<TaskStatus> {
        self.bench().status(task)
    }

    /// Waits until a task is in this state, or in a later one.
    pub(crate) async fn reaches(&self, task: &str, state: TaskState) -> TaskStatus {
        let bench = self.bench();
        eventually(&format!("{task} {state:?}"), || bench.status(task).filter(|s| s.state() >= state)).await
    }

    pub(crate) fn inspect(&self, name: &str) -> Option<ContainerInspectResponse> {
        self.engine().inspect(name, false).ok()
    }

    /// Lines of a container's log.
    pub(crate) async fn log(&self, container: &str) -> Vec<String> {
        let lines = self.bench().log(container, 0).await;
        lines.into_iter().map(|(_, line)| String::from_utf8_lossy(&line).trim_end().to_owned()).collect()
    }
}

pub(crate) fn container_of(status: &TaskStatus) -> weft_wire::swarmkit::ContainerStatus {
    match status.runtime_status.clone() {
        Some(RuntimeStatus::Container(container)) => container,
        None => panic!("no container in {status:?}"),
    }
}

/// A task of service `web` that runs a shell script.
pub(crate) fn task(id: &str, slot: u64, script: &str, change: impl FnOnce(&mut ContainerSpec)) -> Task {
    let mut spec = ContainerSpec {
        image: IMAGE.to_owned(),
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        ..ContainerSpec::default()
    };
    change(&mut spec);
    Task {
        id: id.to_owned(),
        service_id: "service1".to_owned(),
        node_id: "node1".to_owned(),
        slot,
        service_annotations: Some(Annotations { name: "web".to_owned(), ..Annotations::default() }),
        spec: Some(TaskSpec { runtime: Some(Runtime::Container(spec)), ..TaskSpec::default() }),
        status: Some(TaskStatus { state: TaskState::Assigned.into(), ..TaskStatus::default() }),
        desired_state: TaskState::Running.into(),
        ..Task::default()
    }
}

pub(crate) fn desired(task: &Task, state: TaskState) -> Task {
    Task { desired_state: state.into(), ..task.clone() }
}

fn identity() -> IdentityHandle {
    let now = SystemTime::now();
    let (root, key, mut random) = (RootCa::generate(now).unwrap(), NodeKey::generate().unwrap(), rand::rng());
    let (node, swarm) = (NodeId::random(&mut random), SwarmId::random(&mut random));
    let day = Duration::from_secs(86_400);
    let issued = root.issue(&key.csr_pem().unwrap(), NodeRole::Worker, &node, &swarm, now, day).unwrap();
    let identity = NodeIdentity::from_pem(issued, key.key_pem(), root.certificate_pem().to_owned()).unwrap();
    IdentityHandle::in_memory(identity).unwrap()
}

fn config(dir: &Path, live_restore: bool) -> EngineConfig {
    let reexec = Reexec::current_exe().unwrap();
    EngineConfig { live_restore, ..EngineConfig::new(dir.join("data"), dir.join("run"), reexec) }
}

/// A busybox with its applets, as `docker export` would give it.
fn busybox_image() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode) in
        [("bin", 0o755), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755), ("tmp", 0o1777)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    let mut file = |name: &str, mode: u32, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, name, data).unwrap();
    };
    file("bin/busybox", 0o755, &std::fs::read(BUSYBOX).unwrap());
    file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    let applets = std::process::Command::new(BUSYBOX).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

/// Sandboxes in the host's own namespace, and a record of who joined what.
#[derive(Default)]
struct NoNetwork;

#[async_trait]
impl ContainerNetwork for NoNetwork {
    async fn create_sandbox(&self, _: SandboxSpec) -> Result<SandboxView, NetworkFailure> {
        Ok(SandboxView::default())
    }

    async fn connect(
        &self,
        _: &ContainerId,
        _: &str,
        settings: &EndpointSettings,
    ) -> Result<EndpointSettings, NetworkFailure> {
        Ok(settings.clone())
    }

    async fn disconnect(&self, _: &ContainerId, _: &str, _: bool) -> Result<(), NetworkFailure> {
        Ok(())
    }

    async fn publish(&self, _: &ContainerId) -> Result<PortMap, NetworkFailure> {
        Ok(PortMap::new())
    }

    async fn remove_sandbox(&self, _: &ContainerId) -> Result<(), NetworkFailure> {
        Ok(())
    }

    async fn adopt(&self, _: &[ContainerId]) -> Result<(), NetworkFailure> {
        Ok(())
    }

    fn check(&self, _: &str, _: &EndpointSettings) -> Result<(), NetworkFailure> {
        Ok(())
    }

    fn display_name(&self, network: &str) -> Option<String> {
        Some(network.to_owned())
    }

    fn endpoints(&self, _: &ContainerId) -> HashMap<String, EndpointSettings> {
        HashMap::new()
    }
}
