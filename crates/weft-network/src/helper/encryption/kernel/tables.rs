//! The kernel's associations and policies, as this node has them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use weft_esp::Association;
use weft_esp::frame::NO_NETWORK;
use weft_kernel::{EspPolicy, EspState, KernelError, Netns, SeenState, StateId, Way, Xfrm};
use weft_plan::SourcePorts;

use crate::encryption::EncryptionScheme as Scheme;
use crate::helper::protocol::EncryptionWish;

/// What an earlier helper left carries packets for so long, while new keys are agreed on and the other sides begin to
/// use them.
const INHERITED: Duration = Duration::from_secs(60);
/// The kernel's counts about ESP (Documentation/networking/xfrm_proc.rst).
const STATISTICS: &str = "/proc/self/net/xfrm_stat";
const NO_STATE: &str = "XfrmInNoStates";

/// Associations as the kernel shows them.
pub(super) type Seen = BTreeMap<StateId, SeenState>;

/// See the module.
pub(super) struct Tables {
    xfrm: Xfrm,
    own: IpAddr,
    port: u16,
    vxlan_port: u16,
    /// Sends what is for nobody, from a port whose packets are encrypted.
    prover: UdpSocket,
    /// SPIs that are received by.
    spis: BTreeSet<u32>,
    inherited: BTreeSet<StateId>,
    /// Packets under unknown SPIs before this began.
    unknown_before: u64,
}

impl Tables {
    pub(super) fn open(wish: &EncryptionWish) -> io::Result<Self> {
        let open = || -> Result<_, KernelError> {
            let mut xfrm = Xfrm::open(&Netns::host()?)?;
            xfrm.forbid(wish.vxlan_port)?;
            let inherited = xfrm.states()?.into_iter().map(|state| state.id).collect();
            Ok((xfrm, inherited))
        };
        let (xfrm, inherited) = open().map_err(io::Error::other)?;
        Ok(Self {
            xfrm,
            own: wish.address,
            port: wish.port,
            vxlan_port: wish.vxlan_port,
            prover: UdpSocket::bind(SocketAddr::new(wish.address, SourcePorts::ENCRYPTED_SPARE))?,
            spis: BTreeSet::new(),
            inherited,
            unknown_before: unknown_spis(),
        })
    }

    /// UDP port of ESP.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether something is received by this SPI.
    pub(super) fn knows(&self, spi: u32) -> bool {
        self.spis.contains(&spi) || self.inherited.contains(&StateId { to: self.own, spi })
    }

    /// Packets under an SPI that nobody agreed on.
    pub(super) fn unknown_spi(&self) -> u64 {
        unknown_spis().saturating_sub(self.unknown_before)
    }

    pub(super) fn observe(&mut self) -> Result<Seen, KernelError> {
        Ok(self.xfrm.states()?.into_iter().map(|state| (state.id, state)).collect())
    }

    pub(super) fn receive_by(&mut self, from: IpAddr, scheme: Scheme, association: &Association<'_>) {
        self.spis.insert(association.spi);
        self.add(from, self.own, scheme, association);
    }

    pub(super) fn send_with(&mut self, to: IpAddr, scheme: Scheme, association: &Association<'_>) {
        self.add(self.own, to, scheme, association);
    }

    /// What the kernel does not take is seen to be missing with the next look.
    fn add(&mut self, from: IpAddr, to: IpAddr, scheme: Scheme, association: &Association<'_>) {
        let id = StateId { to, spi: association.spi };
        self.inherited.remove(&id);
        let state = EspState {
            id,
            from,
            key: association.key.expose(),
            icv_len: association.icv_len,
            window: association.window,
            encapsulation: (scheme == Scheme::Paired).then_some(self.port),
        };
        note(self.xfrm.add_state(&state));
    }

    pub(super) fn stop_receiving(&mut self, spi: u32) {
        self.spis.remove(&spi);
        note(self.xfrm.delete_state(StateId { to: self.own, spi }));
    }

