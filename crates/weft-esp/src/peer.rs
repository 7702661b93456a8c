//! One other node: which keys are used towards it, which are taken from it.
//!
//! Rules:
//! - A pairing is begun when there is none, when the managers' primary key is another, when a key is old or nearly used
//!   up, and when nothing comes back. Of two that are well, the one with the lower address begins; the other one only
//!   when that takes long.
//! - Make before break: who asked sends with new keys once the answer came, and proves it at once by a packet; who
//!   answered sends with them once such a packet came. Old keys are still received with while anything comes by them.
//! - Of two questions that cross, the lower address's counts: both ways have the keys of one pairing, so that each side
//!   hears of what the other one can do by the keys that it sends with.
//! - Only the managers' keys of now begin a pairing. What was paired under a key that they took back ends soon after.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::pairing::{Kind, Message, Side, Way};
use crate::{Fresh, Inbound, ManagerKey, Refused, Sealer};

/// Between questions without an answer.
const RETRY: Duration = Duration::from_millis(250);
/// A question is asked again in the same words so long: the answer may have a long way.
const PATIENCE: Duration = Duration::from_secs(5);
/// The node with the higher address leaves it to the other one so long to change keys that work.
const DEFERENCE: Duration = Duration::from_secs(2);
/// An empty packet is sent when nothing else was for so long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// With nothing from the other side for so long a new pairing is tried.
const SILENCE: Duration = Duration::from_secs(15);
/// Old keys end when nothing came by them for so long: thrice [`KEEP_ALIVE`], and a little.
const LINGER: Duration = Duration::from_secs(17);
/// After the managers took a key back, what was paired under it ends.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// Keys of traffic get no older, whatever the managers do.
const REKEY: Duration = Duration::from_secs(3600);
/// Answers to questions that nobody followed up: more are not kept.
const MAX_UNPROVEN: usize = 8;

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect {
    /// Send a datagram to the other node.
    Send(Vec<u8>),
    /// Receive by this SPI.
    Accept(Arc<Inbound>),
    /// No longer receive by this SPI.
    Forget(u32),
    /// Send with this from now on; none: nothing may be sent.
    Use(Option<Arc<Sealer>>),
    /// Send something by what is used now, so that the other node sees that it works: a packet that is for nobody, see
    /// [`crate::frame::proof`].
    Prove(Arc<Sealer>),
}

/// A pairing that was made.
#[derive(Debug)]
struct Session {
    inbound: Arc<Inbound>,
    outbound: Arc<Sealer>,
    tag: u32,
    since: Duration,
    /// When the managers' keys were first seen without its key.
    orphan_since: Option<Duration>,
    /// What was answered, and with what, where the other side asked.
    answered: Option<Box<(Message, Message)>>,
    /// The SPI here that this side was asking for itself when it was asked.
    crossed: Option<u32>,
}

/// A question under way.
#[derive(Debug)]
struct Attempt {
    side: Side,
    question: Message,
    began: Duration,
    sent: Duration,
}

/// How it stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The other node.
    pub remote: IpAddr,
    /// Age of the keys that are sent with; none: no keys.
    pub key_age: Option<Duration>,
    /// The managers' key behind them.
    pub tag: Option<u32>,
    /// Since the last authentic packet; none: there was none.
    pub heard_ago: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    own: IpAddr,
    remote: IpAddr,
    keys: Vec<ManagerKey>,
    /// In the order in which they were made.
    sessions: Vec<Session>,
    /// SPI here of the session that is sent with.
    used: Option<u32>,
    attempt: Option<Attempt>,
    /// Since when another pairing is wanted although there is one.
    stale_since: Option<Duration>,
    kept_alive: Duration,
}

impl Peer {
    /// Nothing is paired yet.
    pub fn new(own: IpAddr, remote: IpAddr) -> Self {
        Self {
            own,
            remote,
            keys: Vec::new(),
            sessions: Vec::new(),
            used: None,
            attempt: None,
            stale_since: None,
            kept_alive: Duration::ZERO,
        }
    }

    /// The managers' keys of now, in any order.
    pub fn set_keys(&mut self, keys: &[ManagerKey]) {
        self.keys = keys.to_vec();
        self.keys.sort_by_key(ManagerKey::tag);
        // Asked under a key that is gone: nobody would answer.
        if self.attempt.as_ref().is_some_and(|attempt| self.key(attempt.question.tag).is_none()) {
            self.attempt = None;
        }
    }

    /// The second oldest: everyone has it, and will for another period.
    fn primary(&self) -> Option<&ManagerKey> {
        self.keys.get(1).or(self.keys.first())
    }

    fn key(&self, tag: u32) -> Option<&ManagerKey> {
        self.keys.iter().find(|key| key.tag() == tag)
    }

    fn way(&self) -> Way {
        Way { from: self.own, to: self.remote }
    }

    fn in_use(&self) -> Option<&Session> {
        self.sessions.iter().find(|session| Some(session.inbound.spi()) == self.used)
    }

