//! What containers see of each other.

use crate::{Failed, Hosts};

/// Result of busybox' `ping`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// Packets sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
    /// Time to live of the first answer.
    pub ttl: Option<u8>,
    /// Address that was pinged.
    pub address: String,
}

impl Ping {
    /// Whether all packets came back.
    pub fn is_lossless(&self) -> bool {
        self.sent > 0 && self.sent == self.received
    }

    fn parse(output: &str) -> Option<Self> {
        let counts = output.lines().find(|l| l.contains("packets transmitted"))?;
        let mut numbers = counts.split(|c: char| !c.is_ascii_digit()).filter(|w| !w.is_empty());
        let (sent, received) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        let ttl = output.split("ttl=").nth(1).and_then(|t| t.split_whitespace().next()?.parse().ok());
        let address = output.split(['(', ')']).nth(1)?.to_owned();
        Some(Self { sent, received, ttl, address })
    }
}

/// Pings from a container; lost packets are no error here.
pub fn ping(hosts: &Hosts, host: &str, container: &str, target: &str, count: u32) -> Result<Ping, Failed> {
    let line = format!("ping -c {count} -i 0.1 -W 2 {target} || true");
    let output = hosts.exec(host, container, &line)?;
    Ping::parse(&output).ok_or_else(|| Failed {
        command: line,
        code: Some(1),
        stdout: output,
        stderr: format!("no result from ping {target}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_output_is_read() {
        let text = "PING b (10.0.1.4): 56 data bytes\n64 bytes from 10.0.1.4: seq=0 ttl=64 time=0.1 ms\n\n--- b ping \
                    statistics ---\n3 packets transmitted, 2 packets received, 33% packet loss\n";
        let ping = Ping::parse(text).unwrap();
        assert_eq!((ping.sent, ping.received, ping.ttl), (3, 2, Some(64)));
        assert_eq!(ping.address, "10.0.1.4");
        assert!(!ping.is_lossless());
    }
}
