//! Sending one container's queries on.
//!
//! Equal questions under way are asked once and answered to all who ask; that is also what ends a circle, where a server
//! sends our own question back to us. What one container may have under way and waiting is bounded, and turns are dealt
//! to containers in rotation, so that the black holes of one cost the others nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use weft_kernel::Netns;

use crate::etc::Upstream;
use crate::resolver::query::{Code, Query, code_of};
use crate::resolver::turns::Turns;
use crate::resolver::upstream::{Sockets, ask, is_ourselves};

/// All servers' time together: ends before the five seconds that clients wait (resolv.conf(5), `RES_TIMEOUT`).
const LIMIT: Duration = Duration::from_millis(4600);
/// A server that has not answered after this time is left waiting, and the next is asked too.
const PATIENCE: Duration = Duration::from_millis(1200);
/// The same for a server that was silent to the question before.
const IMPATIENCE: Duration = Duration::from_millis(250);
/// Questions of one container under way; more wait.
const UNDER_WAY: usize = 256;
/// Questions of one container under way or waiting; more are refused at once.
const QUESTIONS: usize = 1024;
/// Requesters that wait for them.
const REQUESTERS: usize = 2048;
/// How long questions wait for their turn.
const WAIT: Duration = Duration::from_secs(4);
/// The same name under way so often at once, in different spellings, goes round in a circle.
const SPELLINGS: usize = 32;

/// Where an answer goes.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Udp(Arc<UdpSocket>, SocketAddr),
    Tcp(mpsc::Sender<Vec<u8>>),
}

impl Reply {
    async fn send(self, answer: Vec<u8>) {
        match self {
            Self::Udp(socket, to) => {
                if let Err(error) = socket.send_to(&answer, to).await {
                    tracing::debug!(%to, %error, "answer not sent");
                }
            }
            // Whoever closed the connection is not waiting.
            Self::Tcp(connection) => drop(connection.send(answer).await),
        }
    }

    fn is(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Udp(_, a), Self::Udp(_, b)) if a == b)
    }
}

/// Someone who waits for an answer under an id of its own.
#[derive(Debug)]
struct Requester {
    id: u16,
    reply: Reply,
}

/// A question as it came, without its id, and the protocol to ask it by.
type Question = (Vec<u8>, bool);

/// What is asked for one container.
#[derive(Debug, Default)]
struct UnderWay {
    questions: HashMap<Question, Vec<Requester>>,
    names: HashMap<(String, u16), usize>,
    requesters: usize,
}

/// Sends one container's queries on.
#[derive(Debug, Clone)]
pub(super) struct Forwarder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    sockets: Arc<Sockets>,
    under_way: Mutex<UnderWay>,
    own_turns: Semaphore,
    turns: Arc<Turns>,
    container: u64,
    /// A bit for each server that was silent to the last question.
    silent: AtomicU8,
}

