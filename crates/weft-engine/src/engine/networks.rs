//! A container's network: its sandbox, its endpoints, and changes while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_stubs::models::EndpointSettings;
use weft_types::ContainerId;

use super::{Engine, Result};
use crate::container::live::Container;
use crate::container::record::{Phase, Record};
use crate::error::EngineError;
use crate::network::{NetworkFailure, SandboxKind, SandboxSpec, SandboxView};
use crate::ports;

/// Docker's words in front of a failure at the start.
const SETUP: &str = "failed to set up container networking: ";

fn failed(prefix: &'static str) -> impl Fn(NetworkFailure) -> EngineError {
    move |source| EngineError::Network { prefix, source }
}

impl Engine {
    /// Makes the sandbox of a starting container with all its endpoints; answers its host name too.
    pub(super) async fn make_sandbox(
        &self,
        container: &Arc<Container>,
        record: &Record,
    ) -> Result<(String, SandboxView)> {
        let kind = self.sandbox_kind(record)?;
        let hostname = self.hostname(record, &kind);
        let host = &record.host;
        let exposed = record.config.exposed_ports.clone().unwrap_or_default();
        let bindings = host.port_bindings.clone().unwrap_or_default();
        let spec = SandboxSpec {
            container: record.id.clone(),
            name: record.name.clone(),
            kind: kind.clone(),
            hostname: hostname.clone(),
            domainname: record.config.domainname.clone().unwrap_or_default(),
            dns: host.dns.clone().unwrap_or_default(),
            dns_search: host.dns_search.clone().unwrap_or_default(),
            dns_options: host.dns_options.clone().unwrap_or_default(),
            extra_hosts: host.extra_hosts.clone().unwrap_or_default(),
            ports: ports::wishes(&bindings, &exposed, host.publish_all_ports == Some(true))?,
        };
        // What a crash may have left would be in the way.
        self.network.remove_sandbox(&record.id).await.map_err(failed(SETUP))?;
        let mut sandbox = self.network.create_sandbox(spec).await.map_err(failed(SETUP))?;
        let mut connected = BTreeMap::new();
        if kind == SandboxKind::Own {
            for (name, settings) in in_order(record) {
                let connecting = self.network.connect(&record.id, &name, &settings).await;
                let endpoint = connecting.map_err(|error| failed(SETUP)(by_id(record, &name, error)))?;
                connected.insert(name, endpoint);
            }
            sandbox.ports = self.network.publish(&record.id).await.map_err(failed(SETUP))?;
        } else if let Some(network_id) = self.network.id_of(record.network_mode()) {
            let settings = EndpointSettings { network_id: Some(network_id), ..EndpointSettings::default() };
            connected.insert(record.network_mode().to_owned(), settings);
        }
        container.update(|record| {
            record.connected = connected;
            record.sandbox = Some(sandbox.clone());
        })?;
        Ok((hostname, sandbox))
    }

    fn sandbox_kind(&self, record: &Record) -> Result<SandboxKind> {
        Ok(match record.network_mode() {
            "host" => SandboxKind::Host,
            // Who was taken from none to networks stays on these.
            "none" if record.endpoints.keys().all(|name| name == "none") => SandboxKind::None,
            mode => match mode.strip_prefix("container:") {
                Some(other) => SandboxKind::Shared(self.shared_owner(other)?),
                None => SandboxKind::Own,
            },
        })
    }

    fn shared_owner(&self, term: &str) -> Result<ContainerId> {
        let other = self.find(term).map_err(|error| {
            EngineError::Refused(format!("joining network namespace of container: {error}"))
        })?;
        let state = other.state();
        if state.phase != Phase::Running {
            return Err(EngineError::Conflict(format!(
                "cannot join network namespace of a non running container: container {} is {}",
                other.name(),
                state.status()
            )));
        }
        Ok(other.id.clone())
    }

    fn hostname(&self, record: &Record, kind: &SandboxKind) -> String {
        let own = record.config.hostname.clone().filter(|name| !name.is_empty());
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        match kind {
            // With the host's network Docker shows the host's name unless another was asked for.
            SandboxKind::Host if own.as_deref() == Some(record.id.short()) => machine(),
            SandboxKind::Shared(other) => self
                .find(other.as_str())
                .ok()
                .and_then(|other| other.with(|record| record.config.hostname.clone()))
                .unwrap_or_default(),
            _ => own.unwrap_or_else(machine),
        }
    }

