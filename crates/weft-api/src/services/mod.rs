//! `/services`.

mod digest;
mod logs;
mod networks;
mod registry_auth;
mod version_gate;

pub(crate) use logs::{of_service as logs, of_task as task_logs};

use serde_json::{Value, json};
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::{Service, ServiceSpec};

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::filters::Filters;
use crate::request::Call;
use crate::response::{created, ok, ok_empty};
use crate::swarm_backend::ServiceStatus;

const FILTERS: &[&str] = &["id", "label", "mode", "name", "runtime"];

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(FILTERS)?;
    let swarm = &call.state.swarm;
    let mut shown = Vec::new();
    for service in swarm.services().await?.iter().filter(|s| matches(s, &filters)) {
        let mut value = convert::service(service);
        if call.query.flag("status") {
            value["ServiceStatus"] = status_json(swarm.service_status(&service.id).await?);
        }
        shown.push(value);
    }
    ok(&shown)
}

fn status_json(status: ServiceStatus) -> Value {
    json!({
        "RunningTasks": status.running,
        "DesiredTasks": status.desired,
        "CompletedTasks": status.completed,
    })
}

/// Ids and names match by their beginning. Only services of containers exist.
fn matches(service: &Service, filters: &Filters) -> bool {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let annotations = spec.annotations.clone().unwrap_or_default();
    filters.any("id", |id| service.id.starts_with(id))
        && filters.any("name", |name| annotations.name.starts_with(name))
        && filters.any("mode", |mode| mode == mode_word(spec))
        && filters.any("runtime", |runtime| runtime == "container")
        && filters.labels_match(&annotations.labels)
}

fn mode_word(spec: &ServiceSpec) -> &'static str {
    match spec.mode {
        Some(Mode::Global(_)) => "global",
        Some(Mode::ReplicatedJob(_)) => "replicated-job",
        Some(Mode::GlobalJob(_)) => "global-job",
        Some(Mode::Replicated(_)) | None => "replicated",
    }
}

pub(crate) async fn inspect(call: Call, id: String) -> ApiResult {
    let service = call.state.swarm.service(&id).await?;
    if !insert_defaults(&call)? {
        return ok(&convert::service(&service));
    }
    let mut service = Service::clone(&service);
    convert::insert_defaults(service.spec.get_or_insert_default());
    ok(&convert::service(&service))
}

/// Parsed strictly, unlike most flags.
fn insert_defaults(call: &Call) -> Result<bool, ApiError> {
    let Some(given) = call.query.some("insertDefaults") else { return Ok(false) };
    crate::query::parse_bool(given).ok_or_else(|| {
        ApiError::invalid(format!(
            "invalid value for insertDefaults: {given}: strconv.ParseBool: parsing {given:?}: invalid syntax"
        ))
    })
}

/// The request's spec, ready to be stored.
async fn requested(call: &mut Call) -> Result<ServiceSpec, ApiError> {
    let request: Value = call.json().await?;
    let mut spec = convert::service_spec(&request)?;
    version_gate::adjust(call.version, &mut spec);
    networks::check(&call.state, &spec).await?;
    Ok(spec)
}

pub(crate) async fn create(mut call: Call) -> ApiResult {
    // Who may not ask shall not learn what is wrong with the spec.
    call.state.swarm.cluster().await?;
    let mut spec = requested(&mut call).await?;
    let name = &mut spec.annotations.get_or_insert_default().name;
    if name.is_empty() {
        *name = weft_engine::random_name(&mut rand::rng());
    }
    registry_auth::put(&mut spec, registry_auth::given(&call));
    let warning = digest::pin(&call.state, call.version, &mut spec, &crate::images::auth(&call)).await;
    let id = call.state.swarm.create_service(spec).await?;
    created(&json!({ "ID": id, "Warnings": warnings(warning) }))
}

pub(crate) async fn update(mut call: Call, term: String) -> ApiResult {
    let version = call.query.object_version("service")?;
    let mut spec = requested(&mut call).await?;
    let rollback = match call.query.get("rollback") {
        "" | "none" => false,
        "previous" => true,
        other => return Err(ApiError::invalid(format!("unrecognized rollback option {other}"))),
    };
    let current = call.state.swarm.service(&term).await?;
    let auth = match registry_auth::given(&call) {
        auth @ Some(_) => auth,
        None => registry_auth::kept(&current, call.query.get("registryAuthFrom"))?,
    };
    let pull_auth =
        weft_engine::RegistryAuth::from_header(auth.as_deref().unwrap_or_default()).unwrap_or_default();
    registry_auth::put(&mut spec, auth);
    let warning = digest::pin(&call.state, call.version, &mut spec, &pull_auth).await;
    call.state.swarm.update_service(&current.id, version, spec, rollback).await?;
    ok(&json!({ "Warnings": warnings(warning) }))
}

/// No warnings are `null`.
fn warnings(warning: Option<String>) -> Value {
    warning.map_or(Value::Null, |warning| json!([warning]))
}

pub(crate) async fn remove(call: Call, id: String) -> ApiResult {
    call.state.swarm.remove_service(&id).await?;
    ok_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(mode: &str) -> Service {
        let request = json!({
            "Name": "web",
            "Labels": { "a": "b" },
            "TaskTemplate": { "ContainerSpec": { "Image": "i" } },
            "Mode": { mode: {} },
        });
        let spec = convert::service_spec(&request).unwrap();
        Service { id: "abcdef".to_owned(), spec: Some(spec), ..Service::default() }
    }

    #[test]
    fn ids_and_names_match_by_their_beginning() {
        let at = |text: &str| matches(&service("Replicated"), &Filters::parse(text).unwrap());
        for yes in [
            "",
            r#"{"id":["abc"]}"#,
            r#"{"name":["we"]}"#,
            r#"{"label":["a"]}"#,
            r#"{"label":["a=b"]}"#,
            r#"{"mode":["replicated"]}"#,
            r#"{"runtime":["container"]}"#,
        ] {
            assert!(at(yes), "{yes}");
        }
        for no in [
            r#"{"id":["web"]}"#,
            r#"{"name":["eb"]}"#,
            r#"{"label":["a=c"]}"#,
            r#"{"mode":["global"]}"#,
            r#"{"mode":["bogus"]}"#,
            r#"{"runtime":["plugin"]}"#,
        ] {
            assert!(!at(no), "{no}");
        }
        let jobs = Filters::parse(r#"{"mode":["replicated-job"]}"#).unwrap();
        assert!(matches(&service("ReplicatedJob"), &jobs));
    }
}
