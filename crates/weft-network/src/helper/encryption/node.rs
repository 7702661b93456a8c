//! Another node as the engine's threads share it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rand::RngCore;
use weft_esp::{DockerPeer, Effect, Fresh, ManagerKey, Peer, Refused, Sealer};

use super::engine::Shared;
use crate::encryption::{EncryptedPath, EncryptionScheme as Scheme};

/// SPIs below are reserved (RFC 4303, section 2.1).
const FIRST_SPI: u32 = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: IpAddr,
    pub(super) scheme: Scheme,
    keys: Mutex<Keys>,
    sealer: ArcSwapOption<Sealer>,
    replayed: AtomicU64,
    not_authentic: AtomicU64,
}

/// How it comes to keys.
#[derive(Debug)]
enum Keys {
    Paired(Box<Peer>),
    Docker(DockerPeer),
}

impl Node {
    /// Without keys.
    pub(super) fn new(own: IpAddr, address: IpAddr, scheme: Scheme) -> Self {
        let keys = match scheme {
            Scheme::Paired => Keys::Paired(Box::new(Peer::new(own, address))),
            Scheme::Docker => Keys::Docker(DockerPeer::new(own, address)),
        };
        let (replayed, not_authentic) = (AtomicU64::new(0), AtomicU64::new(0));
        let sealer = ArcSwapOption::empty();
        Self { address, scheme, keys: Mutex::new(keys), sealer, replayed, not_authentic }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The managers' keys of now.
    pub(super) fn set_keys(&self, shared: &Shared, managers: &[ManagerKey]) {
        self.with(shared, |keys, now, out| match keys {
            Keys::Paired(peer) => peer.set_keys(managers),
            Keys::Docker(peer) => peer.set_keys(now, managers, &mut || rand::rng().next_u64(), out),
        });
    }

    /// What packets to it are made with; none yet, or no more.
    pub(super) fn sealer(&self) -> Option<Arc<Sealer>> {
        self.sealer.load_full()
    }

    /// How it stands.
    pub(super) fn path(&self, now: Duration) -> EncryptedPath {
        let view = match &*self.keys() {
            Keys::Paired(peer) => peer.view(now),
            Keys::Docker(peer) => peer.view(now),
        };
        EncryptedPath {
            address: self.address,
            scheme: self.scheme,
            key_age: view.key_age,
            heard_ago: view.heard_ago,
            replayed: self.replayed.load(Ordering::Relaxed),
            not_authentic: self.not_authentic.load(Ordering::Relaxed),
        }
    }

    /// A packet of it was not taken.
    pub(super) fn note_refused(&self, why: Refused) {
        match why {
            Refused::Replayed => self.replayed.fetch_add(1, Ordering::Relaxed),
            Refused::NotAuthentic => self.not_authentic.fetch_add(1, Ordering::Relaxed),
            Refused::Malformed | Refused::UnknownKey => 0,
        };
    }

    pub(super) fn tick(&self, shared: &Shared) {
        self.with(shared, |keys, now, out| match keys {
            Keys::Paired(peer) => peer.tick(now, &mut || fresh(shared), out),
            Keys::Docker(peer) => peer.tick(now, out),
        });
    }

    pub(super) fn on_unknown_spi(&self, shared: &Shared) {
        self.with(shared, |keys, now, out| {
            if let Keys::Paired(peer) = keys {
                peer.on_unknown_spi(now, &mut || fresh(shared), out);
            }
        });
    }

    pub(super) fn on_message(&self, shared: &Shared, datagram: &[u8]) -> Result<(), Refused> {
        self.with(shared, |keys, now, out| match keys {
            Keys::Paired(peer) => peer.on_message(now, datagram, &mut || fresh(shared), out),
            // Docker's nodes agree on nothing.
            Keys::Docker(_) => Err(Refused::Malformed),
        })
    }

    pub(super) fn on_proven(&self, shared: &Shared, spi: u32) {
        self.with(shared, |keys, now, out| {
            if let Keys::Paired(peer) = keys {
                peer.on_proven(now, spi, out);
            }
        });
    }

    pub(super) fn end(&self, shared: &Shared) {
        self.with(shared, |keys, _, out| match keys {
            Keys::Paired(peer) => peer.end(out),
            Keys::Docker(peer) => peer.end(out),
        });
    }

    /// The effects are carried out under the lock: in the order in which they came about.
    fn with<R>(&self, shared: &Shared, work: impl FnOnce(&mut Keys, Duration, &mut Vec<Effect>) -> R) -> R {
        let mut out = Vec::new();
        let mut keys = self.keys();
        let done = work(&mut keys, shared.now(), &mut out);
        for effect in out {
            self.carry_out(shared, effect);
        }
        done
    }

    fn carry_out(&self, shared: &Shared, effect: Effect) {
        match effect {
            Effect::Send(datagram) => shared.send(self.address, &datagram),
            Effect::Accept(inbound) => shared.accept(inbound),
            Effect::Forget(spi) => shared.forget(spi),
            Effect::Use(sealer) => {
                let had = self.sealer.swap(sealer.clone()).is_some();
                match (had, sealer) {
                    (false, Some(_)) => tracing::info!(peer = %self.address, "encrypted path stands"),
                    (true, None) => tracing::warn!(peer = %self.address, "encrypted path ends"),
                    _ => tracing::debug!(peer = %self.address, "keys of the encrypted path changed"),
                }
            }
        }
    }
}

fn fresh(shared: &Shared) -> Fresh {
    let mut rng = rand::rng();
    let mut private = [0; 32];
    rng.fill_bytes(&mut private);
    loop {
        let spi = rng.next_u32();
        if spi >= FIRST_SPI && !shared.knows(spi) {
            return Fresh { private, spi };
        }
    }
}
