//! What this kernel can do.

use weft_plan::ResolverHook;

use crate::KernelError;

/// What this kernel has of what the data plane can use. Found out by trying, in a namespace that is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// VXLAN devices.
    pub vxlan: bool,
    /// Bridges whose ports can suppress neighbour requests.
    pub neighbour_suppression: bool,
    /// The egress hook of nftables' netdev family.
    pub nft_egress: bool,
    /// Tables of nftables for address translation in both families.
    pub nft_nat: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Capabilities {
    /// Tries everything; takes a few tens of milliseconds, so do it once.
    pub async fn probe() -> Result<Self, KernelError> {
        todo!()
    }

    /// The hook for the resolver's redirect.
    pub fn resolver_hook(&self) -> ResolverHook {
        if self.nft_egress { ResolverHook::NetdevEgress } else { ResolverHook::RawOutput }
    }
}
