//! Sockets and time for the gossip state machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use weft_gossip::{
    Config, Effect, EntryView, Event, Gossip, GossipKey as Key, RequestFailure, RequestId, Snapshot,
    StreamId, Tick, TimerQueue, Word, frame_len,
};

use crate::helper::handover::GossipSockets;
use crate::helper::own_entries;
use crate::helper::protocol::{FromHelper, GossipWish};
use crate::helper::streams::{Place, Streams};
use crate::peers::{GossipKey, GossipValue};
use crate::store::MODE;
use crate::swarm::GossipWord;

/// A peer that opened a stream sends its frame within this time, or is not heard.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of peers that wait for their answer at a time.
const STREAMS: usize = 64;
/// Between two attempts to get the sockets: a helper that ends may still hold them.
const BIND_RETRY: Duration = Duration::from_millis(200);
/// Between two looks whether the snapshot is to be saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// Leaving takes no longer.
const LEAVE_LIMIT: Duration = Duration::from_secs(7);

/// What the driver is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Be this in gossip.
    Follow(GossipWish),
    /// Tell everything: a daemon connected.
    TellAll,
    /// Look after the node at this address, and tell what is known of it.
    Doubt { number: u64, address: IpAddr },
    /// Leave the cluster and end.
    Leave,
    /// End without goodbye, and give the sockets away.
    HandOver(oneshot::Sender<(OwnedFd, OwnedFd)>),
}

/// Something of a stream.
enum Inbound {
    /// Its place is taken until the frame was looked at.
    Frame(StreamId, SocketAddr, TcpStream, Vec<u8>, Place),
    Answered(RequestId, Result<Vec<u8>, RequestFailure>),
}

/// A running gossip endpoint, on sockets that are open already or on new ones. Dropping the sender ends it without
/// goodbye.
pub(super) fn start(
    wish: GossipWish,
    saved: PathBuf,
    events: mpsc::UnboundedSender<FromHelper>,
    open: Option<GossipSockets>,
) -> (mpsc::UnboundedSender<Command>, tokio::task::JoinHandle<()>) {
    let (commands, receiver) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        if let Err(error) = run(wish, saved, events, receiver, open).await {
            tracing::error!(%error, cause = error.source().map(tracing::field::display), "gossip ended");
        }
    });
    (commands, task)
}

async fn run(
    mut wish: GossipWish,
    saved: PathBuf,
    events: mpsc::UnboundedSender<FromHelper>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    open: Option<GossipSockets>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut open = open;
    let (udp, tcp) = loop {
        let sockets = match open.take() {
            Some((udp, tcp)) => {
                UdpSocket::from_std(udp).and_then(|udp| Ok((udp, TcpListener::from_std(tcp)?)))
            }
            None => bind(wish.advertise).await,
        };
        match sockets {
            Ok(sockets) => break sockets,
            Err(error) => {
                tracing::warn!(address = %wish.advertise, %error, "gossip sockets");
                match timeout(BIND_RETRY, commands.recv()).await {
                    Ok(Some(Command::Follow(newer))) => wish = newer,
                    Ok(Some(Command::Doubt { number, .. })) => {
                        let _ = events.send(FromHelper::Word { number, word: GossipWord::Unknown });
                    }
                    Ok(Some(Command::TellAll)) | Err(_) => {}
                    Ok(Some(Command::Leave | Command::HandOver(_)) | None) => return Ok(()),
                }
            }
        }
    };
    let mut driver = Driver::new(&wish, saved, events)?;
    driver.follow(wish)?;
    driver.drive(udp, tcp, commands).await;
    Ok(())
}

async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?))
}

struct Driver {
    gossip: Gossip,
    started: Instant,
    timers: TimerQueue,
    effects: Vec<Effect>,
    saved: PathBuf,
    last_saved: Option<Snapshot>,
    events: mpsc::UnboundedSender<FromHelper>,
    inbound: (mpsc::UnboundedSender<Inbound>, mpsc::UnboundedReceiver<Inbound>),
    /// Streams of peers that are being read.
    streams: Streams,
    /// Streams of peers that wait for their answer.
    waiting: HashMap<StreamId, TcpStream>,
    next_stream: u64,
    /// What was last asked for.
    wish: Option<GossipWish>,
    /// The cluster was found, or known from before: what is told is worth something.
    settled: bool,
    left: bool,
}

