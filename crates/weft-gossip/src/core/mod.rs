//! The state machine on messages.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::gossip::Rng;
use crate::message::{Packet, StreamBody};
use crate::{
    Config, Effect, EntryView, GossipError, RequestFailure, RequestId, Snapshot, StreamId, Text, Tick, Timer,
};

/// An effect before encoding.
pub type CoreEffect = Effect<Packet, StreamBody>;

/// The state machine on messages.
pub struct Core {
    name: Text,
}

#[allow(unused_variables, missing_docs, clippy::todo, clippy::allow_attributes_without_reason)]
impl Core {
    pub fn new(now: Tick, config: Config, rng: Rng, out: &mut Vec<CoreEffect>) -> Self {
        todo!()
    }
    pub fn restore(
        now: Tick,
        config: Config,
        snapshot: &Snapshot,
        rng: Rng,
        out: &mut Vec<CoreEffect>,
    ) -> Result<Self, GossipError> {
        todo!()
    }
    pub fn snapshot(&self, now: Tick) -> Snapshot {
        todo!()
    }
    pub fn name(&self) -> &Text {
        &self.name
    }
    pub fn on_packet(&mut self, now: Tick, from: SocketAddr, packet: &Packet, out: &mut Vec<CoreEffect>) {
        todo!()
    }
    pub fn on_stream(
        &mut self,
        now: Tick,
        stream: StreamId,
        from: SocketAddr,
        body: &StreamBody,
        out: &mut Vec<CoreEffect>,
    ) {
        todo!()
    }
    pub fn on_answer(
        &mut self,
        now: Tick,
        request: RequestId,
        answer: Result<Option<&StreamBody>, RequestFailure>,
        out: &mut Vec<CoreEffect>,
    ) {
        todo!()
    }
    pub fn on_timer(&mut self, now: Tick, timer: Timer, out: &mut Vec<CoreEffect>) {
        todo!()
    }
    pub fn join_cluster(&mut self, now: Tick, addresses: &[SocketAddr], out: &mut Vec<CoreEffect>) {
        todo!()
    }
    pub fn join_network(
        &mut self,
        now: Tick,
        network: &str,
        out: &mut Vec<CoreEffect>,
    ) -> Result<(), GossipError> {
        todo!()
    }
    pub fn leave_network(
        &mut self,
        now: Tick,
        network: &str,
        out: &mut Vec<CoreEffect>,
    ) -> Result<(), GossipError> {
        todo!()
    }
    pub fn put_entry(
        &mut self,
        now: Tick,
        network: &str,
        table: &str,
        key: &str,
        value: &[u8],
        out: &mut Vec<CoreEffect>,
    ) -> Result<(), GossipError> {
        todo!()
    }
    pub fn delete_entry(
        &mut self,
        now: Tick,
        network: &str,
        table: &str,
        key: &str,
        out: &mut Vec<CoreEffect>,
    ) -> Result<(), GossipError> {
        todo!()
    }
    pub fn allow_owners(
        &mut self,
        now: Tick,
        addresses: Option<BTreeSet<IpAddr>>,
        out: &mut Vec<CoreEffect>,
    ) {
        todo!()
    }
    pub fn leave(&mut self, now: Tick, out: &mut Vec<CoreEffect>) {
        todo!()
    }
    pub fn entries(&self) -> impl Iterator<Item = EntryView> + '_ {
        std::iter::empty()
    }
}
