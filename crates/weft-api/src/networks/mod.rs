//! `/networks`: those of this host and those that it shares with others, by a swarm or a key-value store, in one view.
//!
//! A swarm network that has endpoints on this node is shown as this node has it; else as the managers have it. A
//! worker knows only the former.

mod create;
mod find;
pub(crate) mod shape;

pub(crate) use create::create;

use bollard_stubs::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use serde_json::{Value, json};
use weft_engine::EngineError;
use weft_types::ErrorKind;
use weft_wire::swarmkit::Network;

use crate::convert::{self, rfc3339, rfc3339_proto};
use crate::error::{ApiError, ApiResult};
use crate::filters::Filters;
use crate::network_backend::NetworkScope;
use crate::query::parse_bool;
use crate::request::Call;
use crate::response::{no_content, ok, ok_empty};
use crate::state::ApiState;
use crate::swarm_backend::SwarmError;
use find::{Found, find};

const LIST_FILTERS: &[&str] = &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(LIST_FILTERS)?;
    let dangling = filters.flag("dangling")?;
    if let Some(word) = filters.get("type").iter().find(|t| !matches!(t.as_str(), "builtin" | "custom")) {
        return Err(ApiError::system(format!("invalid filter: 'type'='{word}'")));
    }
    let mut networks = swarm_view(&call.state).await?;
    let seen: Vec<String> = networks.iter().filter_map(|n| text(n, "Id").map(str::to_owned)).collect();
    let local = call.state.networks.networks();
    networks.extend(local.iter().filter(|n| !seen.contains(&n.id)).map(|n| shape::local(n, &[], None)));
    networks
        .retain(|network| matches(network, &filters) && dangling.is_none_or(|d| is_dangling(network) == d));
    networks.iter_mut().for_each(shape::listed);
    ok(&networks)
}

/// The swarm's networks, as far as this node is told of them.
async fn swarm_view(state: &ApiState) -> Result<Vec<Value>, ApiError> {
    match state.swarm.networks().await {
        Ok(networks) => {
            let shown = networks.iter().filter(|n| !convert::is_predefined(n));
            Ok(match state.swarm.network_scope() {
                NetworkScope::Global => shown.map(|n| global(state, n)).collect(),
                _ => shown.map(convert::swarm_network).collect(),
            })
        }
        // The node may have ceased to be a manager meanwhile.
        Err(SwarmError::NoSwarm | SwarmError::NotManager | SwarmError::Locked) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// A network of the key-value store with all that is on it.
fn global(state: &ApiState, network: &Network) -> Value {
    let here = state.networks.networks().into_iter().find(|local| local.id == network.id);
    let here = here.map(|local| local.containers).unwrap_or_default();
    let elsewhere = state.swarm.remote_endpoints(&network.id);
    shape::global(convert::swarm_network(network), &here, &elsewhere)
}

fn text<'a>(network: &'a Value, key: &str) -> Option<&'a str> {
    network.get(key).and_then(Value::as_str)
}

fn matches(network: &Value, filters: &Filters) -> bool {
    let is = |key: &str| text(network, key).unwrap_or_default();
    let name = is("Name");
    let builtin = is_builtin(name);
    let labels = network.get("Labels").and_then(Value::as_object);
    let labels =
        labels.into_iter().flatten().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()));
    filters.any("driver", |driver| is("Driver") == driver)
        && filters.any("scope", |scope| is("Scope") == scope)
        && filters.any("id", |id| like(id, is("Id")))
        && filters.any("name", |wanted| like(wanted, name))
        && filters.any("type", |kind| (kind == "builtin") == builtin)
        && filters.labels_match(&labels.collect())
}

/// Docker takes the value as a regular expression that may match anywhere; people use its anchors.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (Some(_), Some(_)) => text == &pattern[1..pattern.len() - 1],
        (Some(rest), None) => text.starts_with(rest),
        (None, Some(rest)) => text.ends_with(rest),
        (None, None) => text.contains(pattern),
    }
}

