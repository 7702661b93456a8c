//! An engine below a temporary directory with an image of the machine's static busybox.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bollard_stubs::models::{ContainerCreateBody, EndpointSettings, ExecConfig, HostConfig, PortMap};
use bytes::Bytes;
use futures_util::StreamExt;
use weft_engine::{
    AttachOptions, ContainerNetwork, Engine, EngineConfig, LogOptions, NetworkFailure, OutputStream, Reexec,
    RemoveOptions, SandboxKind, SandboxSpec, SandboxView, StreamKind, WaitCondition,
};
use weft_types::ContainerId;

const BUSYBOX: &str = "/bin/busybox";
pub(crate) const IMAGE: &str = "busybox:test";

/// Whether this machine can run the tests; a silent pass would be a lie.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    let busybox = Path::new(BUSYBOX).exists();
    if !root || !busybox {
        eprintln!("these tests need root ({root}) and a static busybox at {BUSYBOX} ({busybox})");
    }
    root && busybox
}

/// Runs a test's future.
pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(Lab) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let lab = Lab::new().await;
        let (guard, network, engines) = (lab.dir.clone(), lab.network.clone(), lab.engines.clone());
        test(lab).await;
        let engines = std::mem::take(&mut *engines.lock().unwrap());
        for engine in engines {
            for summary in engine.list(&weft_engine::ListOptions { all: true, ..Default::default() }).unwrap()
            {
                let id = summary.id.unwrap();
                engine.remove(&id, RemoveOptions { force: true, volumes: true }).await.unwrap();
                assert_eq!(cgroups_of(&id), Vec::<PathBuf>::new());
            }
            engine.shutdown().await;
        }
        assert_eq!(network.count(), 0, "sandboxes left");
        assert_nothing_left(guard.path());
    });
}

/// Directories of a container in all cgroup hierarchies.
fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let roots = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    roots.map(|root| root.join("weft").join(id)).filter(|path| path.exists()).collect()
}

/// No mount and no process that belongs to the test is left.
fn assert_nothing_left(dir: &Path) {
    let text = dir.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(text), "mounts left: {mounts}");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_naming(text);
        if left.is_empty() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "processes left: {left:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Command lines of processes that name `text`.
fn processes_naming(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// One engine and what it needs.
#[derive(Clone)]
pub(crate) struct Lab {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) network: Arc<TestNetwork>,
    engines: Arc<Mutex<Vec<Arc<Engine>>>>,
}

impl Lab {
    async fn new() -> Self {
        let dir = Arc::new(tempfile::Builder::new().prefix("weft-engine-").tempdir().unwrap());
        let network = Arc::new(TestNetwork::new(dir.path()));
        let engine = Engine::open(config(dir.path(), false), network.clone()).await.unwrap();
        engine.images().import(body(busybox_image()), Some(IMAGE), None, &[]).await.unwrap();
        let engines = Arc::new(Mutex::new(vec![engine.clone()]));
        Self { dir, engine, network, engines }
    }

    /// The same roots under a new engine, as after a restart of the daemon.
    pub(crate) async fn reopen(&mut self, live_restore: bool) {
        let config = config(self.dir.path(), live_restore);
        self.engine = Engine::open(config, self.network.clone()).await.unwrap();
        *self.engines.lock().unwrap() = vec![self.engine.clone()];
    }

    /// Creates a container that runs a shell script.
    pub(crate) async fn create(&self, script: &str, change: impl FnOnce(&mut ContainerCreateBody)) -> String {
        let mut body = shell(script);
        change(&mut body);
        self.engine.create(None, body).await.unwrap().id.to_string()
    }

    /// Creates and starts.
    pub(crate) async fn start(&self, script: &str, change: impl FnOnce(&mut ContainerCreateBody)) -> String {
        let id = self.create(script, change).await;
        self.engine.start(&id).await.unwrap();
        id
    }

    /// Runs a script to its end as `docker run` does: attach, wait, start. Exit code and both outputs.
    pub(crate) async fn run(
        &self,
        script: &str,
        change: impl FnOnce(&mut ContainerCreateBody),
    ) -> (i64, String, String) {
        let id = self.create(script, change).await;
        let options = AttachOptions { stdout: true, stderr: true, stream: true, ..AttachOptions::default() };
        let streams = self.engine.attach(&id, options).await.unwrap();
        let exit = self.engine.wait(&id, WaitCondition::NextExit).unwrap();
        self.engine.start(&id).await.unwrap();
        let (out, err) = collect(streams.output).await;
        let code = timeout(exit).await.status_code;
        (code, out, err)
    }

