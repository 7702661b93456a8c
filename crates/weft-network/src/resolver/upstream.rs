//! One question to one server, over sockets of the container's namespace or the host's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngCore;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use weft_kernel::Netns;
use weft_plan::RESOLVER_ADDRESS;

use crate::etc::Upstream;
use crate::resolver::query::Query;

/// Port of name servers.
const PORT: u16 = 53;
/// Sockets opened at a time: entering a namespace costs a thread.
const BATCH: usize = 8;
/// Answers over UDP are read up to here, whatever the requester offered.
const ANSWER_MIN: usize = 1500;

/// Whether asking there would be asking ourselves.
pub(super) fn is_ourselves(upstream: &Upstream) -> bool {
    upstream.server.is_unspecified()
        || (!upstream.from_host && upstream.server == IpAddr::V4(RESOLVER_ADDRESS))
}

/// Unused sockets of a container's namespace. Each is used for one question: its port, which the kernel picks, is half
/// of what makes answers hard to forge (RFC 5452).
#[derive(Debug)]
pub(super) struct Sockets {
    netns: Netns,
    unused: [Mutex<Vec<OwnedFd>>; 2],
}

impl Sockets {
    pub(super) fn new(netns: Netns) -> Self {
        Self { netns, unused: Default::default() }
    }

    async fn udp(&self, server: SocketAddr, from_host: bool) -> io::Result<UdpSocket> {
        let unused = &self.unused[usize::from(server.is_ipv6())];
        let taken = || unused.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let socket = if from_host {
            open(server, SocketType::DGRAM)?
        } else if let Some(socket) = taken() {
            socket
        } else {
            let mut batch = self.open_inside(server, SocketType::DGRAM, BATCH).await?;
            let socket = batch.pop().ok_or(io::ErrorKind::Other)?;
            let mut unused = unused.lock().unwrap_or_else(PoisonError::into_inner);
            batch.truncate(BATCH.saturating_sub(unused.len()));
            unused.append(&mut batch);
            socket
        };
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(server).await?;
        Ok(socket)
    }

    async fn tcp(&self, server: SocketAddr, from_host: bool) -> io::Result<tokio::net::TcpStream> {
        let socket = if from_host {
            open(server, SocketType::STREAM)?
        } else {
            let mut one = self.open_inside(server, SocketType::STREAM, 1).await?;
            one.pop().ok_or(io::ErrorKind::Other)?
        };
        TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(server).await
    }

    async fn open_inside(
        &self,
        server: SocketAddr,
        kind: SocketType,
        count: usize,
    ) -> io::Result<Vec<OwnedFd>> {
        let netns = self.netns.clone();
        let open = move || netns.socket_in(|| (0..count).map(|_| open(server, kind)).collect());
        tokio::task::spawn_blocking(open).await?.map_err(io::Error::other)
    }
}

/// A socket of the calling thread's namespace.
fn open(server: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

/// Asks one server; gives its answer under the id of the query.
pub(super) async fn ask(
    sockets: Arc<Sockets>,
    query: Arc<Query>,
    raw: Arc<[u8]>,
    upstream: Upstream,
    tcp: bool,
) -> io::Result<Vec<u8>> {
    let server = SocketAddr::new(upstream.server, PORT);
    let id = rand::rng().next_u32() as u16;
    let mut asked = raw.to_vec();
    asked[..2].copy_from_slice(&id.to_be_bytes());
    let mut answer = if tcp {
        over_tcp(&sockets, server, upstream.from_host, &asked, |answer| query.is_answer(id, answer)).await?
    } else {
        let socket = sockets.udp(server, upstream.from_host).await?;
        let room = query.udp_limit().max(ANSWER_MIN);
        over_udp(&socket, &asked, room, |answer| query.is_answer(id, answer)).await?
    };
    answer[..2].copy_from_slice(&query.id.to_be_bytes());
    Ok(answer)
}

async fn over_udp(
    socket: &UdpSocket,
    query: &[u8],
    room: usize,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    socket.send(query).await?;
    // Memory is taken when there is an answer.
    loop {
        socket.readable().await?;
        let mut buffer = vec![0; room];
        match socket.try_recv(&mut buffer) {
            Ok(len) if wanted(&buffer[..len]) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn over_tcp(
    sockets: &Sockets,
    server: SocketAddr,
    from_host: bool,
    query: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let mut stream = sockets.tcp(server, from_host).await?;
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    loop {
        let len = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(len)];
        stream.read_exact(&mut answer).await?;
        if wanted(&answer) {
            return Ok(answer);
        }
    }
}