fn is_builtin(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

/// Without containers, and not one of the daemon's own.
fn is_dangling(network: &Value) -> bool {
    let used = network.get("Containers").and_then(Value::as_object).is_some_and(|c| !c.is_empty());
    !used && !is_builtin(text(network, "Name").unwrap_or_default())
}

pub(crate) async fn inspect(call: Call, term: String) -> ApiResult {
    let verbose = match call.query.get("verbose") {
        "" => false,
        given => parse_bool(given).ok_or_else(|| {
            ApiError::invalid(format!(
                "invalid value for verbose: {given}: strconv.ParseBool: parsing {given:?}: invalid syntax"
            ))
        })?,
    };
    match find(&call.state, &term, call.query.get("scope")).await? {
        Found::Local(network) if network.scope == NetworkScope::Global => {
            match call.state.swarm.network(&network.id).await {
                Ok(known) => ok(&global(&call.state, &known)),
                // The store was not heard yet.
                Err(_) => ok(&shape::local(&network, &[], None)),
            }
        }
        Found::Local(network) => {
            let networks = &call.state.networks;
            let services = if verbose { networks.services_on(&network.id) } else { Vec::new() };
            let paths = verbose.then(|| networks.encrypted_paths(&network.id)).flatten();
            ok(&shape::local(&network, &services, paths.as_deref()))
        }
        Found::Swarm(network) if call.state.swarm.network_scope() == NetworkScope::Global => {
            ok(&global(&call.state, &network))
        }
        Found::Swarm(network) => ok(&convert::swarm_network(&network)),
    }
}

pub(crate) async fn remove(call: Call, term: String) -> ApiResult {
    match find(&call.state, &term, "").await? {
        Found::Local(network) if network.predefined => Err(ApiError::forbidden(format!(
            "{} is a pre-defined network and cannot be removed",
            network.name
        ))),
        Found::Local(network) if network.scope == NetworkScope::Local => {
            call.state.networks.remove_network(&network.id).await?;
            no_content()
        }
        Found::Local(network) => remove_swarm(&call.state, &network.id).await,
        Found::Swarm(network) => remove_swarm(&call.state, &network.id).await,
    }
}

async fn remove_swarm(state: &ApiState, id: &str) -> ApiResult {
    state.swarm.remove_network(id).await?;
    no_content()
}

pub(crate) async fn connect(mut call: Call, term: String) -> ApiResult {
    let request: NetworkConnectRequest = call.json().await?;
    let network = resolve(&call.state, &term).await?;
    let settings = request.endpoint_config.unwrap_or_default();
    call.state.engine.connect_network(&request.container, &network, settings).await?;
    ok_empty()
}

pub(crate) async fn disconnect(mut call: Call, term: String) -> ApiResult {
    let request: NetworkDisconnectRequest = call.json().await?;
    let network = resolve(&call.state, &term).await?;
    let force = request.force.unwrap_or_default();
    match call.state.engine.disconnect_network(&request.container, &network, force).await {
        // By force Docker looks for an endpoint, not for a container.
        Err(EngineError::NoSuchContainer(name)) if force => {
            Err(ApiError::not_found(format!("endpoint {name} not found")))
        }
        done => {
            done?;
            ok_empty()
        }
    }
}

/// The full name of a network. A worker may name one of the swarm's that it has not met yet: the managers will know,
/// so what is unknown here is passed on as it is while this node is in a swarm.
async fn resolve(state: &ApiState, term: &str) -> Result<String, ApiError> {
    match find(state, term, "").await {
        Ok(Found::Local(network)) => Ok(network.name),
        Ok(Found::Swarm(network)) => {
            Ok(network.spec.and_then(|s| s.annotations).map(|a| a.name).unwrap_or_else(|| term.to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound && is_worker(state) => Ok(term.to_owned()),
        Err(error) => Err(error),
    }
}

fn is_worker(state: &ApiState) -> bool {
    let status = state.swarm.status();
    status.state == crate::swarm_backend::LocalNodeState::Active && !status.control_available
}

pub(crate) async fn prune(call: Call) -> ApiResult {
    let filters = call.query.filters(&["label", "label!", "until"])?;
    let until = weft_engine::until(&filters.clone().into_map())?;
    let mut deleted = Vec::new();
    for network in call.state.networks.networks() {
        let unused = network.containers.is_empty() && !network.predefined && !network.config_only;
        if unused
            && network.scope == NetworkScope::Local
            && filters.labels_match(&network.labels)
            && weft_engine::is_before(&rfc3339(network.created), until)
            && call.state.networks.remove_network(&network.id).await.is_ok()
        {
            deleted.push(network.name);
        }
    }
    if create::is_shared_here(&call.state) {
        for network in call.state.swarm.networks().await? {
            let named = network.spec.clone().and_then(|s| s.annotations).unwrap_or_default();
            let ingress = network.spec.as_ref().is_some_and(|s| s.ingress);
            // One in use is refused, and stays.
            let created = network.meta.as_ref().and_then(|meta| meta.created_at.as_ref());
            if !ingress
                && filters.labels_match(&named.labels)
                && weft_engine::is_before(&rfc3339_proto(created), until)
                && call.state.swarm.remove_network(&network.id).await.is_ok()
            {
                deleted.push(named.name);
            }
        }
    }
    call.state.events.publish_prune("network", 0);
    let deleted = if deleted.is_empty() { Value::Null } else { json!(deleted) };
    ok(&json!({ "NetworksDeleted": deleted }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_anywhere_or_at_their_anchors() {
        assert!(like("eb", "web") && like("^we", "web") && like("eb$", "web") && like("^web$", "web"));
        assert!(!like("^eb", "web") && !like("we$", "web") && !like("^we$", "web") && !like("x", "web"));
    }
}
