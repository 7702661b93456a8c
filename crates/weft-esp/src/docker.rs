//! One other node that runs Docker: which keys are used towards it, which are taken from it.
//!
//! Nothing is agreed on the wire. Key, salt and SPI follow from the managers' key, both addresses and nothing else:
//!
//! ```text
//! SPI   FNV-1a, 32 bits, over | source 16 | tag 4 | destination 16 |   addresses of IPv4 mapped into IPv6, big endian
//! key   the managers' key, 16 bytes
//! salt  the SPI, big endian
//! ```
//!
//! One association a direction and managers' key; packets go by the second oldest key and are taken by all of them. They
//! are raw ESP, without UDP around, with half the check value.
//!
//! What follows from that, and cannot be helped on this side alone:
//! - A key is the same after a restart. So sequence numbers begin at 1 again, the receiver has no window against replays,
//!   and initialisation vectors begin at a random place: that two lives of one node meet has a chance of about 2^-31.
//!   Within the life of a [`DockerPeer`] they never do.
//! - SPIs are not chosen by the receiver. One may equal an SPI that a pairing of Weft's nodes chose (chance about 2^-32 a
//!   pair): an engine chooses those of its pairings such that they are free, and counts Docker's among the taken ones.
//! - Numbers that run out end the traffic until the next rotation, as with Docker.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::cipher::KEY_LEN;
use crate::numbers::Numbers;
use crate::pairing::long;
use crate::peer::GRACE;
use crate::{Effect, Inbound, ManagerKey, PeerView, Sealer, TrafficKey};

/// FNV-1a of 32 bits (draft-eastlake-fnv, section 2).
const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// The SPI of what one node sends to another under the managers' key of this tag.
pub fn spi(from: IpAddr, to: IpAddr, tag: u32) -> u32 {
    let bytes = long(from).into_iter().chain(tag.to_be_bytes()).chain(long(to));
    bytes.fold(FNV_BASIS, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME))
}

/// `None`: the managers' key is none of AES-128, and nothing can be done with it.
fn traffic_key(key: &ManagerKey, spi: u32) -> Option<TrafficKey> {
    if key.bytes().len() != KEY_LEN {
        return None;
    }
    // Filled in place: no copy is left on the stack.
    let mut made = TrafficKey::new([0; TrafficKey::LEN]);
    let (secret, salt) = made.0.split_at_mut(KEY_LEN);
    secret.copy_from_slice(key.bytes());
    salt.copy_from_slice(&spi.to_be_bytes());
    Some(made)
}

/// What is taken under one of the managers' keys.
#[derive(Debug)]
struct Accepted {
    key: ManagerKey,
    inbound: Arc<Inbound>,
    /// When the managers' keys were first seen without it.
    pruned_since: Option<Duration>,
}

/// What is sent with.
#[derive(Debug)]
struct Used {
    key: ManagerKey,
    since: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct DockerPeer {
    own: IpAddr,
    remote: IpAddr,
    accepted: Vec<Accepted>,
    used: Option<Used>,
    /// By outbound SPI, for each key that was ever sent with: one that comes back goes on where it was. A few dozen bytes
    /// for each rotation, so nothing is ever forgotten; the keys themselves are.
    numbers: Vec<(u32, Numbers)>,
}

impl DockerPeer {
    /// Without keys.
    pub fn new(own: IpAddr, remote: IpAddr) -> Self {
        Self { own, remote, accepted: Vec::new(), used: None, numbers: Vec::new() }
    }

    /// The managers' keys of now, in any order. What is under the same keys as before stays as it is. `first_iv` gives
    /// randomness, see [`Sealer::docker`].
    pub fn set_keys(
        &mut self,
        now: Duration,
        keys: &[ManagerKey],
        first_iv: &mut dyn FnMut() -> u64,
        out: &mut Vec<Effect>,
    ) {
        let mut keys = keys.to_vec();
        keys.sort_by_key(ManagerKey::tag);
        keys.dedup_by_key(|key| key.tag());
        // Make before break: the other side may use a new key at once, and a pruned one for as long as it has not heard.
        keys.iter().for_each(|key| self.accept(now, key, out));
        self.send_with(now, keys.get(1).or(keys.first()), first_iv, out);
        for accepted in &mut self.accepted {
            if !keys.contains(&accepted.key) {
                accepted.pruned_since.get_or_insert(now);
            }
        }
    }

    /// To be called every few seconds: ends what the managers took back.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.accepted.retain(|accepted| {
            let ends = accepted.pruned_since.is_some_and(|since| now.saturating_sub(since) >= GRACE);
            if ends {
                out.push(Effect::Forget(accepted.inbound.spi()));
            }
            !ends
        });
    }

    /// Ends everything: the node is no peer any more, or none of Docker's. Keys may be set again.
    pub fn end(&mut self, out: &mut Vec<Effect>) {
        self.used = None;
        out.push(Effect::Use(None));
        out.extend(self.accepted.drain(..).map(|accepted| Effect::Forget(accepted.inbound.spi())));
    }

    /// How it stands.
    pub fn view(&self, now: Duration) -> PeerView {
        let used = self.used.as_ref();
        let proven = self.accepted.iter().map(|accepted| &accepted.inbound).filter(|it| it.is_proven());
        PeerView {
            remote: self.remote,
            key_age: used.map(|used| now.saturating_sub(used.since)),
            tag: used.map(|used| used.key.tag()),
            heard_ago: proven.map(|inbound| now.saturating_sub(inbound.heard())).min(),
        }
    }

    fn accept(&mut self, now: Duration, key: &ManagerKey, out: &mut Vec<Effect>) {
        if let Some(known) = self.accepted.iter_mut().find(|accepted| accepted.key == *key) {
            known.pruned_since = None;
            return;
        }
        let spi = spi(self.remote, self.own, key.tag());
        let Some(traffic) = traffic_key(key, spi) else { return };
        // Another key under the same tag takes the other one's place with the driver, too: nothing is left to forget.
        self.accepted.retain(|accepted| accepted.inbound.spi() != spi);
        let inbound = Arc::new(Inbound::docker(spi, self.remote, &traffic, now));
        out.push(Effect::Accept(inbound.clone()));
        self.accepted.push(Accepted { key: key.clone(), inbound, pruned_since: None });
    }

    fn send_with(
        &mut self,
        now: Duration,
        key: Option<&ManagerKey>,
        first_iv: &mut dyn FnMut() -> u64,
        out: &mut Vec<Effect>,
    ) {
        if self.used.as_ref().map(|used| &used.key) == key {
            return;
        }
        let sealer = key.and_then(|key| {
            let spi = spi(self.own, self.remote, key.tag());
            let traffic = traffic_key(key, spi)?;
            Some(Arc::new(Sealer::docker_with(spi, &traffic, self.numbers_of(spi, first_iv))))
        });
        let had = self.used.take().is_some();
        self.used = sealer.as_ref().and(key).map(|key| Used { key: key.clone(), since: now });
        if had || sealer.is_some() {
            out.push(Effect::Use(sealer));
        }
    }

    fn numbers_of(&mut self, spi: u32, first_iv: &mut dyn FnMut() -> u64) -> Numbers {
        if let Some((_, known)) = self.numbers.iter().find(|(known, _)| *known == spi) {
            return known.clone();
        }
        let numbers = Numbers::new(first_iv());
        self.numbers.push((spi, numbers.clone()));
        numbers
    }
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
