//! The state machine with bytes at its edge: what a driver with sockets uses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rand::RngCore;
use weft_wire::memberlist::{GossipKey, KeyringChange};

use crate::codec::Codec;
use crate::core::{Core, CoreEffect};
use crate::{
    Config, Effect, EntryView, GossipError, RequestFailure, RequestId, Snapshot, StreamId, Text, Tick, Timer,
};

/// Randomness for choices and for nonces: must be cryptographic where the cluster is real.
pub type Rng = Box<dyn RngCore + Send>;

/// One node of a gossip cluster. Inputs are calls, outputs are [`Effect`]s appended to `out`; `now` never goes back.
///
/// The driver owns a UDP socket and a TCP listener on the gossip port, and a [`crate::TimerQueue`]:
/// datagrams go to [`Gossip::on_datagram`], a whole frame of an accepted stream (see [`crate::frame_len`]) to
/// [`Gossip::on_stream`], outcomes of [`Effect::Request`] to [`Gossip::on_answer`], due timers to [`Gossip::on_timer`].
pub struct Gossip {
    core: Core,
    codec: Codec,
    nonces: Rng,
    /// Reused between calls.
    effects: Vec<CoreEffect>,
}

impl Gossip {
    /// A node under a new random name. `choices` and `nonces` are independent sources of randomness.
    pub fn new(
        now: Tick,
        config: Config,
        keys: impl IntoIterator<Item = GossipKey>,
        choices: Rng,
        nonces: Rng,
        out: &mut Vec<Effect>,
    ) -> Result<Self, GossipError> {
        let codec = Codec::new(keys)?;
        let mut effects = Vec::new();
        let core = Core::new(now, config, choices, &mut effects);
        let mut gossip = Self { core, codec, nonces, effects };
        gossip.flush(out);
        Ok(gossip)
    }

    /// A node that continues where `snapshot` was taken: same name, keys, networks and entries. It rejoins by itself,
    /// and tells the entries of others as soon as their owners are seen again.
    pub fn restore(
        now: Tick,
        config: Config,
        snapshot: &Snapshot,
        choices: Rng,
        nonces: Rng,
        out: &mut Vec<Effect>,
    ) -> Result<Self, GossipError> {
        let keys =
            snapshot.keys.iter().map(|(time, key)| GossipKey { lamport_time: *time, key: key.clone() });
        let codec = Codec::new(keys)?;
        let mut effects = Vec::new();
        let core = Core::restore(now, config, snapshot, choices, &mut effects)?;
        let mut gossip = Self { core, codec, nonces, effects };
        gossip.flush(out);
        Ok(gossip)
    }

    /// What [`Gossip::restore`] needs. Take one after each command and now and then.
    pub fn snapshot(&self, now: Tick) -> Snapshot {
        let mut snapshot = self.core.snapshot(now);
        snapshot.keys = self.codec.keyring().keys().map(|key| (key.lamport_time, key.key.clone())).collect();
        snapshot
    }

    /// This node's gossip name.
    pub fn name(&self) -> &Text {
        self.core.name()
    }

    /// The state machine without its codec, for looking.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// A datagram came in. What cannot be decrypted or read is dropped.
    pub fn on_datagram(&mut self, now: Tick, from: SocketAddr, datagram: &[u8], out: &mut Vec<Effect>) {
        match self.codec.open_datagram(datagram) {
            Ok(packet) => self.core.on_packet(now, from, &packet, &mut self.effects),
            Err(error) => tracing::debug!(%from, %error, "datagram refused"),
        }
        self.flush(out);
    }

    /// A whole frame came in on a stream that a peer opened. If there is no [`Effect::Answer`] for `stream` in `out`
    /// afterwards, close it.
    pub fn on_stream(
        &mut self,
        now: Tick,
        stream: StreamId,
        from: SocketAddr,
        frame: &[u8],
        out: &mut Vec<Effect>,
    ) {
        match self.codec.open_stream(frame) {
            Ok(body) => self.core.on_stream(now, stream, from, &body, &mut self.effects),
            Err(error) => tracing::debug!(%from, %error, "stream refused"),
        }
        self.flush(out);
    }

    /// The outcome of [`Effect::Request`]: the answer's frame, or nothing where none was expected.
    pub fn on_answer(
        &mut self,
        now: Tick,
        request: RequestId,
        answer: Result<&[u8], RequestFailure>,
        out: &mut Vec<Effect>,
    ) {
        let body = match answer {
            Ok([]) => Ok(None),
            Ok(frame) => self.codec.open_stream(frame).map(Some).map_err(|error| {
                tracing::debug!(%error, "answer refused");
                RequestFailure::Broken
            }),
            Err(failure) => Err(failure),
        };
        self.core.on_answer(
            now,
            request,
            body.as_ref().map(Option::as_ref).map_err(|f| *f),
            &mut self.effects,
        );
        self.flush(out);
    }

