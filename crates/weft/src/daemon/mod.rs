//! `weftd`: configuration, wiring, life and end of the daemon's process.
//!
//! Order of start: what may refuse (configuration, PID file, sockets) comes first and changes nothing; then networks,
//! containers, the swarm; the API answers last. The end is the reverse.

mod cluster;
mod config;
mod exposure;
mod flags;
mod identity;
mod key_value;
mod listeners;
mod logging;
mod pidfile;
mod tls;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::SigSet;
use tokio::signal::unix::{SignalKind, signal};
use weft_api::{ApiState, Listener, Server, SystemSettings};
use weft_engine::{Engine, EngineConfig, Reexec};
use weft_network::{AddressPool, Controller, ControllerConfig, HelperLaunch};
use weft_plugin::{PluginServer, cni::CniFace, docker::DockerFace};

use cluster::{Cluster, ClusterConfig};
use config::Config;
use key_value::{KeyValueMode, KeyValueNode};
use listeners::{Activation, Bound};
use pidfile::PidFile;

/// Requests under way at the stop get this long.
const REQUEST_GRACE: Duration = Duration::from_secs(2);
/// Enough for two cores' worth of requests; everything that blocks runs elsewhere.
const WORKER_THREADS: usize = 2;

/// The daemon's grammar, for manual and completion.
pub(crate) fn command() -> clap::Command {
    flags::grammar()
}

/// Runs the daemon until it is told to stop.
pub(crate) fn run(args: Vec<String>) -> ExitCode {
    let flags = match flags::parse(args) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let only_check = flags.validate;
    let config = match config::load(flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    if only_check {
        return valid();
    }
    // Before there are threads, which have what this one has: starters may have signals blocked, and programs keep that.
    let _ = SigSet::empty().thread_set_mask();
    // The same: it is taken out of the environment.
    let activation = Activation::take();
    logging::start(if config.debug { tracing::Level::DEBUG } else { config.log_level }, config.log_json);
    // It holds keys of the swarm: no core dumps, and nobody but root looks into it.
    let _ = nix::sys::prctl::set_dumpable(false);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    let outcome = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(Box::pin(serve(config, activation?))));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "logging is configured by what could not be read")]
