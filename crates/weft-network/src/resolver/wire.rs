//! The part of DNS messages (RFC 1035 section 4) that the resolver reads and writes.
//!
//! Only the question is understood; everything else of a query is carried along untouched. Reading never panics and
//! never follows a pointer: names in questions have none.

use std::net::IpAddr;

/// Length of the fixed header.
const HEADER: usize = 12;
/// The most that a name may take on the wire (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 255;
/// The least that every requester takes over UDP (RFC 1035 section 4.2.1).
const UDP_MIN: usize = 512;
/// What is offered to requesters with EDNS: fits common paths without fragments.
const UDP_OFFER: u16 = 1232;
/// Lifetime of local answers in seconds; Docker's.
const TTL: u32 = 600;
const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;

/// Record types that matter here.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const MX: u16 = 15;
    pub(crate) const AAAA: u16 = 28;
}

/// Response codes (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NotImp = 4,
    Refused = 5,
}

/// A query with one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    /// The second 16 bits of the header.
    flags: u16,
    /// The question as it came, spelling included.
    question: Vec<u8>,
    /// The name in lower case, without the last dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    class: u16,
    /// What the requester takes over UDP, if it says.
    edns: Option<u16>,
}

/// Why a message is not served: answered with this code, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unserved {
    id: u16,
    flags: u16,
    pub(crate) code: Option<Code>,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl Query {
    /// Reads a query.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unserved> {
        let (Some(id), Some(flags), true) = (word(bytes, 0), word(bytes, 2), bytes.len() >= HEADER) else {
            return Err(Unserved { id: 0, flags: 0, code: None });
        };
        // An answer is never answered: two resolvers could go on for ever.
        let code = if flags & 0x8000 != 0 {
            None
        } else if flags & 0x7800 != 0 {
            Some(Code::NotImp)
        } else {
            Some(Code::FormErr)
        };
        let unserved = Unserved { id, flags, code };
        if code != Some(Code::FormErr) || word(bytes, 4) != Some(1) {
            return Err(unserved);
        }
        let (name, at) = read_name(bytes, HEADER).ok_or(unserved)?;
        let (kind, class) = (word(bytes, at).ok_or(unserved)?, word(bytes, at + 2).ok_or(unserved)?);
        let edns = edns_size(bytes, at + 4);
        Ok(Self { id, flags, question: bytes[HEADER..at + 4].to_vec(), name, kind, class, edns })
    }

    /// Whether the question is about the Internet.
    pub(crate) fn is_internet(&self) -> bool {
        self.class == CLASS_IN
    }

    /// What the requester takes over UDP.
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_MIN, usize::from).max(UDP_MIN)
    }

    /// The address that a reverse question asks for.
    pub(crate) fn reverse_address(&self) -> Option<IpAddr> {
        let text = self.name.as_str();
        if let Some(digits) = text.strip_suffix(".in-addr.arpa") {
            let octets: Vec<u8> = digits.split('.').map(|d| d.parse().ok()).collect::<Option<_>>()?;
            let [d, c, b, a] = octets.try_into().ok()?;
            return Some(IpAddr::from([a, b, c, d]));
        }
        let digits = text.strip_suffix(".ip6.arpa")?;
        let nibble = |d: &str| if d.len() == 1 { u8::from_str_radix(d, 16).ok() } else { None };
        let mut nibbles: Vec<u8> = digits.split('.').map(nibble).collect::<Option<_>>()?;
        nibbles.reverse();
        let octets: Vec<u8> = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let octets: [u8; 16] = octets.try_into().ok().filter(|_| nibbles.len() == 32)?;
        Some(IpAddr::from(octets))
    }

    /// An answer with addresses; those of the other family are left out. None at all means: the name exists, but has
    /// nothing of this kind.
    pub(crate) fn answer_addresses(&self, addresses: &[IpAddr], limit: usize) -> Vec<u8> {
        let data = addresses.iter().filter_map(|ip| match (ip, self.kind) {
            (IpAddr::V4(v4), kind::A) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), kind::AAAA) => Some(v6.octets().to_vec()),
            _ => None,
        });
        self.answer(data, limit)
    }

    /// An answer with a name.
    pub(crate) fn answer_name(&self, name: &str, limit: usize) -> Vec<u8> {
        self.answer(encode_name(name).into_iter(), limit)
    }

    /// An answer without records.
    pub(crate) fn answer_code(&self, code: Code) -> Vec<u8> {
        let mut out = self.start(code);
        self.finish(&mut out, 0, false);
        out
    }

    fn answer(&self, data: impl Iterator<Item = Vec<u8>>, limit: usize) -> Vec<u8> {
        let mut out = self.start(Code::NoError);
        let name_len = self.question.len() - 4;
        // The OPT record of the answer takes 11 bytes.
        let limit = limit.saturating_sub(if self.edns.is_some() { 11 } else { 0 });
        let (mut count, mut truncated) = (0u16, false);
        for data in data {
            if out.len() + name_len + 10 + data.len() > limit {
                truncated = true;
                break;
            }
            out.extend_from_slice(&self.question[..name_len]);
            out.extend_from_slice(&self.kind.to_be_bytes());
            out.extend_from_slice(&CLASS_IN.to_be_bytes());
            out.extend_from_slice(&TTL.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(&data);
            count += 1;
        }
        self.finish(&mut out, count, truncated);
        out
    }

    fn start(&self, code: Code) -> Vec<u8> {
        let mut out = header(self.id, self.flags, code);
        out[5] = 1;
        out.extend_from_slice(&self.question);
        out
    }

    fn finish(&self, out: &mut Vec<u8>, answers: u16, truncated: bool) {
        out[6..8].copy_from_slice(&answers.to_be_bytes());
        if truncated {
            out[2] |= 0x02;
        }
        if self.edns.is_some() {
            // RFC 6891 section 6.1.1: who was asked with an OPT record answers with one.
            out[11] = 1;
            out.push(0);
            out.extend_from_slice(&TYPE_OPT.to_be_bytes());
            out.extend_from_slice(&UDP_OFFER.to_be_bytes());
            out.extend_from_slice(&[0; 6]);
        }
    }

    /// Whether `answer` belongs to this question when asked under `id`.
    pub(crate) fn is_answer(&self, id: u16, answer: &[u8]) -> bool {
        let Some(flags) = word(answer, 2) else { return false };
        let Some(question) = answer.get(HEADER..HEADER + self.question.len()) else {
            // Servers that fail may leave the question out.
            return word(answer, 0) == Some(id) && flags & 0x8000 != 0 && word(answer, 4) == Some(0);
        };
        word(answer, 0) == Some(id) && flags & 0x8000 != 0 && question.eq_ignore_ascii_case(&self.question)
    }
}

