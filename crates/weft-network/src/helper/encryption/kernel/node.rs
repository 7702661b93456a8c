//! Another node, and what the kernel has for it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use weft_esp::{Effect, Inbound, ManagerKey, Refused, Sealer};
use weft_kernel::{SeenState, StateId};

use super::tables::{Seen, Tables};
use crate::encryption::{EncryptedPath, EncryptionScheme as Scheme};
use crate::helper::encryption::keys::Keys;

/// What is sent with no more is kept so long: two pairings at once may go back to it, and its numbers must go on then.
const RETIRED: Duration = Duration::from_secs(60);
/// After something was lost, so long nothing more is seen as lost: where the kernel takes nothing, it is not asked all
/// the time.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Node {
    pub(super) address: IpAddr,
    pub(super) scheme: Scheme,
    own: IpAddr,
    keys: Keys,
    inbound: BTreeMap<u32, Taken>,
    /// By the other node's SPIs.
    outbound: BTreeMap<u32, Given>,
    used: Option<u32>,
    lost: Option<Duration>,
    /// Datagrams on their way.
    waiting: Vec<Vec<u8>>,
    replayed: u64,
    not_authentic: u64,
}

/// What is received by, with the kernel's counts as last seen.
struct Taken {
    inbound: Arc<Inbound>,
    packets: u64,
    replayed: u32,
    not_authentic: u32,
}

/// What is sent with, or was.
struct Given {
    sealer: Arc<Sealer>,
    retired: Option<Duration>,
}

impl Node {
    /// Without keys.
    pub(super) fn new(own: IpAddr, address: IpAddr, scheme: Scheme) -> Self {
        Self {
            address,
            scheme,
            own,
            keys: Keys::new(own, address, scheme),
            inbound: BTreeMap::new(),
            outbound: BTreeMap::new(),
            used: None,
            lost: None,
            waiting: Vec::new(),
            replayed: 0,
            not_authentic: 0,
        }
    }

    /// The SPI that is sent with.
    pub(super) fn used(&self) -> Option<u32> {
        self.used
    }

    /// How it stands.
    pub(super) fn path(&self, now: Duration) -> EncryptedPath {
        let view = self.keys.view(now);
        EncryptedPath {
            address: self.address,
            scheme: self.scheme,
            key_age: view.key_age,
            heard_ago: view.heard_ago,
            replayed: self.replayed,
            not_authentic: self.not_authentic,
        }
    }

    pub(super) fn set_keys(&mut self, tables: &mut Tables, now: Duration, managers: &[ManagerKey]) {
        self.with(tables, now, |keys, _, out| keys.set(now, managers, out));
    }

    pub(super) fn tick(&mut self, tables: &mut Tables, now: Duration) {
        self.with(tables, now, |keys, tables, out| keys.tick(now, &|spi| tables.knows(spi), out));
        let (address, used) = (self.address, self.used);
        self.outbound.retain(|spi, given| {
            let ends = given.retired.is_some_and(|since| now.saturating_sub(since) >= RETIRED);
            if ends && used != Some(*spi) {
                tables.stop_sending(address, *spi);
            }
            !ends || used == Some(*spi)
        });
    }

    pub(super) fn on_message(
        &mut self,
        tables: &mut Tables,
        socket: &UdpSocket,
        now: Duration,
        datagram: &[u8],
    ) -> Result<(), Refused> {
        let done = self.with(tables, now, |keys, tables, out| {
            keys.on_message(now, datagram, &|spi| tables.knows(spi), out)
        });
        self.send_waiting(socket, tables.port());
        done
    }

    /// Sends what pairs.
    pub(super) fn send_waiting(&mut self, socket: &UdpSocket, port: u16) {
        for datagram in self.waiting.drain(..) {
            // Lost ones are sent again.
            if let Err(error) = socket.send_to(&datagram, SocketAddr::new(self.address, port)) {
                tracing::debug!(to = %self.address, %error, "pairing not sent");
            }
        }
    }

