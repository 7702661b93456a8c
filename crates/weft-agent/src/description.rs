//! How this node describes itself to the managers, in the form that Docker's scheduler and tools expect.

use std::collections::BTreeMap;

use weft_identity::{CertificateError, NodeIdentity};
use weft_wire::swarmkit::{
    EngineDescription, NodeDescription, NodeTlsInfo, Platform, PluginDescription, Resources,
};

/// What is announced, sorted by type and name. A task on an overlay network is only placed where the overlay
/// plugin is listed, and a log driver only matters once any is listed.
const PLUGINS: [(&str, &str); 6] = [
    ("Log", "json-file"),
    ("Network", "bridge"),
    ("Network", "host"),
    ("Network", "null"),
    ("Network", "overlay"),
    ("Volume", "local"),
];

const NANO_CPUS_PER_CPU: i64 = 1_000_000_000;

/// The machine, as far as managers want to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDescription {
    /// Its host name.
    pub hostname: String,
    /// Labels of the engine (`--label`), not of the node.
    pub labels: BTreeMap<String, String>,
    /// Our version.
    pub engine_version: String,
    /// Processors that containers may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl HostDescription {
    /// Describes this machine.
    pub fn of_this_machine(
        hostname: String,
        labels: BTreeMap<String, String>,
        engine_version: String,
    ) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            hostname,
            labels,
            engine_version,
            cpus,
            memory_bytes: total_memory_bytes(&meminfo).unwrap_or(0),
        }
    }

    /// The description of this machine as the node `identity`.
    pub(crate) fn to_wire(&self, identity: &NodeIdentity) -> Result<NodeDescription, CertificateError> {
        let issuer = identity.issuer_info()?;
        Ok(NodeDescription {
            hostname: self.hostname.clone(),
            platform: Some(Platform {
                architecture: std::env::consts::ARCH.to_owned(),
                os: "linux".to_owned(),
            }),
            resources: Some(Resources {
                nano_cpus: i64::try_from(self.cpus).unwrap_or(i64::MAX / NANO_CPUS_PER_CPU)
                    * NANO_CPUS_PER_CPU,
                memory_bytes: i64::try_from(self.memory_bytes).unwrap_or(i64::MAX),
                ..Default::default()
            }),
            engine: Some(EngineDescription {
                engine_version: self.engine_version.clone(),
                labels: self.labels.clone(),
                plugins: PLUGINS
                    .iter()
                    .map(|(kind, name)| PluginDescription { r#type: (*kind).into(), name: (*name).into() })
                    .collect(),
            }),
            tls_info: Some(NodeTlsInfo {
                trust_root: identity.root_pem.clone().into_bytes(),
                cert_issuer_subject: issuer.subject,
                cert_issuer_public_key: issuer.public_key,
            }),
            ..Default::default()
        })
    }
}

/// `MemTotal` of `/proc/meminfo`, whose kB are 1024 bytes.
fn total_memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(total_memory_bytes("MemTotal:       16336220 kB\nMemFree: 1 kB\n"), Some(16_728_289_280));
        assert_eq!(total_memory_bytes(""), None);
        assert!(HostDescription::of_this_machine("h".into(), BTreeMap::new(), "0".into()).memory_bytes > 0);
    }

    #[test]
    fn plugins_are_sorted_as_dockers_are() {
        assert!(PLUGINS.is_sorted());
    }
}
