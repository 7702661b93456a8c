//! `/etc/hosts`.

use std::net::IpAddr;

/// What every container has.
const COMMON: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// The file before the container has an address: common lines and `--add-host`.
pub(crate) fn hosts_base(extra: &[String], host_gateway: Option<IpAddr>) -> String {
    let mut text = COMMON.to_owned();
    for entry in extra {
        // `name:address`; an IPv6 address has colons of its own, maybe in brackets.
        let Some((name, address)) = entry.split_once([':', '=']) else { continue };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let ip = if address == "host-gateway" { host_gateway } else { address.parse().ok() };
        if let Some(ip) = ip {
            text.push_str(&format!("{ip}\t{name}\n"));
        }
    }
    text
}

/// The lines for the container's own addresses.
pub(crate) fn hosts_lines(
    addresses: impl IntoIterator<Item = IpAddr>,
    hostname: &str,
    domainname: &str,
) -> Vec<String> {
    let names = if domainname.is_empty() || hostname.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domainname} {hostname}")
    };
    addresses.into_iter().filter(|_| !names.is_empty()).map(|ip| format!("{ip}\t{names}")).collect()
}

/// The file with the controller's lines exchanged; lines that the container wrote stay.
pub(crate) fn update_hosts(text: &str, old: &[String], new: &[String]) -> String {
    let mut out: String =
        text.lines().filter(|line| !old.iter().any(|o| o == line)).flat_map(|line| [line, "\n"]).collect();
    for line in new {
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_writes_it() {
        let base = hosts_base(
            &["db:10.0.0.9".to_owned(), "six:[fd00::1]".to_owned(), "up:host-gateway".to_owned()],
            Some("172.17.0.1".parse().unwrap()),
        );
        assert!(
            base.ends_with("ff02::2\tip6-allrouters\n10.0.0.9\tdb\nfd00::1\tsix\n172.17.0.1\tup\n"),
            "{base}"
        );
        let lines = hosts_lines(["172.18.0.2".parse().unwrap()], "d885bfba8342", "");
        assert_eq!(lines, ["172.18.0.2\td885bfba8342"]);
        let lines = hosts_lines(["172.18.0.2".parse().unwrap()], "web", "example.org");
        assert_eq!(lines, ["172.18.0.2\tweb.example.org web"]);
    }

    #[test]
    fn the_containers_own_lines_survive() {
        let old = ["10.0.0.2\tweb".to_owned()];
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n1.2.3.4\tmine\n";
        let new = update_hosts(text, &old, &["10.0.0.3\tweb".to_owned()]);
        assert_eq!(new, "127.0.0.1\tlocalhost\n1.2.3.4\tmine\n10.0.0.3\tweb\n");
    }
}
