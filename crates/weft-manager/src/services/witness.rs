//! `weft.v1.Witness`: nodes look after their neighbours.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tonic::{Request, Response, Status, async_trait};
use weft_wire::weft_v1::{self, ListenRequest, Question, TestifyRequest, TestifyResponse, witness_server};

use super::dispatcher::session_status;
use super::{Answers, boxed};
use crate::auth::{MEMBERS, authorize};
use crate::brain::Brain;
use crate::verdict::{GossipWord, Testimony};

pub(super) struct Witness(pub(super) Arc<Brain>);

#[async_trait]
impl witness_server::Witness for Witness {
    type ListenStream = Answers<Question>;

    async fn listen(&self, request: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let session = self.0.sessions.check(&caller.node_id, &request.get_ref().session_id);
        let session = session.map_err(|error| session_status(&error))?;
        let ear = self.0.witnesses.listen(&caller.node_id);
        let questions = stream::unfold(ear, |mut ear| async move {
            let question = ear.next().await?;
            Some((Ok(question), ear))
        });
        let stopping = self.0.core.stopping.clone();
        let over = async move {
            tokio::select! {
                () = session.ended.cancelled() => {}
                () = stopping.cancelled() => {}
            }
        };
        Ok(Response::new(boxed(questions.take_until(Box::pin(over)))))
    }

    async fn testify(&self, request: Request<TestifyRequest>) -> Result<Response<TestifyResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let request = request.into_inner();
        let gossip = match request.gossip() {
            weft_v1::GossipWord::Unknown => GossipWord::Unknown,
            weft_v1::GossipWord::Alive => GossipWord::Alive,
            weft_v1::GossipWord::Gone => GossipWord::Gone,
        };
        let TestifyRequest { session_id, number, accepted, .. } = request;
        let session = self.0.sessions.check(&caller.node_id, &session_id);
        session.map_err(|error| session_status(&error))?;
        self.0.witnesses.testify(&caller.node_id, number, Testimony { reached: accepted, gossip });
        Ok(Response::new(TestifyResponse {}))
    }
}