impl Unserved {
    /// The answer, if any.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        self.code.map(|code| header(self.id, self.flags, code))
    }
}

/// Header of an answer: recursion desired as asked, recursion available, not authoritative.
fn header(id: u16, flags: u16, code: Code) -> Vec<u8> {
    let flags = 0x8000 | (flags & 0x7900) | 0x0080 | code as u16;
    let mut out = Vec::with_capacity(UDP_MIN);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out
}

/// The response code of a message, if it is long enough to have one.
pub(crate) fn code_of(answer: &[u8]) -> Option<u8> {
    answer.get(3).map(|byte| byte & 0x0f)
}

/// Reads a name without pointers; gives it in lower case and where it ends.
fn read_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut name) = (start, Vec::new());
    loop {
        let len = usize::from(*bytes.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        if len > 63 || at + len - start >= NAME_MAX {
            return None;
        }
        let label = bytes.get(at..at + len)?;
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend(label.iter().map(u8::to_ascii_lowercase));
        at += len;
    }
    Some((String::from_utf8_lossy(&name).into_owned(), at))
}

/// The UDP size in the OPT record, if the message has one and is whole up to there.
fn edns_size(bytes: &[u8], mut at: usize) -> Option<u16> {
    let records = u32::from(word(bytes, 6)?) + u32::from(word(bytes, 8)?) + u32::from(word(bytes, 10)?);
    for _ in 0..records {
        at = skip_name(bytes, at)?;
        let (kind, class) = (word(bytes, at)?, word(bytes, at + 2)?);
        if kind == TYPE_OPT {
            return Some(class);
        }
        at += 10 + usize::from(word(bytes, at + 8)?);
    }
    None
}

fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            len if len & 0xc0 == 0xc0 => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

