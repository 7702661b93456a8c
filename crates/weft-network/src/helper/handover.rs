//! From one helper to the next: open sockets, the last wish, and what was repaired and no daemon was told of, over the
//! socket that daemons connect to.
//!
//! ```text
//! successor                          helper
//!    |  <------- Hello ---------------- |
//!    |  -------- HandOver ------------> |   stops reading, lets answers under way arrive
//!    |  <------- HandedOver ----------- |   wish, repairs, and what the sockets are
//!    |  <------- descriptors ---------- |   SCM_RIGHTS (unix(7)), some with each byte
//!    |                                  |   ends without goodbye
//! ```
//! What arrives meanwhile waits in the sockets. Should either of the two end on the way, the daemon starts another helper, as
//! after a crash.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;

use crate::helper::protocol::{
    FromHelper, HandedOver, HandedSocket, HelperState, Repairs, SOCKET, ToHelper, VERSION, receive, send,
};

/// The kernel passes 253 at a time at most (`SCM_MAX_FD`).
const AT_A_TIME: usize = 200;
/// A helper that does not hand over in this time is left alone.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// A resolver's sockets.
pub(super) type ResolverSockets = (UdpSocket, TcpListener);
/// Those of gossip.
pub(super) type GossipSockets = (UdpSocket, TcpListener);

/// What a helper gives away: which sockets, and the sockets.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    named: Vec<HandedSocket>,
    open: Vec<OwnedFd>,
}

impl Legacy {
    pub(super) fn add(&mut self, name: HandedSocket, socket: impl Into<OwnedFd>) {
        self.named.push(name);
        self.open.push(socket.into());
    }

    /// Gives everything to the successor.
    pub(super) async fn give(
        self,
        to: &mut OwnedWriteHalf,
        wish: &HelperState,
        repaired: Repairs,
    ) -> io::Result<()> {
        let wish = serde_json::to_value(wish)?;
        let told = HandedOver { version: VERSION, wish, repaired, sockets: self.named };
        send(to, &FromHelper::HandedOver(Box::new(told))).await?;
        for some in self.open.chunks(AT_A_TIME) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            let stream: &UnixStream = to.as_ref();
            stream.async_io(Interest::WRITABLE, || send_open(stream, &some)).await?;
        }
        Ok(())
    }
}

/// What a helper begins with.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// Nothing where the predecessor spoke another version.
    pub(super) wish: Option<HelperState>,
    pub(super) resolvers: HashMap<String, ResolverSockets>,
    pub(super) gossip: Option<(SocketAddr, GossipSockets)>,
    /// What no daemon was told of yet.
    pub(super) repaired: Repairs,
}

impl Inherited {
    /// Takes over from the helper that serves the folder.
    pub(super) async fn take(dir: &Path) -> io::Result<Self> {
        timeout(LIMIT, take(dir)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    fn sort(told: HandedOver, open: Vec<OwnedFd>) -> Self {
        let wish = (told.version == VERSION).then(|| serde_json::from_value(told.wish));
        let wish = wish.and_then(|wish| {
            wish.inspect_err(
                |error| tracing::warn!(%error, "the wish of the helper before is not understood"),
            )
            .ok()
        });
        let (mut udp, mut tcp) = (HashMap::new(), HashMap::new());
        let (mut gossip_udp, mut gossip_tcp) = (None, None);
        for (name, socket) in told.sockets.into_iter().zip(open) {
            match name {
                HandedSocket::ResolverUdp(id) => drop(udp.insert(id, UdpSocket::from(socket))),
                HandedSocket::ResolverTcp(id) => drop(tcp.insert(id, TcpListener::from(socket))),
                HandedSocket::GossipUdp(at) => gossip_udp = Some((at, UdpSocket::from(socket))),
                HandedSocket::GossipTcp(_) => gossip_tcp = Some(TcpListener::from(socket)),
            }
        }
        let both = |(id, udp): (String, UdpSocket)| Some((id.clone(), (udp, tcp.remove(&id)?)));
        let resolvers = udp.into_iter().filter_map(both).collect();
        let gossip = gossip_udp.zip(gossip_tcp).map(|((at, udp), tcp)| (at, (udp, tcp)));
        Self { wish, resolvers, gossip, repaired: told.repaired }
    }
}

async fn take(dir: &Path) -> io::Result<Inherited> {
    let mut stream = UnixStream::connect(dir.join(SOCKET)).await?;
    send(&mut stream, &ToHelper::HandOver).await?;
    let told: HandedOver = loop {
        // It greets us first, as it would a daemon, in words that may be of another version.
        let mut message: serde_json::Value = receive(&mut stream).await?;
        if let Some(told) = message.get_mut("HandedOver") {
            break serde_json::from_value(told.take())?;
        }
    };
    let mut open = Vec::with_capacity(told.sockets.len());
    while open.len() < told.sockets.len() {
        let some = stream.async_io(Interest::READABLE, || receive_open(&stream)).await?;
        if some.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        open.extend(some);
    }
    Ok(Inherited::sort(told, open))
}

/// Sends one byte, and with it these.
fn send_open(to: impl AsFd, open: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_A_TIME))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(open)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(to, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Those that come with the next byte; none: there is no next one, or not with any.
fn receive_open(from: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_A_TIME))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut open = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            open.extend(some);
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn handed(legacy: Legacy, change: impl FnOnce(&mut HandedOver)) -> Inherited {
        let (old, mut new) = UnixStream::pair().unwrap();
        let (_read, mut old) = old.into_split();
        let wish = HelperState { generation: 7, ..HelperState::default() };
        let give = async move { legacy.give(&mut old, &wish, repaired()).await.unwrap() };
        let take = async {
            let FromHelper::HandedOver(mut told) = receive(&mut new).await.unwrap() else { panic!() };
            let mut open = Vec::new();
            while open.len() < told.sockets.len() {
                open.extend(new.async_io(Interest::READABLE, || receive_open(&new)).await.unwrap());
            }
            change(&mut told);
            Inherited::sort(*told, open)
        };
        tokio::join!(give, take).1
    }

