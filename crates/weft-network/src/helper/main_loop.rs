//! The helper's life: one daemon at a time, the last wish, and what follows from it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::EnvFilter;
use weft_plan::NamespaceRef;

use crate::helper::audit::AwayAudit;
use crate::helper::callers::{Callers, Input};
use crate::helper::delta::HelperDelta;
use crate::helper::encryption::Encryption;
use crate::helper::gossip::{self, Command};
use crate::helper::handover::{GossipSockets, Inherited, Legacy};
use crate::helper::protocol::{
    FromHelper, HandedSocket, HelperState, Program, SOCKET, TAKE_OVER, ToHelper, VERSION,
};
use crate::helper::renewal::Renewal;
use crate::helper::resolvers::Resolvers;
use crate::swarm::GossipWord;

/// Between two audits while the daemon is away.
const AUDIT_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at what encryption could not have, such as a device that is still being made.
const ENCRYPTION_INTERVAL: Duration = Duration::from_millis(500);
/// Between two words to the daemon on how encrypted paths stand.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// The log is begun anew above this size in bytes.
const LOG_MAX: u64 = 4 << 20;

/// Entry point of `weft helper --dir <folder>`: serves until told to stop. With `--take-over` it first takes over what
/// the folder's present helper has open.
pub fn helper_main(args: Vec<String>) -> ExitCode {
    let (dir, takes_over) = match args.as_slice() {
        [flag, dir] if flag == "--dir" => (PathBuf::from(dir), false),
        [flag, dir, how] if flag == "--dir" && how == TAKE_OVER => (PathBuf::from(dir), true),
        _ => return ExitCode::from(2),
    };
    // Signals to the daemon's terminal or group are not ours.
    let _ = nix::unistd::setsid();
    // It is started by a link, which gave it the link's name.
    let _ = nix::sys::prctl::set_name(c"weft");
    // It holds keys: no core dumps, and nobody but root looks into it.
    let _ = nix::sys::prctl::set_dumpable(false);
    start_log(&dir);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    let served = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let inherited = if takes_over { Inherited::take(&dir).await? } else { Inherited::default() };
            serve(&dir, inherited).await
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(dir = %dir.display(), %error, "helper ends");
            ExitCode::FAILURE
        }
    }
}

fn start_log(dir: &Path) {
    let path = dir.join("log");
    let fresh = fs::metadata(&path).is_ok_and(|found| found.len() > LOG_MAX);
    let mut options = fs::OpenOptions::new();
    options.create(true);
    let opened =
        if fresh { options.write(true).truncate(true).open(path) } else { options.append(true).open(path) };
    let Ok(file) = opened else { return };
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(file);
    let _ = subscriber.try_init();
}

/// Every resolver takes three files, every forwarded query one.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "limit of open files not raised");
    }
}

struct Helper {
    dir: PathBuf,
    state: HelperState,
    resolvers: Resolvers,
    encryption: Encryption,
    gossip: Option<(mpsc::UnboundedSender<Command>, tokio::task::JoinHandle<()>)>,
    gossip_address: Option<std::net::SocketAddr>,
    /// From the helper before, until gossip starts.
    gossip_sockets: Option<(std::net::SocketAddr, GossipSockets)>,
    events: mpsc::UnboundedSender<FromHelper>,
    callers: Callers,
    audit: AwayAudit,
    renewal: Renewal,
}

