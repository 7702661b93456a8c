//! The thread of a queue: what comes in and what goes out, of all networks.
//!
//! One thread does both, because each causes the other: what is written to a device has its answer there when the write
//! returns, acknowledgements of TCP above all. Taken at once it wakes nobody, and waking takes longer than a packet does.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use weft_types::Vni;

use super::engine::Shared;
use super::pace::Pace;
use super::port::{FRAME_MAX, Port};
use super::receive::{self, BUFFER_LEN, BUFFERS, Intake};
use super::train::Train;

/// Between two looks at every peer.
const TICK: Duration = Duration::from_millis(100);
const TICK_MS: u16 = 100;
/// More sources than these have their turn with the next look.
const EVENTS: usize = 32;
/// Stands for the socket where identifiers of networks stand for their devices.
const SOCKET: u64 = u64::MAX;

/// What a queue's thread waits for.
#[derive(Debug)]
pub(super) struct Sources(Epoll);

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    pub(super) fn add_socket(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(self.0.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, SOCKET))?)
    }

    pub(super) fn add_device(&self, vni: Vni, queue: impl AsFd) -> io::Result<()> {
        Ok(self.0.add(queue, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(vni.get())))?)
    }

    /// A device that is gone would be told of again and again.
    fn remove(&self, queue: impl AsFd) {
        if let Err(error) = self.0.delete(queue) {
            tracing::debug!(%error, "device of an encrypted network");
        }
    }

    /// How many have something.
    fn wait(&self, events: &mut [EpollEvent], limit_ms: u16) -> usize {
        // Interrupted is as good as nothing.
        self.0.wait(events, limit_ms).unwrap_or(0)
    }
}

/// See the module. The first one has the peers' clock.
pub(super) fn run(shared: &Shared, queue: usize) {
    let Some(sources) = shared.sources_of(queue) else { return };
    let mut worker = Worker {
        shared,
        queue,
        packets: vec![0; BUFFERS * BUFFER_LEN],
        frame: vec![0; FRAME_MAX],
        intake: Intake::default(),
        train: Train::new(shared, queue),
    };
    let mut pace = shared.pace();
    let mut events = [EpollEvent::empty(); EVENTS];
    let mut ticked: Option<Instant> = None;
    while !shared.ends() {
        let count = pace.wait(TICK_MS, |limit| sources.wait(&mut events, limit));
        worker.serve(sources, &events[..count], &mut pace);
        if queue == 0 && ticked.is_none_or(|then| then.elapsed() >= TICK) {
            ticked = Some(Instant::now());
            shared.nodes.load().values().for_each(|node| node.tick(shared));
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    queue: usize,
    packets: Vec<u8>,
    frame: Vec<u8>,
    intake: Intake,
    train: Train<'a>,
}

impl Worker<'_> {
    fn serve(&mut self, sources: &Sources, events: &[EpollEvent], pace: &mut Pace<'_>) {
        let (shared, own) = (self.shared, self.queue);
        let ports = shared.ports.load();
        let port = |number: u64| ports.get(&Vni::try_from(u32::try_from(number).ok()?).ok()?);
        let mut bytes = 0;
        for event in events {
            if event.data() == SOCKET {
                bytes += self.receive();
            } else if let Some(port) = port(event.data()) {
                bytes += self.transmit(sources, port);
            }
        }
        let answered = std::mem::take(&mut self.intake.answered);
        for (vni, _) in answered.iter().filter(|(_, queue)| *queue == own) {
            if let Some(port) = ports.get(vni) {
                bytes += self.transmit(sources, port);
            }
        }
        // Its room is used again.
        self.intake.answered = answered;
        self.intake.answered.clear();
        if bytes > 0 {
            pace.note(bytes);
        }
    }

    fn receive(&mut self) -> usize {
        receive::drain(self.shared, self.shared.socket_of(self.queue), &mut self.packets, &mut self.intake)
    }

    fn transmit(&mut self, sources: &Sources, port: &Port) -> usize {
        let sent = port.drain(self.shared, self.queue, &mut self.frame, &mut self.train);
        if let (None, Some(gone)) = (sent, port.queue(self.queue)) {
            sources.remove(gone.as_fd());
        }
        sent.unwrap_or(0)
    }
}
