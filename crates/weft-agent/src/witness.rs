//! Looks for neighbours that a manager misses (`weft.v1.Witness`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use weft_network::GossipWord;
use weft_wire::weft_v1;
use weft_wire::weft_v1::witness_client::WitnessClient;
use weft_wire::weft_v1::{ListenRequest, Question, TestifyRequest};

use crate::core::{Core, OpenSession};
use crate::error::SessionError;

/// Enough for the first try of TCP and its first repetition, one second later.
const DEADLINE: Duration = Duration::from_millis(1500);
/// Connections tried at once: packets may be lost.
const ATTEMPTS: usize = 8;

/// Answers questions until the session ends. Managers that have none are left alone.
pub(crate) async fn run(core: Arc<Core>, session: OpenSession) -> Result<(), SessionError> {
    let mut client = WitnessClient::new(session.channel.clone());
    let request = ListenRequest { session_id: session.id.clone() };
    let mut questions = match client.listen(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::Unimplemented => return Ok(()),
        Err(status) => return Err(SessionError::Refused { call: "Listen", status }),
    };
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            question = questions.message() => match question {
                Ok(Some(question)) => drop(answering.spawn(answer(core.clone(), session.clone(), question))),
                Ok(None) => return Err(SessionError::Closed { stream: "the questions for neighbours" }),
                Err(status) => return Err(SessionError::Refused { call: "Listen", status }),
            },
            Some(_) = answering.join_next() => {}
        }
    }
}

async fn answer(core: Arc<Core>, session: OpenSession, question: Question) {
    let Ok(address) = question.address.parse::<SocketAddr>() else { return };
    let (accepted, word) = tokio::join!(accepts(address), core.doubt(address.ip()));
    let gossip = match word {
        GossipWord::Unknown => weft_v1::GossipWord::Unknown,
        GossipWord::Alive => weft_v1::GossipWord::Alive,
        GossipWord::Gone => weft_v1::GossipWord::Gone,
    };
    let request =
        TestifyRequest { session_id: session.id, number: question.number, accepted, gossip: gossip.into() };
    // The manager goes by others' words if ours is lost.
    if let Err(status) = WitnessClient::new(session.channel).testify(request).await {
        tracing::debug!(%status, "the manager did not take an answer");
    }
}

async fn accepts(address: SocketAddr) -> bool {
    let mut attempts = JoinSet::new();
    for _ in 0..ATTEMPTS {
        attempts.spawn(TcpStream::connect(address));
    }
    let any = async {
        while let Some(attempt) = attempts.join_next().await {
            if matches!(attempt, Ok(Ok(_))) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(DEADLINE, any).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::accepts;

    #[tokio::test]
    async fn a_listener_is_found_and_nobody_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(accepts(address).await);
        drop(listener);
        assert!(!accepts(address).await);
    }
}
