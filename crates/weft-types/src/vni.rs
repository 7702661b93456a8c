//! VXLAN network identifiers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A VXLAN network identifier: 24 bits on the wire (RFC 7348 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number that does not fit 24 bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} is out of range: a VXLAN network identifier has 24 bits (0 to 16777215)")]
pub struct VniError(pub u32);

impl Vni {
    /// The first identifier that swarms give out; the ones below are left to the user's own VXLANs.
    pub const FIRST: Vni = Vni(4096);
    /// The first identifier of networks that hosts share through a key-value store, as Docker's (its `vxlanIDStart`).
    pub const FIRST_GLOBAL: Vni = Vni(256);
    /// The last of those: none is one that a swarm gives out.
    pub const LAST_GLOBAL: Vni = Vni(4095);
    /// The largest identifier.
    pub const MAX: Vni = Vni((1 << 24) - 1);

    /// The identifier as a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;
    fn try_from(value: u32) -> Result<Self, VniError> {
        if value <= Self::MAX.0 { Ok(Self(value)) } else { Err(VniError(value)) }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_24_bits() {
        assert_eq!(Vni::try_from(0x00ff_ffff), Ok(Vni::MAX));
        assert_eq!(Vni::try_from(0x0100_0000), Err(VniError(0x0100_0000)));
    }
}
