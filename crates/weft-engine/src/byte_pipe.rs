//! Bridges between asynchronous byte streams and the blocking readers and writers of archive code.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::options::ByteStream;

/// Chunks that may wait between the two sides.
const DEPTH: usize = 8;
/// Size of chunks that a blocking writer hands over.
const CHUNK: usize = 64 * 1024;

/// The blocking side of a request body.
pub(crate) struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Makes a body readable by blocking code.
pub(crate) fn body_reader(
    mut body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
) -> BodyReader {
    let (sender, chunks) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        while let Some(chunk) = body.next().await {
            if sender.send(chunk).await.is_err() {
                break;
            }
        }
    });
    BodyReader { chunks, current: Bytes::new() }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// The blocking side of a response body. Clones write to the same body, each with a buffer of its own.
#[derive(Clone)]
pub(crate) struct BodyWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

/// A response body that blocking code fills.
pub(crate) fn body_writer() -> (BodyWriter, ByteStream) {
    let (chunks, mut receiver) = mpsc::channel(DEPTH);
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    (BodyWriter { chunks, buffer: BytesMut::with_capacity(CHUNK) }, Box::pin(stream))
}

impl BodyWriter {
    /// Tells the reader that the rest is missing.
    pub(crate) fn fail(self, error: io::Error) {
        let _ = self.chunks.blocking_send(Err(error));
    }
}

impl Write for BodyWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.chunks.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
