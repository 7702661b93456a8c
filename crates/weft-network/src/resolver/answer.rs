//! Answers to local questions (RFC 1035 section 4).
//!
//! Every answer repeats the question as it came, spelling included (Docker does, and clients that vary the spelling
//! rely on it). Owners of records are pointers to the question, so that many addresses fit.

use std::net::IpAddr;

use crate::resolver::query::{CLASS_IN, Code, Edns, HEADER, NAME_MAX, Query, kind};
use crate::resolver::view::Place;

/// What is offered to requesters with EDNS: fits common paths without fragments.
const UDP_OFFER: u16 = 1232;
/// Length of an OPT record without options.
const OPT_LEN: usize = 11;
/// A pointer to the question's name.
const QUESTION: [u8; 2] = [0xc0, HEADER as u8];
/// Upper bits of a response code, kept in the OPT record: version not understood (RFC 6891 section 9).
const BADVERS: u8 = 1;

impl Query {
    /// An answer with addresses; those of the other family are left out. None at all means: the name exists, but has
    /// nothing of this kind.
    pub(crate) fn answer_addresses(&self, addresses: &[IpAddr], ttl: u32, limit: usize) -> Vec<u8> {
        let mut answer = Answer::new(self, Code::NoError, limit);
        for ip in addresses {
            let wanted = match ip {
                IpAddr::V4(_) => kind::A,
                IpAddr::V6(_) => kind::AAAA,
            };
            if (self.kind == wanted || self.kind == kind::ANY) && !answer.add_address(&QUESTION, *ip, ttl) {
                break;
            }
        }
        answer.finish()
    }

    /// An answer with a name.
    pub(crate) fn answer_name(&self, name: &str, ttl: u32, limit: usize) -> Vec<u8> {
        let mut answer = Answer::new(self, Code::NoError, limit);
        if let Some(name) = encode_name(name) {
            answer.add(&QUESTION, kind::PTR, ttl, &[&name]);
        }
        answer.finish()
    }

    /// An answer with places (RFC 2782), and their addresses beside, as far as there is room.
    pub(super) fn answer_places(&self, places: &[Place], ttl: u32, limit: usize) -> Vec<u8> {
        let mut answer = Answer::new(self, Code::NoError, limit);
        let mut told: Vec<(&str, Vec<u8>)> = Vec::new();
        for place in places {
            // A host with several addresses is one place.
            if told.iter().any(|(host, _)| *host == place.host) {
                continue;
            }
            let Some(host) = encode_name(&place.host) else { continue };
            // Priority and weight are all the same.
            let fields = [0, 0, 0, 0, (place.port >> 8) as u8, place.port as u8];
            if !answer.add(&QUESTION, kind::SRV, ttl, &[&fields, &host]) {
                return answer.finish();
            }
            told.push((&place.host, host));
        }
        answer.section = Section::Additional;
        for place in places {
            let host = told.iter().find(|(host, _)| *host == place.host);
            if host.is_some_and(|(_, encoded)| !answer.add_address(encoded, place.ip, ttl)) {
                break;
            }
        }
        answer.finish()
    }

    /// An answer without records.
    pub(crate) fn answer_code(&self, code: Code) -> Vec<u8> {
        Answer::new(self, code, usize::from(u16::MAX)).finish()
    }

    /// The answer to a query whose EDNS version is not known here.
    pub(crate) fn answer_bad_version(&self) -> Vec<u8> {
        let mut answer = Answer::new(self, Code::NoError, usize::from(u16::MAX));
        answer.upper_code = BADVERS;
        answer.finish()
    }
}

/// Where records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Additional,
}

/// An answer that is being written.
struct Answer {
    bytes: Vec<u8>,
    /// For the records; the OPT record has its own room.
    limit: usize,
    edns: Option<Edns>,
    upper_code: u8,
    section: Section,
    answers: u16,
    additional: u16,
    truncated: bool,
}

impl Answer {
    fn new(query: &Query, code: Code, limit: usize) -> Self {
        let mut bytes = header(query.id, query.flags, code);
        bytes[5] = 1;
        bytes.extend_from_slice(&query.question);
        let limit = limit.saturating_sub(if query.edns.is_some() { OPT_LEN } else { 0 });
        Self {
            bytes,
            limit,
            edns: query.edns,
            upper_code: 0,
            section: Section::Answer,
            answers: 0,
            additional: 0,
            truncated: false,
        }
    }

    fn add_address(&mut self, owner: &[u8], ip: IpAddr, ttl: u32) -> bool {
        match ip {
            IpAddr::V4(v4) => self.add(owner, kind::A, ttl, &[&v4.octets()]),
            IpAddr::V6(v6) => self.add(owner, kind::AAAA, ttl, &[&v6.octets()]),
        }
    }