    /// Runs a command in a container. Exit code and both outputs.
    pub(crate) async fn exec(&self, id: &str, words: &[&str]) -> (i64, String, String) {
        self.exec_with(id, words, |_| {}).await
    }

    pub(crate) async fn exec_with(
        &self,
        id: &str,
        words: &[&str],
        change: impl FnOnce(&mut ExecConfig),
    ) -> (i64, String, String) {
        let mut config = ExecConfig {
            cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        change(&mut config);
        let exec = self.engine.exec_create(id, config).await.unwrap();
        let streams = self.engine.exec_start_told(&exec, None).await;
        let (out, err) = collect(streams.output).await;
        // At once: clients ask for it as soon as the output has ended.
        let code = self.engine.exec_inspect(&exec).unwrap().exit_code.expect("ended");
        (code, out, err)
    }

    pub(crate) async fn logs(&self, id: &str) -> (String, String) {
        let options = LogOptions { stdout: true, stderr: true, ..LogOptions::default() };
        collect(self.engine.logs(id, options).await.unwrap().output).await
    }

    pub(crate) fn pid(&self, id: &str) -> i64 {
        self.engine.inspect(id, false).unwrap().state.unwrap().pid.unwrap()
    }

    pub(crate) fn status(&self, id: &str) -> String {
        self.engine.inspect(id, false).unwrap().state.unwrap().status.unwrap().to_string()
    }

    /// The shim of a container, once the runtime child has left the process to it.
    pub(crate) fn shim(&self, id: &str) -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid(id))).unwrap();
        let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let command = std::fs::read(format!("/proc/{parent}/cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains("\0shim\0").then(|| parent.parse().unwrap())
    }

    /// Command lines that name a container.
    pub(crate) fn processes(&self, id: &str) -> Vec<String> {
        processes_naming(id)
    }

    /// The process in which a container is being created.
    pub(crate) fn runtime(&self, id: &str) -> Option<i32> {
        let pids =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
        let mut runtimes = pids.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("\0runtime\0create\0") && line.contains(id)
        });
        runtimes.next()?.parse().ok()
    }

    /// Directories of a container in all cgroup hierarchies.
    pub(crate) fn cgroups(&self, id: &str) -> Vec<PathBuf> {
        cgroups_of(id)
    }
}

fn config(dir: &Path, live_restore: bool) -> EngineConfig {
    let reexec = Reexec::current_exe().unwrap();
    let private_sources = Some(dir.join("private"));
    EngineConfig {
        live_restore,
        private_sources,
        ..EngineConfig::new(dir.join("data"), dir.join("run"), reexec)
    }
}

/// A request for `sh -c script`.
pub(crate) fn shell(script: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    }
}

/// The host configuration of a request.
pub(crate) fn host(body: &mut ContainerCreateBody) -> &mut HostConfig {
    body.host_config.get_or_insert_with(HostConfig::default)
}

/// A root file system with busybox and its applets.
pub(crate) fn busybox_image() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let directory = |tar: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty()).unwrap();
    };
    for (name, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("data", 0o755),
    ] {
        directory(&mut tar, name, mode);
    }
    let mut file = |name: &str, mode: u32, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, name, data).unwrap();
    };
    file("bin/busybox", 0o755, &std::fs::read(BUSYBOX).unwrap());
    file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/tmp:/bin/sh\n");
    file("etc/group", 0o644, b"root:x:0:\nweb:x:1001:\nmedia:x:50:web\n");
    file("etc/plain", 0o644, b"not a program\n");
    file("data/first", 0o644, b"from the image\n");
    let applets = std::process::Command::new(BUSYBOX).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