    pub(super) fn stop_sending(&mut self, to: IpAddr, spi: u32) {
        note(self.xfrm.delete_state(StateId { to, spi }));
    }

    /// Lets packets go to a node, by this association of its; none: no more.
    pub(super) fn allow(&mut self, to: IpAddr, spi: Option<u32>) {
        let policy = self.policy(to, spi);
        note(match policy.by {
            Some(_) => self.xfrm.set_policy(&policy),
            None => self.xfrm.delete_policy(&policy.way),
        });
    }

    fn policy(&self, to: IpAddr, spi: Option<u32>) -> EspPolicy {
        let way = Way::between(self.own, to, self.vxlan_port);
        EspPolicy { way, by: spi.map(|spi| StateId { to, spi }) }
    }

    /// Sends a packet that is for nobody by what is used now.
    pub(super) fn prove(&self, to: IpAddr) {
        if let Err(error) = self.prover.send_to(&NO_NETWORK, SocketAddr::new(to, self.vxlan_port)) {
            tracing::debug!(%to, %error, "proof not sent");
        }
    }

    /// Puts back policies that somebody took away or changed, and ends what an earlier helper left when its time is over.
    /// `used` is what each node is sent to by.
    pub(super) fn check(&mut self, now: Duration, used: &BTreeMap<IpAddr, u32>) {
        let seen = match self.xfrm.policies() {
            Ok(seen) => seen,
            Err(error) => return note(Err(error)),
        };
        let mut wanted: Vec<EspPolicy> =
            Way::anywhere(self.vxlan_port).map(|way| EspPolicy { way, by: None }).into();
        wanted.extend(used.iter().map(|(to, spi)| self.policy(*to, Some(*spi))));
        for policy in wanted.iter().filter(|policy| !seen.contains(policy)) {
            tracing::warn!(to = %policy.way.to, "somebody removed a policy of encrypted networks, it is put back");
            note(self.xfrm.set_policy(policy));
        }
        if now < INHERITED {
            return;
        }
        for id in std::mem::take(&mut self.inherited) {
            note(self.xfrm.delete_state(id));
        }
        let is_left = |policy: &&EspPolicy| {
            policy.by.is_some() && !wanted.iter().any(|wanted| wanted.way == policy.way)
        };
        for policy in seen.iter().filter(is_left) {
            note(self.xfrm.delete_policy(&policy.way));
        }
    }

    /// Ends what an earlier helper left.
    pub(super) fn end(&mut self) {
        note(remove_all(&mut self.xfrm));
    }
}

/// Takes Weft's associations and the policies that use them out of the kernel. What forbids cleartext stays.
pub(in crate::helper::encryption) fn clean_up() {
    let Ok(netns) = Netns::host() else { return };
    // No ESP, nothing to remove.
    let Ok(mut xfrm) = Xfrm::open(&netns) else { return };
    if let Err(error) = remove_all(&mut xfrm) {
        tracing::warn!(%error, "keys in the kernel are not removed");
    }
}

fn remove_all(xfrm: &mut Xfrm) -> Result<(), KernelError> {
    for policy in xfrm.policies()?.iter().filter(|policy| policy.by.is_some()) {
        xfrm.delete_policy(&policy.way)?;
    }
    xfrm.states()?.iter().try_for_each(|state| xfrm.delete_state(state.id))
}

/// What fails is missed by the next look, and then tried again.
fn note(done: Result<(), KernelError>) {
    if let Err(error) = done {
        let cause = std::error::Error::source(&error).map(tracing::field::display);
        tracing::warn!(%error, cause, "the kernel's ESP");
    }
}

/// Zero where the kernel does not count.
fn unknown_spis() -> u64 {
    let text = std::fs::read_to_string(STATISTICS).unwrap_or_default();
    let mut lines = text.lines().map(str::split_whitespace);
    let line = lines.find_map(|mut words| (words.next() == Some(NO_STATE)).then(|| words.next()).flatten());
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
}