    /// A timer is due.
    pub fn on_timer(&mut self, now: Tick, timer: Timer, out: &mut Vec<Effect>) {
        self.core.on_timer(now, timer, &mut self.effects);
        self.flush(out);
    }

    /// Join the cluster through any of `addresses` (the managers, port 7946), and go on trying until one is a member.
    /// The own address is skipped; with no other one this node is the first. Call again when the managers change.
    pub fn join_cluster(&mut self, now: Tick, addresses: &[SocketAddr], out: &mut Vec<Effect>) {
        self.core.join_cluster(now, addresses, &mut self.effects);
        self.flush(out);
    }

    /// Take part in a network. Its entries follow as events. Nothing happens if this node is on it.
    pub fn join_network(
        &mut self,
        now: Tick,
        network: &str,
        out: &mut Vec<Effect>,
    ) -> Result<(), GossipError> {
        let outcome = self.core.join_network(now, network, &mut self.effects);
        self.flush(out);
        outcome
    }

    /// Leave a network: its entries end, here and (those of this node) everywhere.
    pub fn leave_network(
        &mut self,
        now: Tick,
        network: &str,
        out: &mut Vec<Effect>,
    ) -> Result<(), GossipError> {
        let outcome = self.core.leave_network(now, network, &mut self.effects);
        self.flush(out);
        outcome
    }

    /// Create an entry of this node, or give it a new value. Nothing happens if it has that value.
    pub fn put_entry(
        &mut self,
        now: Tick,
        network: &str,
        table: &str,
        key: &str,
        value: &[u8],
        out: &mut Vec<Effect>,
    ) -> Result<(), GossipError> {
        let outcome = self.core.put_entry(now, network, table, key, value, &mut self.effects);
        self.flush(out);
        outcome
    }

    /// Delete an entry of this node.
    pub fn delete_entry(
        &mut self,
        now: Tick,
        network: &str,
        table: &str,
        key: &str,
        out: &mut Vec<Effect>,
    ) -> Result<(), GossipError> {
        let outcome = self.core.delete_entry(now, network, table, key, &mut self.effects);
        self.flush(out);
        outcome
    }

    /// A newer key list of the managers.
    pub fn set_keys(
        &mut self,
        keys: impl IntoIterator<Item = GossipKey>,
    ) -> Result<KeyringChange, GossipError> {
        self.codec.set_keys(keys)
    }

    /// The managers' word on who may own entries: only entries whose owner's gossip endpoint is on one of these
    /// addresses are told. `None` (the start) allows all. Entries appear and end as the list changes.
    pub fn allow_owners(&mut self, now: Tick, addresses: Option<BTreeSet<IpAddr>>, out: &mut Vec<Effect>) {
        self.core.allow_owners(now, addresses, &mut self.effects);
        self.flush(out);
    }

    /// Somebody doubts that the node at `address` lives: it is probed before others.
    pub fn hurry_probe(&mut self, now: Tick, address: IpAddr, out: &mut Vec<Effect>) {
        self.core.hurry_probe(now, address, &mut self.effects);
        self.flush(out);
    }

    /// Leave the cluster: [`crate::Event::Left`] follows within about six seconds.
    pub fn leave(&mut self, now: Tick, out: &mut Vec<Effect>) {
        self.core.leave(now, &mut self.effects);
        self.flush(out);
    }

    /// The present entries of others, as a driver needs them for a client that connects anew.
    pub fn entries(&self) -> impl Iterator<Item = EntryView> + '_ {
        self.core.entries()
    }

    /// Turns messages into bytes.
    fn flush(&mut self, out: &mut Vec<Effect>) {
        for effect in self.effects.drain(..) {
            match encode(&self.codec, &mut self.nonces, effect) {
                Ok(effect) => out.push(effect),
                Err(error) => tracing::warn!(%error, "message cannot be encoded"),
            }
        }
    }
}

fn encode(codec: &Codec, nonces: &mut Rng, effect: CoreEffect) -> Result<Effect, weft_wire::WireError> {
    Ok(match effect {
        Effect::SendUdp { to, datagram } => {
            Effect::SendUdp { to, datagram: codec.seal_datagram(&datagram, nonces)? }
        }
        Effect::Request { id, to, content, expects_answer, timeout } => {
            let content = codec.seal_stream(&content, nonces)?;
            Effect::Request { id, to, content, expects_answer, timeout }
        }
        Effect::Answer { stream, content } => {
            Effect::Answer { stream, content: codec.seal_stream(&content, nonces)? }
        }
        Effect::Arm { timer, at } => Effect::Arm { timer, at },
        Effect::Event(event) => Effect::Event(event),
    })
}
