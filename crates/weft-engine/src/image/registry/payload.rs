//! What a request carries. It can be sent again: a token may have run out, a registry may point elsewhere.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio_util::io::ReaderStream;

/// Body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Bytes read from a file at once.
const CHUNK: usize = 64 << 10;

#[derive(Clone)]
pub(super) enum Payload {
    Empty,
    Document { media_type: String, bytes: Bytes },
    File(UploadFile),
}

/// A file on its way.
#[derive(Debug, Clone)]
pub(crate) struct UploadFile {
    pub(crate) path: PathBuf,
    /// In bytes.
    pub(crate) length: u64,
    /// Bytes that have been handed to the connection; begins again with every attempt.
    pub(crate) sent: Arc<AtomicU64>,
}

impl Payload {
    pub(super) fn document(media_type: &str, bytes: Vec<u8>) -> Self {
        Self::Document { media_type: media_type.to_owned(), bytes: bytes.into() }
    }

    pub(super) async fn body(&self) -> io::Result<Body> {
        let whole = |bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        Ok(match self {
            Self::Empty => whole(Bytes::new()),
            Self::Document { bytes, .. } => whole(bytes.clone()),
            Self::File(file) => {
                let sent = file.sent.clone();
                sent.store(0, Ordering::Relaxed);
                let reader = tokio::fs::File::open(&file.path).await?;
                let chunks = ReaderStream::with_capacity(reader, CHUNK).map(move |chunk| {
                    let chunk = chunk?;
                    sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    Ok(Frame::data(chunk))
                });
                StreamBody::new(chunks).boxed_unsync()
            }
        })
    }

    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        let (media_type, length) = match self {
            Self::Empty => return,
            Self::Document { media_type, bytes } => (media_type.as_str(), bytes.len() as u64),
            Self::File(file) => ("application/octet-stream", file.length),
        };
        headers.extend(HeaderValue::from_str(media_type).ok().map(|value| (CONTENT_TYPE, value)));
        headers.insert(CONTENT_LENGTH, length.into());
    }

    /// Counts up while the payload is on its way.
    pub(super) fn moved(&self) -> Option<&AtomicU64> {
        if let Self::File(file) = self { Some(&file.sent) } else { None }
    }
}
