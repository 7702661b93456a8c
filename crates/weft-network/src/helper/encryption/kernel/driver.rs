//! The thread's work: datagrams, time and wishes in, the kernel's tables out.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use weft_esp::ManagerKey;
use weft_kernel::take_esp_in_udp;

use super::engine::Told;
use super::node::Node;
use super::tables::Tables;
use crate::helper::encryption::counters::{Counters, Drop};
use crate::helper::protocol::EncryptionWish;

/// Between two looks at every peer and at the kernel's associations.
const TICK: Duration = Duration::from_millis(100);
const TICK_MS: u16 = 100;
/// Between two looks at the kernel's policies.
const POLICY_INTERVAL: Duration = Duration::from_millis(500);
/// Longer than any datagram that pairs.
const DATAGRAM_MAX: usize = 512;
/// Datagrams after which the peers are looked at although more wait.
const BURST: usize = 64;

/// See the module.
pub(super) struct Driver {
    socket: UdpSocket,
    tables: Tables,
    nodes: BTreeMap<IpAddr, Node>,
    managers: Vec<ManagerKey>,
    counters: Counters,
    begin: Instant,
    ticked: Option<Instant>,
    checked: Option<Instant>,
}

impl Driver {
    pub(super) fn open(wish: &EncryptionWish) -> io::Result<Self> {
        // First of all what forbids, then the rest.
        let tables = Tables::open(wish)?;
        let socket = UdpSocket::bind(SocketAddr::new(wish.address, wish.port))?;
        socket.set_nonblocking(true)?;
        take_esp_in_udp(&socket)?;
        Ok(Self {
            socket,
            tables,
            nodes: BTreeMap::new(),
            managers: Vec::new(),
            counters: Counters::default(),
            begin: Instant::now(),
            ticked: None,
            checked: None,
        })
    }

    pub(super) fn run(mut self, wishes: &Receiver<EncryptionWish>, told: &Mutex<Told>, ends: &AtomicBool) {
        loop {
            match wishes.try_recv() {
                Ok(wish) => self.follow(&wish),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break,
            }
            self.receive();
            if self.ticked.is_none_or(|then| then.elapsed() >= TICK) {
                self.ticked = Some(Instant::now());
                self.tick();
                *told.lock().unwrap_or_else(PoisonError::into_inner) = self.told();
            }
            // Whatever it says, we look for ourselves.
            let _ =
                poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(TICK_MS));
        }
        if ends.load(Ordering::Acquire) {
            self.end();
        }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn follow(&mut self, wish: &EncryptionWish) {
        let now = self.now();
        self.managers =
            wish.keys.iter().map(|key| ManagerKey::new(key.lamport_time, key.key.clone())).collect();
        let tables = &mut self.tables;
        self.nodes.retain(|address, node| {
            let stays = wish.peers.get(address) == Some(&node.scheme);
            if !stays {
                node.end(tables, now);
            }
            stays
        });
        for (address, scheme) in &wish.peers {
            let node =
                self.nodes.entry(*address).or_insert_with(|| Node::new(wish.address, *address, *scheme));
            node.set_keys(tables, now, &self.managers);
            node.tick(tables, now);
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; DATAGRAM_MAX];
        for _ in 0..BURST {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => self.on_datagram(from.ip().to_canonical(), &buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Also answers of hosts where nobody listens yet.
                Err(_) => return,
            }
        }
    }

    fn on_datagram(&mut self, from: IpAddr, datagram: &[u8]) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&from) else {
            self.counters.count(Drop::Stranger);
            return;
        };
        if let Err(refused) = node.on_message(&mut self.tables, &self.socket, now, datagram) {
            self.counters.count(Drop::Refused(refused));
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        match self.tables.observe() {
            Ok(seen) => {
                for node in self.nodes.values_mut() {
                    node.observe(&mut self.tables, now, &seen, &self.managers);
                }
            }
            Err(error) => tracing::debug!(%error, "the kernel's associations"),
        }
        for node in self.nodes.values_mut() {
            node.tick(&mut self.tables, now);
            node.send_waiting(&self.socket, self.tables.port());
        }
        if self.checked.is_none_or(|then| then.elapsed() >= POLICY_INTERVAL) {
            self.checked = Some(Instant::now());
            let used = self.nodes.values().filter_map(|node| Some((node.address, node.used()?))).collect();
            self.tables.check(now, &used);
        }
    }

    fn told(&self) -> Told {
        let now = self.now();
        let paths: Vec<_> = self.nodes.values().map(|node| node.path(now)).collect();
        let mut dropped = self.counters.seen();
        let refused = [
            ("unknown_spi", self.tables.unknown_spi()),
            ("replayed", paths.iter().map(|path| path.replayed).sum()),
            ("not_authentic", paths.iter().map(|path| path.not_authentic).sum()),
        ];
        for (name, count) in refused.into_iter().filter(|(_, count)| *count > 0) {
            match dropped.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known += count,
                None => dropped.push((name, count)),
            }
        }
        Told { paths, dropped }
    }

    fn end(mut self) {
        let now = self.now();
        self.nodes.values_mut().for_each(|node| node.end(&mut self.tables, now));
        self.tables.end();
    }
}