    /// Adds a record, if there is room.
    fn add(&mut self, owner: &[u8], kind: u16, ttl: u32, data: &[&[u8]]) -> bool {
        let len: usize = data.iter().map(|part| part.len()).sum();
        if self.bytes.len() + owner.len() + 10 + len > self.limit {
            // Records that are extra may be missing without a word (RFC 2181 section 9).
            self.truncated |= self.section == Section::Answer;
            return false;
        }
        self.bytes.extend_from_slice(owner);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
        self.bytes.extend_from_slice(&(len as u16).to_be_bytes());
        data.iter().for_each(|part| self.bytes.extend_from_slice(part));
        match self.section {
            Section::Answer => self.answers += 1,
            Section::Additional => self.additional += 1,
        }
        true
    }

    fn finish(mut self) -> Vec<u8> {
        if let Some(edns) = self.edns {
            // Who was asked with an OPT record answers with one (RFC 6891 section 6.1.1).
            self.additional += 1;
            self.bytes.push(0);
            self.bytes.extend_from_slice(&kind::OPT.to_be_bytes());
            self.bytes.extend_from_slice(&UDP_OFFER.to_be_bytes());
            let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
            self.bytes.extend_from_slice(&[self.upper_code, 0, dnssec_ok, 0, 0, 0]);
        }
        self.bytes[6..8].copy_from_slice(&self.answers.to_be_bytes());
        self.bytes[10..12].copy_from_slice(&self.additional.to_be_bytes());
        if self.truncated {
            self.bytes[2] |= 0x02;
        }
        self.bytes
    }
}

/// Header of an answer: recursion desired as asked, recursion available, not authoritative.
pub(super) fn header(id: u16, flags: u16, code: Code) -> Vec<u8> {
    let flags = 0x8000 | (flags & 0x7900) | 0x0080 | code as u16;
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out
}

