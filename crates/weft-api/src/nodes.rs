//! `/nodes`.

use serde_json::Value;
use weft_wire::swarmkit::Node;

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::filters::Filters;
use crate::request::Call;
use crate::response::{ok, ok_empty};

const FILTERS: &[&str] = &["id", "label", "membership", "name", "node.label", "role"];

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(FILTERS)?;
    if let Some(role) = filters.get("role").iter().find(|r| !matches!(r.as_str(), "worker" | "manager")) {
        return Err(ApiError::system(format!("Invalid role filter: '{role}'")));
    }
    if let Some(word) =
        filters.get("membership").iter().find(|m| !matches!(m.as_str(), "accepted" | "pending"))
    {
        return Err(ApiError::system(format!("Invalid membership filter: '{word}'")));
    }
    let nodes = call.state.swarm.nodes().await?;
    ok(&nodes.iter().filter(|n| matches(n, &filters)).map(convert::node).collect::<Vec<Value>>())
}

fn matches(node: &Node, filters: &Filters) -> bool {
    let spec = node.spec.clone().unwrap_or_default();
    let description = node.description.clone().unwrap_or_default();
    let role = convert::role_word(spec.desired_role());
    let pending = spec.membership() == weft_wire::swarmkit::node_spec::Membership::Pending;
    let membership = if pending { "pending" } else { "accepted" };
    let spec_labels = spec.annotations.unwrap_or_default().labels;
    let engine_labels = description.engine.unwrap_or_default().labels;
    let has = |labels: &std::collections::BTreeMap<String, String>, wanted: &str| match wanted.split_once('=')
    {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    };
    filters.any("id", |id| node.id.starts_with(id))
        && filters.any("name", |name| description.hostname.starts_with(name))
        && filters.any("role", |wanted| wanted == role)
        && filters.any("membership", |wanted| wanted == membership)
        && filters.any("label", |wanted| has(&engine_labels, wanted))
        && filters.any("node.label", |wanted| has(&spec_labels, wanted))
}

pub(crate) async fn inspect(call: Call, id: String) -> ApiResult {
    ok(&convert::node(&call.state.swarm.node(&id).await?))
}

pub(crate) async fn remove(call: Call, id: String) -> ApiResult {
    call.state.swarm.remove_node(&id, call.query.flag("force")).await?;
    ok_empty()
}

pub(crate) async fn update(mut call: Call, id: String) -> ApiResult {
    let request: Value = call.json().await?;
    let version = call.query.object_version("node")?;
    let spec = convert::node_spec(&request)?;
    call.state.swarm.update_node(&id, version, spec).await?;
    ok_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_with_unknown_words_are_refused_in_dockers_words() {
        let refusal = |role: &str, availability: &str| {
            let request = serde_json::json!({ "Role": role, "Availability": availability });
            let error: ApiError = convert::node_spec(&request).unwrap_err();
            error.message().to_owned()
        };
        assert_eq!(refusal("", "active"), "invalid Role: \"\"");
        assert_eq!(refusal("bogus", "active"), "invalid Role: \"bogus\"");
        assert_eq!(refusal("worker", "bogus"), "invalid Availability: \"bogus\"");
    }
}
