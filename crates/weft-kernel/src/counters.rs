//! Counters.

use weft_plan::{LinkName, TableId};

use crate::{Kernel, KernelError};

/// Packets and bytes of an interface since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Packets to send dropped.
    pub tx_dropped: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Multicast packets received.
    pub multicast: u64,
}

/// A named counter of nftables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NftCounter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Kernel {
    /// The counters of an interface.
    pub async fn link_counters(&self, link: &LinkName) -> Result<LinkCounters, KernelError> {
        todo!("{link}")
    }

    /// A named counter; none when the table or the counter is not there.
    pub async fn nft_counter(&self, table: &TableId, counter: &str) -> Result<Option<NftCounter>, KernelError> {
        todo!("{table} {counter}")
    }

    /// The interface that holds an address, if any (for the data path's guard).
    pub async fn link_with_address(&self, ip: std::net::IpAddr) -> Result<Option<LinkName>, KernelError> {
        todo!("{ip}")
    }

    /// MTU of an interface.
    pub async fn link_mtu(&self, link: &LinkName) -> Result<u32, KernelError> {
        todo!("{link}")
    }
}
