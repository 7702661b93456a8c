//! A whole state as a stream of messages, cut so that neither end holds it twice.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use openraft::SnapshotMeta;
use openraft::type_config::alias::{SnapshotMetaOf, VoteOf};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_wire::weft_v1::snapshot_chunk::Part;
use weft_wire::weft_v1::{Envelope, SnapshotChunk, SnapshotHeader, SnapshotRow, SnapshotRows};

use super::types::RaftTypes;
use super::{convert, wire};
use crate::store::{Claim, Object, View};

/// Rows are gathered into a message up to this many bytes.
const CHUNK: usize = 256 << 10;
/// Messages made ahead of the network.
const AHEAD: usize = 4;
/// The kind of a row that is no object.
const CLAIM: &str = "claim";

/// What comes before the rows.
pub(super) struct Header {
    pub(super) envelope: Envelope,
    pub(super) vote: VoteOf<RaftTypes>,
    pub(super) meta: SnapshotMetaOf<RaftTypes>,
}

/// The messages of a snapshot.
pub(super) fn send(header: Header, view: Arc<View>) -> ReceiverStream<SnapshotChunk> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let header = SnapshotHeader {
            envelope: Some(header.envelope),
            vote: Some(convert::from_vote(header.vote)),
            last: header.meta.last_log_id.map(convert::from_log_id),
            membership: wire::encode_membership(&header.meta.last_membership),
            index: view.index(),
        };
        if sender.send(chunk(Part::Header(header))).await.is_err() {
            return;
        }
        let mut rows = SnapshotRows::default();
        let mut size = 0;
        for row in rows_of(&view) {
            size += row.encoded_len();
            rows.rows.push(row);
            if size >= CHUNK {
                size = 0;
                // A receiver that is gone has ended the call.
                if sender.send(chunk(Part::Rows(std::mem::take(&mut rows)))).await.is_err() {
                    return;
                }
            }
        }
        let _ = sender.send(chunk(Part::Rows(rows))).await;
    });
    ReceiverStream::new(receiver)
}

fn chunk(part: Part) -> SnapshotChunk {
    SnapshotChunk { part: Some(part) }
}

fn rows_of(view: &View) -> impl Iterator<Item = SnapshotRow> + '_ {
    let objects = view.objects().map(|object| SnapshotRow {
        kind: object.kind().as_str().to_owned(),
        body: object.encode(),
        holder: String::new(),
    });
    let claims = view.claims().iter().map(|(claim, holder)| SnapshotRow {
        kind: CLAIM.to_owned(),
        body: claim.to_text().into_bytes(),
        holder: holder.to_owned(),
    });
    objects.chain(claims)
}

/// Reads what [`send`] made. The whole is checked before anything of it is used.
pub(super) async fn receive(
    mut chunks: impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
) -> Result<(Header, Arc<View>), Status> {
    let malformed = |what: &str| Status::invalid_argument(format!("malformed snapshot: {what}"));
    let Some(Part::Header(first)) = chunks.next().await.transpose()?.and_then(|chunk| chunk.part) else {
        return Err(malformed("no header"));
    };
    let last_membership =
        wire::decode_membership(&first.membership).map_err(|error| malformed(&error.to_string()))?;
    let header = Header {
        envelope: first.envelope.unwrap_or_default(),
        vote: convert::to_vote(first.vote),
        meta: SnapshotMeta { last_log_id: first.last.map(convert::to_log_id), last_membership },
    };
    let mut view = View::default();
    while let Some(chunk) = chunks.next().await {
        let Some(Part::Rows(rows)) = chunk?.part else { return Err(malformed("a part of no known kind")) };
        for row in rows.rows {
            put(&mut view, &row).ok_or_else(|| malformed(&format!("a {} that does not read", row.kind)))?;
        }
    }
    view.set_index(first.index);
    Ok((header, Arc::new(view)))
}

fn put(view: &mut View, row: &SnapshotRow) -> Option<()> {
    if row.kind == CLAIM {
        let claim = Claim::from_text(std::str::from_utf8(&row.body).ok()?)?;
        view.claims_mut().insert(claim, &row.holder);
    } else {
        view.put(Object::decode(row.kind.parse().ok()?, &row.body).ok()?);
    }
    Some(())
}
