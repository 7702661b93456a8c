//! `POST /networks/create`: of this host, of the swarm, or of all hosts of a key-value store.

use bollard_stubs::models::NetworkCreateRequest;
use serde_json::json;
use weft_network::{IpamConfig, NetworkSpec};
use weft_types::ErrorKind;

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::network_backend::NetworkScope;
use crate::request::Call;
use crate::response::created;
use crate::state::ApiState;
use crate::swarm_backend::{LocalNodeState, SwarmError};

/// Names the daemon keeps for itself.
const PREDEFINED: &[&str] = &["bridge", "host", "none", "default"];
/// The IPAM driver, when not named.
const DEFAULT_IPAM: &str = "default";

pub(crate) async fn create(mut call: Call) -> ApiResult {
    let request: NetworkCreateRequest = call.json().await?;
    if request.name.trim().is_empty() {
        return Err(ApiError::invalid("invalid name: name is empty"));
    }
    let ipam_driver = request.ipam.as_ref().and_then(|i| i.driver.as_deref()).unwrap_or_default();
    if !matches!(ipam_driver, "" | DEFAULT_IPAM) {
        return Err(ApiError::not_found(format!("plugin {ipam_driver:?} not found")));
    }
    let id = if wants_swarm(&request)? {
        refuse_configuration(&request)?;
        match call.state.swarm.network_scope() {
            NetworkScope::Global => create_global(&call.state, request).await?,
            _ => create_in_swarm(&call.state, request).await?,
        }
    } else {
        create_here(&call.state, request).await?
    };
    created(&json!({ "Id": id, "Warning": "" }))
}

/// The managers' networks have their own settings.
fn refuse_configuration(request: &NetworkCreateRequest) -> Result<(), ApiError> {
    if request.config_only.unwrap_or_default() || config_from(request).is_some() {
        return Err(ApiError::not_implemented(
            "a network of the swarm that holds or takes over another's configuration",
        ));
    }
    Ok(())
}

fn config_from(request: &NetworkCreateRequest) -> Option<String> {
    request.config_from.as_ref().and_then(|from| from.network.clone()).filter(|name| !name.is_empty())
}

/// Whether networks are made and removed here that other hosts have too.
pub(super) fn is_shared_here(state: &ApiState) -> bool {
    state.swarm.status().control_available || state.swarm.network_scope() == NetworkScope::Global
}

/// Overlays are shared with others, other networks only if asked for.
fn wants_swarm(request: &NetworkCreateRequest) -> Result<bool, ApiError> {
    let overlay = request.driver.as_deref() == Some("overlay");
    let scope = request.scope.as_deref().unwrap_or_default();
    if overlay && scope == "local" {
        return Err(ApiError::forbidden("cannot downgrade network scope for overlay networks"));
    }
    let swarm = overlay || matches!(scope, "swarm" | "global");
    if request.ingress.unwrap_or_default() && !swarm {
        return Err(ApiError::forbidden("Ingress network can only be global scope network"));
    }
    Ok(swarm)
}

async fn create_here(state: &ApiState, request: NetworkCreateRequest) -> Result<String, ApiError> {
    let driver = request.driver.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| "bridge".to_owned());
    // Docker asks the shared networks first, so their names are taken here too.
    if !PREDEFINED.contains(&request.name.as_str()) && is_shared_here(state) {
        name_is_free(state, &request.name).await?;
    }
    let config_from = config_from(&request);
    let ipam = request.ipam.unwrap_or_default();
    let spec = NetworkSpec {
        name: request.name,
        driver,
        scope: request.scope.unwrap_or_default(),
        enable_ipv4: request.enable_ipv4.unwrap_or(true),
        enable_ipv6: request.enable_ipv6.unwrap_or_default(),
        internal: request.internal.unwrap_or_default(),
        attachable: request.attachable.unwrap_or_default(),
        ingress: request.ingress.unwrap_or_default(),
        ipam: ipam.config.unwrap_or_default().into_iter().map(ipam_config).collect(),
        ipam_options: ipam.options.map(|options| convert::labels(Some(options))),
        options: convert::labels(request.options),
        labels: convert::labels(request.labels),
        config_only: request.config_only.unwrap_or_default(),
        config_from,
    };
    Ok(state.networks.create_network(spec).await?)
}

fn ipam_config(config: bollard_stubs::models::IpamConfig) -> IpamConfig {
    let given = |text: Option<String>| text.filter(|t| !t.is_empty());
    IpamConfig {
        subnet: given(config.subnet),
        ip_range: given(config.ip_range),
        gateway: given(config.gateway),
        auxiliary: convert::labels(config.auxiliary_addresses),
    }
}

async fn create_in_swarm(state: &ApiState, request: NetworkCreateRequest) -> Result<String, ApiError> {
    let status = state.swarm.status();
    if request.driver.as_deref() != Some("overlay") {
        if status.state != LocalNodeState::Active {
            return Err(ApiError::forbidden("cannot create a swarm scoped network when swarm is not active"));
        }
        return Err(ApiError::not_implemented("a swarm network that is no overlay"));
    }
    if !status.control_available {
        // Docker's status here is 403, unlike everywhere else.
        let refusal = match status.state {
            LocalNodeState::Inactive => SwarmError::NoSwarm,
            LocalNodeState::Locked => SwarmError::Locked,
            _ => SwarmError::NotManager,
        };
        return Err(ApiError::forbidden(refusal.to_string()));
    }
    create_shared(state, request).await
}

async fn create_global(state: &ApiState, request: NetworkCreateRequest) -> Result<String, ApiError> {
    if request.scope.as_deref() == Some("swarm") {
        return Err(ApiError::forbidden("cannot create a swarm scoped network when swarm is not active"));
    }
    if request.driver.as_deref() != Some("overlay") {
        return Err(ApiError::not_implemented("a global network that is no overlay"));
    }
    if PREDEFINED.contains(&request.name.as_str()) {
        let name = request.name;
        return Err(ApiError::forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    create_shared(state, request).await
}

async fn create_shared(state: &ApiState, request: NetworkCreateRequest) -> Result<String, ApiError> {
    let name = request.name.clone();
    if state.networks.networks().iter().any(|n| n.name == name && n.scope == NetworkScope::Local) {
        return Err(exists(&name));
    }
    name_is_free(state, &name).await?;
    let id = state.swarm.create_network(convert::network_spec(request)).await?;
    Ok(id)
}

async fn name_is_free(state: &ApiState, name: &str) -> Result<(), ApiError> {
    let networks = state.swarm.networks().await?;
    let taken = networks
        .iter()
        .any(|n| n.spec.as_ref().and_then(|s| s.annotations.as_ref()).is_some_and(|a| a.name == name));
    if taken { Err(exists(name)) } else { Ok(()) }
}

fn exists(name: &str) -> ApiError {
    ApiError::new(ErrorKind::Conflict, format!("network with name {name} already exists"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(driver: &str, scope: &str, ingress: bool) -> NetworkCreateRequest {
        NetworkCreateRequest {
            name: "n".to_owned(),
            driver: Some(driver.to_owned()),
            scope: Some(scope.to_owned()),
            ingress: Some(ingress),
            ..Default::default()
        }
    }

    #[test]
    fn overlays_belong_to_the_swarm() {
        assert!(wants_swarm(&request("overlay", "", false)).unwrap());
        assert!(wants_swarm(&request("bridge", "swarm", false)).unwrap());
        assert!(!wants_swarm(&request("bridge", "", false)).unwrap());
        assert!(wants_swarm(&request("overlay", "local", false)).is_err());
        assert!(wants_swarm(&request("bridge", "", true)).is_err());
    }
}
