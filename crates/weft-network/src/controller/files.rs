//! The `/etc` files of sandboxes.

use std::fs;
use std::io;
use std::path::Path;

use crate::controller::Controller;
use crate::error::NetworkError;
use crate::etc::{HostResolver, Resolver, hosts_base, hosts_lines, resolver, update_hosts};
use crate::network::DEFAULT_BRIDGE;
use crate::sandbox::Sandbox;
use crate::spec::SandboxKind;
use crate::state::State;

impl Controller {
    /// The container's resolver settings.
    pub(super) fn resolver_of(&self, state: &State, sandbox: &Sandbox) -> Resolver {
        let host = fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        let host = HostResolver::parse(&host);
        let spec = &sandbox.spec;
        if spec.kind == SandboxKind::Host && spec.dns.is_empty() {
            // In the host's own namespace its loopback resolver can be reached.
            let text = fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
            return Resolver { text, upstreams: Vec::new(), ndots_set: false };
        }
        let either = |own: &Vec<String>, daemon: &Vec<String>| {
            if own.is_empty() { daemon.clone() } else { own.clone() }
        };
        resolver(
            &host,
            &either(&spec.dns, &self.config.dns),
            &either(&spec.dns_search, &self.config.dns_search),
            &either(&spec.dns_options, &self.config.dns_options),
            state.has_resolver(sandbox),
        )
    }

    /// Writes the files of a new sandbox, or what changed since `old`.
    pub(super) fn write_files(
        &self,
        state: &State,
        sandbox: &Sandbox,
        old: Option<(&State, &Sandbox)>,
    ) -> Result<(), NetworkError> {
        if matches!(sandbox.spec.kind, SandboxKind::Shared(_) | SandboxKind::Foreign(_) | SandboxKind::Handed)
        {
            return Ok(());
        }
        let folder = self.around.paths.etc(&sandbox.spec.container);
        let failed = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| NetworkError::File { action, path, source }
        };
        let (hosts, resolv, hostname) =
            (folder.join("hosts"), folder.join("resolv.conf"), folder.join("hostname"));
        let resolver = self.resolver_of(state, sandbox);
        let lines = own_lines(state, sandbox);
        let Some((before, old)) = old.filter(|_| hosts.exists()) else {
            fs::create_dir_all(&folder).map_err(failed("make folder", &folder))?;
            let mut text = hosts_base(&sandbox.spec.extra_hosts, self.host_gateway(state));
            if sandbox.spec.kind == SandboxKind::Host
                && let Ok(host) = fs::read_to_string("/etc/hosts")
            {
                text = host;
            }
            text = update_hosts(&text, &[], &lines);
            in_place(&hosts, &text).map_err(failed("write", &hosts))?;
            in_place(&resolv, &resolver.text).map_err(failed("write", &resolv))?;
            return in_place(&hostname, &format!("{}\n", sandbox.spec.hostname))
                .map_err(failed("write", &hostname));
        };
        let old_lines = own_lines(before, old);
        if old_lines != lines {
            let text = fs::read_to_string(&hosts).map_err(failed("read", &hosts))?;
            in_place(&hosts, &update_hosts(&text, &old_lines, &lines)).map_err(failed("write", &hosts))?;
        }
        let old_text = self.resolver_of(before, old).text;
        if old_text != resolver.text && fs::read_to_string(&resolv).is_ok_and(|now| now == old_text) {
            in_place(&resolv, &resolver.text).map_err(failed("write", &resolv))?;
        }
        Ok(())
    }

    pub(super) fn remove_files(&self, sandbox: &Sandbox) {
        let folder = self.around.paths.etc(&sandbox.spec.container);
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "files of a sandbox not removed");
        }
    }

    /// Folders of files that no sandbox accounts for: a daemon died before it had noted whose they are.
    pub(super) fn remove_stray_files(&self, state: &State) {
        let Ok(entries) = fs::read_dir(self.around.paths.etc_dir()) else { return };
        for entry in entries.flatten() {
            let is_known = |name: &str| state.sandboxes.keys().any(|container| container.as_str() == name);
            if entry.file_name().to_str().is_some_and(is_known) {
                continue;
            }
            let path = entry.path();
            tracing::info!(path = %path.display(), "files without a container removed");
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "files without a container not removed");
            }
        }
    }

    /// What `host-gateway` stands for.
    fn host_gateway(&self, state: &State) -> Option<std::net::IpAddr> {
        let bridge =
            || state.networks().find(|n| n.is_default_bridge())?.pools.first().map(|pool| pool.gateway);
        self.config.host_gateway.or_else(bridge)
    }
}

/// The container's own addresses, and on the default bridge its links: there is no resolver there.
fn own_lines(state: &State, sandbox: &Sandbox) -> Vec<String> {
    let spec = &sandbox.spec;
    let own = sandbox.endpoints.iter().filter(|endpoint| !endpoint.automatic);
    let mut lines = hosts_lines(own.clone().flat_map(|e| e.ips()), &spec.hostname, &spec.domainname);
    for endpoint in own {
        if state.network(&endpoint.network).is_none_or(|n| n.name != DEFAULT_BRIDGE) {
            continue;
        }
        for (alias, target) in &endpoint.links {
            let found = state.endpoints_on(&endpoint.network).find(|(other, _)| {
                other.spec.name == *target || other.spec.container.as_str().starts_with(target.as_str())
            });
            let Some((other, theirs)) = found else { continue };
            for ip in theirs.ips() {
                lines.push(format!("{ip}\t{alias} {} {}", other.spec.hostname, other.spec.name));
            }
        }
    }
    lines
}

/// Writes into the file that is there: it is mounted by its inode.
fn in_place(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}
