//! Where a repository's registry is, and whether it may be spoken to without verified TLS.

use std::net::IpAddr;

use ipnet::IpNet;

/// Docker Hub's name in image names, and the host that serves it.
const HUB_HOST: &str = "registry-1.docker.io";

/// What the daemon's settings say about registries.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    networks: Vec<IpNet>,
    hosts: Vec<String>,
}

impl Registries {
    /// From `--insecure-registry` values, networks or `host[:port]`. Loopback always is insecure, as with dockerd.
    pub(crate) fn new(insecure: &[String]) -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        let (mut networks, mut hosts): (Vec<IpNet>, Vec<String>) = Default::default();
        for value in loopback.into_iter().chain(insecure.iter().map(String::as_str)) {
            match value.parse() {
                Ok(network) => networks.push(network),
                Err(_) => hosts.push(value.to_owned()),
            }
        }
        Self { networks, hosts }
    }

    /// Whether plain HTTP and unverified certificates are accepted from `authority` (`host[:port]`).
    pub(super) async fn is_insecure(&self, authority: &str) -> bool {
        if self.hosts.iter().any(|host| host == authority) {
            return true;
        }
        let (host, port) = split_port(authority);
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.covers(address);
        }
        match tokio::net::lookup_host((host, port.unwrap_or(443))).await {
            Ok(found) => found.into_iter().any(|address| self.covers(address.ip())),
            Err(_) => false,
        }
    }

    fn covers(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// A repository as its registry knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepositoryPath {
    /// `host[:port]` that answers.
    pub(crate) authority: String,
    /// `library/alpine`.
    pub(crate) path: String,
}

/// The registry that a client logs in to: `host[:port]`, as a URL or not; nothing or Docker Hub's old address is the
/// Hub.
pub(crate) fn login_authority(server: &str) -> String {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    match host.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" => HUB_HOST.to_owned(),
        other => other.to_owned(),
    }
}

impl RepositoryPath {
    /// From a repository in its familiar form.
    pub(crate) fn of(repository: &str) -> Self {
        match repository.split_once('/') {
            Some((host, path)) if crate::image::reference::is_host(host) => {
                Self { authority: host.to_owned(), path: path.to_owned() }
            }
            Some(_) => Self { authority: HUB_HOST.to_owned(), path: repository.to_owned() },
            None => Self { authority: HUB_HOST.to_owned(), path: format!("library/{repository}") },
        }
    }
}

/// Host, without the brackets of IPv6, and port.
pub(super) fn split_port(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && (!host.contains(':') || host.ends_with(']')) => {
            (host, port.parse().ok())
        }
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_says_who_serves_it() {
        for (name, authority, path) in [
            ("alpine", HUB_HOST, "library/alpine"),
            ("ann/tool", HUB_HOST, "ann/tool"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000", "a/b"),
            ("localhost/x", "localhost", "x"),
        ] {
            assert_eq!(
                RepositoryPath::of(name),
                RepositoryPath { authority: authority.to_owned(), path: path.to_owned() }
            );
        }
    }

    #[test]
    fn logins_name_a_registry_in_many_ways() {
        for (given, authority) in [
            ("", HUB_HOST),
            ("https://index.docker.io/v1/", HUB_HOST),
            ("r.example:5000", "r.example:5000"),
            ("https://r.example/v2/", "r.example"),
        ] {
            assert_eq!(login_authority(given), authority, "{given}");
        }
    }

    #[test]
    fn ports_are_split_off() {
        assert_eq!(split_port("a.example"), ("a.example", None));
        assert_eq!(split_port("a.example:5000"), ("a.example", Some(5000)));
        assert_eq!(split_port("[::1]:5000"), ("::1", Some(5000)));
        assert_eq!(split_port("[::1]"), ("::1", None));
    }

    #[tokio::test]
    async fn loopback_and_what_was_named_is_insecure() {
        let registries = Registries::new(&["10.1.0.0/16".to_owned(), "reg.example:5000".to_owned()]);
        for insecure in ["127.0.0.1:5000", "[::1]:5000", "10.1.2.3", "reg.example:5000"] {
            assert!(registries.is_insecure(insecure).await, "{insecure}");
        }
        assert!(!registries.is_insecure("10.2.0.1:5000").await);
    }
}
