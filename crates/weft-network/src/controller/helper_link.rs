//! The daemon's side of the helper: starting it, adopting it, telling it what to do, hearing from it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use weft_kernel::Netns;
use weft_plan::NamespaceRef;

use crate::config::HelperLaunch;
use crate::controller::doubts::{Doubts, next_doubt};
use crate::controller::{Controller, Touched};
use crate::helper::delta::HelperDelta;
use crate::helper::handover;
use crate::helper::protocol::{
    FromHelper, HelperState, Program, SOCKET, TAKE_OVER, ToHelper, VERSION, receive, send,
};
use crate::sandbox::Sandbox;
use crate::state::State;
use crate::swarm::GossipWord;

/// A new container waits so long for its resolver; afterwards it runs without until the helper is back.
const RESOLVER_WAIT: Duration = Duration::from_secs(2);
/// A finished change waits so long for the helper to know it.
const SETTLE_WAIT: Duration = Duration::from_millis(300);
/// A started helper opens its socket within this time.
const START_WAIT: Duration = Duration::from_secs(2);
/// One that takes over first waits for the helper before it ([`handover::LIMIT`]).
const TAKEN_OVER_WAIT: Duration = handover::LIMIT.saturating_add(START_WAIT);
/// Between two attempts to reach or start the helper.
const RETRY: Duration = Duration::from_millis(100);
/// So often a helper of this build tries to take over from one of another before that one is left in its place.
const UPGRADES: u32 = 3;
/// The helper gets so long to take the word that it shall stop.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// What the helper last said it follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Applied {
    generation: u64,
    resolvers: BTreeMap<String, (u16, u16)>,
}

/// What the connection's task is to do in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotYet,
    LeaveRunning,
    Stop,
    Done,
}

/// A helper that answers.
struct Found {
    stream: UnixStream,
    version: u32,
    generation: u64,
    program: Option<Program>,
}

/// The way to the helper.
pub(super) struct HelperLink {
    launch: HelperLaunch,
    dir: PathBuf,
    wanted: watch::Sender<Option<Arc<HelperState>>>,
    applied: watch::Sender<Applied>,
    generation: AtomicU64,
    connected: AtomicBool,
    /// How often a new helper did not take over from one of another build.
    failed_upgrades: AtomicU32,
    ending: watch::Sender<Ending>,
    doubts: Doubts,
}

impl HelperLink {
    pub(super) fn new(launch: HelperLaunch, dir: PathBuf) -> Self {
        Self {
            launch,
            dir,
            wanted: watch::channel(None).0,
            applied: watch::channel(Applied::default()).0,
            generation: AtomicU64::new(1),
            connected: AtomicBool::new(false),
            failed_upgrades: AtomicU32::new(0),
            ending: watch::channel(Ending::NotYet).0,
            doubts: Doubts::default(),
        }
    }

    /// What gossip says of the node at `address`, which it looks after from now on.
    pub(super) async fn doubt(&self, address: IpAddr) -> GossipWord {
        self.doubts.ask(address).await
    }

    /// Ends the connection, and unless containers keep running the helper too.
    pub(super) async fn stop(&self, keep_running: bool) {
        let ending = if keep_running { Ending::LeaveRunning } else { Ending::Stop };
        self.ending.send_replace(ending);
        let mut done = self.ending.subscribe();
        let _ = timeout(STOP_WAIT, done.wait_for(|ending| *ending == Ending::Done)).await;
    }

