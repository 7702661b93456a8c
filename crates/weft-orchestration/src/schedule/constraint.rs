//! Placement constraints: `node.role==manager` and the like, with SwarmKit's grammar and words.
//!
//! A value is compared whole and without regard to case; there are no patterns in it, although the grammar lets
//! their characters pass. An unknown key is accepted and matched by no node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::{Node, NodeRole};

/// Constraint keys with this prefix name a label of the node.
const NODE_LABEL_PREFIX: &str = "node.labels.";
/// Constraint keys with this prefix name a label of the node's engine.
const ENGINE_LABEL_PREFIX: &str = "engine.labels.";

/// In the order in which a text is searched for them.
const OPERATORS: [(&str, Operator); 2] = [("==", Operator::Equal), ("!=", Operator::NotEqual)];
/// What a value may hold besides letters, digits and white space.
const VALUE_MARKS: &str = r":-_.*()?+[]\^$|/";

/// A text that is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// Neither `==` nor `!=`.
    #[error("constraint expected one operator from ==, !=")]
    Operator,
    /// What stands before the operator is no key.
    #[error("key '{0}' is invalid")]
    Key(String),
    /// What stands behind the operator is no value.
    #[error("value '{0}' is invalid")]
    Value(String),
}

impl Classified for ConstraintError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
}

/// What of a node is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Id,
    Hostname,
    Address,
    Role,
    Os,
    Architecture,
    Label(LabelKey),
    /// Something that no node has.
    Unknown,
}

impl Key {
    fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "node.id" => Self::Id,
            "node.hostname" => Self::Hostname,
            "node.ip" => Self::Address,
            "node.role" => Self::Role,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Architecture,
            _ => LabelKey::parse(text).map_or(Self::Unknown, Self::Label),
        }
    }
}

/// A label of a node or of its engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LabelKey {
    Node(String),
    Engine(String),
}

impl LabelKey {
    /// None if the text names no label.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let node = strip_prefix_fold(text, NODE_LABEL_PREFIX).map(|name| Self::Node(name.to_owned()));
        node.or_else(|| Some(Self::Engine(strip_prefix_fold(text, ENGINE_LABEL_PREFIX)?.to_owned())))
    }

    /// Empty if the node does not have it.
    pub(super) fn value_of<'a>(&self, node: &'a Node) -> &'a str {
        let (labels, name) = match self {
            Self::Node(name) => {
                let annotations = node.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
                (annotations.map(|annotations| &annotations.labels), name)
            }
            Self::Engine(name) => {
                let engine = node.description.as_ref().and_then(|description| description.engine.as_ref());
                (engine.map(|engine| &engine.labels), name)
            }
        };
        labels.and_then(|labels: &BTreeMap<String, String>| labels.get(name)).map_or("", String::as_str)
    }
}

/// One demand on nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: Key,
    operator: Operator,
    value: String,
}

impl Constraint {
    /// Reads all of a service's constraints.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, ConstraintError> {
        texts.iter().map(|text| Self::parse(text)).collect()
    }

    /// Reads one constraint.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let split = |(sign, operator)| text.split_once(sign).map(|(key, value)| (key, operator, value));
        let (key, operator, value) =
            OPERATORS.into_iter().find_map(split).ok_or(ConstraintError::Operator)?;
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(ConstraintError::Key(key.to_owned()));
        }
        if !is_value(value) {
            return Err(ConstraintError::Value(value.to_owned()));
        }
        Ok(Self { key: Key::parse(key), operator, value: value.to_owned() })
    }

    /// Whether a node satisfies this one.
    pub fn is_met_by(&self, node: &Node) -> bool {
        let description = node.description.as_ref();
        let platform = description.and_then(|description| description.platform.as_ref());
        match &self.key {
            Key::Id => self.accepts(&node.id),
            Key::Hostname => self.accepts(description.map_or("", |description| &description.hostname)),
            Key::Address => self.accepts_address(node.status.as_ref().map_or("", |status| &status.addr)),
            Key::Role => self.accepts(role_name(node.role())),
            Key::Os => self.accepts(platform.map_or("", |platform| &platform.os)),
            Key::Architecture => self.accepts(platform.map_or("", |platform| &platform.architecture)),
            Key::Label(label) => self.accepts(label.value_of(node)),
            Key::Unknown => false,
        }
    }

    fn accepts(&self, found: &str) -> bool {
        equal_fold(&self.value, found) == (self.operator == Operator::Equal)
    }

    /// An address or a subnet that the node's address is compared with; what is neither is never met.
    fn accepts_address(&self, found: &str) -> bool {
        let found = found.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let is_equal = if let Ok(address) = self.value.parse::<IpAddr>() {
            found == Some(address.to_canonical())
        } else if let Ok(subnet) = self.value.parse::<IpNet>() {
            found.is_some_and(|address| subnet.contains(&address))
        } else {
            return false;
        };
        is_equal == (self.operator == Operator::Equal)
    }
}

