//! Questions (RFC 1035 section 4).
//!
//! Only the question and the OPT record are understood; everything else of a query is carried along untouched. Reading
//! never panics and never follows a pointer: names in questions have none.

use std::net::IpAddr;

use crate::resolver::answer;

/// Length of the fixed header.
pub(super) const HEADER: usize = 12;
/// The most that a name may take on the wire (RFC 1035 section 2.3.4).
pub(super) const NAME_MAX: usize = 255;
/// The least that every requester takes over UDP (RFC 1035 section 4.2.1).
const UDP_MIN: usize = 512;
pub(super) const CLASS_IN: u16 = 1;

/// Record types that matter here.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const SVCB: u16 = 64;
    pub(crate) const HTTPS: u16 = 65;
    pub(crate) const ANY: u16 = 255;
}

/// Response codes (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// What the OPT record of a query says (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    /// What the requester takes over UDP.
    pub(super) size: u16,
    pub(super) version: u8,
    /// It wants signatures (RFC 3225): told back, as that asks for.
    pub(super) dnssec_ok: bool,
}

/// A query with one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    /// The second 16 bits of the header.
    pub(super) flags: u16,
    /// The question as it came, spelling included.
    pub(super) question: Vec<u8>,
    /// The name in lower case, without the last dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    class: u16,
    pub(super) edns: Option<Edns>,
}

/// Why a message is not served: answered with this code, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unserved {
    id: u16,
    flags: u16,
    pub(crate) code: Option<Code>,
}

impl Unserved {
    /// The answer, if any.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        self.code.map(|code| answer::header(self.id, self.flags, code))
    }
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
        let edns = read_edns(bytes, at + 4).map_err(|TwoOpts| unserved)?;
        Ok(Self { id, flags, question: bytes[HEADER..at + 4].to_vec(), name, kind, class, edns })
    }

    /// Whether the question is about the Internet.
    pub(crate) fn is_internet(&self) -> bool {
        self.class == CLASS_IN
    }

    /// What the requester takes over UDP.
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_MIN, |edns| usize::from(edns.size)).max(UDP_MIN)
    }

    /// Whether its OPT record is of a version that exists (RFC 6891 section 6.1.3).
    pub(crate) fn is_understood(&self) -> bool {
        self.edns.is_none_or(|edns| edns.version == 0)
    }

    /// Whether addresses are wanted, or where they would be an extra: what programs ask for before they connect.
    pub(crate) fn wants_addresses(&self) -> bool {
        matches!(self.kind, kind::A | kind::AAAA | kind::SVCB | kind::HTTPS)
    }

    /// The address that a reverse question asks for.
    pub(crate) fn reverse_address(&self) -> Option<IpAddr> {
        let text = self.name.as_str();
        if let Some(digits) = text.strip_suffix(".in-addr.arpa") {
            let octet = |d: &str| if d.starts_with('+') { None } else { d.parse().ok() };
            let octets: Vec<u8> = digits.split('.').map(octet).collect::<Option<_>>()?;
            let [d, c, b, a] = octets.try_into().ok()?;
            return Some(IpAddr::from([a, b, c, d]));
        }
        let digits = text.strip_suffix(".ip6.arpa")?;
        let nibble = |d: &str| match d.as_bytes() {
            [digit] => char::from(*digit).to_digit(16).map(|value| value as u8),
            _ => None,
        };
        let mut nibbles: Vec<u8> = digits.split('.').map(nibble).collect::<Option<_>>()?;
        nibbles.reverse();
        let octets: Vec<u8> = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let octets: [u8; 16] = octets.try_into().ok().filter(|_| nibbles.len() == 32)?;
        Some(IpAddr::from(octets))
    }

    /// Whether `answer` belongs to this question when asked under `id`.
    pub(crate) fn is_answer(&self, id: u16, answer: &[u8]) -> bool {
        let Some(flags) = word(answer, 2) else { return false };
        if word(answer, 0) != Some(id) || flags & 0x8000 == 0 || answer.len() < HEADER {
            return false;
        }
        match answer.get(HEADER..HEADER + self.question.len()) {
            Some(question) if word(answer, 4) == Some(1) => question.eq_ignore_ascii_case(&self.question),
            // Servers that fail may leave the question out.
            _ => word(answer, 4) == Some(0),
        }
    }
}

/// The response code of a message, if it is long enough to have one.
pub(crate) fn code_of(answer: &[u8]) -> Option<u8> {
    answer.get(3).map(|byte| byte & 0x0f)
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Reads a name without pointers; gives it in lower case and where it ends.
fn read_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut name) = (start, Vec::with_capacity(64));
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
    let name = String::from_utf8(name).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Some((name, at))
}