    /// Says what the helper shall do from now on. Returns the wish's generation.
    fn push(&self, mut state: HelperState) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        state.generation = generation;
        self.wanted.send_replace(Some(Arc::new(state)));
        generation
    }

    /// Waits until the helper follows that wish, or a newer one.
    async fn applied(&self, generation: u64, limit: Duration) -> Option<Applied> {
        let mut applied = self.applied.subscribe();
        let waited = timeout(limit, applied.wait_for(|now| now.generation >= generation)).await;
        waited.ok()?.ok().map(|now| now.clone())
    }

    /// A helper that answers: the running one, or a new one.
    async fn reach(&self, host: &NamespaceRef) -> io::Result<(UnixStream, u64)> {
        let own = Program::own()?;
        let mut replaced = None;
        match self.greet().await {
            Ok(found) if found.version == VERSION && (found.program == Some(own) || self.stays_old()) => {
                tracing::info!(generation = found.generation, "helper adopted");
                return Ok((found.stream, found.generation));
            }
            Ok(mut found) if found.program.is_none() => {
                tracing::info!(
                    theirs = found.version,
                    ours = VERSION,
                    "helper of an old version is replaced"
                );
                send(&mut found.stream, &ToHelper::Stop).await?;
                self.spawn(host, false)?;
            }
            Ok(found) => {
                tracing::info!(theirs = found.version, ours = VERSION, "helper of another build hands over");
                replaced = found.program;
                self.spawn(host, true)?;
            }
            Err(_) => self.spawn(host, false)?,
        }
        let greet = async {
            loop {
                match self.greet().await {
                    Ok(found)
                        if found.version == VERSION && (replaced.is_none() || found.program != replaced) =>
                    {
                        return (found.stream, found.generation);
                    }
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let limit = if replaced.is_some() { TAKEN_OVER_WAIT } else { START_WAIT };
        let reached = timeout(limit, greet).await;
        if reached.is_err() && replaced.is_some() {
            self.failed_upgrades.fetch_add(1, Ordering::SeqCst);
        }
        reached.map_err(|_| io::Error::other("the helper does not answer"))
    }

    /// Whether a helper of another build does, because none of this build could take over.
    fn stays_old(&self) -> bool {
        self.failed_upgrades.load(Ordering::SeqCst) >= UPGRADES
    }

    async fn greet(&self) -> io::Result<Found> {
        let mut stream = UnixStream::connect(self.dir.join(SOCKET)).await?;
        let hello = timeout(START_WAIT, receive(&mut stream));
        match hello.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            FromHelper::Hello { version, generation, program } => {
                Ok(Found { stream, version, generation, program })
            }
            _ => Err(io::Error::other("the helper does not say hello")),
        }
    }

    /// Starts a helper in the host's namespace. It is reaped here while this process lives.
    fn spawn(&self, host: &NamespaceRef, takes_over: bool) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut command = Command::new(&self.launch.exe);
        command.args(&self.launch.args).arg("--dir").arg(&self.dir);
        command.args(takes_over.then_some(TAKE_OVER));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let netns = Netns::resolve(host).map_err(io::Error::other)?;
        let mut child = netns.run_in(|| command.spawn()).map_err(io::Error::other)??;
        tracing::info!(pid = child.id(), "helper started");
        std::thread::Builder::new().name("helper-reaper".to_owned()).stack_size(64 << 10).spawn(
            move || match child.wait() {
                Ok(status) => tracing::info!(pid = child.id(), %status, "helper ended"),
                Err(error) => tracing::warn!(%error, "helper not reaped"),
            },
        )?;
        Ok(())
    }
}

impl Controller {
    pub(super) fn start_helper(self: &Arc<Self>) {
        if self.helper.is_none() {
            return;
        }
        self.push_helper();
        tokio::spawn(keep_connected(Arc::downgrade(self)));
    }

    /// Tells the helper the present state.
    pub(super) fn push_helper(&self) {
        self.tell_helper(self.helper_state(&self.state.load()));
    }

    /// Tells the helper another state than the present one.
    pub(super) fn tell_helper(&self, wish: HelperState) {
        if let Some(helper) = &self.helper {
            helper.push(wish);
        }
    }

    /// Tells the helper what the kernel is about to be brought to: should this daemon be killed meanwhile, the helper would
    /// else take back what is done. The rest of the state follows when all is done.
    pub(super) fn tell_helper_ahead(&self, state: &State, touched: &Touched, host: bool) {
        let Some(helper) = &self.helper else { return };
        let Some(last) = helper.wanted.borrow().clone() else { return };
        let mut ahead = HelperState { balance: self.balanced_places(state), ..HelperState::clone(&last) };
        for (place, want) in self.touched_wish(state, touched, host) {
            match ahead.audit.iter_mut().find(|(known, _)| *known == place) {
                Some((_, known)) => *known = want,
                None => ahead.audit.push((place, want)),
            }
        }
        helper.push(ahead);
    }

    /// Tells the helper the present state, and waits a little so that who joined a network finds its names.
    pub(super) async fn settle_helper(&self) {
        let Some(helper) = &self.helper else { return };
        let generation = helper.push(self.helper_state(&self.state.load()));
        if helper.connected.load(Ordering::SeqCst) && helper.applied(generation, SETTLE_WAIT).await.is_none()
        {
            tracing::warn!("the helper is slow to follow");
        }
    }

    /// Makes sure that containers which need a resolver have one, before names are needed.
    pub(super) async fn open_resolvers(&self, state: &mut State) {
        let Some(helper) = &self.helper else { return };
        let missing = |s: &Sandbox| s.has_namespace() && s.resolver.is_none();
        if !state.sandboxes.values().any(|s| missing(s) && state.has_resolver(s)) {
            return;
        }
        let generation = helper.push(self.helper_state(state));
        let Some(applied) = helper.applied(generation, RESOLVER_WAIT).await else {
            tracing::warn!("no resolver yet: the helper does not answer");
            return;
        };
        for sandbox in state.sandboxes_mut().values_mut().filter(|sandbox| missing(sandbox)) {
            sandbox.resolver = applied.resolvers.get(&sandbox.id).copied();
        }
    }

