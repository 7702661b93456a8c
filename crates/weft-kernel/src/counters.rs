//! Counters and facts about single interfaces.

use std::net::IpAddr;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use weft_plan::{LinkName, TableId};
use weft_types::Mtu;

use crate::kernel::on_pool;
use crate::{Kernel, KernelError, apply, nft, observe};

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
        let (kernel, link) = (self.clone(), link.clone());
        on_pool(move || kernel.link_counters_blocking(&link)).await
    }

    /// [`Kernel::link_counters`], blocking.
    pub fn link_counters_blocking(&self, link: &LinkName) -> Result<LinkCounters, KernelError> {
        let message = self.link(link)?;
        let stats = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats),
            _ => None,
        });
        Ok(stats.map(counters).unwrap_or_default())
    }

    /// A named counter; none when the table or the counter is not there.
    pub async fn nft_counter(
        &self,
        table: &TableId,
        counter: &str,
    ) -> Result<Option<NftCounter>, KernelError> {
        let (kernel, table, counter) = (self.clone(), table.clone(), counter.to_owned());
        on_pool(move || kernel.nft_counter_blocking(&table, &counter)).await
    }

    /// [`Kernel::nft_counter`], blocking.
    pub fn nft_counter_blocking(
        &self,
        table: &TableId,
        counter: &str,
    ) -> Result<Option<NftCounter>, KernelError> {
        let found = self.inside(|_| nft::counter(table, counter))?;
        Ok(found.map(|(packets, bytes)| NftCounter { packets, bytes }))
    }

    /// The interface that holds an address, if any (for the data path's guard).
    pub async fn link_with_address(&self, ip: IpAddr) -> Result<Option<LinkName>, KernelError> {
        let kernel = self.clone();
        on_pool(move || kernel.link_with_address_blocking(ip)).await
    }

    /// [`Kernel::link_with_address`], blocking.
    pub fn link_with_address_blocking(&self, ip: IpAddr) -> Result<Option<LinkName>, KernelError> {
        self.with(|sockets| {
            let addresses = observe::address_messages(&mut sockets.route)?;
            let holds = |address: weft_types::EndpointAddress| address.ip() == ip;
            let index = addresses
                .iter()
                .find(|message| observe::interface_address(message).is_some_and(holds))
                .map(|message| message.header.index);
            let links = observe::links(&mut sockets.route)?;
            let link = links.iter().find(|message| Some(message.header.index) == index);
            Ok(link.and_then(observe::link_name))
        })
    }

    /// MTU of an interface.
    pub async fn link_mtu(&self, link: &LinkName) -> Result<Option<Mtu>, KernelError> {
        let (kernel, link) = (self.clone(), link.clone());
        on_pool(move || kernel.link_mtu_blocking(&link)).await
    }

    /// [`Kernel::link_mtu`], blocking. None for an interface whose MTU no IP link can have.
    pub fn link_mtu_blocking(&self, link: &LinkName) -> Result<Option<Mtu>, KernelError> {
        let message = self.link(link)?;
        Ok(message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Mtu::try_from(*mtu).ok(),
            _ => None,
        }))
    }

    fn link(&self, link: &LinkName) -> Result<LinkMessage, KernelError> {
        let found = self.with(|sockets| apply::find_link(&mut sockets.route, link))?;
        found.ok_or(KernelError::NoLink { name: link.to_string() })
    }
}

fn counters(stats: &netlink_packet_route::link::Stats64) -> LinkCounters {
    LinkCounters {
        rx_packets: stats.rx_packets,
        tx_packets: stats.tx_packets,
        rx_bytes: stats.rx_bytes,
        tx_bytes: stats.tx_bytes,
        rx_dropped: stats.rx_dropped,
        tx_dropped: stats.tx_dropped,
        rx_errors: stats.rx_errors,
        tx_errors: stats.tx_errors,
        multicast: stats.multicast,
    }
}
