//! Asking other servers.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngCore;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use weft_kernel::Netns;

use crate::etc::Upstream;
use crate::resolver::wire::{Code, Query, code_of};

/// For each server; two servers' turns end before the five seconds that clients wait (resolv.conf(5), `RES_TIMEOUT`).
const TRY: Duration = Duration::from_millis(2400);
/// Queries of one container under way; more wait for a while, then are refused.
const PER_CONTAINER: usize = 256;
/// How long they wait.
const WAIT: Duration = Duration::from_secs(4);
/// The same question under way so often at once goes round in a circle: through a server that asks us.
const SAME_QUESTION: usize = 32;

/// Sends one container's queries on.
#[derive(Debug)]
pub(crate) struct Forwarder {
    netns: Netns,
    turns: Semaphore,
    under_way: Mutex<HashMap<(String, u16), usize>>,
    /// Shared by all containers, so that together they stay within the limit of open files.
    all: Arc<Semaphore>,
}

impl Forwarder {
    pub(crate) fn new(netns: Netns, all: Arc<Semaphore>) -> Self {
        Self { netns, turns: Semaphore::new(PER_CONTAINER), under_way: Mutex::default(), all }
    }

    /// The answer for the requester, its id set; always one.
    pub(crate) async fn ask(&self, query: &Query, raw: &[u8], upstreams: &[Upstream], tcp: bool) -> Vec<u8> {
        let Ok(Ok(_turn)) = timeout(WAIT, self.turns.acquire()).await else {
            return query.answer_code(Code::Refused);
        };
        let Ok(Ok(_slot)) = timeout(WAIT, self.all.acquire()).await else {
            return query.answer_code(Code::Refused);
        };
        let Some(_question) = self.enter(query) else {
            tracing::debug!(name = query.name, "query goes round in a circle");
            return query.answer_code(Code::ServFail);
        };
        for upstream in upstreams {
            match timeout(TRY, self.try_one(query, raw, *upstream, tcp)).await {
                // Refused or failed there may be answered elsewhere.
                Ok(Ok(answer)) if !matches!(code_of(&answer), Some(2 | 5)) => return answer,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(server = %upstream.server, %error, "server not asked"),
                Err(_) => tracing::debug!(server = %upstream.server, "server silent"),
            }
        }
        query.answer_code(Code::ServFail)
    }

    async fn try_one(&self, query: &Query, raw: &[u8], upstream: Upstream, tcp: bool) -> io::Result<Vec<u8>> {
        let server = SocketAddr::new(upstream.server, 53);
        let id = rand::rng().next_u32() as u16;
        let mut asked = raw.to_vec();
        asked[..2].copy_from_slice(&id.to_be_bytes());
        let mut answer = if tcp {
            let stream = self.tcp(server, upstream.from_host).await?;
            over_tcp(stream, &asked, |answer| query.is_answer(id, answer)).await?
        } else {
            let socket = self.udp(server, upstream.from_host).await?;
            over_udp(&socket, &asked, |answer| query.is_answer(id, answer)).await?
        };
        answer[..2].copy_from_slice(&query.id.to_be_bytes());
        Ok(answer)
    }

    /// A socket with a port of its own for each query: guessing it is half of forging an answer (RFC 5452).
    async fn udp(&self, server: SocketAddr, from_host: bool) -> io::Result<UdpSocket> {
        let any: SocketAddr = match server.ip() {
            IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = if from_host {
            UdpSocket::bind(any).await?
        } else {
            let netns = self.netns.clone();
            let socket = tokio::task::spawn_blocking(move || netns.udp_socket(any)).await?;
            UdpSocket::from_std(socket.map_err(io::Error::other)?)?
        };
        socket.connect(server).await?;
        Ok(socket)
    }

    async fn tcp(&self, server: SocketAddr, from_host: bool) -> io::Result<TcpStream> {
        if from_host {
            return TcpStream::connect(server).await;
        }
        let netns = self.netns.clone();
        let open = move || {
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)
        };
        let socket =
            tokio::task::spawn_blocking(move || netns.socket_in(open)).await?.map_err(io::Error::other)?;
        TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(server).await
    }

    fn enter(&self, query: &Query) -> Option<UnderWay<'_>> {
        let key = (query.name.clone(), query.kind);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(key.clone()).or_default();
        if *count >= SAME_QUESTION {
            return None;
        }
        *count += 1;
        Some(UnderWay { forwarder: self, key })
    }
}

/// A question that is being asked.
struct UnderWay<'a> {
    forwarder: &'a Forwarder,
    key: (String, u16),
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.forwarder.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.key);
            }
        }
    }
}

async fn over_udp(socket: &UdpSocket, query: &[u8], wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    socket.send(query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if wanted(&buffer[..len]) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(
    mut stream: TcpStream,
    query: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
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
