//! Where the API is served: the forms of `-H`.

use std::path::PathBuf;

use super::absolute;

const DEFAULT_SOCKET: &str = "/run/weft.sock";
/// Docker's ports, in the clear and with TLS.
const PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// One address the API is served at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Listen {
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    /// Sockets that the service manager opened.
    Inherited(Inherited),
}

/// Which of the sockets that the service manager opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Inherited {
    All,
    /// By the number of its file descriptor.
    One(usize),
}

/// All addresses; without any the usual socket.
pub(super) fn resolve(hosts: &[String], tls: bool, mistakes: &mut Vec<String>) -> Vec<Listen> {
    if hosts.is_empty() {
        return vec![Listen::Unix(DEFAULT_SOCKET.into())];
    }
    let parsed = hosts.iter().map(|host| parse(host, tls));
    parsed.filter_map(|host| host.map_err(|mistake| mistakes.push(mistake)).ok()).collect()
}

fn parse(host: &str, tls: bool) -> Result<Listen, String> {
    let wrong = || format!("hosts: {host:?} is not unix:///path/to/socket, tcp://address:port or fd://");
    match host.split_once("://") {
        Some(("unix", "")) => Ok(Listen::Unix(DEFAULT_SOCKET.into())),
        Some(("unix", path)) => Ok(Listen::Unix(absolute(path.into()))),
        Some(("tcp", address)) => tcp(address, tls).map(Listen::Tcp).ok_or_else(wrong),
        Some(("fd", "" | "*")) => Ok(Listen::Inherited(Inherited::All)),
        Some(("fd", number)) => {
            let parsed = number.parse().map(Inherited::One).map(Listen::Inherited);
            parsed.map_err(|_| format!("failed to parse systemd fd address: should be a number: {number}"))
        }
        Some(_) => Err(wrong()),
        // As dockerd: what has no scheme is an address.
        None if host.contains(':') => tcp(host, tls).map(Listen::Tcp).ok_or_else(wrong),
        None => Err(wrong()),
    }
}

/// `host:port`, each with Docker's default where it is missing.
fn tcp(address: &str, tls: bool) -> Option<String> {
    let usual = if tls { TLS_PORT } else { PORT };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (address, usual),
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let bare_ipv6 = host.contains(':') && !host.starts_with('[');
    let strange = host.contains(['/', ' ', '?', '#']) || bare_ipv6;
    (!strange).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_as_dockerd_reads_them() {
        for (given, address) in [
            ("tcp://0.0.0.0:2375", "0.0.0.0:2375"),
            ("tcp://", "localhost:2375"),
            ("tcp://:7777", "localhost:7777"),
            ("tcp://10.0.0.1", "10.0.0.1:2375"),
            ("tcp://[::1]", "[::1]:2375"),
            ("tcp://[::1]:5", "[::1]:5"),
            ("127.0.0.1:4243", "127.0.0.1:4243"),
        ] {
            assert_eq!(parse(given, false), Ok(Listen::Tcp(address.to_owned())), "{given}");
        }
        assert_eq!(parse("tcp://", true), Ok(Listen::Tcp("localhost:2376".to_owned())));
        assert_eq!(parse("fd://", true), Ok(Listen::Inherited(Inherited::All)));
        assert_eq!(parse("fd://4", true), Ok(Listen::Inherited(Inherited::One(4))));
        assert_eq!(parse("unix://", true), Ok(Listen::Unix("/run/weft.sock".into())));
        for bad in ["http://x", "tcp://a:b", "tcp://::1:5", "fd://x", "x", "tcp://a/b"] {
            assert!(parse(bad, false).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_a_mistake(host in "(tcp://|fd://|unix://)?[a-z0-9:/\\[\\].]{0,20}") {
            let _ = parse(&host, false);
        }
    }
}