    /// Ports that the helper got, where they are others than those known.
    async fn note_resolvers(&self, applied: &Applied) {
        let _turn = self.turn.lock().await;
        let state = self.state.load_full();
        let differs = |s: &Sandbox| {
            let ports = applied.resolvers.get(&s.id);
            ports.is_some() && ports != s.resolver.as_ref() && state.has_resolver(s)
        };
        let changed: std::collections::BTreeSet<_> =
            state.sandboxes.values().filter(|s| differs(s)).map(|s| s.spec.container.clone()).collect();
        if changed.is_empty() {
            return;
        }
        let noted = self
            .note_change(|state| {
                for container in &changed {
                    let sandbox = state.sandbox_mut(container)?;
                    sandbox.resolver = applied.resolvers.get(&sandbox.id).copied();
                }
                Ok(((), Touched { sandboxes: changed.clone(), ..Touched::default() }))
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "new ports of resolvers not brought into the kernel");
        }
    }
}

/// Holds the connection as long as the controller lives.
async fn keep_connected(controller: Weak<Controller>) {
    loop {
        let Some(strong) = Weak::upgrade(&controller) else { return };
        let Some(helper) = &strong.helper else { return };
        let mut ending = helper.ending.subscribe();
        if *ending.borrow_and_update() != Ending::NotYet {
            helper.ending.send_replace(Ending::Done);
            return;
        }
        let reached = helper.reach(&strong.around.host).await;
        match reached {
            Ok((stream, generation)) => {
                // A fresh start of the daemon goes on from where the helper is.
                if helper.generation.fetch_max(generation, Ordering::SeqCst) < generation {
                    strong.push_helper();
                }
                let talk = Talk { wanted: helper.wanted.subscribe(), ending };
                let host = strong.clone();
                drop(strong);
                let ended = talk.run(stream, &host).await;
                if ended {
                    if let Some(helper) = &host.helper {
                        helper.ending.send_replace(Ending::Done);
                    }
                    return;
                }
                tracing::warn!("connection to the helper is lost");
            }
            Err(error) => {
                tracing::error!(%error, "network helper");
                drop(strong);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// One connection.
struct Talk {
    wanted: watch::Receiver<Option<Arc<HelperState>>>,
    ending: watch::Receiver<Ending>,
}

impl Talk {
    /// Talks until the connection breaks (false) or the daemon stops (true).
    async fn run(mut self, stream: UnixStream, controller: &Arc<Controller>) -> bool {
        let (mut read, mut write) = stream.into_split();
        let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            while let Ok(message) = receive::<FromHelper>(&mut read).await {
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        self.wanted.mark_changed();
        let mut doubts = controller.helper.as_ref().map(|helper| helper.doubts.follow());
        let connected = |yes: bool| {
            if let Some(helper) = &controller.helper {
                helper.connected.store(yes, Ordering::SeqCst);
            }
        };
        connected(true);
        let mut told: Option<Arc<HelperState>> = None;
        let ended = loop {
            tokio::select! {
                changed = self.wanted.changed() => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    if changed.is_err() {
                        break true;
                    }
                    if let Some(wanted) = wanted {
                        let message = match &told {
                            Some(told) => ToHelper::Change(Box::new(HelperDelta::between(told, &wanted))),
                            None => ToHelper::State(Box::new(HelperState::clone(&wanted))),
                        };
                        if send(&mut write, &message).await.is_err() {
                            break false;
                        }
                        told = Some(wanted);
                    }
                }
                message = hear.recv() => match message {
                    Some(message) => on_message(controller, message).await,
                    None => break false,
                },
                doubt = next_doubt(&mut doubts) => {
                    let (number, address) = doubt;
                    if send(&mut write, &ToHelper::Doubt { number, address }).await.is_err() {
                        break false;
                    }
                }
                _ = self.ending.changed() => {
                    let ending = *self.ending.borrow_and_update();
                    if ending == Ending::Stop {
                        let _ = send(&mut write, &ToHelper::Stop).await;
                    }
                    if ending != Ending::NotYet {
                        break true;
                    }
                }
            }
        };
        connected(false);
        reader.abort();
        ended
    }
}

/// Never waits for the turn: whoever has it may wait for the helper.
async fn on_message(controller: &Arc<Controller>, message: FromHelper) {
    match message {
        FromHelper::Hello { .. } => {}
        FromHelper::Repaired(repaired) => controller.note_away(&repaired),
        FromHelper::Encryption(report) => controller.note_encryption(report),
        FromHelper::GossipName(name) => {
            controller.gossip_name.send_if_modified(|known| std::mem::replace(known, name.clone()) != name);
        }
        FromHelper::Applied { generation, resolvers } => {
            let Some(helper) = &controller.helper else { return };
            let applied = Applied { generation, resolvers };
            helper.applied.send_replace(applied.clone());
            let controller = controller.clone();
            tokio::spawn(async move { controller.note_resolvers(&applied).await });
        }
        FromHelper::Word { number, word } => {
            if let Some(helper) = &controller.helper {
                helper.doubts.answer(number, word);
            }
        }
        other => controller.hear_gossip(other),
    }
}