/// A name on the wire; none if it cannot be one.
pub(super) fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    (out.len() <= NAME_MAX).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resolver::query::{query, skip_name, word};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn parsed(name: &str, kind: u16, edns: Option<u16>) -> Query {
        Query::parse(&query(0x1234, name, kind, edns)).unwrap()
    }

    /// Type and data of all records after the question, and where the message ends.
    fn records(message: &[u8]) -> (Vec<(u16, Vec<u8>)>, usize) {
        let count: u16 = [6, 8, 10].map(|at| word(message, at).unwrap()).iter().sum();
        let mut at = skip_name(message, HEADER).unwrap() + 4;
        let mut found = Vec::new();
        for _ in 0..count {
            at = skip_name(message, at).unwrap();
            let len = usize::from(word(message, at + 8).unwrap());
            found.push((word(message, at).unwrap(), message[at + 10..at + 10 + len].to_vec()));
            at += 10 + len;
        }
        (found, at)
    }

    #[test]
    fn answers_look_like_dockers() {
        let asked = parsed("WEB", kind::A, None);
        assert_eq!((asked.name.as_str(), asked.kind), ("web", kind::A));
        let answer = asked.answer_addresses(&[ip("10.0.1.5"), ip("fd00::5")], 600, 512);
        // Response, recursion desired and available, not authoritative.
        assert_eq!(answer[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        // The spelling of the question; the record points there.
        assert_eq!(answer[12..17], *b"\x03WEB\0");
        assert!(answer.ends_with(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0x02, 0x58, 0, 4, 10, 0, 1, 5]));
        let none = parsed("web", kind::AAAA, None).answer_addresses(&[ip("10.0.1.5")], 600, 512);
        assert_eq!((none[3], none[7]), (0x80, 0));
        let both = parsed("web", kind::ANY, None).answer_addresses(&[ip("10.0.1.5"), ip("fd00::5")], 1, 512);
        assert_eq!(records(&both).0.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [kind::A, kind::AAAA]);
        let name = parsed("5.1.0.10.in-addr.arpa", kind::PTR, None).answer_name("web.Front", 600, 512);
        assert_eq!(records(&name).0, [(kind::PTR, b"\x03web\x05Front\0".to_vec())]);
        let code = parsed("web", kind::A, None).answer_code(Code::NxDomain);
        assert_eq!((code[3], records(&code).0.len()), (0x83, 0));
    }

    #[test]
    fn requesters_with_edns_are_answered_with_it() {
        let mut bytes = query(1, "web", kind::A, Some(4096));
        let flags = bytes.len() - 4;
        bytes[flags] = 0x80;
        let answer = Query::parse(&bytes).unwrap().answer_addresses(&[ip("10.0.1.5")], 1, 4096);
        assert_eq!(answer[10..12], [0, 1]);
        assert!(answer.ends_with(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]), "{answer:?}");
        bytes[flags - 1] = 3;
        let refused = Query::parse(&bytes).unwrap().answer_bad_version();
        assert_eq!((refused[3] & 0x0f, records(&refused).0.len()), (0, 1));
        assert!(refused.ends_with(&[0, 0, 41, 0x04, 0xd0, 1, 0, 0x80, 0, 0, 0]), "{refused:?}");
    }

    #[test]
    fn long_answers_are_cut_and_say_so() {
        let addresses: Vec<IpAddr> = (0..200u8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        for (edns, limit) in [(None, 512), (Some(1400), 1400), (Some(100), 512)] {
            let asked = parsed("web", kind::A, edns);
            let answer = asked.answer_addresses(&addresses, 1, asked.udp_limit());
            assert!(answer.len() <= limit && answer.len() > limit - 16 - 11);
            assert_eq!(answer[2] & 2, 2);
        }
        let whole = parsed("web", kind::A, None).answer_addresses(&addresses, 1, usize::from(u16::MAX));
        assert_eq!((whole[2] & 2, word(&whole, 6)), (0, Some(200)));
    }

    #[test]
    fn places_come_with_their_addresses() {
        let place = |host: &str, address: &str| Place { host: host.to_owned(), port: 8080, ip: ip(address) };
        let places =
            [place("a.front", "10.0.1.5"), place("a.front", "fd00::5"), place("b.front", "10.0.1.6")];
        let asked = parsed("_http._tcp.web", kind::SRV, Some(1232));
        let answer = asked.answer_places(&places, 600, 1232);
        assert_eq!((word(&answer, 6), word(&answer, 10)), (Some(2), Some(4)));
        let found = records(&answer).0;
        let srv = |host: &[u8]| (kind::SRV, [&[0, 0, 0, 0, 0x1f, 0x90][..], host].concat());
        assert_eq!(found[..2], [srv(b"\x01a\x05front\0"), srv(b"\x01b\x05front\0")]);
        let kinds: Vec<u16> = found[2..].iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [kind::A, kind::AAAA, kind::A, kind::OPT]);
        // What is extra may be missing.
        let short = asked.answer_places(&places, 600, 120);
        assert_eq!((word(&short, 6), short[2] & 2), (Some(2), 0));
        assert_eq!(asked.answer_places(&places, 600, 60)[2] & 2, 2);
    }

    #[test]
    fn foreign_answers_are_told_apart() {
        let asked = parsed("web.example", kind::A, None);
        let good = asked.answer_addresses(&[ip("10.0.1.5")], 1, 512);
        assert!(asked.is_answer(0x1234, &good));
        assert!(!asked.is_answer(8, &good));
        let other = parsed("web.exampel", kind::A, None).answer_code(Code::NoError);
        assert!(!asked.is_answer(0x1234, &other));
        assert!(!asked.is_answer(0x1234, &query(0x1234, "web.example", kind::A, None)));
        assert!(asked.is_answer(0x1234, &header(0x1234, 0x0100, Code::ServFail)));
    }

    proptest! {
        #[test]
        fn answers_can_be_read_and_fit(
            name in "[a-zA-Z0-9_-]{1,20}(\\.[a-z]{1,9}){0,3}",
            addresses in proptest::collection::vec(any::<IpAddr>(), 0..100),
            edns in proptest::option::of(any::<u16>()),
            which in 0usize..3, ttl: u32
        ) {
            let asked = parsed(&name, [kind::A, kind::AAAA, kind::ANY][which], edns);
            let limit = asked.udp_limit();
            let answer = asked.answer_addresses(&addresses, ttl, limit);
            prop_assert!(answer.len() <= limit);
            let (mut found, end) = records(&answer);
            prop_assert_eq!(end, answer.len());
            prop_assert_eq!(found.last().is_some_and(|(kind, _)| *kind == kind::OPT), edns.is_some());
            found.retain(|(kind, _)| *kind != kind::OPT);
            let octets = |ip: &IpAddr| match ip {
                IpAddr::V4(v4) => (kind::A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (kind::AAAA, v6.octets().to_vec()),
            };
            let mut wanted: Vec<_> = addresses.iter().map(octets).collect();
            wanted.retain(|(kind, _)| *kind == asked.kind || asked.kind == kind::ANY);
            let truncated = answer[2] & 2 != 0;
            prop_assert_eq!(truncated, found.len() < wanted.len());
            prop_assert_eq!(&wanted[..found.len()], &found[..]);
        }
    }
}
