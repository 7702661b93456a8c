//! Datagrams by the batch: one call to the kernel takes many queries, and one sends their answers.
//!
//! A thread needs one of these for all its sockets, because nothing waits while it is in use.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};
use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

/// So many at once.
pub(super) const LIMIT: usize = 32;
/// No query over UDP is longer; the rest of a longer one is lost, and it is refused as malformed.
const QUERY_MAX: usize = 2048;

/// See the module. Addresses are IPv4's: the resolver has no other.
pub(super) struct Batch {
    room: Box<[[u8; QUERY_MAX]; LIMIT]>,
    taking: MultiHeaders<SockaddrIn>,
    /// Length and sender of what came.
    came: Vec<(usize, SockaddrIn)>,
    answers: Vec<Vec<u8>>,
    /// Where they go.
    to: Vec<SocketAddrAny>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            room: Box::new([[0; QUERY_MAX]; LIMIT]),
            taking: MultiHeaders::preallocate(LIMIT, None),
            came: Vec::with_capacity(LIMIT),
            answers: Vec::with_capacity(LIMIT),
            to: Vec::with_capacity(LIMIT),
        }
    }

    /// Takes what waits at a socket that does not block, up to [`LIMIT`], and sends what `answer` gives for each. Says how
    /// many there were.
    pub(super) fn serve(
        &mut self,
        socket: &impl AsFd,
        mut answer: impl FnMut(&[u8], SocketAddr) -> Option<Vec<u8>>,
    ) -> io::Result<usize> {
        self.take(socket)?;
        self.answers.clear();
        self.to.clear();
        for (query, (length, from)) in self.room.iter().zip(&self.came) {
            let from = SocketAddrV4::from(*from);
            if let Some(answer) = answer(&query[..*length], SocketAddr::V4(from)) {
                self.answers.push(answer);
                self.to.push(from.as_any());
            }
        }
        self.send(socket);
        Ok(self.came.len())
    }

    fn take(&mut self, socket: &impl AsFd) -> io::Result<()> {
        self.came.clear();
        let mut room = self.room.each_mut().map(|query| [IoSliceMut::new(query)]);
        let all = recvmmsg(
            socket.as_fd().as_raw_fd(),
            &mut self.taking,
            room.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        // A datagram without a sender's address is none of IPv4's: it keeps its place, but has no length.
        let nobody = SockaddrIn::new(0, 0, 0, 0, 0);
        self.came.extend(all.map(|one| one.address.map_or((0, nobody), |from| (one.bytes, from))));
        Ok(())
    }

    /// A requester whose socket is full asks again, and one that is gone does not mind.
    fn send(&mut self, socket: &impl AsFd) {
        let answers: Vec<[IoSlice<'_>; 1]> =
            self.answers.iter().map(|answer| [IoSlice::new(answer)]).collect();
        let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            answers.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let parts = self.to.iter().zip(&answers).zip(&mut nothing);
        let mut messages: Vec<MMsgHdr<'_>> =
            parts.map(|((to, answer), nothing)| MMsgHdr::new_with_addr(to, answer, nothing)).collect();
        let mut rest = messages.as_mut_slice();
        while !rest.is_empty() {
            let done = match sendmmsg(socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => sent.max(1),
                Err(error) => {
                    tracing::debug!(%error, "answer not sent");
                    1
                }
            };
            rest = &mut rest[done..];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        (server, client)
    }

    #[test]
    fn each_requester_gets_its_own_answers_in_order() {
        let (server, first) = pair();
        let second = UdpSocket::bind("127.0.0.1:0").unwrap();
        second.connect(server.local_addr().unwrap()).unwrap();
        second.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        for n in 0..LIMIT as u8 {
            let client = if n % 2 == 0 { &first } else { &second };
            client.send(&vec![n; usize::from(n) * 40]).unwrap();
        }
        first.send(&[200]).unwrap();
        let mut batch = Batch::new();
        let mut echo = |query: &[u8], _: SocketAddr| (query.first() != Some(&3)).then(|| query.to_vec());
        assert_eq!(batch.serve(&server, &mut echo).unwrap(), LIMIT);
        assert_eq!(batch.serve(&server, &mut echo).unwrap(), 1);
        let nothing = batch.serve(&server, &mut echo).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let mut buffer = [0; QUERY_MAX];
        for n in (0..LIMIT as u8).filter(|n| *n != 3) {
            let client = if n % 2 == 0 { &first } else { &second };
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], vec![n; usize::from(n) * 40]);
        }
        assert_eq!(first.recv(&mut buffer).unwrap(), 1);
    }

    #[test]
    fn an_answer_that_cannot_be_sent_does_not_keep_others_back() {
        let (server, client) = pair();
        for n in 0..3 {
            client.send(&[n]).unwrap();
        }
        // Longer than a datagram can be.
        let answer = |query: &[u8], _| Some(vec![query[0]; if query[0] == 1 { 70_000 } else { 1 }]);
        assert_eq!(Batch::new().serve(&server, answer).unwrap(), 3);
        let mut buffer = [0; 8];
        for n in [0, 2] {
            assert_eq!((client.recv(&mut buffer).unwrap(), buffer[0]), (1, n));
        }
    }
}
