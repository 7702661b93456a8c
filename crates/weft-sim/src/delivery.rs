//! How datagrams and streams travel.

use std::net::SocketAddr;

use rand::Rng as _;
use weft_gossip::message::{Packet, StreamBody};
use weft_gossip::{Config, RequestFailure, RequestId, StreamId, Tick};

use crate::Failure;
use crate::world::{Happening, World, address, host_at};

impl World<'_> {
    pub(crate) fn on_bytes(
        &mut self,
        now: Tick,
        to: usize,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let Some((codec, _)) = &self.codec else { return Ok(()) };
        match codec.open_datagram(bytes) {
            Ok(packet) => self.input(to, |core, out| core.on_packet(now, from, &packet, out)),
            Err(error) => Err(self.failure(format!("own datagram refused: {error}"))),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one happening")]
    pub(crate) fn on_stream(
        &mut self,
        now: Tick,
        to: usize,
        from: usize,
        life: u32,
        id: RequestId,
        body: &StreamBody,
        wants_answer: bool,
        timeout: u64,
    ) -> Result<(), Failure> {
        let mut answer = Err(RequestFailure::Connect);
        if self.hosts[to].core.is_some() {
            let stream = StreamId(self.hosts[to].streams);
            self.hosts[to].streams += 1;
            let content = self.input_stream(to, stream, |core, out| {
                core.on_stream(now, stream, address(from), body, out);
            })?;
            answer = match content {
                Some(content) if wants_answer => Ok(Some(Box::new(self.recode_stream(content)?))),
                None if wants_answer => Err(RequestFailure::Broken),
                _ => Ok(None),
            };
        }
        let delay = self.faults.delay(&mut self.rng);
        let (delay, answer) = if self.faults.blocks(to, from) {
            (timeout, Err(RequestFailure::TimedOut))
        } else {
            (delay, answer)
        };
        self.schedule.add(self.schedule.now() + delay, Happening::Answer { host: from, life, id, answer });
        Ok(())
    }

    pub(crate) fn send(&mut self, from: usize, to: SocketAddr, packet: Packet) -> Result<(), Failure> {
        self.counts.datagrams += 1;
        let Some(target) = host_at(to).filter(|target| *target < self.hosts.len()) else {
            return Err(self.failure(format!("host {from} sends to {to}, which nobody has")));
        };
        if self.faults.blocks(from, target) || self.rng.random_bool(self.faults.loss) {
            self.counts.dropped += 1;
            return Ok(());
        }
        let packet = match self.encode(&packet)? {
            Some(bytes) => {
                let at = self.schedule.now() + self.faults.delay(&mut self.rng);
                self.schedule.add(at, Happening::Bytes { to: target, from: address(from), bytes });
                return Ok(());
            }
            None => packet,
        };
        if self.rng.random_bool(self.faults.duplication) {
            self.counts.duplicated += 1;
            let at = self.schedule.now() + self.faults.delay(&mut self.rng);
            let packet = packet.clone();
            self.schedule.add(at, Happening::Packet { to: target, from: address(from), packet });
        }
        let at = self.schedule.now() + self.faults.delay(&mut self.rng);
        self.schedule.add(at, Happening::Packet { to: target, from: address(from), packet });
        Ok(())
    }

    /// The datagram's bytes, in runs that go through the codec.
    pub(crate) fn encode(&mut self, packet: &Packet) -> Result<Option<Vec<u8>>, Failure> {
        let Some((codec, nonces)) = &mut self.codec else { return Ok(None) };
        match codec.seal_datagram(packet, nonces) {
            Ok(bytes) if bytes.len() > Config::docker(address(0)).packet_limit => {
                Err(self.failure(format!("datagram of {} bytes: {packet:?}", bytes.len())))
            }
            Ok(bytes) => {
                self.counts.largest_datagram = self.counts.largest_datagram.max(bytes.len());
                Ok(Some(bytes))
            }
            Err(error) => Err(self.failure(format!("cannot encode {packet:?}: {error}"))),
        }
    }

    /// Sends a stream's content through the codec, in runs that use it.
    pub(crate) fn recode_stream(&mut self, body: StreamBody) -> Result<StreamBody, Failure> {
        let Some((codec, nonces)) = &mut self.codec else { return Ok(body) };
        let recoded = codec.seal_stream(&body, nonces).and_then(|bytes| codec.open_stream(&bytes));
        match recoded {
            Ok(recoded) if recoded == body => Ok(recoded),
            Ok(recoded) => Err(self.failure(format!("codec changed {body:?} to {recoded:?}"))),
            Err(error) => Err(self.failure(format!("cannot encode {body:?}: {error}"))),
        }
    }

    pub(crate) fn open_stream(
        &mut self,
        from: usize,
        id: RequestId,
        to: SocketAddr,
        body: StreamBody,
        wants_answer: bool,
        timeout: u64,
    ) -> Result<(), Failure> {
        self.counts.streams += 1;
        let life = self.hosts[from].life;
        let body = Box::new(self.recode_stream(body)?);
        let delay = self.faults.delay(&mut self.rng);
        let failure =
            |delay, failure| (delay, Happening::Answer { host: from, life, id, answer: Err(failure) });
        let target = host_at(to).filter(|target| *target < self.hosts.len());
        let (delay, happening) = match target {
            None => failure(delay, RequestFailure::Connect),
            Some(to) if self.faults.blocks(from, to) || self.faults.blocks(to, from) => {
                failure(timeout, RequestFailure::TimedOut)
            }
            Some(_) if self.rng.random_bool(self.faults.stream_loss) => {
                failure(delay, RequestFailure::Broken)
            }
            Some(to) => (delay, Happening::Stream { to, from, life, id, body, wants_answer, timeout }),
        };
        self.schedule.add(self.schedule.now() + delay, happening);
        Ok(())
    }
}
