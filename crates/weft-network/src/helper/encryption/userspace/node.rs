//! Another node as the engine's threads share it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use weft_esp::frame::proof;
use weft_esp::{Effect, HEADER_LEN, ManagerKey, NEXT_UDP, Refused, Sealer};

use super::engine::Shared;
use crate::encryption::{EncryptedPath, EncryptionScheme as Scheme};
use crate::helper::encryption::keys::Keys;

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

impl Node {
    /// Without keys.
    pub(super) fn new(own: IpAddr, address: IpAddr, scheme: Scheme) -> Self {
        let keys = Keys::new(own, address, scheme);
        let (replayed, not_authentic) = (AtomicU64::new(0), AtomicU64::new(0));
        let sealer = ArcSwapOption::empty();
        Self { address, scheme, keys: Mutex::new(keys), sealer, replayed, not_authentic }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The managers' keys of now.
    pub(super) fn set_keys(&self, shared: &Shared, managers: &[ManagerKey]) {
        self.with(shared, |keys, now, out| keys.set(now, managers, out));
    }

    /// What packets to it are made with; none yet, or no more.
    pub(super) fn sealer(&self) -> Option<Arc<Sealer>> {
        self.sealer.load_full()
    }

    /// How it stands.
    pub(super) fn path(&self, now: Duration) -> EncryptedPath {
        let view = self.keys().view(now);
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
        self.with(shared, |keys, now, out| keys.tick(now, &|spi| shared.knows(spi), out));
    }

    pub(super) fn on_unknown_spi(&self, shared: &Shared) {
        self.with(shared, |keys, now, out| keys.on_unknown_spi(now, &|spi| shared.knows(spi), out));
    }

    pub(super) fn on_message(&self, shared: &Shared, datagram: &[u8]) -> Result<(), Refused> {
        self.with(shared, |keys, now, out| keys.on_message(now, datagram, &|spi| shared.knows(spi), out))
    }

    pub(super) fn on_proven(&self, shared: &Shared, spi: u32) {
        self.with(shared, |keys, now, out| keys.on_proven(now, spi, out));
    }

    pub(super) fn end(&self, shared: &Shared) {
        self.with(shared, |keys, _, out| keys.end(out));
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
            Effect::Prove(sealer) => self.prove(shared, &sealer),
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

    fn prove(&self, shared: &Shared, sealer: &Sealer) {
        let mut packet = vec![0; HEADER_LEN];
        packet.extend_from_slice(&proof(shared.own, self.address, shared.vxlan_port));
        if sealer.seal(&mut packet, 0, NEXT_UDP).is_ok() {
            shared.send(self.address, &packet);
        }
    }
}
