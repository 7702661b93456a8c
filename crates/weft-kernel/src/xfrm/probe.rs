//! What this kernel's ESP can do.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use weft_plan::{EncryptedPath, EncryptionEngine, NamespaceState, Observed, VxlanGuard};
use weft_types::Vni;

use super::{EspPolicy, EspState, StateId, Way, Xfrm, take_esp_in_udp};
use crate::{Kernel, KernelError, Netns};

const KEY: [u8; 20] = [1; 20];
const ICV_LEN: usize = 16;
const WINDOW: u32 = 64;
const ESP_PORT: u16 = 4500;
const VXLAN_PORT: u16 = 4789;

pub(super) fn probe() -> Result<bool, KernelError> {
    let netns = Netns::anonymous()?;
    // Two addresses each for documentation (RFC 5737, RFC 3849).
    let v4 = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last)));
    let v6 = [1, 2].map(|last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)));
    let families: &[[IpAddr; 2]] =
        if std::path::Path::new("/proc/net/if_inet6").exists() { &[v4, v6] } else { &[v4] };
    let works = families.iter().try_for_each(|nodes| associations(&netns, *nodes));
    if let Err(error) = works {
        tracing::debug!(%error, "no ESP in this kernel");
        return Ok(false);
    }
    Ok(encapsulates(&netns).is_ok() && guards(netns)?)
}

fn associations(netns: &Netns, [own, other]: [IpAddr; 2]) -> Result<(), KernelError> {
    let mut xfrm = Xfrm::open(netns)?;
    let state = |from, to| EspState {
        id: StateId { to, spi: 256 },
        from,
        key: &KEY,
        icv_len: ICV_LEN,
        window: WINDOW,
        encapsulation: Some(ESP_PORT),
    };
    xfrm.forbid(VXLAN_PORT)?;
    xfrm.add_state(&state(other, own))?;
    xfrm.add_state(&EspState { window: 0, ..state(own, other) })?;
    let by = Some(StateId { to: other, spi: 256 });
    xfrm.set_policy(&EspPolicy { way: Way::between(own, other, VXLAN_PORT), by })
}

fn encapsulates(netns: &Netns) -> io::Result<()> {
    let bind = || UdpSocket::bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
    let socket = netns.run_in(bind).map_err(io::Error::other)??;
    take_esp_in_udp(&socket)
}

/// Whether rules can ask for what was, or will be, encrypted.
fn guards(netns: Netns) -> Result<bool, KernelError> {
    let vnis = BTreeSet::from([Vni::MAX]);
    let encryption = Some(EncryptedPath { port: ESP_PORT, vnis, engine: EncryptionEngine::Kernel });
    let address = Ipv4Addr::LOCALHOST.into();
    let guard = VxlanGuard { address, port: VXLAN_PORT, interface: None, members: Vec::new(), encryption };
    let mut state = NamespaceState::empty();
    state.merge(guard.plan());
    let ops = weft_plan::diff(&Observed::default(), &state);
    Ok(Kernel::open_blocking(netns)?.apply_blocking(&ops).is_clean())
}