async fn serve(dir: &Path, inherited: Inherited) -> io::Result<()> {
    let (listener, identity) = listen(dir)?;
    let (inputs, mut input) = mpsc::unbounded_channel();
    let (events, mut event) = mpsc::unbounded_channel();
    let mut helper = Helper::new(dir, inherited, events, Callers::new(inputs)).await;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut tick = tokio::time::interval(AUDIT_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(ENCRYPTION_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut report = tokio::time::interval(REPORT_INTERVAL);
    report.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tracing::info!(dir = %dir.display(), pid = std::process::id(), "helper serves");
    loop {
        tokio::select! {
            accepted = listener.accept() => helper.greet(accepted?.0).await,
            Some(input) = input.recv() => match input {
                Input::Message(from, ToHelper::HandOver) => {
                    if let Some(successor) = helper.callers.take(from) {
                        helper.hand_over(successor).await;
                        return Ok(());
                    }
                }
                Input::Message(from, _) if !helper.hears(from) => {}
                Input::Message(_, ToHelper::Stop) => break,
                Input::Message(_, ToHelper::Doubt { number, address }) => helper.doubt(number, address),
                Input::Message(_, ToHelper::State(state)) => {
                    helper.follow(*state).await;
                    helper.tell_repaired().await;
                }
                Input::Message(_, ToHelper::Change(change)) => helper.change(&change).await,
                Input::Closed(connection) => helper.closed(connection).await,
            },
            Some(event) = event.recv() => helper.tell(&event).await,
            _ = tick.tick() => {
                if identity_of(&dir.join(SOCKET)) != Some(identity) {
                    // Nobody can reach us any more: another helper took over, or the folder went.
                    tracing::warn!("socket is gone, helper ends");
                    return Ok(());
                }
                if !helper.callers.has_daemon() {
                    helper.audit_all().await;
                }
            }
            place = helper.audit.changed(), if !helper.callers.has_daemon() => helper.look_at(&place).await,
            _ = look.tick() => helper.encryption.look_after(helper.state.encryption.as_ref()),
            _ = report.tick(), if helper.callers.has_daemon() => helper.report().await,
            _ = terminate.recv() => break,
        }
    }
    helper.stop(identity).await;
    Ok(())
}

/// Device and inode of a file.
fn identity_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The socket, reachable for the owner only from the first instant: the folder is.
fn listen(dir: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    let path = dir.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let identity = identity_of(&path).ok_or_else(|| io::Error::other("socket vanished"))?;
    Ok((listener, identity))
}

impl Helper {
    /// Goes on with what it inherits, if anything.
    async fn new(
        dir: &Path,
        inherited: Inherited,
        events: mpsc::UnboundedSender<FromHelper>,
        callers: Callers,
    ) -> Self {
        let mut helper = Self {
            dir: dir.to_owned(),
            state: HelperState::default(),
            resolvers: Resolvers::new(inherited.resolvers),
            encryption: Encryption::default(),
            gossip: None,
            gossip_address: None,
            gossip_sockets: inherited.gossip,
            events,
            callers,
            audit: AwayAudit::new(inherited.repaired),
            renewal: Renewal::default(),
        };
        if let Some(wish) = inherited.wish {
            helper.follow(wish).await;
            // Nobody else does until a daemon comes.
            helper.renewal.begin(helper.state.lease.as_ref());
        }
        helper
    }

    /// Gives everything that is open to the helper that asked, which tells the cluster and the daemon nothing of it.
    async fn hand_over(mut self, mut successor: OwnedWriteHalf) {
        tracing::info!("another helper takes over");
        let mut legacy = Legacy::default();
        if let Some((commands, task)) = self.gossip.take() {
            let (give, given) = oneshot::channel();
            let asked = commands.send(Command::HandOver(give));
            if let (Ok(()), Ok((udp, tcp)), Some(at)) = (asked, given.await, self.gossip_address) {
                legacy.add(HandedSocket::GossipUdp(at), udp);
                legacy.add(HandedSocket::GossipTcp(at), tcp);
            }
            let _ = task.await;
        }
        self.resolvers.hand_over(&mut legacy).await;
        // Last: what other nodes encrypt now is lost until they have agreed on keys with the successor.
        self.encryption = Encryption::default();
        let repaired = self.audit.take_repaired();
        if let Err(error) = legacy.give(&mut successor, &self.state, repaired).await {
            tracing::warn!(%error, "not handed over");
        }
    }

    /// Somebody connects.
    async fn greet(&mut self, stream: UnixStream) {
        let program = Program::own().inspect_err(|error| tracing::warn!(%error, "own program")).ok();
        let hello = FromHelper::Hello { version: VERSION, generation: self.state.generation, program };
        self.callers.admit(stream, &hello).await;
    }

    /// Whether who says a daemon's words is the daemon.
    fn hears(&mut self, from: u64) -> bool {
        if self.callers.note_daemon(from) {
            self.renewal.end();
            self.audit.close();
            if let Some((commands, _)) = &self.gossip {
                let _ = commands.send(Command::TellAll);
            }
        }
        self.callers.is_daemon(from)
    }

    async fn closed(&mut self, connection: u64) {
        if self.callers.close(connection) {
            tracing::info!("daemon is away");
            self.renewal.begin(self.state.lease.as_ref());
            self.audit_all().await;
        }
    }

    async fn audit_all(&mut self) {
        self.audit.run(&self.state.wishes()).await;
    }

    async fn look_at(&mut self, place: &NamespaceRef) {
        if let Some((_, want)) = self.state.wishes().iter().find(|(wanted, _)| wanted == place) {
            self.audit.look_at(place, want).await;
        }
    }

    async fn tell(&mut self, message: &FromHelper) {
        self.callers.tell(message).await;
    }

    /// What was repaired is told to a daemon that has a wish, and so stays: one of another build only looks who is there,
    /// and starts a successor, which then tells it.
    async fn tell_repaired(&mut self) {
        let told = FromHelper::Repaired(self.audit.repaired().clone());
        self.tell(&told).await;
        if self.callers.has_daemon() {
            self.audit.take_repaired();
        }
    }

    async fn report(&mut self) {
        if let Some(report) = self.encryption.report() {
            self.tell(&FromHelper::Encryption(report)).await;
        }
    }

    /// Takes a wish over, unless it is no newer.
    async fn follow(&mut self, state: HelperState) {
        if state.generation > self.state.generation {
            let change = HelperDelta::between(&self.state, &state);
            self.take_over(state, &change);
        }
        self.tell_applied().await;
    }

    /// Takes over what changed.
    async fn change(&mut self, change: &HelperDelta) {
        if change.base != self.state.generation {
            // The daemon starts over with the whole.
            tracing::warn!(base = change.base, have = self.state.generation, "change of another wish");
            self.callers.dismiss();
            return;
        }
        let mut state = std::mem::take(&mut self.state);
        change.apply(&mut state);
        self.take_over(state, change);
        self.tell_applied().await;
    }

    fn take_over(&mut self, state: HelperState, change: &HelperDelta) {
        self.resolvers.follow(&state, change);
        self.state = state;
        self.encryption.follow(self.state.encryption.as_ref());
        self.follow_gossip(change.gossip.is_new());
    }

    async fn tell_applied(&mut self) {
        let applied =
            FromHelper::Applied { generation: self.state.generation, resolvers: self.resolvers.ports() };
        self.tell(&applied).await;
    }

    fn follow_gossip(&mut self, changed: bool) {
        let address = self.state.gossip.as_ref().map(|wish| wish.advertise);
        let ended = self.gossip.as_ref().is_some_and(|(_, task)| task.is_finished());
        if ended || (self.gossip_address.is_some() && self.gossip_address != address) {
            if let Some((commands, _)) = self.gossip.take() {
                let _ = commands.send(Command::Leave);
            }
            self.gossip_address = None;
        }
        match (&self.state.gossip, &self.gossip) {
            (Some(wish), Some((commands, _))) if changed => {
                let _ = commands.send(Command::Follow(wish.clone()));
            }
            (Some(wish), None) => {
                let saved = self.dir.join("gossip.json");
                let inherited = self.gossip_sockets.take().filter(|(at, _)| *at == wish.advertise);
                let sockets = inherited.map(|(_, sockets)| sockets);
                self.gossip = Some(gossip::start(wish.clone(), saved, self.events.clone(), sockets));
                self.gossip_address = address;
            }
            _ => {}
        }
    }

    /// The answer comes as an event.
    fn doubt(&self, number: u64, address: std::net::IpAddr) {
        // Cannot be sent where gossip has ended.
        let doubt = Command::Doubt { number, address };
        let asked = self.gossip.as_ref().is_some_and(|(gossip, _)| gossip.send(doubt).is_ok());
        if !asked {
            let _ = self.events.send(FromHelper::Word { number, word: GossipWord::Unknown });
        }
    }

    /// Says goodbye. The socket goes first, so that a successor can start meanwhile.
    async fn stop(mut self, identity: (u64, u64)) {
        let path = self.dir.join(SOCKET);
        if identity_of(&path) == Some(identity) {
            let _ = fs::remove_file(path);
        }
        self.callers.dismiss();
        self.resolvers = Resolvers::new(HashMap::new());
        self.encryption = Encryption::default();
        if let Some((commands, task)) = self.gossip.take() {
            let _ = commands.send(Command::Leave);
            let _ = task.await;
        }
        tracing::info!("helper ends");
    }
}