/// What follows a prefix written in any case; none if nothing follows.
fn strip_prefix_fold<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && !rest.is_empty()).then_some(rest)
}

fn equal_fold(a: &str, b: &str) -> bool {
    a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
}

fn role_name(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Worker => "worker",
        NodeRole::Manager => "manager",
    }
}

/// A letter or underscore, then at least one letter, digit, `-`, `_` or `.`.
fn is_key(text: &str) -> bool {
    let mut bytes = text.bytes();
    let starts = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    starts && text.len() > 1 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_value(text: &str) -> bool {
    let is_allowed = |c: char| {
        c.is_ascii_alphanumeric() || VALUE_MARKS.contains(c) || matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c')
    };
    !text.is_empty() && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::{
        Annotations, EngineDescription, NodeDescription, NodeSpec, NodeStatus, Platform,
    };

    use super::*;

    fn node() -> Node {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Node {
            id: "8r1p2dqn".into(),
            role: NodeRole::Manager.into(),
            spec: Some(NodeSpec {
                annotations: Some(Annotations {
                    labels: labels(&[("zone", "West"), ("Zone", "other")]),
                    ..Annotations::default()
                }),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus { addr: "10.4.0.9".into(), ..NodeStatus::default() }),
            description: Some(NodeDescription {
                hostname: "Node-1".into(),
                platform: Some(Platform { architecture: "x86_64".into(), os: "linux".into() }),
                engine: Some(EngineDescription {
                    labels: labels(&[("disk", "ssd")]),
                    ..EngineDescription::default()
                }),
                ..NodeDescription::default()
            }),
            ..Node::default()
        }
    }

    fn is_met(text: &str) -> bool {
        Constraint::parse(text).unwrap().is_met_by(&node())
    }

    #[test]
    fn every_key_with_both_operators() {
        for (key, value) in [
            ("node.id", "8r1p2dqn"),
            ("node.hostname", "node-1"),
            ("NODE.Hostname", "NODE-1"),
            ("node.ip", "10.4.0.9"),
            ("node.ip", "10.4.0.0/16"),
            ("node.ip", "10.4.7.7/16"),
            ("node.ip", "::ffff:10.4.0.9"),
            ("node.role", "manager"),
            ("node.platform.os", "Linux"),
            ("node.platform.arch", "x86_64"),
            ("node.labels.zone", "west"),
            ("Node.Labels.Zone", "other"),
            ("engine.labels.disk", "SSD"),
        ] {
            assert!(is_met(&format!("{key}=={value}")), "{key}=={value}");
            assert!(!is_met(&format!("{key} != {value}")), "{key}!={value}");
            assert!(!is_met(&format!("{key} == {value}x")), "{key}=={value}x");
        }
    }

    #[test]
    fn what_a_node_does_not_have_is_unequal_to_everything() {
        for key in
            ["node.hostname", "node.platform.os", "node.platform.arch", "node.labels.a", "engine.labels.a"]
        {
            let bare = Node::default();
            assert!(!Constraint::parse(&format!("{key}==a")).unwrap().is_met_by(&bare), "{key}");
            assert!(Constraint::parse(&format!("{key}!=a")).unwrap().is_met_by(&bare), "{key}");
        }
        let bare = Node::default();
        assert!(Constraint::parse("node.ip!=10.0.0.0/8").unwrap().is_met_by(&bare));
        assert!(!Constraint::parse("node.ip==10.0.0.0/8").unwrap().is_met_by(&bare));
    }

    #[test]
    fn unknown_keys_and_malformed_addresses_match_nothing() {
        for text in [
            "node.bogus==1",
            "node.bogus!=1",
            "node.labels.==1",
            "node.labels.!=1",
            "node.ip==nope",
            "node.ip!=nope",
        ] {
            assert!(!is_met(text), "{text}");
        }
    }

    /// There are no patterns: their characters are compared as they are.
    #[test]
    fn a_value_is_no_pattern() {
        assert!(!is_met("node.hostname==node-*"));
        assert!(!is_met("node.hostname==/node-[0-9]/"));
    }

    #[test]
    fn refuses_in_swarmkits_words() {
        for (text, words) in [
            ("bogus", "constraint expected one operator from ==, !="),
            ("node.role=manager", "constraint expected one operator from ==, !="),
            ("", "constraint expected one operator from ==, !="),
            ("node.role!=a==b", "key 'node.role!=a' is invalid"),
            ("1a==b", "key '1a' is invalid"),
            ("a==b", "key 'a' is invalid"),
            (" ==b", "key '' is invalid"),
            ("node role==b", "key 'node role' is invalid"),
            ("node.role==", "value '' is invalid"),
            ("node.role== >3 ", "value '>3' is invalid"),
            ("node.role==a=b", "value 'a=b' is invalid"),
        ] {
            assert_eq!(Constraint::parse(text).unwrap_err().to_string(), words, "{text}");
        }
        assert!(Constraint::parse_all(&["node.labels.a-b_c.d == Wert (1)/2*".into()]).is_ok());
    }
}