/// A message has one OPT record at most (RFC 6891 section 6.1.1).
struct TwoOpts;

/// The OPT record, if the message has one and is whole up to there.
fn read_edns(bytes: &[u8], mut at: usize) -> Result<Option<Edns>, TwoOpts> {
    let counts = [6, 8, 10].map(|at| u32::from(word(bytes, at).unwrap_or_default()));
    let mut found = None;
    for _ in 0..counts.iter().sum() {
        let Some(record) = skip_name(bytes, at) else { break };
        let fields = (word(bytes, record), word(bytes, record + 2), word(bytes, record + 8));
        let (Some(kind), Some(class), Some(len)) = fields else { break };
        if kind == kind::OPT {
            let (version, flags) = (bytes[record + 5], bytes[record + 6]);
            let edns = Edns { size: class, version, dnssec_ok: flags & 0x80 != 0 };
            if found.replace(edns).is_some() {
                return Err(TwoOpts);
            }
        }
        at = record + 10 + usize::from(len);
    }
    Ok(found)
}

pub(super) fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            len if len & 0xc0 == 0xc0 => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

/// A query for tests.
#[cfg(test)]
pub(crate) fn query(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    out.extend(answer::encode_name(name).unwrap());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(size) = edns {
        out.push(0);
        out.extend_from_slice(&kind::OPT.to_be_bytes());
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
    fn reverse_names() {
        let reverse = |name: &str| Query::parse(&query(1, name, kind::PTR, None)).unwrap().reverse_address();
        assert_eq!(reverse("5.1.0.10.in-addr.arpa"), Some(ip("10.0.1.5")));
        let six = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse(six), Some(ip("fd00::5")));
        let bad = [
            "1.0.10.in-addr.arpa",
            "256.1.0.10.in-addr.arpa",
            "+5.1.0.10.in-addr.arpa",
            "5.0.ip6.arpa",
            "web",
        ];
        for bad in bad {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let code = |bytes: &[u8]| Query::parse(bytes).unwrap_err().code;
        assert_eq!(code(b""), None);
        let good = query(1, "web", kind::A, Some(1232));
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        assert_eq!(code(&changed(2, 0x81)), None, "an answer");
        assert_eq!(code(&changed(2, 4 << 3)), Some(Code::NotImp), "a notification");
        assert_eq!(code(&changed(5, 2)), Some(Code::FormErr), "two questions");
        assert_eq!(code(&changed(12, 0xc0)), Some(Code::FormErr), "a pointer");
        let mut two = changed(11, 2);
        two.extend_from_slice(&good[good.len() - 11..]);
        assert_eq!(code(&two), Some(Code::FormErr), "two OPT records");
    }

    #[test]
    fn what_the_requester_takes() {
        let parsed = |edns| Query::parse(&query(1, "web", kind::A, edns)).unwrap();
        assert_eq!([None, Some(100), Some(4096)].map(|edns| parsed(edns).udp_limit()), [512, 512, 4096]);
        let mut bytes = query(1, "web", kind::A, Some(1232));
        let version = bytes.len() - 5;
        bytes[version] = 1;
        assert!(!Query::parse(&bytes).unwrap().is_understood() && parsed(Some(512)).is_understood());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            match Query::parse(&bytes) {
                Ok(parsed) => {
                    let answer = parsed.answer_addresses(&[ip("10.0.1.5")], 1, parsed.udp_limit());
                    // Our own answers are understood as answers to that question.
                    prop_assert!(parsed.is_answer(parsed.id, &answer));
                    prop_assert!(answer.len() <= parsed.udp_limit());
                    let _ = parsed.reverse_address();
                }
                Err(unserved) => drop(unserved.answer()),
            }
        }

        #[test]
        fn damaged_queries_are_read_without_panic(
            at in 0usize..60, value: u8, cut in 0usize..60, name in "[a-zA-Z0-9_-]{1,20}(\\.[a-z]{1,9}){0,3}"
        ) {
            let mut bytes = query(1, &name, kind::A, Some(1232));
            let parsed = Query::parse(&bytes).unwrap();
            prop_assert_eq!(parsed.name, name.to_ascii_lowercase());
            prop_assert_eq!(parsed.edns.map(|edns| edns.size), Some(1232));
            let len = bytes.len();
            bytes[at % len] = value;
            let _ = Query::parse(&bytes);
            let _ = Query::parse(&bytes[..cut.min(len)]);
        }
    }
}
