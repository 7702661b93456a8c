//! How one other node and this one come to keys, whichever engine uses them.

use std::net::IpAddr;
use std::time::Duration;

use rand::RngCore;
use weft_esp::{DockerPeer, Effect, Fresh, ManagerKey, Peer, PeerView, Refused};

use crate::encryption::EncryptionScheme as Scheme;

/// SPIs below are reserved (RFC 4303, section 2.1).
const FIRST_SPI: u32 = 256;

/// See the module.
#[derive(Debug)]
pub(super) enum Keys {
    Paired(Box<Peer>),
    Docker(DockerPeer),
}

/// Whether an SPI is in use here already.
pub(super) type IsTaken<'a> = &'a dyn Fn(u32) -> bool;

impl Keys {
    /// None yet.
    pub(super) fn new(own: IpAddr, remote: IpAddr, scheme: Scheme) -> Self {
        match scheme {
            Scheme::Paired => Self::Paired(Box::new(Peer::new(own, remote))),
            Scheme::Docker => Self::Docker(DockerPeer::new(own, remote)),
        }
    }

    /// The managers' keys of now.
    pub(super) fn set(&mut self, now: Duration, managers: &[ManagerKey], out: &mut Vec<Effect>) {
        match self {
            Self::Paired(peer) => peer.set_keys(managers),
            Self::Docker(peer) => peer.set_keys(now, managers, &mut || rand::rng().next_u64(), out),
        }
    }

    pub(super) fn tick(&mut self, now: Duration, taken: IsTaken<'_>, out: &mut Vec<Effect>) {
        match self {
            Self::Paired(peer) => peer.tick(now, &mut || fresh(taken), out),
            Self::Docker(peer) => peer.tick(now, out),
        }
    }

    pub(super) fn on_unknown_spi(&mut self, now: Duration, taken: IsTaken<'_>, out: &mut Vec<Effect>) {
        if let Self::Paired(peer) = self {
            peer.on_unknown_spi(now, &mut || fresh(taken), out);
        }
    }

    pub(super) fn on_message(
        &mut self,
        now: Duration,
        datagram: &[u8],
        taken: IsTaken<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        match self {
            Self::Paired(peer) => peer.on_message(now, datagram, &mut || fresh(taken), out),
            // Docker's nodes agree on nothing.
            Self::Docker(_) => Err(Refused::Malformed),
        }
    }

    pub(super) fn on_proven(&mut self, now: Duration, spi: u32, out: &mut Vec<Effect>) {
        if let Self::Paired(peer) = self {
            peer.on_proven(now, spi, out);
        }
    }

    /// The engine lost what is received by these, and sent with by those SPIs. Docker's keys are all there is, so they
    /// are used again.
    pub(super) fn on_lost(
        &mut self,
        now: Duration,
        inbound: &[u32],
        outbound: Option<u32>,
        managers: &[ManagerKey],
        out: &mut Vec<Effect>,
    ) {
        match self {
            Self::Paired(peer) => {
                inbound.iter().for_each(|spi| peer.on_inbound_lost(*spi, out));
                outbound.into_iter().for_each(|spi| peer.on_outbound_lost(spi, out));
            }
            Self::Docker(peer) => {
                peer.end(out);
                self.set(now, managers, out);
            }
        }
    }

    pub(super) fn view(&self, now: Duration) -> PeerView {
        match self {
            Self::Paired(peer) => peer.view(now),
            Self::Docker(peer) => peer.view(now),
        }
    }

    pub(super) fn end(&mut self, out: &mut Vec<Effect>) {
        match self {
            Self::Paired(peer) => peer.end(out),
            Self::Docker(peer) => peer.end(out),
        }
    }
}

fn fresh(is_taken: IsTaken<'_>) -> Fresh {
    let mut rng = rand::rng();
    let mut private = [0; 32];
    rng.fill_bytes(&mut private);
    loop {
        let spi = rng.next_u32();
        if spi >= FIRST_SPI && !is_taken(spi) {
            return Fresh { private, spi };
        }
    }
}