    /// Connects a container to a network, now if it runs, else at its next start.
    pub async fn connect_network(
        self: &Arc<Self>,
        term: &str,
        network: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        let record = container.record();
        if record.state.phase == Phase::Removing {
            return Err(EngineError::Conflict(format!(
                "container {} is marked for removal and cannot be connected or disconnected to the network",
                record.id
            )));
        }
        let shown = self.network.display_name(network).unwrap_or_else(|| network.to_owned());
        self.network.check(network, &settings).map_err(failed(""))?;
        if self.endpoint_key(&record, &shown).is_some() {
            return Err(EngineError::Network {
                prefix: "",
                source: NetworkFailure {
                    message: format!("endpoint with name {} already exists in network {shown}", record.name),
                    kind: weft_types::ErrorKind::Forbidden,
                },
            });
        }
        if record.state.phase == Phase::Running {
            let endpoint = self.network.connect(&record.id, network, &settings).await.map_err(failed(""))?;
            let ports = self.network.publish(&record.id).await.map_err(failed(""))?;
            return container.update(|record| {
                record.endpoints.insert(shown.clone(), settings);
                record.connected.insert(shown, endpoint);
                if let Some(sandbox) = &mut record.sandbox {
                    sandbox.ports = ports;
                }
            });
        }
        container.update(|record| {
            // Its names are known before it has an address.
            if !matches!(shown.as_str(), "bridge" | "host" | "none") {
                let mut names = vec![record.name.clone()];
                names.extend(settings.aliases.clone().unwrap_or_default());
                names.push(record.id.short().to_owned());
                let named = EndpointSettings { dns_names: Some(names), ..settings.clone() };
                record.connected.insert(shown.clone(), remembered(&named));
            }
            record.endpoints.insert(shown, settings);
        })
    }

    /// Disconnects it.
    pub async fn disconnect_network(self: &Arc<Self>, term: &str, network: &str, force: bool) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        let record = container.record();
        let shown = self.network.display_name(network).unwrap_or_else(|| network.to_owned());
        let Some(key) = self.endpoint_key(&record, &shown) else {
            return Err(EngineError::Network {
                prefix: "",
                source: NetworkFailure {
                    message: format!("container {} is not connected to network {shown}", record.id),
                    kind: weft_types::ErrorKind::System,
                },
            });
        };
        if record.state.phase == Phase::Running {
            self.network.disconnect(&record.id, network, force).await.map_err(failed(""))?;
        }
        container.update(|record| {
            record.endpoints.remove(&key);
            record.connected.remove(&key);
        })
    }

    /// A place on a network was taken away, because it is another's now: its container leaves that network, be it one of
    /// this engine's or of another program.
    pub async fn withdraw(self: &Arc<Self>, container: &ContainerId, network: &str) -> Result<()> {
        if self.find(container.as_str()).is_ok() {
            return self.disconnect_network(container.as_str(), network, true).await;
        }
        self.network.disconnect(container, network, true).await.map_err(failed(""))
    }

    /// Under which name the container keeps its endpoint on a network.
    fn endpoint_key(&self, record: &Record, shown: &str) -> Option<String> {
        let same = |name: &str| name == shown || self.network.display_name(name).as_deref() == Some(shown);
        record.endpoints.keys().find(|name| same(name)).cloned()
    }
}

/// A network that was removed since the last start is told by the id that it had.
fn by_id(record: &Record, name: &str, error: NetworkFailure) -> NetworkFailure {
    let known = record.connected.get(name).and_then(|endpoint| endpoint.network_id.as_deref());
    match known.filter(|id| !id.is_empty() && error.message == format!("network {name} not found")) {
        Some(id) => NetworkFailure { message: format!("network {id} not found"), ..error },
        None => error,
    }
}

/// What stays known of an endpoint that is gone, as Docker keeps it: which network it was on, under which names.
pub(super) fn remembered(endpoint: &EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: endpoint.ipam_config.clone(),
        links: endpoint.links.clone(),
        aliases: endpoint.aliases.clone(),
        driver_opts: endpoint.driver_opts.clone(),
        gw_priority: endpoint.gw_priority,
        network_id: endpoint.network_id.clone(),
        dns_names: endpoint.dns_names.clone(),
        ..EndpointSettings::default()
    }
}

/// The network of the network mode first: it is eth0.
fn in_order(record: &Record) -> Vec<(String, EndpointSettings)> {
    let mode = record.network_mode();
    let mut endpoints: Vec<_> =
        record.endpoints.iter().map(|(name, settings)| (name.clone(), settings.clone())).collect();
    endpoints.sort_by_key(|(name, _)| name != mode);
    endpoints
}