impl Driver {
    fn new(
        wish: &GossipWish,
        saved: PathBuf,
        events: mpsc::UnboundedSender<FromHelper>,
    ) -> Result<Self, weft_gossip::GossipError> {
        let config = Config::docker(wish.advertise);
        let (choices, nonces) = (Box::new(StdRng::from_os_rng()), Box::new(StdRng::from_os_rng()));
        let mut effects = Vec::new();
        let snapshot =
            std::fs::read(&saved).ok().and_then(|bytes| serde_json::from_slice::<Snapshot>(&bytes).ok());
        let restored =
            snapshot.filter(|snapshot| snapshot.advertise == wish.advertise).and_then(|snapshot| {
                let random = || Box::new(StdRng::from_os_rng());
                let gossip =
                    Gossip::restore(Tick::ZERO, config.clone(), &snapshot, random(), random(), &mut effects);
                gossip.inspect_err(|error| tracing::warn!(%error, "saved gossip state not used")).ok()
            });
        let settled = restored.is_some();
        let gossip = match restored {
            Some(gossip) => gossip,
            None => Gossip::new(Tick::ZERO, config, keys(wish), choices, nonces, &mut effects)?,
        };
        let _ = events.send(FromHelper::GossipName(gossip.name().to_string()));
        tracing::info!(name = %gossip.name(), address = %wish.advertise, restored = settled, "gossip starts");
        Ok(Self {
            gossip,
            started: Instant::now(),
            timers: TimerQueue::default(),
            effects,
            saved,
            last_saved: None,
            events,
            inbound: mpsc::unbounded_channel(),
            streams: Streams::default(),
            waiting: HashMap::new(),
            next_stream: 0,
            wish: None,
            settled,
            left: false,
        })
    }

    fn now(&self) -> Tick {
        Tick::after(self.started.elapsed())
    }