fn refuse(error: &config::ConfigError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// dockerd's word for it, where scripts read it.
#[allow(clippy::print_stderr, reason = "the answer to a question of the command line")]
fn valid() -> ExitCode {
    eprintln!("configuration OK");
    ExitCode::SUCCESS
}

async fn serve(config: Config, mut activation: Activation) -> anyhow::Result<()> {
    let mut stop = StopSignals::install()?;
    let _pidfile = PidFile::create(&config.pidfile)?;
    let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
    if config.key_value.is_some() {
        cluster::refuse_member(&swarm_dir(&config))?;
    }
    let bound = listeners::bind(&config.hosts, config.group.as_deref(), &mut activation)?;
    drop(activation);
    let metrics = config.metrics.map(listeners::bind_metrics).transpose()?;
    let cni = listeners::bind_plugin(&config.exec_root.join("plugins/cni.sock"))?;
    let docker_plugin = config.docker_plugin.as_deref().map(listeners::bind_plugin).transpose()?;
    let daemon = Daemon::start(&config).await?;
    exposure::warn(&config);
    let mut served = api_listeners(bound, tls);
    served.extend(metrics.map(Listener::Metrics));
    let server = Server::start(daemon.api(&config)?, served).context("serve the API")?;
    let plugins = serve_plugins(cni, docker_plugin, &daemon.controller)?;
    tell_ready();
    tracing::info!(data_root = %config.data_root.display(), hosts = ?config.hosts, "weftd is ready");
    let name = stop.wait().await;
    tracing::info!(signal = name, live_restore = config.live_restore, "stopping");
    for plugin in plugins {
        plugin.stop(REQUEST_GRACE).await;
    }
    server.stop(REQUEST_GRACE).await;
    daemon.stop(config.live_restore).await;
    tracing::info!("stopped");
    Ok(())
}

/// Lets other engines of this host in.
fn serve_plugins(
    cni: UnixListener,
    docker: Option<UnixListener>,
    controller: &Arc<Controller>,
) -> anyhow::Result<Vec<PluginServer>> {
    let cni = PluginServer::start(cni, Arc::new(CniFace::new(Arc::clone(controller))));
    let mut served = vec![cni.context("serve the CNI plugin")?];
    if let Some(listener) = docker {
        let docker = PluginServer::start(listener, Arc::new(DockerFace::new(Arc::clone(controller))));
        served.push(docker.context("serve Docker's plugin protocol")?);
    }
    Ok(served)
}

/// The parts behind the API.
struct Daemon {
    controller: Arc<Controller>,
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
    key_value: Option<KeyValueNode>,
    hostname: String,
}

impl Daemon {
    async fn start(config: &Config) -> anyhow::Result<Self> {
        let key_value = config.key_value.as_ref().map(KeyValueMode::prepare).transpose()?;
        let controller = Controller::open(controller_config(config)?).await.context("start the networks")?;
        // Containers that start with the daemon may be on its networks.
        let mut key_value = key_value.map(|mode| mode.enter(&controller));
        let engine = Engine::open(engine_config(config)?, Arc::clone(&controller) as _)
            .await
            .context("start the engine")?;
        if let Some(node) = &mut key_value {
            node.serve(Arc::clone(&engine));
        }
        let hostname =
            nix::unistd::gethostname().context("read the host name")?.to_string_lossy().into_owned();
        let cluster = Cluster::new(ClusterConfig {
            dir: swarm_dir(config),
            hostname: hostname.clone(),
            labels: config.labels.clone(),
            controller: Arc::clone(&controller),
            engine: Arc::clone(&engine),
            key_rotation: config.key_rotation,
            drain_timeout: config.drain_timeout,
            run_dir: config.exec_root.join("swarm"),
            global: key_value.as_ref().map(KeyValueNode::networks),
        });
        cluster.resume().await;
        Ok(Self { controller, engine, cluster, key_value, hostname })
    }

    fn api(&self, config: &Config) -> anyhow::Result<ApiState> {
        let settings = SystemSettings {
            daemon_id: identity::daemon_id(&config.data_root)?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.hostname.clone(),
            data_root: config.data_root.clone(),
            debug: config.debug,
            live_restore: config.live_restore,
            labels: labels(config, &self.controller),
            address_pools: config.address_pools.iter().map(|p| (p.base, p.size)).collect(),
            cluster_store: config.key_value.as_ref().map(|options| options.store.clone()),
            cluster_advertise: self.key_value.as_ref().and_then(|node| node.advertise().map(str::to_owned)),
            warnings: warnings(config),
        };
        let (engine, networks, cluster) =
            (Arc::clone(&self.engine), Arc::clone(&self.controller), Arc::clone(&self.cluster));
        Ok(ApiState::new(engine, networks as _, cluster as _, settings))
    }

    /// Containers first, while the swarm, or the key-value store, can still be told that their addresses are free.
    async fn stop(self, keep_running: bool) {
        // What stops because this daemon does is no failure of a task.
        self.cluster.release_tasks();
        self.engine.shutdown().await;
        self.cluster.stop().await;
        if let Some(node) = self.key_value {
            node.stop(keep_running).await;
        }
        self.controller.shutdown(keep_running).await;
    }
}

fn swarm_dir(config: &Config) -> PathBuf {
    config.data_root.join("swarm")
}

/// What `docker info` warns of.
fn warnings(config: &Config) -> Vec<String> {
    let key_value = config.key_value.as_ref().and_then(key_value::warning);
    key_value.into_iter().chain(exposure::warnings(config)).collect()
}

/// The daemon's own labels, and what users want to see of it that the client has no field for.
fn labels(config: &Config, controller: &Controller) -> Vec<String> {
    let own = config.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let balancer = controller.balance_engine().name();
    let encryption = controller.encryption_engine().map_or("none", |engine| engine.name());
    let overlay = if controller.has_fast_path() { "bpf" } else { "bridge" };
    own.chain([
        format!("weft.service-balancer={balancer}"),
        format!("weft.encryption-engine={encryption}"),
        format!("weft.overlay-engine={overlay}"),
        format!("weft.profile={}", config.profile),
    ])
    .collect()
}

fn controller_config(config: &Config) -> anyhow::Result<ControllerConfig> {
    let mut network =
        ControllerConfig::new(config.data_root.join("network"), config.exec_root.join("network"));
    network.default_address_pools =
        config.address_pools.iter().map(|p| AddressPool { base: p.base, size: p.size }).collect();
    network.balancer = config.balancer;
    network.overlay_engine = config.overlay_engine;
    network.profile = config.profile;
    network.encryption_port = config.encryption_port;
    network.encryption_engine = config.encryption_engine;
    network.bip = config.bip;
    network.mtu = config.mtu.unwrap_or(network.mtu);
    network.dns = config.dns.iter().map(ToString::to_string).collect();
    network.dns_search = config.dns_search.clone();
    network.dns_options = config.dns_opts.clone();
    // Not by name: during an upgrade another build has it already.
    network.helper = Some(HelperLaunch { exe: "/proc/self/exe".into(), args: vec!["helper".into()] });
    Ok(network)
}

fn engine_config(config: &Config) -> anyhow::Result<EngineConfig> {
    let reexec = Reexec::current_exe().context("find this program")?;
    let mut engine =
        EngineConfig::new(config.data_root.join("engine"), config.exec_root.join("engine"), reexec);
    engine.live_restore = config.live_restore;
    engine.insecure_registries = config.insecure_registries.clone();
    engine.private_sources = Some(config.exec_root.join("swarm"));
    Ok(engine)
}

fn api_listeners(bound: Vec<Bound>, tls: Option<Arc<rustls::ServerConfig>>) -> Vec<Listener> {
    let listener = |bound| match (bound, &tls) {
        (Bound::Unix(listener), _) => Listener::Unix(listener),
        (Bound::Tcp(listener), Some(tls)) => Listener::Tls(listener, Arc::clone(tls)),
        (Bound::Tcp(listener), None) => Listener::Tcp(listener),
    };
    bound.into_iter().map(listener).collect()
}

/// Tells a service manager, if one started us, that the API answers.
fn tell_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "the service manager could not be told that the daemon is ready");
    }
}

/// The signals that end the daemon in order.
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn install() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
