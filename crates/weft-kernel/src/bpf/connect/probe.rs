//! Whether this kernel can do what the programs ask of it. Found out by trying.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use weft_plan::{ConnectTables, ConnectTarget};

use super::programs::Programs;
use super::{ConnectError, cgroup, cookie, unsupported};
use crate::Netns;

/// Connects by a virtual IP in a namespace that is thrown away.
pub(super) fn probe() -> Result<(), ConnectError> {
    let netns = Netns::anonymous()?;
    let root = cgroup::root()?;
    let mut programs = Programs::load(None)?;
    let mut maps = programs.maps()?;
    let cookies = cookie::cookies(std::iter::once(&netns.reference()))?;
    let vip = Ipv4Addr::new(192, 0, 2, 1);
    let service = ((1, vip.to_ipv6_mapped()), vec![Ipv4Addr::LOCALHOST.to_ipv6_mapped()]);
    let target = ConnectTarget {
        namespaces: cookies.into_values().map(|cookie| (cookie, 1)).collect(),
        services: [service].into(),
        left_out: 0,
    };
    for change in ConnectTables::default().changes(&target, &mut 0) {
        maps.apply(&change)?;
    }
    programs.attach(&root)?;
    let tried = netns.run_in(|| -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        TcpStream::connect((vip, listener.local_addr()?.port()))?.peer_addr()
    })?;
    match tried {
        Ok(peer) if peer.ip() == vip => Ok(()),
        Ok(peer) => Err(unsupported(format!("a connection to {vip} is shown as one to {peer}"))),
        Err(error) => Err(unsupported(format!("a connection to {vip} was not taken to its task: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_translates_when_sockets_connect() {
        probe().unwrap();
    }
}