/// A name on the wire; none if it cannot be one.
fn encode_name(name: &str) -> Option<Vec<u8>> {
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

/// A query for tests and for the resolver's own use.
#[cfg(test)]
pub(crate) fn query(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    out.extend(encode_name(name).unwrap());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(size) = edns {
        out.push(0);
        out.extend_from_slice(&TYPE_OPT.to_be_bytes());
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&[0; 6]);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn answers_look_like_dockers() {
        let asked = query(0x1234, "WEB", kind::A, None);
        let parsed = Query::parse(&asked).unwrap();
        assert_eq!((parsed.name.as_str(), parsed.kind), ("web", kind::A));
        let answer = parsed.answer_addresses(&[ip("10.0.1.5"), ip("fd00::5")], 512);
        // Response, recursion desired and available, not authoritative.
        assert_eq!(answer[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        // The spelling of the question, twice, and no compression.
        assert_eq!(answer.windows(5).filter(|w| *w == b"\x03WEB\0").count(), 2);
        assert!(answer.ends_with(&[0, 1, 0, 1, 0, 0, 0x02, 0x58, 0, 4, 10, 0, 1, 5]));
        let none = Query::parse(&query(1, "web", kind::AAAA, None))
            .unwrap()
            .answer_addresses(&[ip("10.0.1.5")], 512);
        assert_eq!((none[3], none[7]), (0x80, 0));
    }

    #[test]
    fn long_answers_are_cut_and_say_so() {
        let addresses: Vec<IpAddr> = (0..200u8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        for (edns, limit) in [(None, 512), (Some(1400), 1400), (Some(100), 512)] {
            let parsed = Query::parse(&query(1, "web", kind::A, edns)).unwrap();
            assert_eq!(parsed.udp_limit(), limit);
            let answer = parsed.answer_addresses(&addresses, parsed.udp_limit());
            assert!(answer.len() <= limit && answer.len() > limit - 20 - 11);
            assert_eq!(answer[2] & 2, 2);
        }
        let parsed = Query::parse(&query(1, "web", kind::A, None)).unwrap();
        let whole = parsed.answer_addresses(&addresses, usize::from(u16::MAX));
        assert_eq!((whole[2] & 2, u16::from_be_bytes([whole[6], whole[7]])), (0, 200));
    }

    #[test]
    fn reverse_names() {
        let reverse = |name: &str| Query::parse(&query(1, name, kind::PTR, None)).unwrap().reverse_address();
        assert_eq!(reverse("5.1.0.10.in-addr.arpa"), Some(ip("10.0.1.5")));
        let six = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse(six), Some(ip("fd00::5")));
        for bad in ["1.0.10.in-addr.arpa", "256.1.0.10.in-addr.arpa", "5.0.ip6.arpa", "web"] {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let code = |bytes: &[u8]| Query::parse(bytes).unwrap_err().code;
        assert_eq!(code(b""), None);
        let mut answer = query(1, "web", kind::A, None);
        answer[2] |= 0x80;
        assert_eq!(code(&answer), None);
        let mut notify = query(1, "web", kind::A, None);
        notify[2] |= 4 << 3;
        assert_eq!(code(&notify), Some(Code::NotImp));
        let mut two = query(1, "web", kind::A, None);
        two[5] = 2;
        assert_eq!(code(&two), Some(Code::FormErr));
        let mut pointer = query(1, "web", kind::A, None);
        pointer[12] = 0xc0;
        assert_eq!(code(&pointer), Some(Code::FormErr));
    }

    #[test]
    fn foreign_answers_are_told_apart() {
        let parsed = Query::parse(&query(7, "web.example", kind::A, None)).unwrap();
        let good = parsed.answer_addresses(&[ip("10.0.1.5")], 512);
        assert!(parsed.is_answer(7, &good));
        assert!(!parsed.is_answer(8, &good));
        let other = Query::parse(&query(7, "web.exampel", kind::A, None)).unwrap().answer_code(Code::NoError);
        assert!(!parsed.is_answer(7, &other));
        assert!(!parsed.is_answer(7, &query(7, "web.example", kind::A, None)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(parsed) = Query::parse(&bytes) {
                let answer = parsed.answer_addresses(&[ip("10.0.1.5")], parsed.udp_limit());
                // Our own answers are understood as answers to that question.
                prop_assert!(parsed.is_answer(parsed.id, &answer));
                let _ = parsed.reverse_address();
            }
        }

        #[test]
        fn damaged_queries_are_read_without_panic(
            at in 0usize..60, value: u8, cut in 0usize..60, name in "[a-zA-Z0-9_-]{1,20}(\\.[a-z]{1,9}){0,3}"
        ) {
            let mut bytes = query(1, &name, kind::A, Some(1232));
            let parsed = Query::parse(&bytes).unwrap();
            prop_assert_eq!(parsed.name, name.to_ascii_lowercase());
            prop_assert_eq!(parsed.edns, Some(1232));
            let len = bytes.len();
            bytes[at % len] = value;
            let _ = Query::parse(&bytes);
            let _ = Query::parse(&bytes[..cut.min(len)]);
        }
    }
}