    /// How it stands.
    pub fn view(&self, now: Duration) -> PeerView {
        let used = self.in_use();
        let proven = self.sessions.iter().filter(|session| session.inbound.is_proven());
        PeerView {
            remote: self.remote,
            key_age: used.map(|session| now.saturating_sub(session.since)),
            tag: used.map(|session| session.tag),
            heard_ago: proven.map(|session| now.saturating_sub(session.inbound.heard())).min(),
        }
    }

    /// To be called several times a second.
    pub fn tick(&mut self, now: Duration, fresh: &mut dyn FnMut() -> Fresh, out: &mut Vec<Effect>) {
        self.retire(now, out);
        if self.wants_pairing(now) {
            self.ask(now, fresh, out);
        }
        if now.saturating_sub(self.kept_alive) >= KEEP_ALIVE {
            self.kept_alive = now;
            self.prove(out);
        }
    }

    /// Something came by an SPI that is not known: the other side has keys that this one lost, or the other way round.
    pub fn on_unknown_spi(&mut self, now: Duration, fresh: &mut dyn FnMut() -> Fresh, out: &mut Vec<Effect>) {
        self.ask(now, fresh, out);
    }

    /// A datagram that begins with the marker came from the other node's address.
    pub fn on_message(
        &mut self,
        now: Duration,
        datagram: &[u8],
        fresh: &mut dyn FnMut() -> Fresh,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let message = Message::parse(datagram)?;
        match message.kind {
            Kind::Question => self.on_question(now, message, fresh, out),
            Kind::Answer => self.on_answer(now, message, out),
        }
    }

    /// The first authentic packet came by this SPI: the other side has the keys.
    pub fn on_proven(&mut self, now: Duration, spi: u32, out: &mut Vec<Effect>) {
        let place = |spi| self.sessions.iter().position(|session| Some(session.inbound.spi()) == spi);
        let Some(at) = place(Some(spi)) else { return };
        let session = &self.sessions[at];
        // Asked for while this side asked for what it uses now: the other one leaves it.
        let is_left = session.crossed.is_some() && session.crossed == self.used;
        let is_newer = place(self.used).is_none_or(|used| at > used);
        if is_newer && !is_left {
            out.push(Effect::Use(Some(session.outbound.clone())));
            self.used = Some(spi);
            self.stale_since = None;
            self.kept_alive = now;
            self.prove(out);
        }
    }

    /// The engine lost what it receives by under this SPI here. Putting it back would forget which packets came, so the
    /// pairing ends; [`Peer::tick`] makes a new one.
    pub fn on_inbound_lost(&mut self, spi: u32, out: &mut Vec<Effect>) {
        self.lose(|session| session.inbound.spi() == spi, out);
    }

    /// The same of what it sends with under this SPI of the other side, which would begin its numbers again.
    pub fn on_outbound_lost(&mut self, spi: u32, out: &mut Vec<Effect>) {
        self.lose(|session| session.outbound.spi() == spi, out);
    }

    fn lose(&mut self, is_lost: impl Fn(&Session) -> bool, out: &mut Vec<Effect>) {
        let lost: Vec<u32> = self.sessions.iter().filter(|s| is_lost(s)).map(|s| s.inbound.spi()).collect();
        self.sessions.retain(|session| !lost.contains(&session.inbound.spi()));
        if self.used.is_some_and(|used| lost.contains(&used)) {
            self.used = None;
            out.push(Effect::Use(None));
        }
        out.extend(lost.into_iter().map(Effect::Forget));
    }

