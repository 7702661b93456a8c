//! The engine's wishes in the words of the network controller, and its answers in those of the Docker API.

use std::collections::HashMap;

use async_trait::async_trait;
use bollard_stubs::models::{EndpointIpamConfig, EndpointSettings, PortMap};
use weft_network::{Controller, EndpointSpec, EndpointView, NetworkError, SandboxSpec};
use weft_types::{Classified, ContainerId, ErrorKind};

use crate::network::{ContainerNetwork, NetworkFailure, SandboxView};
use crate::ports;

#[async_trait]
impl ContainerNetwork for Controller {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxView, NetworkFailure> {
        let view = Controller::create_sandbox(self, spec).await.map_err(|error| failure(&error))?;
        Ok(SandboxView {
            id: view.id,
            netns: view.netns,
            hosts: Some(view.hosts),
            resolv_conf: Some(view.resolv_conf),
            hostname: Some(view.hostname),
            ports: ports::shown(&view.ports),
        })
    }

    async fn connect(
        &self,
        container: &ContainerId,
        network: &str,
        settings: &EndpointSettings,
    ) -> Result<EndpointSettings, NetworkFailure> {
        let spec = endpoint_spec(settings)?;
        let view =
            Controller::connect(self, container, network, spec).await.map_err(|error| failure(&error))?;
        Ok(endpoint_settings(&view, settings))
    }

    async fn disconnect(
        &self,
        container: &ContainerId,
        network: &str,
        force: bool,
    ) -> Result<(), NetworkFailure> {
        match Controller::disconnect(self, container, network).await {
            // What is gone already is what was wished for.
            Err(NetworkError::NotConnected { .. }) if force => Ok(()),
            other => other.map_err(|error| failure(&error)),
        }
    }

    async fn publish(&self, container: &ContainerId) -> Result<PortMap, NetworkFailure> {
        let mappings = Controller::publish(self, container).await.map_err(|error| failure(&error))?;
        Ok(ports::shown(&mappings))
    }

    async fn rename(&self, container: &ContainerId, name: &str) -> Result<(), NetworkFailure> {
        Controller::rename(self, container, name).await.map_err(|error| failure(&error))
    }

    async fn remove_sandbox(&self, container: &ContainerId) -> Result<(), NetworkFailure> {
        Controller::remove_sandbox(self, container).await.map_err(|error| failure(&error))
    }

    async fn suspend_sandbox(&self, container: &ContainerId) -> Result<(), NetworkFailure> {
        Controller::suspend_sandbox(self, container).await.map_err(|error| failure(&error))
    }

    async fn adopt(&self, running: &[ContainerId]) -> Result<(), NetworkFailure> {
        Controller::adopt(self, running).await.map_err(|error| failure(&error))
    }

    fn check(&self, network: &str, settings: &EndpointSettings) -> Result<(), NetworkFailure> {
        Controller::check(self, network, &endpoint_spec(settings)?).map_err(|error| failure(&error))
    }

    fn display_name(&self, network: &str) -> Option<String> {
        self.find(network).ok().map(|network| network.name)
    }

    fn id_of(&self, network: &str) -> Option<String> {
        self.find(network).ok().map(|network| network.id.to_string())
    }

    fn endpoints(&self, container: &ContainerId) -> HashMap<String, EndpointSettings> {
        let views = Controller::endpoints(self, container);
        let none = EndpointSettings::default();
        views.iter().map(|view| (view.network.clone(), endpoint_settings(view, &none))).collect()
    }
}

fn failure(error: &NetworkError) -> NetworkFailure {
    NetworkFailure { message: error.to_string(), kind: error.kind() }
}

fn endpoint_spec(settings: &EndpointSettings) -> Result<EndpointSpec, NetworkFailure> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    if ipam.link_local_ips.iter().flatten().any(|ip| !ip.is_empty()) {
        return Err(NetworkFailure {
            message: "link-local addresses are not implemented: leave LinkLocalIPs out".to_owned(),
            kind: ErrorKind::NotImplemented,
        });
    }
    let mac = text(&settings.mac_address).map(|mac| mac.parse()).transpose().map_err(|_| NetworkFailure {
        message: format!(
            "invalid endpoint settings:\ninvalid MAC address: {}",
            settings.mac_address.as_deref().unwrap_or_default()
        ),
        kind: ErrorKind::InvalidParameter,
    })?;
    let links = settings.links.iter().flatten().map(|link| {
        let (container, alias) = link.split_once(':').unwrap_or((link, link));
        (alias.to_owned(), container.to_owned())
    });
    Ok(EndpointSpec {
        ipv4: text(&ipam.ipv4_address),
        ipv6: text(&ipam.ipv6_address),
        mac,
        aliases: settings.aliases.clone().unwrap_or_default(),
        links: links.collect(),
        driver_opts: settings.driver_opts.clone().unwrap_or_default().into_iter().collect(),
        gateway_priority: settings.gw_priority.unwrap_or(0),
        ..EndpointSpec::default()
    })
}

/// The endpoint as it stands, on top of what was wished for.
fn endpoint_settings(view: &EndpointView, wished: &EndpointSettings) -> EndpointSettings {
    let ip = |address: Option<std::net::IpAddr>| Some(address.map(|ip| ip.to_string()).unwrap_or_default());
    let prefix = |address: Option<weft_types::EndpointAddress>| {
        Some(address.map(|address| i64::from(address.prefix_len())).unwrap_or(0))
    };
    // On swarm networks Docker shows the given address as if it had been asked for.
    let ipam = match (&view.attachment, view.address) {
        (Some(_), Some(address)) => Some(EndpointIpamConfig {
            ipv4_address: Some(address.ip().to_string()),
            ..wished.ipam_config.clone().unwrap_or_default()
        }),
        _ => wished.ipam_config.clone(),
    };
    EndpointSettings {
        ipam_config: ipam,
        links: wished.links.clone(),
        mac_address: Some(if view.mac.is_unicast() { view.mac.to_string() } else { String::new() }),
        aliases: wished.aliases.clone(),
        driver_opts: wished.driver_opts.clone(),
        gw_priority: Some(wished.gw_priority.unwrap_or(0)),
        network_id: Some(view.network_id.to_string()),
        endpoint_id: Some(view.id.to_string()),
        gateway: ip(view.gateway),
        ip_address: ip(view.address.map(|address| address.ip())),
        ip_prefix_len: prefix(view.address),
        ipv6_gateway: ip(view.gateway6),
        global_ipv6_address: ip(view.address6.map(|address| address.ip())),
        global_ipv6_prefix_len: prefix(view.address6),
        dns_names: (!view.dns_names.is_empty()).then(|| view.dns_names.clone()),
    }
}
