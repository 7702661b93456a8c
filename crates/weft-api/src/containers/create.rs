//! `POST /containers/create`.
//!
//! Here is what Docker refuses while it decodes the request; the engine refuses the rest.

use bollard_stubs::models::ContainerCreateBody;
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};
use crate::request::{Call, typed};
use crate::response;
use crate::version::ApiVersion;

/// The first version in which a new container may be on several networks.
const SEVERAL_ENDPOINTS: ApiVersion = ApiVersion(1, 44);
/// Restart policies Docker knows; empty is `no`.
const RESTART_POLICIES: &[&str] = &["", "no", "always", "on-failure", "unless-stopped"];

pub(crate) async fn create(mut call: Call) -> ApiResult {
    let body = call.required_json().await?;
    if call.version < SEVERAL_ENDPOINTS {
        check_one_endpoint(&body)?;
    }
    let body = checked(body)?;
    let name = call.query.some("name").map(str::to_owned);
    if let Some(platform) = call.query.some("platform") {
        check_platform(platform, body.image.as_deref().unwrap_or_default())?;
    }
    let created = call.state.engine.create(name.as_deref(), body).await?;
    response::created(&json!({ "Id": created.id, "Warnings": created.warnings }))
}

/// The typed body. Enumerations are checked before, in Docker's words.
pub(crate) fn checked(mut body: Value) -> Result<ContainerCreateBody, ApiError> {
    let fields = body.as_object().ok_or_else(|| ApiError::invalid("invalid JSON: not an object"))?;
    if fields.keys().all(|key| key == "HostConfig" || key == "NetworkingConfig") {
        return Err(ApiError::invalid("config cannot be empty in order to create a container"));
    }
    let word = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    check_restart_policy(&word("/HostConfig/RestartPolicy/Name"))?;
    let isolation = word("/HostConfig/Isolation");
    if !matches!(isolation.as_str(), "" | "default") {
        return Err(ApiError::invalid(format!(
            "invalid isolation ({isolation}): linux only supports 'default'"
        )));
    }
    let cgroupns = word("/HostConfig/CgroupnsMode");
    if !matches!(cgroupns.as_str(), "" | "host" | "private") {
        return Err(ApiError::invalid(format!("invalid cgroup namespace mode: {cgroupns}")));
    }
    fill_endpoints(&mut body);
    ["Cmd", "Entrypoint"].into_iter().for_each(|field| text_to_list(&mut body[field]));
    typed(body)
}

/// A command may be one text, which then is one word.
fn text_to_list(words: &mut Value) {
    if words.is_string() {
        *words = Value::Array(vec![words.take()]);
    }
}

fn check_one_endpoint(body: &Value) -> Result<(), ApiError> {
    let endpoints = body.pointer("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object);
    let names: Vec<&str> = endpoints.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
    if names.len() < 2 {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Container cannot be created with multiple network endpoints: {}",
        names.join(", ")
    )))
}

/// Unknown names are refused before they meet a type that has none for them.
pub(super) fn check_restart_policy(policy: &str) -> Result<(), ApiError> {
    if RESTART_POLICIES.contains(&policy) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "invalid restart policy: unknown policy '{policy}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )))
}

/// docker-py sends `{"net": null}` for an endpoint without wishes.
fn fill_endpoints(body: &mut Value) {
    let endpoints = body.pointer_mut("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object_mut);
    for endpoint in endpoints.into_iter().flat_map(|map| map.values_mut()).filter(|e| e.is_null()) {
        *endpoint = json!({});
    }
}

/// Images of other platforms are not run.
fn check_platform(platform: &str, image: &str) -> Result<(), ApiError> {
    let own = own_platform();
    let wanted = platform.split('/').take(2).collect::<Vec<_>>().join("/");
    if wanted == own || wanted == "linux" {
        return Ok(());
    }
    Err(ApiError::not_found(format!(
        "image with reference {image} was found but its platform ({own}) does not match the specified platform ({platform})"
    )))
}

fn own_platform() -> String {
    format!("linux/{}", crate::system::go_arch())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: Value) -> String {
        checked(body).unwrap_err().message().to_owned()
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_in_dockers_words() {
        assert_eq!(refusal(json!({})), "config cannot be empty in order to create a container");
        assert_eq!(
            refusal(json!({ "Image": "a", "HostConfig": { "RestartPolicy": { "Name": "bogus" } } })),
            "invalid restart policy: unknown policy 'bogus'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        );
        assert_eq!(
            refusal(json!({ "Image": "a", "HostConfig": { "Isolation": "bogus" } })),
            "invalid isolation (bogus): linux only supports 'default'"
        );
    }

    #[test]
    fn a_command_may_be_one_text() {
        let body = checked(json!({ "Image": "a", "Cmd": "sleep 7", "Entrypoint": ["sh"] })).unwrap();
        assert_eq!(body.cmd.unwrap(), ["sleep 7"]);
        assert_eq!(body.entrypoint.unwrap(), ["sh"]);
    }

    #[test]
    fn endpoints_without_wishes_may_be_null() {
        let body = json!({ "Image": "a", "NetworkingConfig": { "EndpointsConfig": { "front": null } } });
        let endpoints = checked(body).unwrap().networking_config.unwrap().endpoints_config.unwrap();
        assert!(endpoints.contains_key("front"));
    }
}