    /// Ends everything: the node is no peer any more.
    pub fn end(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Use(None));
        out.extend(self.sessions.drain(..).map(|session| Effect::Forget(session.inbound.spi())));
        (self.used, self.attempt) = (None, None);
    }

    fn wants_pairing(&mut self, now: Duration) -> bool {
        let Some(primary) = self.primary().map(ManagerKey::tag) else { return false };
        let Some(used) = self.in_use() else { return true };
        // What was just paired counts as heard.
        let heard = self.sessions.iter().map(|session| session.inbound.heard()).max().unwrap_or_default();
        let silent = now.saturating_sub(heard) >= SILENCE;
        let old = now.saturating_sub(used.since) >= REKEY;
        if used.tag == primary && !silent && !old && !used.outbound.is_low() {
            self.stale_since = None;
            return false;
        }
        let since = *self.stale_since.get_or_insert(now);
        self.own < self.remote || now.saturating_sub(since) >= DEFERENCE
    }

    fn ask(&mut self, now: Duration, fresh: &mut dyn FnMut() -> Fresh, out: &mut Vec<Effect>) {
        let way = self.way();
        let primary = self.keys.get(1).or(self.keys.first());
        let Some(primary) = primary else { return };
        if let Some(attempt) = &mut self.attempt {
            if now.saturating_sub(attempt.sent) < RETRY {
                return;
            }
            if now.saturating_sub(attempt.began) < PATIENCE && attempt.question.tag == primary.tag() {
                attempt.sent = now;
                out.push(Effect::Send(attempt.question.bytes.to_vec()));
                return;
            }
        }
        let side = Side::new(&fresh());
        let question = side.question(way, primary);
        out.push(Effect::Send(question.bytes.to_vec()));
        self.attempt = Some(Attempt { side, question, began: now, sent: now });
    }

    fn on_question(
        &mut self,
        now: Duration,
        question: Message,
        fresh: &mut dyn FnMut() -> Fresh,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let key = self.key(question.tag).ok_or(Refused::UnknownKey)?.clone();
        let (there, back) = (self.way().back(), self.way());
        if !question.is_authentic(there, &key, None) {
            return Err(Refused::NotAuthentic);
        }
        // Asked twice is answered twice the same.
        let mut known = self.sessions.iter().filter_map(|session| session.answered.as_deref());
        if let Some((_, answer)) = known.find(|(known, _)| *known == question) {
            out.push(Effect::Send(answer.bytes.to_vec()));
            return Ok(());
        }
        let side = Side::new(&fresh());
        let answer = side.answer(back, &key, &question);
        let keys = side.keys(there, &key, &question, &answer)?;
        out.push(Effect::Send(answer.bytes.to_vec()));
        self.add(now, side.spi(), question.spi, question.tag, &keys, Some((question, answer)), out);
        self.limit_unproven(out);
        Ok(())
    }

    fn on_answer(&mut self, now: Duration, answer: Message, out: &mut Vec<Effect>) -> Result<(), Refused> {
        let (there, back) = (self.way(), self.way().back());
        let attempt = self.attempt.as_ref().ok_or(Refused::Replayed)?;
        let key = self.key(attempt.question.tag).ok_or(Refused::UnknownKey)?;
        if answer.tag != attempt.question.tag || !answer.is_authentic(back, key, Some(&attempt.question)) {
            return Err(Refused::NotAuthentic);
        }
        let keys = attempt.side.keys(there, key, &attempt.question, &answer)?;
        let (spi, tag) = (attempt.side.spi(), attempt.question.tag);
        self.attempt = None;
        self.add(now, spi, answer.spi, tag, &keys, None, out);
        // The other side's question counts; should it come to nothing, this one asks again.
        if self.remote < self.own && self.sessions.iter().any(|session| session.crossed == Some(spi)) {
            return Ok(());
        }
        self.used = Some(spi);
        self.stale_since = None;
        out.extend(self.in_use().map(|session| Effect::Use(Some(session.outbound.clone()))));
        self.kept_alive = now;
        self.prove(out);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "they are the fields of what it makes")]
    fn add(
        &mut self,
        now: Duration,
        spi: u32,
        their_spi: u32,
        tag: u32,
        keys: &crate::pairing::Keys,
        answered: Option<(Message, Message)>,
        out: &mut Vec<Effect>,
    ) {
        let outbound = Arc::new(Sealer::new(their_spi, &keys.send));
        let inbound = Arc::new(Inbound::new(spi, self.remote, &keys.receive, &outbound, now));
        out.push(Effect::Accept(inbound.clone()));
        self.sessions.push(Session {
            inbound,
            outbound,
            tag,
            since: now,
            orphan_since: None,
            crossed: answered.as_ref().and(self.attempt.as_ref()).map(|attempt| attempt.side.spi()),
            answered: answered.map(Box::new),
        });
    }

    /// Has a packet sent with the keys in use.
    fn prove(&self, out: &mut Vec<Effect>) {
        out.extend(self.in_use().map(|used| Effect::Prove(used.outbound.clone())));
    }

    fn retire(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let (keys, used) = (&self.keys, self.used);
        let mut lost = false;
        self.sessions.retain_mut(|session| {
            if keys.iter().any(|key| key.tag() == session.tag) {
                session.orphan_since = None;
            } else {
                session.orphan_since.get_or_insert(now);
            }
            let orphan = session.orphan_since.is_some_and(|since| now.saturating_sub(since) >= GRACE);
            let in_use = used == Some(session.inbound.spi());
            let idle = now.saturating_sub(session.inbound.heard()) >= LINGER;
            let ends = orphan || (idle && !in_use);
            if ends {
                out.push(Effect::Forget(session.inbound.spi()));
                lost |= in_use;
            }
            !ends
        });
        if lost {
            self.used = None;
            out.push(Effect::Use(None));
        }
    }

    /// Recorded questions can be sent again by anyone: what they lead to is bounded.
    fn limit_unproven(&mut self, out: &mut Vec<Effect>) {
        let is_unproven = |session: &&Session| session.answered.is_some() && !session.inbound.is_proven();
        if self.sessions.iter().filter(is_unproven).count() > MAX_UNPROVEN
            && let Some(at) = self.sessions.iter().position(|session| is_unproven(&session))
        {
            out.push(Effect::Forget(self.sessions.remove(at).inbound.spi()));
        }
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