    fn repaired() -> Repairs {
        Repairs { repairs: [("route".to_owned(), 3)].into(), failures: 1 }
    }

    fn sockets() -> (UdpSocket, TcpListener) {
        (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap())
    }

    #[tokio::test]
    async fn five_hundred_resolvers_are_handed_over_each_to_its_own() {
        let mut legacy = Legacy::default();
        let mut ports = HashMap::new();
        for n in 0..500 {
            let (udp, tcp) = sockets();
            ports.insert(format!("s{n}"), (udp.local_addr().unwrap(), tcp.local_addr().unwrap()));
            legacy.add(HandedSocket::ResolverUdp(format!("s{n}")), udp);
            legacy.add(HandedSocket::ResolverTcp(format!("s{n}")), tcp);
        }
        let (udp, tcp) = sockets();
        let at = udp.local_addr().unwrap();
        legacy.add(HandedSocket::GossipUdp(at), udp);
        legacy.add(HandedSocket::GossipTcp(at), tcp);
        // One that waits when the sockets change hands.
        let (first, _) = ports["s3"];
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"question", first).unwrap();

        let got = handed(legacy, |_| {}).await;
        assert_eq!((got.wish.unwrap().generation, got.repaired), (7, repaired()));
        assert_eq!(got.gossip.unwrap().1.0.local_addr().unwrap(), at);
        let same = |(id, (udp, tcp)): (&String, &ResolverSockets)| {
            (id.clone(), (udp.local_addr().unwrap(), tcp.local_addr().unwrap()))
        };
        assert_eq!(got.resolvers.iter().map(same).collect::<HashMap<_, _>>(), ports);
        let mut question = [0; 8];
        assert_eq!(got.resolvers["s3"].0.recv(&mut question).unwrap(), 8);
    }

    #[tokio::test]
    async fn of_another_version_only_sockets_and_counts_are_taken() {
        let mut legacy = Legacy::default();
        let (udp, tcp) = sockets();
        legacy.add(HandedSocket::ResolverUdp("s".into()), udp);
        legacy.add(HandedSocket::ResolverTcp("s".into()), tcp);
        // Half of a pair is none.
        legacy.add(HandedSocket::ResolverUdp("t".into()), sockets().0);
        let got = handed(legacy, |told| {
            told.version += 1;
            told.wish = serde_json::json!({"unheard": "of"});
        })
        .await;
        assert!(got.wish.is_none() && got.gossip.is_none());
        assert_eq!(got.repaired, repaired());
        assert_eq!(got.resolvers.keys().collect::<Vec<_>>(), ["s"]);
    }

    #[test]
    fn an_earlier_build_hands_no_counts_over() {
        let told = serde_json::json!({ "version": VERSION, "wish": null, "sockets": [] });
        let told: HandedOver = serde_json::from_value(told).unwrap();
        assert_eq!(told.repaired, Repairs::default());
    }
}
