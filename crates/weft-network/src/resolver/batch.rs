//! Datagrams by the batch: one call to the kernel takes many queries, and one sends their answers.
//!
//! A thread needs one of these for all its sockets, because nothing waits while it is in use.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

/// So many at once.
pub(super) const BATCH: usize = 32;
/// No query over UDP is longer; the rest of a longer one is lost, and it is refused as malformed.
const QUERY_MAX: usize = 2048;

/// See the module. Addresses are IPv4's: the resolver has no other.
pub(super) struct Batch {
    room: Box<[[u8; QUERY_MAX]; BATCH]>,
    taking: MultiHeaders<SockaddrIn>,
    sending: MultiHeaders<SockaddrIn>,
    /// Length and sender of what came.
    came: Vec<(usize, SockaddrIn)>,
    answers: Vec<Vec<u8>>,
    /// Where they go.
    to: Vec<Option<SockaddrIn>>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            room: Box::new([[0; QUERY_MAX]; BATCH]),
            taking: MultiHeaders::preallocate(BATCH, None),
            sending: MultiHeaders::preallocate(BATCH, None),
            came: Vec::with_capacity(BATCH),
            answers: Vec::with_capacity(BATCH),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what waits at a socket that does not block, up to [`BATCH`], and sends what `answer` gives for each. Says how
    /// many there were.
    pub(super) fn serve(
        &mut self,
        socket: &impl AsRawFd,
        mut answer: impl FnMut(&[u8], SocketAddr) -> Option<Vec<u8>>,
    ) -> io::Result<usize> {
        self.take(socket)?;
        self.answers.clear();
        self.to.clear();
        for (query, (length, from)) in self.room.iter().zip(&self.came) {
            if let Some(answer) = answer(&query[..*length], SocketAddr::V4((*from).into())) {
                self.answers.push(answer);
                self.to.push(Some(*from));
            }
        }
        self.send(socket);
        Ok(self.came.len())
    }

    fn take(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        self.came.clear();
        let mut room = self.room.each_mut().map(|query| [IoSliceMut::new(query)]);
        let all =
            recvmmsg(socket.as_raw_fd(), &mut self.taking, room.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        // A datagram without a sender's address is none of IPv4's: it keeps its place, but has no length.
        let nobody = SockaddrIn::new(0, 0, 0, 0, 0);
        self.came.extend(all.map(|one| one.address.map_or((0, nobody), |from| (one.bytes, from))));
        Ok(())
    }

    /// A requester whose socket is full asks again, and one that is gone does not mind.
    fn send(&mut self, socket: &impl AsRawFd) {
        let mut done = 0;
        while done < self.answers.len() {
            let answers: Vec<[IoSlice<'_>; 1]> =
                self.answers[done..].iter().map(|answer| [IoSlice::new(answer)]).collect();
            let to = &self.to[done..];
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut self.sending,
                &answers,
                to,
                [],
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            );
            match sent {
                Ok(sent) => done += sent.count().max(1),
                Err(error) => {
                    tracing::debug!(to = ?to.first(), %error, "answer not sent");
                    done += 1;
                }
            }
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
        for n in 0..BATCH as u8 {
            let client = if n % 2 == 0 { &first } else { &second };
            client.send(&vec![n; usize::from(n) * 40]).unwrap();
        }
        first.send(&[200]).unwrap();
        let mut batch = Batch::new();
        let mut echo = |query: &[u8], _: SocketAddr| (query.first() != Some(&3)).then(|| query.to_vec());
        assert_eq!(batch.serve(&server, &mut echo).unwrap(), BATCH);
        assert_eq!(batch.serve(&server, &mut echo).unwrap(), 1);
        let nothing = batch.serve(&server, &mut echo).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let mut buffer = [0; QUERY_MAX];
        for n in (0..BATCH as u8).filter(|n| *n != 3) {
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
