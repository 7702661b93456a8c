//! Encrypted networks, by one of two engines.
//!
//! ```text
//! Keys          how one other node and this one come to keys: the same for both engines, and the same datagrams
//! userspace     a TAP device of each network, threads that encrypt and decrypt, a UDP socket
//! kernel        a VXLAN device of each network; the kernel's ESP, which is given keys and watched here
//! ```
//!
//! They live in the helper, so that a restart of the daemon is nothing to them. On the wire they are alike.

mod counters;
mod kernel;
mod keys;
mod userspace;

use std::io;

use weft_plan::EncryptionEngine;

use crate::encryption::EncryptionReport;
use crate::helper::protocol::EncryptionWish;

/// The engine, while there is something to encrypt.
#[derive(Default)]
pub(super) struct Encryption {
    running: Option<Running>,
}

struct Running {
    place: Place,
    engine: Engine,
    logged: Vec<(&'static str, u64)>,
}

/// What cannot be changed while an engine runs.
type Place = (EncryptionEngine, usize, std::net::IpAddr, u16, u16);

fn place(wish: &EncryptionWish) -> Place {
    (wish.engine, wish.queues, wish.address, wish.port, wish.vxlan_port)
}

enum Engine {
    Userspace(userspace::Engine),
    Kernel(kernel::Engine),
}

impl Engine {
    fn start(wish: &EncryptionWish) -> io::Result<Self> {
        Ok(match wish.engine {
            EncryptionEngine::Userspace => {
                // Left by another helper, it would take packets away from this one.
                kernel::clean_up();
                Self::Userspace(userspace::Engine::start(wish)?)
            }
            EncryptionEngine::Kernel => Self::Kernel(kernel::Engine::start(wish)?),
        })
    }

    fn is_broken(&self) -> bool {
        matches!(self, Self::Kernel(engine) if engine.is_broken())
    }

    fn follow(&mut self, wish: &EncryptionWish) {
        match self {
            Self::Userspace(engine) => engine.follow(wish),
            Self::Kernel(engine) => engine.follow(wish),
        }
    }

    /// What was dropped, by reason.
    fn seen(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Userspace(engine) => engine.seen(),
            Self::Kernel(engine) => engine.seen(),
        }
    }

    fn report(&self) -> EncryptionReport {
        let paths = match self {
            Self::Userspace(engine) => engine.paths(),
            Self::Kernel(engine) => engine.paths(),
        };
        let dropped = self.seen().into_iter().map(|(why, count)| (why.to_owned(), count)).collect();
        EncryptionReport { paths, dropped }
    }

    /// Nothing is encrypted any more, or not by it.
    fn end(self) {
        if let Self::Kernel(engine) = self {
            engine.end();
        }
    }
}

impl Encryption {
    /// Does as wished from now on. What cannot be had is tried again with the next call.
    pub(super) fn follow(&mut self, wish: Option<&EncryptionWish>) {
        let wanted = wish.map(place);
        let fits = |running: &Running| Some(running.place) == wanted && !running.engine.is_broken();
        if !self.running.as_ref().is_some_and(fits)
            && let Some(running) = self.running.take()
        {
            running.engine.end();
        }
        let Some(wish) = wish else { return };
        if self.running.is_none() {
            match Engine::start(wish) {
                Ok(engine) => {
                    let engine_name = wish.engine.name();
                    tracing::info!(address = %wish.address, port = wish.port, engine = engine_name, "encryption begins");
                    self.running = Some(Running { place: place(wish), engine, logged: Vec::new() });
                }
                // Nothing is sent meanwhile: frames wait for nobody and are dropped.
                Err(error) => {
                    tracing::error!(address = %wish.address, port = wish.port, %error, "encryption")
                }
            }
        }
        if let Some(running) = &mut self.running {
            running.engine.follow(wish);
        }
    }

    /// Tries anew what failed, and says what was dropped. To be called now and then.
    pub(super) fn look_after(&mut self, wish: Option<&EncryptionWish>) {
        self.follow(wish);
        let Some(running) = &mut self.running else { return };
        let seen = running.engine.seen();
        if seen != running.logged {
            tracing::info!(dropped = ?seen, "encrypted networks");
            running.logged = seen;
        }
    }

    /// How it stands; none where nothing is encrypted.
    pub(super) fn report(&self) -> Option<EncryptionReport> {
        self.running.as_ref().map(|running| running.engine.report())
    }
}
