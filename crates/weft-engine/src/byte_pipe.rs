//! Bridges between asynchronous byte streams and the blocking readers and writers of archive code.

use std::future::Future;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::options::ByteStream;

/// Chunks that may wait between the two sides.
const DEPTH: usize = 8;
/// Size of chunks that a blocking writer hands over.
const CHUNK: usize = 64 * 1024;

/// The wait of a blocking side for the other one.
#[derive(Clone)]
struct Wait {
    runtime: Handle,
    /// Ends it.
    stop: CancellationToken,
}

impl Wait {
    fn new() -> Self {
        Self { runtime: Handle::current(), stop: CancellationToken::new() }
    }

    fn wait<T>(&self, other: impl Future<Output = T>) -> io::Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(stopped()),
                value = other => Ok(value),
            }
        })
    }
}

/// Not `Interrupted`, upon which readers and writers try again.
fn stopped() -> io::Error {
    io::Error::other("the container is being started or removed")
}

/// The blocking side of a request body.
pub(crate) struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    wait: Wait,
}

impl BodyReader {
    /// Fails from the moment on in which `stop` is cancelled.
    pub(crate) fn until(mut self, stop: CancellationToken) -> Self {
        self.wait.stop = stop;
        self
    }
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
    BodyReader { chunks, current: Bytes::new(), wait: Wait::new() }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.wait.wait(self.chunks.recv())? {
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
    chunks: mpsc::Sender<Bytes>,
    buffer: BytesMut,
    /// Why the rest is missing. It is not one of the chunks: there may never be room for another one.
    failure: Arc<OnceLock<io::Error>>,
    wait: Wait,
}

/// A response body that blocking code fills.
pub(crate) fn body_writer() -> (BodyWriter, ByteStream) {
    let (chunks, mut receiver) = mpsc::channel(DEPTH);
    let failure = Arc::<OnceLock<io::Error>>::default();
    let mut failed = Some(failure.clone());
    let stream = futures_util::stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|chunk| match chunk {
            Some(chunk) => Some(Ok(chunk)),
            None => failed.take().and_then(|failure| {
                let error = failure.get()?;
                Some(Err(io::Error::new(error.kind(), error.to_string())))
            }),
        })
    });
    (
        BodyWriter { chunks, buffer: BytesMut::with_capacity(CHUNK), failure, wait: Wait::new() },
        Box::pin(stream),
    )
}

impl BodyWriter {
    /// Fails from the moment on in which `stop` is cancelled.
    pub(crate) fn until(mut self, stop: CancellationToken) -> Self {
        self.wait.stop = stop;
        self
    }

    /// Tells the reader that the rest is missing. Every writer of the body has to be gone before it is told.
    pub(crate) fn fail(self, error: io::Error) {
        let _ = self.failure.set(error);
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
        self.wait.wait(self.chunks.send(chunk))?.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_has_stopped_reading_is_told_that_the_rest_is_missing() {
        let (writer, mut stream) = body_writer();
        let stop = CancellationToken::new();
        let mut writer = writer.until(stop.clone());
        let work = tokio::task::spawn_blocking(move || {
            let failing = writer.clone();
            let error = loop {
                if let Err(error) = writer.write_all(&[7; CHUNK]) {
                    break error;
                }
            };
            failing.fail(error);
        });
        stop.cancel();
        work.await.unwrap();
        let (mut read, mut error) = (0, None);
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => read += chunk.len(),
                Err(end) => error = Some(end.to_string()),
            }
        }
        assert!(read <= DEPTH * CHUNK, "{read}");
        assert_eq!(error.as_deref(), Some("the container is being started or removed"));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_ends_with_its_stop() {
        let stop = CancellationToken::new();
        let mut reader = body_reader(futures_util::stream::pending()).until(stop.clone());
        let work = tokio::task::spawn_blocking(move || reader.read(&mut [0; 8]).unwrap_err().to_string());
        stop.cancel();
        assert_eq!(work.await.unwrap(), "the container is being started or removed");
    }
}