    async fn drive(
        &mut self,
        udp: UdpSocket,
        tcp: TcpListener,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let mut datagram = vec![0; 65_536];
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leave_by: Option<tokio::time::Instant> = None;
        loop {
            self.carry_out(&udp).await;
            if self.left {
                return;
            }
            let due = self
                .timers
                .next()
                .map(|tick| tokio::time::Instant::from_std(self.started + tick.since_start()));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Follow(wish)) => {
                        if let Err(error) = self.follow(wish) {
                            tracing::warn!(%error, "gossip wish not followed");
                        }
                    }
                    Some(Command::TellAll) => self.tell_all(),
                    Some(Command::Doubt { number, address }) => self.doubt(number, address),
                    Some(Command::Leave) => {
                        let _ = std::fs::remove_file(&self.saved);
                        leave_by = Some(tokio::time::Instant::now() + LEAVE_LIMIT);
                        let now = self.now();
                        self.gossip.leave(now, &mut self.effects);
                    }
                    Some(Command::HandOver(give)) => {
                        self.save();
                        let both = (udp.as_fd().try_clone_to_owned(), tcp.as_fd().try_clone_to_owned());
                        if let (Ok(udp), Ok(tcp)) = both {
                            let _ = give.send((udp, tcp));
                        }
                        return;
                    }
                    None => return,
                },
                received = udp.recv_from(&mut datagram) => match received {
                    Ok((len, from)) => {
                        let now = self.now();
                        self.gossip.on_datagram(now, from, &datagram[..len], &mut self.effects);
                    }
                    Err(error) => tracing::debug!(%error, "gossip socket"),
                },
                accepted = tcp.accept() => match accepted {
                    Ok((stream, from)) => self.accept(stream, from),
                    Err(error) => {
                        tracing::debug!(%error, "gossip listener");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(inbound) = self.inbound.1.recv() => self.on_inbound(inbound),
                () = sleep_until(due) => {
                    let now = self.now();
                    while let Some(timer) = self.timers.pop_due(now) {
                        self.gossip.on_timer(now, timer, &mut self.effects);
                    }
                }
                _ = save.tick(), if leave_by.is_none() => self.save(),
                () = sleep_until(leave_by), if leave_by.is_some() => return,
            }
        }
    }

    /// Brings the state machine from the last wish to this one.
    fn follow(&mut self, wish: GossipWish) -> Result<(), weft_gossip::GossipError> {
        let now = self.now();
        let old = self.wish.take();
        if old.as_ref().is_none_or(|old| old.keys != wish.keys) {
            self.gossip.set_keys(keys(&wish))?;
        }
        let owners: Option<BTreeSet<IpAddr>> = wish.owners.clone().map(|owners| owners.into_iter().collect());
        if old.as_ref().is_none_or(|old| old.owners != wish.owners) {
            self.gossip.allow_owners(now, owners, &mut self.effects);
        }
        if old.as_ref().is_none_or(|old| old.join != wish.join) {
            self.gossip.join_cluster(now, &wish.join, &mut self.effects);
        }
        let old_entries = old.as_ref().map_or(&[][..], |old| &old.entries);
        own_entries::withdraw(&mut self.gossip, now, old_entries, &wish, &mut self.effects);
        let gone_networks: Vec<&String> = old
            .iter()
            .flat_map(|old| &old.networks)
            .filter(|network| !wish.networks.contains(network))
            .collect();
        for network in gone_networks {
            note(self.gossip.leave_network(now, network, &mut self.effects));
        }
        for network in &wish.networks {
            note(self.gossip.join_network(now, network, &mut self.effects));
        }
        own_entries::tell(&mut self.gossip, now, &wish.entries, &mut self.effects);
        self.wish = Some(wish);
        Ok(())
    }

    async fn carry_out(&mut self, udp: &UdpSocket) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::SendUdp { to, datagram } => {
                    if let Err(error) = udp.send_to(&datagram, to).await {
                        tracing::debug!(%to, %error, "gossip datagram not sent");
                    }
                }
                Effect::Request { id, to, content, expects_answer, timeout: limit } => {
                    let done = self.inbound.0.clone();
                    tokio::spawn(async move {
                        let outcome = timeout(limit, request(to, &content, expects_answer)).await;
                        let outcome = outcome.unwrap_or(Err(RequestFailure::TimedOut));
                        let _ = done.send(Inbound::Answered(id, outcome));
                    });
                }
                Effect::Answer { stream, content } => {
                    if let Some(mut peer) = self.waiting.remove(&stream) {
                        tokio::spawn(async move {
                            let write = async {
                                peer.write_all(&content).await?;
                                peer.shutdown().await
                            };
                            if let Ok(Err(error)) = timeout(STREAM_TIMEOUT, write).await {
                                tracing::debug!(%error, "gossip answer not sent");
                            }
                        });
                    }
                }
                Effect::Arm { timer, at } => self.timers.arm(timer, at),
                Effect::Event(event) => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let told = match event {
            Event::Joined => {
                self.settled = true;
                tracing::info!("gossip cluster joined");
                None
            }
            Event::JoinFailed { tried } => {
                tracing::warn!(tried, "gossip cluster not found yet");
                None
            }
            Event::MemberUp { name, address } => {
                tracing::info!(member = %name, %address, "gossip member up");
                Some(FromHelper::MemberUp(name.to_string(), address.ip()))
            }
            Event::MemberDown { name, address, left } => {
                tracing::info!(member = %name, %address, left, "gossip member down");
                Some(FromHelper::MemberDown(name.to_string()))
            }
            Event::EntryUp(entry) => {
                let (key, value) = told(&entry);
                Some(FromHelper::EntryUp(key, value))
            }
            Event::EntryDown(entry) => Some(FromHelper::EntryDown(told(&entry).0)),
            Event::NetworkSynced { network } => {
                tracing::debug!(%network, "gossip network synced");
                let entries = self.gossip.entries().filter(|entry| entry.network == network);
                let entries = entries.map(|entry| told(&entry)).collect();
                let members = self.members();
                Some(FromHelper::GossipNetwork { network: network.to_string(), entries, members })
            }
            Event::Left => {
                self.left = true;
                None
            }
        };
        if let Some(told) = told {
            let _ = self.events.send(told);
        }
    }

    fn doubt(&mut self, number: u64, address: IpAddr) {
        let word = match self.gossip.core().word_on(address) {
            Word::Unknown => GossipWord::Unknown,
            Word::Gone => GossipWord::Gone,
            Word::Alive => GossipWord::Alive,
        };
        let _ = self.events.send(FromHelper::Word { number, word });
        let now = self.now();
        self.gossip.hurry_probe(now, address, &mut self.effects);
    }

    fn tell_all(&mut self) {
        let _ = self.events.send(FromHelper::GossipName(self.gossip.name().to_string()));
        if self.settled {
            let entries = self.gossip.entries().map(|entry| told(&entry)).collect();
            let _ = self.events.send(FromHelper::GossipAll { entries, members: self.members() });
        }
    }

    /// Other members that are not known to have failed or left.
    fn members(&self) -> BTreeMap<String, IpAddr> {
        let (all, own) = (self.gossip.core().members(), self.gossip.name());
        all.filter(|(name, ..)| *name != own)
            .map(|(name, address, ..)| (name.to_string(), address.ip()))
            .collect()
    }

    fn accept(&mut self, mut stream: TcpStream, from: SocketAddr) {
        let Some(place) = self.streams.admit(from.ip()) else {
            tracing::debug!(%from, "gossip stream refused: too many at a time");
            return;
        };
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let done = self.inbound.0.clone();
        tokio::spawn(async move {
            match timeout(STREAM_TIMEOUT, read_frame(&mut stream)).await {
                Ok(Ok(frame)) => {
                    let _ = done.send(Inbound::Frame(id, from, stream, frame, place));
                }
                Ok(Err(error)) => tracing::debug!(%from, %error, "gossip stream"),
                Err(_) => tracing::debug!(%from, "gossip stream silent"),
            }
        });
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        let now = self.now();
        match inbound {
            Inbound::Frame(id, from, stream, frame, _place) => {
                if self.waiting.len() >= STREAMS {
                    self.waiting.clear();
                }
                self.waiting.insert(id, stream);
                self.gossip.on_stream(now, id, from, &frame, &mut self.effects);
                // Answers come at once or not at all.
                let answered =
                    self.effects.iter().any(|e| matches!(e, Effect::Answer { stream, .. } if *stream == id));
                if !answered {
                    self.waiting.remove(&id);
                }
            }
            Inbound::Answered(id, outcome) => {
                let outcome = outcome.as_ref().map(Vec::as_slice).map_err(|failure| *failure);
                self.gossip.on_answer(now, id, outcome, &mut self.effects);
            }
        }
    }

    fn save(&mut self) {
        let snapshot = self.gossip.snapshot(self.now());
        if self.last_saved.as_ref() == Some(&snapshot) {
            return;
        }
        let written = serde_json::to_vec(&snapshot).map_err(io::Error::from);
        match written.and_then(|bytes| weft_durable::replace_unsynced(&self.saved, &bytes, MODE)) {
            Ok(()) => self.last_saved = Some(snapshot),
            Err(error) => tracing::warn!(path = %self.saved.display(), %error, "gossip state not saved"),
        }
    }
}