/// A request body.
pub(crate) fn body(
    bytes: Vec<u8>,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Unpin {
    let chunks: Vec<_> = bytes.chunks(64 * 1024).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    futures_util::stream::iter(chunks)
}

/// Reads a stream to its end.
pub(crate) async fn collect(mut output: OutputStream) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    timeout(async {
        while let Some(chunk) = output.next().await {
            let (kind, data) = chunk.unwrap();
            if kind == StreamKind::Stderr {
                err.extend_from_slice(&data)
            } else {
                out.extend_from_slice(&data)
            }
        }
    })
    .await;
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

/// Reads a stream until it has given `wanted`.
pub(crate) async fn read_until(output: &mut OutputStream, wanted: &str) -> String {
    let mut text = String::new();
    timeout(async {
        while !text.contains(wanted) {
            let chunk = output.next().await.unwrap_or_else(|| panic!("ended before {wanted:?}: {text:?}"));
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap().1));
        }
    })
    .await;
    text
}

pub(crate) async fn timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    timeout(async {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A network without networks: namespaces come from the kernel by way of a pinned file, as from the real one.
pub(crate) struct TestNetwork {
    dir: PathBuf,
    sandboxes: Mutex<HashMap<ContainerId, PathBuf>>,
    pub(crate) adopted: Mutex<Vec<ContainerId>>,
    /// New names, in order.
    pub(crate) renamed: Mutex<Vec<String>>,
    /// Who left a network, in order.
    pub(crate) left: Mutex<Vec<ContainerId>>,
}

impl TestNetwork {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.join("net"),
            sandboxes: Mutex::default(),
            adopted: Mutex::default(),
            renamed: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Sandboxes that stand.
    pub(crate) fn count(&self) -> usize {
        self.sandboxes.lock().unwrap().len()
    }
}

/// A new network namespace, pinned at `path`. A thread of its own: the namespace must not stick to a pooled one.
fn pin_namespace(path: PathBuf) {
    std::fs::write(&path, "").unwrap();
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
        nix::mount::mount(
            Some(own.as_str()),
            &path,
            None::<&str>,
            nix::mount::MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
    })
    .join()
    .unwrap();
}

#[async_trait]
impl ContainerNetwork for TestNetwork {
    async fn create_sandbox(&self, request: SandboxSpec) -> Result<SandboxView, NetworkFailure> {
        let dir = self.dir.join(request.container.short());
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(dir.join(name), text).unwrap();
            Some(dir.join(name))
        };
        let netns = match request.kind {
            SandboxKind::Host => None,
            SandboxKind::Shared(other) => Some(self.sandboxes.lock().unwrap()[&other].join("netns")),
            SandboxKind::Own | SandboxKind::None | SandboxKind::Foreign(_) | SandboxKind::Handed => {
                pin_namespace(dir.join("netns"));
                Some(dir.join("netns"))
            }
        };
        self.sandboxes.lock().unwrap().insert(request.container.clone(), dir.clone());
        Ok(SandboxView {
            id: request.container.to_string(),
            netns,
            hosts: write("hosts", "127.0.0.1 localhost\n".to_owned()),
            resolv_conf: write("resolv.conf", "nameserver 127.0.0.11\n".to_owned()),
            hostname: write("hostname", format!("{}\n", request.hostname)),
            ports: PortMap::new(),
        })
    }

    async fn connect(
        &self,
        _: &ContainerId,
        network: &str,
        settings: &EndpointSettings,
    ) -> Result<EndpointSettings, NetworkFailure> {
        if network == "nosuch" {
            return Err(NetworkFailure {
                message: "network nosuch not found".to_owned(),
                kind: weft_types::ErrorKind::NotFound,
            });
        }
        Ok(settings.clone())
    }

    async fn disconnect(&self, container: &ContainerId, _: &str, _: bool) -> Result<(), NetworkFailure> {
        self.left.lock().unwrap().push(container.clone());
        Ok(())
    }

    async fn publish(&self, _: &ContainerId) -> Result<PortMap, NetworkFailure> {
        Ok(PortMap::new())
    }

    async fn rename(&self, _: &ContainerId, name: &str) -> Result<(), NetworkFailure> {
        self.renamed.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    async fn remove_sandbox(&self, container: &ContainerId) -> Result<(), NetworkFailure> {
        if let Some(dir) = self.sandboxes.lock().unwrap().remove(container) {
            let _ = rustix::mount::unmount(dir.join("netns"), rustix::mount::UnmountFlags::DETACH);
            std::fs::remove_dir_all(dir).unwrap();
        }
        Ok(())
    }

    async fn adopt(&self, running: &[ContainerId]) -> Result<(), NetworkFailure> {
        *self.adopted.lock().unwrap() = running.to_vec();
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
