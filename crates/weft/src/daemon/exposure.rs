//! TCP addresses at which anybody is root: said loudly, in dockerd's words.

use super::config::{Config, Listen};

/// Behind every warning of `docker info`.
const ADVICE: &str = "
         Access to the remote API is equivalent to root access on the host. Refer
         to the 'Docker daemon attack surface' section in the documentation for
         more information: https://docs.docker.com/go/attack-surface/";

/// Addresses where clients need no certificate.
fn open_addresses(config: &Config) -> impl Iterator<Item = &String> {
    let verified = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    config.hosts.iter().filter_map(move |host| match host {
        Listen::Tcp(address) if !verified => Some(address),
        _ => None,
    })
}

/// For `docker info`.
pub(super) fn warnings(config: &Config) -> impl Iterator<Item = String> {
    open_addresses(config).map(|address| match config.tls {
        None => format!("WARNING: API is accessible on http://{address} without encryption.{ADVICE}"),
        Some(_) => {
            format!(
                "WARNING: API is accessible on https://{address} without TLS client verification.{ADVICE}"
            )
        }
    })
}

/// For the log.
pub(super) fn warn(config: &Config) {
    for address in open_addresses(config) {
        tracing::warn!(
            host = format!("tcp://{address}"),
            "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network."
        );
        tracing::warn!(
            host = format!("tcp://{address}"),
            "Binding to an IP address, even on localhost, can also give access to scripts run in a browser. Be safe out there!"
        );
    }
}