impl Forwarder {
    pub(super) fn new(netns: Netns, runtime: Handle, turns: Arc<Turns>) -> Self {
        let inner = Inner {
            runtime,
            sockets: Arc::new(Sockets::new(netns)),
            under_way: Mutex::default(),
            own_turns: Semaphore::new(UNDER_WAY),
            container: turns.container(),
            turns,
            silent: AtomicU8::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Has the question asked and the requester answered, sooner or later; or gives the answer that there is at once.
    pub(super) fn forward(
        &self,
        query: Query,
        raw: &[u8],
        upstreams: &[Upstream],
        reply: Reply,
        tcp: bool,
    ) -> Option<Vec<u8>> {
        let question = (raw[2..].to_vec(), tcp);
        let requester = Requester { id: query.id, reply };
        let entered = self.inner.lock().enter(&question, &query, requester);
        match entered {
            Ok(true) => {}
            Ok(false) => return None,
            Err(code) => return Some(query.answer_code(code)),
        }
        let (inner, raw) = (self.inner.clone(), Arc::from(raw));
        let upstreams = upstreams.iter().copied().filter(|upstream| !is_ourselves(upstream)).collect();
        self.inner.runtime.spawn(async move { inner.serve(question, query, raw, upstreams).await });
        None
    }
}

impl UnderWay {
    /// Notes who asks; says whether the question is new.
    fn enter(&mut self, question: &Question, query: &Query, requester: Requester) -> Result<bool, Code> {
        if self.requesters >= REQUESTERS {
            return Err(Code::Refused);
        }
        let count = self.questions.len();
        match self.questions.entry(question.clone()) {
            Entry::Occupied(mut known) => {
                let is_repeated = |r: &Requester| r.id == requester.id && r.reply.is(&requester.reply);
                if !known.get().iter().any(is_repeated) {
                    known.get_mut().push(requester);
                    self.requesters += 1;
                }
                Ok(false)
            }
            Entry::Vacant(_) if count >= QUESTIONS => Err(Code::Refused),
            Entry::Vacant(new) => {
                let spellings = self.names.entry((query.name.clone(), query.kind)).or_default();
                if *spellings >= SPELLINGS {
                    tracing::debug!(name = query.name, "query goes round in a circle");
                    return Err(Code::ServFail);
                }
                *spellings += 1;
                new.insert(vec![requester]);
                self.requesters += 1;
                Ok(true)
            }
        }
    }

    /// Everyone who waits for a question, which is done with.
    fn leave(&mut self, question: &Question, query: &Query) -> Vec<Requester> {
        let key = (query.name.clone(), query.kind);
        if let Some(spellings) = self.names.get_mut(&key) {
            *spellings -= 1;
            if *spellings == 0 {
                self.names.remove(&key);
            }
        }
        let requesters = self.questions.remove(question).unwrap_or_default();
        self.requesters -= requesters.len();
        requesters
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, question: Question, query: Query, raw: Arc<[u8]>, upstreams: Vec<Upstream>) {
        let query = Arc::new(query);
        let mut answer = self.in_turn(&query, raw, &upstreams, question.1).await;
        let requesters = self.lock().leave(&question, &query);
        for requester in requesters {
            answer[..2].copy_from_slice(&requester.id.to_be_bytes());
            let send = requester.reply.clone().send(answer.clone());
            match requester.reply {
                Reply::Udp(..) => send.await,
                // One that does not read keeps no other waiting.
                Reply::Tcp(_) => drop(tokio::spawn(send)),
            }
        }
    }

    async fn in_turn(
        &self,
        query: &Arc<Query>,
        raw: Arc<[u8]>,
        upstreams: &[Upstream],
        tcp: bool,
    ) -> Vec<u8> {
        let turn = async {
            let own = self.own_turns.acquire().await.ok()?;
            Some((own, self.turns.turn(self.container).await?))
        };
        let Ok(Some(_turn)) = timeout(WAIT, turn).await else {
            return query.answer_code(Code::Refused);
        };
        let asked = timeout(LIMIT, self.ask_all(query, raw, upstreams, tcp)).await;
        asked.ok().flatten().unwrap_or_else(|| query.answer_code(Code::ServFail))
    }

    /// Asks the servers in their order until one has an answer; a slow one is not waited for alone.
    async fn ask_all(
        &self,
        query: &Arc<Query>,
        raw: Arc<[u8]>,
        upstreams: &[Upstream],
        tcp: bool,
    ) -> Option<Vec<u8>> {
        let mut asked = JoinSet::new();
        let mut rest = upstreams.iter().enumerate();
        loop {
            let (last, upstream) = rest.next()?;
            let tried = ask(self.sockets.clone(), query.clone(), raw.clone(), *upstream, tcp);
            asked.spawn(async move { (last, tried.await) });
            let patience = Instant::now() + self.patience(last);
            loop {
                let more = rest.len() > 0;
                tokio::select! {
                    done = asked.join_next() => {
                        let failed = match done? {
                            Ok((at, Ok(answer))) => {
                                self.note(at, false);
                                // Refused or failed there may be answered elsewhere.
                                if !matches!(code_of(&answer), Some(2 | 5)) {
                                    return Some(answer);
                                }
                                at
                            }
                            Ok((at, Err(error))) => {
                                log_failure(&upstreams[at], &error);
                                at
                            }
                            Err(_) => last,
                        };
                        if more && (failed == last || asked.is_empty()) {
                            break;
                        }
                    }
                    () = sleep_until(patience), if more => {
                        self.note(last, true);
                        break;
                    }
                }
            }
        }
    }

    fn patience(&self, at: usize) -> Duration {
        if self.silent.load(Ordering::Relaxed) & bit(at) == 0 { PATIENCE } else { IMPATIENCE }
    }

    fn note(&self, at: usize, silent: bool) {
        if silent {
            self.silent.fetch_or(bit(at), Ordering::Relaxed);
        } else {
            self.silent.fetch_and(!bit(at), Ordering::Relaxed);
        }
    }
}

/// There are three servers at most.
fn bit(at: usize) -> u8 {
    1u8.checked_shl(at as u32).unwrap_or_default()
}

fn log_failure(upstream: &Upstream, error: &io::Error) {
    tracing::debug!(server = %upstream.server, %error, "server not asked");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::query::{kind, query};

    fn requester(id: u16) -> (Requester, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel(1);
        (Requester { id, reply: Reply::Tcp(sender) }, receiver)
    }

    fn enter(under_way: &mut UnderWay, name: &str, id: u16) -> Result<bool, Code> {
        let raw = query(id, name, kind::A, None);
        let parsed = Query::parse(&raw).unwrap();
        under_way.enter(&(raw[2..].to_vec(), false), &parsed, requester(id).0)
    }

    #[test]
    fn equal_questions_are_asked_once() {
        let mut under_way = UnderWay::default();
        assert_eq!(enter(&mut under_way, "a.example", 1), Ok(true));
        for id in 2..100 {
            assert_eq!(enter(&mut under_way, "a.example", id), Ok(false));
        }
        let raw = query(5, "a.example", kind::A, None);
        let parsed = Query::parse(&raw).unwrap();
        let all = under_way.leave(&(raw[2..].to_vec(), false), &parsed);
        assert_eq!(all.iter().map(|r| r.id).collect::<Vec<_>>(), (1..100).collect::<Vec<_>>());
        assert_eq!((under_way.requesters, under_way.questions.len(), under_way.names.len()), (0, 0, 0));
    }

    #[test]
    fn memory_is_bounded_and_circles_end() {
        let mut under_way = UnderWay::default();
        for n in 0..QUESTIONS {
            assert_eq!(enter(&mut under_way, &format!("n{n}.example"), 1), Ok(true));
        }
        assert_eq!(enter(&mut under_way, "more.example", 1), Err(Code::Refused));
        assert_eq!(enter(&mut under_way, "n1.example", 2), Ok(false));
        for id in 0..(REQUESTERS - QUESTIONS - 1) as u16 {
            assert_eq!(enter(&mut under_way, "n2.example", id + 10), Ok(false));
        }
        assert_eq!(enter(&mut under_way, "n3.example", 3), Err(Code::Refused));

        let mut under_way = UnderWay::default();
        let spelling = |n: usize| {
            let letters = (0..6).map(|bit| if n >> bit & 1 == 0 { 'a' } else { 'A' });
            letters.chain(".example".chars()).collect::<String>()
        };
        for n in 0..SPELLINGS {
            assert_eq!(enter(&mut under_way, &spelling(n), 1), Ok(true));
        }
        assert_eq!(enter(&mut under_way, &spelling(SPELLINGS), 1), Err(Code::ServFail));
    }
}
