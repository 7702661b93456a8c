//! A body that comes back from whoever refused it.
//!
//! A client that still sends while its connection is closed reports a broken pipe and not the answer that waits for it.
//! So what is left of a small body is read before a refusal goes out; Go's server does the same.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::oneshot;

/// Most bytes that are read of a refused body; the limit of Go's server.
const DRAIN_BYTES: usize = 256 << 10;
/// How long a client may take to send them.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// A stream that goes back to its owner when it is dropped.
pub(crate) struct Lent<S> {
    stream: Option<S>,
    owner: Option<oneshot::Sender<S>>,
}

/// Where a lent stream comes back to.
pub(crate) struct Return<S>(oneshot::Receiver<S>);

/// Lends a stream.
pub(crate) fn lend<S>(stream: S) -> (Lent<S>, Return<S>) {
    let (owner, back) = oneshot::channel();
    (Lent { stream: Some(stream), owner: Some(owner) }, Return(back))
}

impl<S: Stream + Unpin> Stream for Lent<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        match &mut self.stream {
            Some(stream) => stream.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl<S> Unpin for Lent<S> {}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(owner)) = (self.stream.take(), self.owner.take()) {
            // Nobody waits for it where it was taken whole.
            let _ = owner.send(stream);
        }
    }
}

impl<S: Stream<Item = std::io::Result<Bytes>> + Unpin> Return<S> {
    /// Reads what is left, within limits.
    pub(crate) async fn drain(self) {
        let rest = async {
            let Ok(mut stream) = self.0.await else { return };
            let mut read = 0;
            while read < DRAIN_BYTES
                && let Some(Ok(chunk)) = stream.next().await
            {
                read += chunk.len();
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Endless chunks of 1 KiB, and how many were taken.
    fn chunks() -> (impl Stream<Item = std::io::Result<Bytes>> + Unpin, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let stream = futures_util::stream::repeat_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from_static(&[0; 1024]))
        });
        (stream, taken)
    }

    #[tokio::test]
    async fn what_is_left_of_a_refused_body_is_read_up_to_a_limit() {
        let (stream, taken) = chunks();
        let (mut lent, back) = lend(stream);
        assert!(lent.next().await.is_some());
        drop(lent);
        back.drain().await;
        assert_eq!(taken.load(Ordering::Relaxed), 257);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let (_kept, back) = lend(futures_util::stream::pending());
        back.drain().await;
    }
}