fn keys(wish: &GossipWish) -> Vec<Key> {
    wish.keys.iter().map(|key| Key { lamport_time: key.lamport_time, key: key.key.clone() }).collect()
}

pub(super) fn note(outcome: Result<(), weft_gossip::GossipError>) {
    if let Err(error) = outcome {
        let cause = std::error::Error::source(&error).map(tracing::field::display);
        tracing::warn!(%error, cause, "gossip");
    }
}

fn told(entry: &EntryView) -> (GossipKey, GossipValue) {
    let key = GossipKey {
        network: entry.network.to_string(),
        table: entry.table.to_string(),
        owner: entry.owner.to_string(),
        key: entry.key.to_string(),
    };
    (key, GossipValue { owner_address: entry.owner_address.ip(), value: entry.value.to_vec() })
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn request(to: SocketAddr, content: &[u8], expects_answer: bool) -> Result<Vec<u8>, RequestFailure> {
    let mut stream = TcpStream::connect(to).await.map_err(|_| RequestFailure::Connect)?;
    stream.write_all(content).await.map_err(|_| RequestFailure::Broken)?;
    if !expects_answer {
        let _ = stream.shutdown().await;
        return Ok(Vec::new());
    }
    read_frame(&mut stream).await.map_err(|_| RequestFailure::Broken)
}

/// Reads one whole frame.
async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        let want = frame_len(&frame).map_err(io::Error::other)?;
        if want.is_some_and(|want| frame.len() >= want) {
            return Ok(frame);
        }
        let len = stream.read(&mut chunk).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frame.extend_from_slice(&chunk[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the other side closed the stream.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        let closed = timeout(Duration::from_millis(300), stream.read(&mut [0u8; 1])).await;
        matches!(closed, Ok(Ok(0) | Err(_)))
    }

    /// One peer opens streams and says nothing, another sends what is no frame: neither is held, and the endpoint goes on.
    #[tokio::test]
    async fn silent_and_malformed_streams_are_not_heaped_up() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let key = |lamport_time| crate::swarm::SwarmKey { lamport_time, key: vec![7; 16] };
        let wish = GossipWish {
            advertise: port,
            keys: vec![key(1), key(2)],
            join: Vec::new(),
            networks: Vec::new(),
            entries: Vec::new(),
            owners: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let (told, mut events) = mpsc::unbounded_channel();
        let (commands, task) = start(wish, dir.path().join("gossip.json"), told, None);
        assert!(matches!(events.recv().await, Some(FromHelper::GossipName(_))));

        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(port).await.unwrap());
        }
        let mut held = 0;
        for stream in &mut silent {
            held += usize::from(!is_closed(stream).await);
        }
        assert!(held <= STREAMS / 4, "{held} of {} streams of one peer are held", silent.len());
        drop(silent);
        for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[10, 0xff, 0xff, 0xff, 0xff], &[10, 0, 0, 0, 0]] {
            let mut stream = TcpStream::connect(port).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            let end = timeout(Duration::from_secs(5), stream.read(&mut [0u8; 1])).await;
            assert!(matches!(end, Ok(Ok(0) | Err(_))), "{garbage:?} is answered or held");
        }
        commands.send(Command::Doubt { number: 3, address: [192, 0, 2, 1].into() }).unwrap();
        let word = timeout(Duration::from_secs(5), events.recv()).await.unwrap();
        assert!(matches!(word, Some(FromHelper::Word { number: 3, .. })), "it still works");
        assert!(!task.is_finished());
    }
}