    /// What the kernel's tables say: what came, what was refused, how far numbers are, and what is gone.
    pub(super) fn observe(
        &mut self,
        tables: &mut Tables,
        now: Duration,
        seen: &Seen,
        managers: &[ManagerKey],
    ) {
        let (mut gone, mut proven) = (Vec::new(), Vec::new());
        for (spi, taken) in &mut self.inbound {
            let Some(state) = seen.get(&StateId { to: self.own, spi: *spi }) else {
                gone.push(*spi);
                continue;
            };
            self.replayed += u64::from(state.replayed.saturating_sub(taken.replayed));
            self.not_authentic += u64::from(state.not_authentic.saturating_sub(taken.not_authentic));
            if taken.came(state) && taken.inbound.note_heard(now) {
                proven.push(*spi);
            }
        }
        let state = self.used.map(|spi| (spi, seen.get(&StateId { to: self.address, spi })));
        let unsent = state.filter(|(_, state)| state.is_none()).map(|(spi, _)| spi);
        if let Some((spi, Some(state))) = state
            && let Some(given) = self.outbound.get(&spi)
        {
            given.sealer.note_used(state.sequence);
        }
        for spi in proven {
            self.with(tables, now, |keys, _, out| keys.on_proven(now, spi, out));
        }
        let quiet = self.lost.is_some_and(|then| now.saturating_sub(then) < LOSS_INTERVAL);
        if (!gone.is_empty() || unsent.is_some()) && !quiet {
            tracing::warn!(peer = %self.address, "somebody removed keys from the kernel, new ones are agreed on");
            self.lost = Some(now);
            self.with(tables, now, |keys, _, out| keys.on_lost(now, &gone, unsent, managers, out));
        }
    }

    pub(super) fn end(&mut self, tables: &mut Tables, now: Duration) {
        self.with(tables, now, |keys, _, out| keys.end(out));
        for spi in std::mem::take(&mut self.outbound).into_keys() {
            tables.stop_sending(self.address, spi);
        }
    }

    fn with<R>(
        &mut self,
        tables: &mut Tables,
        now: Duration,
        work: impl FnOnce(&mut Keys, &Tables, &mut Vec<Effect>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let done = work(&mut self.keys, tables, &mut out);
        for effect in out {
            self.carry_out(tables, now, effect);
        }
        done
    }

    fn carry_out(&mut self, tables: &mut Tables, now: Duration, effect: Effect) {
        match effect {
            Effect::Send(datagram) => self.waiting.push(datagram),
            Effect::Accept(inbound) => {
                let opener = inbound.opener();
                tables.receive_by(self.address, self.scheme, &opener.association(inbound.spi()));
                drop(opener);
                let taken = Taken { inbound: inbound.clone(), packets: 0, replayed: 0, not_authentic: 0 };
                self.inbound.insert(inbound.spi(), taken);
            }
            Effect::Forget(spi) => {
                self.inbound.remove(&spi);
                tables.stop_receiving(spi);
            }
            Effect::Use(sealer) => self.send_by(tables, now, sealer),
            Effect::Prove(_) => tables.prove(self.address),
        }
    }

    fn send_by(&mut self, tables: &mut Tables, now: Duration, sealer: Option<Arc<Sealer>>) {
        let had = self.used.take();
        if let Some(given) = had.and_then(|spi| self.outbound.get_mut(&spi)) {
            given.retired = Some(now);
        }
        if let Some(sealer) = sealer {
            let spi = sealer.spi();
            match self.outbound.get_mut(&spi).filter(|given| Arc::ptr_eq(&given.sealer, &sealer)) {
                // Given to the kernel already, and once is enough.
                Some(given) => given.retired = None,
                None => {
                    tables.send_with(self.address, self.scheme, &sealer.association());
                    self.outbound.insert(spi, Given { sealer, retired: None });
                }
            }
            self.used = Some(spi);
        }
        tables.allow(self.address, self.used);
        match (had, self.used) {
            (None, Some(_)) => tracing::info!(peer = %self.address, "encrypted path stands"),
            (Some(_), None) => tracing::warn!(peer = %self.address, "encrypted path ends"),
            _ => tracing::debug!(peer = %self.address, "keys of the encrypted path changed"),
        }
    }
}

impl Taken {
    /// Whether packets came since the last look.
    fn came(&mut self, state: &SeenState) -> bool {
        let came = state.packets > self.packets;
        (self.packets, self.replayed, self.not_authentic) =
            (state.packets, state.replayed, state.not_authentic);
        came
    }
}
