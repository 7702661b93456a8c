//! Elements of nftables' sets and maps as netlink messages.
//!
//! A change of a few elements costs a few microseconds this way; a spawned `nft` costs milliseconds, and it reads every
//! set of the ruleset first. What has no place in a message of ours (ranges, prefixes, names of services) is left to
//! the program.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use weft_plan::{Family, Op, TableId};
use weft_types::MacAddr;

/// Messages and attributes (linux/netfilter/nf_tables.h).
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;

/// Families (linux/netfilter.h).
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_NETDEV: u8 = 5;
const NFPROTO_IPV6: u8 = 10;

/// The attribute has attributes in it.
const NESTED: u16 = 0x8000;
/// Names of interfaces fill this much (`IFNAMSIZ`).
const IFNAMSIZ: usize = 16;
/// An attribute's length has 16 bits; a list of elements ends before that.
const LIST_MAX: usize = 48 * 1024;

/// One message: its type without the subsystem, and what follows the netlink header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// The messages for a [`Op::ChangeElements`], what is removed first; none when an element has no place in one.
pub(crate) fn messages(op: &Op) -> Option<Vec<Message>> {
    let Op::ChangeElements { table, set, key, value, add, remove } = op else { return None };
    let lists = |kind, elements: &BTreeSet<String>| -> Option<Vec<Message>> {
        let encoded: Option<Vec<_>> = elements.iter().map(|text| element(text, key, value)).collect();
        Some(chunks(&encoded?).map(|list| message(kind, table, set, list)).collect())
    };
    let mut all = lists(NFT_MSG_DELSETELEM, remove)?;
    all.extend(lists(NFT_MSG_NEWSETELEM, add)?);
    Some(all)
}

/// Elements in runs that fit into one attribute.
fn chunks(elements: &[Vec<u8>]) -> impl Iterator<Item = &[Vec<u8>]> {
    let mut rest = elements;
    std::iter::from_fn(move || {
        let mut length = 0;
        let fits = rest.iter().take_while(|element| {
            length += element.len();
            length <= LIST_MAX
        });
        let (run, after) = rest.split_at(fits.count());
        rest = after;
        (!run.is_empty()).then_some(run)
    })
}

fn message(kind: u16, table: &TableId, set: &str, elements: &[Vec<u8>]) -> Message {
    let family = match table.family {
        Family::Inet => NFPROTO_INET,
        Family::Ip => NFPROTO_IPV4,
        Family::Ip6 => NFPROTO_IPV6,
        Family::Netdev => NFPROTO_NETDEV,
    };
    let mut body = vec![family, 0, 0, 0];
    attribute(&mut body, NFTA_SET_ELEM_LIST_TABLE, &text(&table.name));
    attribute(&mut body, NFTA_SET_ELEM_LIST_SET, &text(set));
    attribute(&mut body, NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, &elements.concat());
    Message { kind, body }
}

/// One element, as written in nft's language, as the attribute that holds it.
fn element(written: &str, key: &[String], value: &[String]) -> Option<Vec<u8>> {
    let (of_key, of_value) = match written.split_once(" : ") {
        Some((of_key, of_value)) if !value.is_empty() => (of_key, Some(of_value)),
        None if value.is_empty() => (written, None),
        _ => return None,
    };
    let mut inner = Vec::new();
    attribute(&mut inner, NFTA_SET_ELEM_KEY | NESTED, &data(&parts(of_key, key)?));
    if let Some(of_value) = of_value {
        let data = if value == ["verdict"] { verdict(of_value)? } else { data(&parts(of_value, value)?) };
        attribute(&mut inner, NFTA_SET_ELEM_DATA | NESTED, &data);
    }
    let mut outer = Vec::new();
    attribute(&mut outer, NFTA_LIST_ELEM | NESTED, &inner);
    Some(outer)
}

fn data(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, NFTA_DATA_VALUE, value);
    out
}

fn verdict(written: &str) -> Option<Vec<u8>> {
    let (word, chain) = written.split_once(' ')?;
    let code = match word {
        "jump" => NFT_JUMP,
        "goto" => NFT_GOTO,
        _ => return None,
    };
    let mut inner = Vec::new();
    attribute(&mut inner, NFTA_VERDICT_CODE, &code.to_be_bytes());
    attribute(&mut inner, NFTA_VERDICT_CHAIN, &text(chain));
    let mut out = Vec::new();
    attribute(&mut out, NFTA_DATA_VERDICT | NESTED, &inner);
    Some(out)
}

/// Joined parts lie in registers of four bytes each; a single one has its own length.
fn parts(written: &str, types: &[String]) -> Option<Vec<u8>> {
    let words: Vec<&str> = written.split(" . ").collect();
    if words.len() != types.len() {
        return None;
    }
    let mut out = Vec::new();
    for (word, kind) in words.iter().zip(types) {
        out.extend(part(word, kind)?);
        if types.len() > 1 {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    Some(out)
}

fn part(word: &str, kind: &str) -> Option<Vec<u8>> {
    Some(match kind {
        "ipv4_addr" => word.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        "ipv6_addr" => word.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        "ether_addr" => word.parse::<MacAddr>().ok()?.0.to_vec(),
        "inet_service" => word.parse::<u16>().ok()?.to_be_bytes().to_vec(),
        "inet_proto" => vec![protocol(word)?],
        "mark" | "integer" => word.parse::<u32>().ok()?.to_ne_bytes().to_vec(),
        "ifname" => {
            let name = word.strip_prefix('"')?.strip_suffix('"')?;
            // With an asterisk it stands for many.
            let plain = !name.is_empty() && name.len() < IFNAMSIZ && !name.ends_with('*');
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(IFNAMSIZ, 0);
            plain.then_some(bytes)?
        }
        _ => return None,
    })
}

/// IANA's number of a transport protocol.
fn protocol(word: &str) -> Option<u8> {
    match word {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        number => number.parse().ok(),
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Appends an attribute, padded to four bytes.
pub(crate) fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(((value.len() + 4) as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn joined_parts_are_padded_and_single_ones_are_not() {
        let key = types(&["inet_proto", "inet_service"]);
        assert_eq!(parts("tcp . 80", &key).unwrap(), [6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(parts("80", &types(&["inet_service"])).unwrap(), [0, 80]);
        assert_eq!(parts("02:42:0a:00:01:02", &types(&["ether_addr"])).unwrap(), [2, 0x42, 10, 0, 1, 2]);
    }

    #[test]
    fn what_a_message_cannot_say_is_left_to_the_program() {
        for (written, kind) in [
            ("10.0.0.0/8", "ipv4_addr"),
            ("80-90", "inet_service"),
            ("http", "inet_service"),
            ("\"eth*\"", "ifname"),
            ("eth0", "ifname"),
            ("1h", "time"),
        ] {
            assert_eq!(element(written, &types(&[kind]), &[]), None, "{written}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let add: BTreeSet<String> = (0..10_000u32).map(|n| Ipv4Addr::from_bits(n).to_string()).collect();
        let op = Op::ChangeElements {
            table: TableId::new(Family::Ip, "t"),
            set: "s".to_owned(),
            key: types(&["ipv4_addr"]),
            value: Vec::new(),
            add,
            remove: BTreeSet::new(),
        };
        let messages = messages(&op).unwrap();
        assert!(messages.len() > 1);
        assert!(messages.iter().all(|message| message.body.len() < usize::from(u16::MAX)));
        // An element without value: its attribute, its key's, the data's, and four bytes.
        let elements: usize = messages.iter().map(|message| (message.body.len() - 28) / 16).sum();
        assert_eq!(elements, 10_000);
    }
}
