//! Connections to the resolver (RFC 7766): many questions on each, answered as they come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::resolver::forward::Reply;
use crate::resolver::server::Shared;

/// Connections of one container at a time.
const CONNECTIONS: usize = 64;
/// Answers that wait to be written on one connection; no more questions are read meanwhile.
const ANSWERS: usize = 64;
/// A connection that says nothing for so long is closed (RFC 7766 section 6.2.3 asks for a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// A query is never longer.
const QUERY_MAX: usize = 4096;

pub(super) async fn serve(listener: Arc<TcpListener>, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &shared).await {
                        tracing::debug!(%error, "resolver connection");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "resolver listener");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Reads until the other side is done or idle, then waits for the answers that are under way.
async fn converse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let (answers, waiting) = mpsc::channel(ANSWERS);
    let mut writer = tokio::spawn(write_all(write, waiting));
    let reading = listen(read, shared, answers);
    tokio::select! {
        ended = reading => {
            ended?;
            writer.await?
        }
        // Nobody reads our answers.
        ended = &mut writer => ended?,
    }
}

async fn listen(mut read: OwnedReadHalf, shared: &Shared, answers: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(512);
    loop {
        while let Some(message) = take_message(&mut buffer)? {
            // A place for the answer first: who sends faster than it reads is not read.
            let Ok(place) = answers.reserve().await else { return Ok(()) };
            let reply = || Reply::Tcp(answers.clone());
            if let Some(answer) = shared.handle(&message, reply, true) {
                place.send(answer);
            }
        }
        match timeout(IDLE, read.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => drop(read?),
            Err(_) if answers.strong_count() > 1 => {}
            Err(_) => return Ok(()),
        }
    }
}

/// The next whole message.
fn take_message(buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(len) = buffer.first_chunk().map(|len| usize::from(u16::from_be_bytes(*len))) else {
        return Ok(None);
    };
    if len > QUERY_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "query too long"));
    }
    if buffer.len() < 2 + len {
        return Ok(None);
    }
    buffer.advance(2);
    Ok(Some(buffer.split_to(len)))
}

async fn write_all(mut write: OwnedWriteHalf, mut answers: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut framed = Vec::new();
    while let Some(answer) = answers.recv().await {
        framed.clear();
        let mut next = Some(answer);
        // All that is there goes in one write (RFC 7766 section 8).
        while let Some(answer) = next {
            framed.extend_from_slice(&(answer.len() as u16).to_be_bytes());
            framed.extend_from_slice(&answer);
            next = answers.try_recv().ok();
        }
        timeout(IDLE, write.write_all(&framed)).await??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_and_long_ones_refused() {
        let mut buffer = BytesMut::from(&[0, 2, 7, 8, 0, 1, 9, 0][..]);
        assert_eq!(take_message(&mut buffer).unwrap().as_deref(), Some(&[7, 8][..]));
        assert_eq!(take_message(&mut buffer).unwrap().as_deref(), Some(&[9][..]));
        assert_eq!(take_message(&mut buffer).unwrap(), None);
        let mut long = BytesMut::from(&[0xff, 0xff][..]);
        assert!(take_message(&mut long).is_err());
    }
}
