//! Where a store is, as users write it: `consul://host:port[,host:port]…[/prefix]`.

use std::fmt;
use std::str::FromStr;

/// Which store speaks there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Consul,
    Etcd,
}

/// One of the store's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name or an address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The servers of one store, and the prefix of all keys there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreAddress {
    pub(crate) kind: StoreKind,
    /// At least one.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) prefix: Prefix,
}

/// Path before all keys: empty, or without a slash at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

/// The text names no store. Nothing was asked of any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Docker knew more stores than Weft does.
    #[error("the store {0:?} is not supported: use consul://host:port or etcd://host:port")]
    Kind(String),
    /// Not `kind://…` at all.
    #[error("{0:?} is not consul://host:port[,host:port][/prefix] or etcd://host:port[,host:port][/prefix]")]
    Form(String),
    /// One of the servers.
    #[error("{0:?} is not host:port")]
    Endpoint(String),
}

impl FromStr for StoreAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (kind, rest) = text.split_once("://").ok_or_else(|| AddressError::Form(text.to_owned()))?;
        let kind = match kind {
            "consul" => StoreKind::Consul,
            "etcd" => StoreKind::Etcd,
            other => return Err(AddressError::Kind(other.to_owned())),
        };
        let (servers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let endpoints = servers.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { kind, endpoints, prefix: Prefix::new(prefix) })
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Endpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').filter(|a| a.parse::<std::net::Ipv6Addr>().is_ok());
                address.ok_or_else(wrong)?
            }
            None => Some(host).filter(|host| is_name(host)).ok_or_else(wrong)?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Letters, digits, dots, hyphens, and the underscores that names inside of networks have.
fn is_name(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !host.is_empty() && host.chars().all(plain)
}

impl Prefix {
    /// Empty parts of the path count for nothing.
    fn new(path: &str) -> Self {
        Self(path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
    }

    /// The key as the store has it.
    pub(crate) fn full(&self, key: &str) -> String {
        if self.0.is_empty() { key.to_owned() } else { format!("{}/{key}", self.0) }
    }

    /// The key without the prefix; none for one that is not below it.
    pub(crate) fn strip<'a>(&self, full: &'a str) -> Option<&'a str> {
        if self.0.is_empty() { Some(full) } else { full.strip_prefix(&self.0)?.strip_prefix('/') }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consul => "consul",
            Self::Etcd => "etcd",
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        write!(f, "{}://{}", self.kind, servers.join(","))?;
        if self.prefix.0.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_servers_and_the_prefix_are_kept() {
        let address: StoreAddress =
            "consul://a.example:8500,10.0.0.2:8501,[fd00::3]:8502/my//net/".parse().unwrap();
        assert_eq!(address.endpoints[2], Endpoint { host: "fd00::3".to_owned(), port: 8502 });
        assert_eq!(address.to_string(), "consul://a.example:8500,10.0.0.2:8501,[fd00::3]:8502/my/net");
        assert_eq!(address.prefix.full("docker/nodes"), "my/net/docker/nodes");
        assert_eq!(address.prefix.strip("my/net/docker"), Some("docker"));
        assert_eq!(address.prefix.strip("my/network"), None);
        let bare: StoreAddress = "etcd://h:2379".parse().unwrap();
        assert_eq!((bare.prefix.full("k"), bare.prefix.strip("k")), ("k".to_owned(), Some("k")));
    }

    #[test]
    fn what_names_no_store_is_refused_with_what_it_should_be() {
        let refused = |text: &str| text.parse::<StoreAddress>().unwrap_err();
        assert_eq!(refused("zk://h:2181"), AddressError::Kind("zk".to_owned()));
        assert_eq!(refused("h:8500"), AddressError::Form("h:8500".to_owned()));
        for wrong in ["h", "h:", ":8500", "h:0", "h:65536", "u@h:1", "[h]:1", "fd00::1:8500", ""] {
            assert_eq!(
                refused(&format!("consul://{wrong}/p")),
                AddressError::Endpoint(wrong.to_owned()),
                "{wrong}"
            );
        }
        assert_eq!(refused("consul://a:1,,b:2"), AddressError::Endpoint(String::new()));
    }

    proptest! {
        #[test]
        fn an_address_reads_what_it_prints(text in "(consul|etcd)://[a-z.]{1,9}:[1-9][0-9]{0,3}(,[0-9.]{1,9}:7)?(/[a-z/]{0,9})?") {
            let address: StoreAddress = text.parse().unwrap();
            prop_assert_eq!(address.to_string().parse::<StoreAddress>().unwrap(), address);
        }

        #[test]
        fn no_text_makes_it_fall_over(text in any::<String>()) {
            let _ = text.parse::<StoreAddress>();
            let _ = format!("consul://{text}").parse::<StoreAddress>();
        }

        #[test]
        fn a_prefix_comes_off_again(prefix in "[a-z/]{0,9}", key in "[a-z/]{0,9}") {
            let prefix = Prefix::new(&prefix);
            let full = prefix.full(&key);
            prop_assert_eq!(prefix.strip(&full), Some(key.as_str()));
        }
    }
}
