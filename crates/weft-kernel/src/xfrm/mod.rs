//! The kernel's ESP (`NETLINK_XFRM`): associations that encrypt, and policies that say what must be.
//!
//! What is Weft's bears [`weft_plan::mark::XFRM_REQID`]; the policy that forbids bears no number and is known by what it
//! forbids. Keys are wiped from every buffer here, also those that the kernel sends back.

mod encapsulation;
mod message;
mod policy;
mod probe;
mod state;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_sys::protocols::NETLINK_XFRM;
use nix::errno::Errno;
use zeroize::Zeroizing;

pub use encapsulation::take_esp_in_udp;
pub use policy::{EspPolicy, TunnelPackets, Way};
pub use state::{EspState, SeenState, StateId};

use self::message::{
    XFRM_MSG_DELPOLICY, XFRM_MSG_DELSA, XFRM_MSG_GETPOLICY, XFRM_MSG_GETSA, XFRM_MSG_NEWSA,
    XFRM_MSG_UPDPOLICY,
};
use crate::socket::{NetlinkSocket, Refusal};
use crate::{KernelError, Netns};

/// A connection to the kernel's ESP in one namespace.
#[derive(Debug)]
pub struct Xfrm {
    socket: NetlinkSocket,
}

impl Xfrm {
    /// An error where the kernel has none.
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        Ok(Self { socket: NetlinkSocket::open(netns, NETLINK_XFRM)? })
    }

    /// Whether this kernel can do all that encrypted networks need, found out by trying in a namespace that is thrown
    /// away. Where it can, that loads the modules.
    pub fn probe() -> Result<bool, KernelError> {
        probe::probe()
    }

    /// Makes an association. One of the same name goes: it cannot have had this key.
    pub fn add_state(&mut self, state: &EspState<'_>) -> Result<(), KernelError> {
        let body = state::new_state(state);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut added = self.request(XFRM_MSG_NEWSA, flags, &body);
        if errno(&added) == Some(Errno::EEXIST) {
            self.delete_state(state.id)?;
            added = self.request(XFRM_MSG_NEWSA, flags, &body);
        }
        added.map(drop).map_err(|refusal| refusal.of(format!("add ESP association {:08x}", state.id.spi)))
    }

    /// One that is gone already is as wanted.
    pub fn delete_state(&mut self, id: StateId) -> Result<(), KernelError> {
        let deleted = self.request(XFRM_MSG_DELSA, NLM_F_ACK, &state::name(id));
        gone(deleted).map_err(|refusal| refusal.of(format!("delete ESP association {:08x}", id.spi)))
    }

    /// Weft's associations.
    pub fn states(&mut self) -> Result<Vec<SeenState>, KernelError> {
        let answers = self.request(XFRM_MSG_GETSA, NLM_F_DUMP, &[]);
        let answers = answers.map_err(|refusal| refusal.of("list ESP associations"))?;
        Ok(answers.iter().filter_map(|answer| state::seen(answer)).collect())
    }

    /// Makes a policy, or changes what the one of its way does, at once.
    pub fn set_policy(&mut self, policy: &EspPolicy) -> Result<(), KernelError> {
        let set = self.request(XFRM_MSG_UPDPOLICY, NLM_F_ACK, &policy::new_policy(policy));
        set.map(drop).map_err(|refusal| refusal.of(format!("set ESP policy to {}", policy.way.to)))
    }

    /// Nothing of encrypted networks leaves unless another policy says how.
    pub fn forbid(&mut self, port: u16) -> Result<(), KernelError> {
        Way::anywhere(port).into_iter().try_for_each(|way| self.set_policy(&EspPolicy { way, by: None }))
    }

    /// One that is gone already is as wanted.
    pub fn delete_policy(&mut self, way: &Way) -> Result<(), KernelError> {
        let deleted = self.request(XFRM_MSG_DELPOLICY, NLM_F_ACK, &policy::name(way));
        gone(deleted).map_err(|refusal| refusal.of(format!("delete ESP policy to {}", way.to)))
    }

    /// Weft's policies.
    pub fn policies(&mut self) -> Result<Vec<EspPolicy>, KernelError> {
        let answers = self.request(XFRM_MSG_GETPOLICY, NLM_F_DUMP, &[]);
        let answers = answers.map_err(|refusal| refusal.of("list ESP policies"))?;
        Ok(answers.iter().filter_map(|answer| policy::seen(answer)).collect())
    }

    /// Whether somebody else's policy is for these packets of this host's.
    pub fn others_select(&mut self, packets: &TunnelPackets) -> Result<bool, KernelError> {
        let answers = self.request(XFRM_MSG_GETPOLICY, NLM_F_DUMP, &[]);
        let answers = answers.map_err(|refusal| refusal.of("list ESP policies"))?;
        Ok(answers.iter().any(|answer| policy::is_others_for(answer, packets)))
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Zeroizing<Vec<u8>>>, Refusal> {
        let answers = self.socket.request_raw(kind, flags, body);
        self.socket.wipe();
        Ok(answers?.into_iter().map(Zeroizing::new).collect())
    }
}

fn errno<T>(answer: &Result<T, Refusal>) -> Option<Errno> {
    answer.as_ref().err().and_then(Refusal::errno).map(Errno::from_raw)
}

fn gone<T>(answer: Result<T, Refusal>) -> Result<(), Refusal> {
    match errno(&answer) {
        Some(Errno::ESRCH | Errno::ENOENT) => Ok(()),
        _ => answer.map(drop),
    }
}
