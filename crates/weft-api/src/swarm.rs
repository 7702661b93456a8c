//! `/swarm`.

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::query::parse_bool;
use crate::request::Call;
use crate::response::{ok, ok_empty};
use crate::swarm_backend::{InitRequest, JoinRequest, Rotate, SwarmError};

pub(crate) async fn inspect(call: Call) -> ApiResult {
    ok(&convert::swarm(&call.state.swarm.cluster().await?))
}

pub(crate) async fn init(mut call: Call) -> ApiResult {
    let request: Value = call.json().await?;
    let request = init_request(&request)?;
    let node_id = call.state.swarm.init(request).await?;
    ok(&node_id)
}

fn init_request(request: &Value) -> Result<InitRequest, ApiError> {
    let empty = Value::Null;
    Ok(InitRequest {
        listen_addr: listen_addr(request)?,
        advertise_addr: text(request, "AdvertiseAddr"),
        data_path_addr: text(request, "DataPathAddr"),
        data_path_port: number(request, "DataPathPort")?,
        default_addr_pool: pools(request)?,
        subnet_size: number(request, "SubnetSize")?,
        force_new_cluster: request.get("ForceNewCluster").and_then(Value::as_bool).unwrap_or_default(),
        spec: convert::cluster_spec(&with_autolock(request, request.get("Spec").unwrap_or(&empty)), None)?,
        availability: convert::availability(&text(request, "Availability"))?,
    })
}

/// `--autolock` comes beside the spec as well as in it.
fn with_autolock(request: &Value, spec: &Value) -> Value {
    let mut spec = if spec.is_object() { spec.clone() } else { json!({}) };
    if request.get("AutoLockManagers").and_then(Value::as_bool).unwrap_or_default() {
        spec["EncryptionConfig"] = json!({ "AutoLockManagers": true });
    }
    spec
}

fn text(request: &Value, key: &str) -> String {
    request.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(request: &Value, key: &str) -> Result<u32, ApiError> {
    match request.get(key) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
            ApiError::invalid(format!(
                "invalid JSON: json: cannot unmarshal number {value} into Go struct field InitRequest.{key} of type uint32"
            ))
        }),
    }
}

fn listen_addr(request: &Value) -> Result<String, ApiError> {
    let given = text(request, "ListenAddr");
    if given.is_empty() {
        return Err(SwarmError::ListenAddress { given, reason: "invalid empty address".to_owned() }.into());
    }
    Ok(given)
}

fn pools(request: &Value) -> Result<Vec<IpNet>, ApiError> {
    let pools = request.get("DefaultAddrPool").and_then(Value::as_array);
    let pool = |pool: &Value| {
        let given = pool.as_str().unwrap_or_default();
        given.parse().map_err(|_| ApiError::system(format!("invalid CIDR address: {given}")))
    };
    pools.into_iter().flatten().map(pool).collect()
}

pub(crate) async fn join(mut call: Call) -> ApiResult {
    let request: Value = call.json().await?;
    let remotes = request.get("RemoteAddrs").and_then(Value::as_array);
    let join = JoinRequest {
        listen_addr: listen_addr(&request)?,
        advertise_addr: text(&request, "AdvertiseAddr"),
        data_path_addr: text(&request, "DataPathAddr"),
        remote_addrs: remotes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        join_token: text(&request, "JoinToken"),
        availability: convert::availability(&text(&request, "Availability"))?,
    };
    call.state.swarm.join(join).await?;
    ok_empty()
}

pub(crate) async fn leave(call: Call) -> ApiResult {
    call.state.swarm.leave(call.query.flag("force")).await?;
    ok_empty()
}

pub(crate) async fn update(mut call: Call) -> ApiResult {
    let request: Value = call.json().await?;
    let version = call.query.object_version("swarm")?;
    let rotate = Rotate {
        worker_token: rotation(&call, "rotateWorkerToken")?,
        manager_token: rotation(&call, "rotateManagerToken")?,
        manager_unlock_key: rotation(&call, "rotateManagerUnlockKey")?,
        network_keys: rotation(&call, "rotateNetworkKeys")?,
    };
    let current = call.state.swarm.cluster().await?;
    let spec = convert::cluster_spec(&request, current.spec.as_ref())?;
    call.state.swarm.update_cluster(version, spec, rotate).await?;
    ok_empty()
}

/// Unlike other flags these are parsed strictly.
fn rotation(call: &Call, key: &str) -> Result<bool, ApiError> {
    let text = call.query.get(key);
    if text.is_empty() {
        return Ok(false);
    }
    parse_bool(text).ok_or_else(|| ApiError::invalid(format!("invalid value for {key}: {text}")))
}

pub(crate) async fn unlock_key(call: Call) -> ApiResult {
    ok(&json!({ "UnlockKey": call.state.swarm.unlock_key().await? }))
}

pub(crate) async fn unlock(mut call: Call) -> ApiResult {
    let request: Value = call.json().await?;
    call.state.swarm.unlock(text(&request, "UnlockKey")).await?;
    ok_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_as_the_command_line_sends_it() {
        let request = json!({
            "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "10.0.0.1", "DataPathAddr": "", "DataPathPort": 0,
            "ForceNewCluster": false, "AutoLockManagers": true, "Availability": "",
            "Spec": { "Labels": null, "Orchestration": {}, "Raft": { "ElectionTick": 0, "HeartbeatTick": 0 },
                "Dispatcher": {}, "CAConfig": {}, "TaskDefaults": {}, "EncryptionConfig": { "AutoLockManagers": false } },
            "DefaultAddrPool": ["10.97.0.0/16"], "SubnetSize": 24,
        });
        let request = init_request(&request).unwrap();
        assert_eq!(request.default_addr_pool, ["10.97.0.0/16".parse::<IpNet>().unwrap()]);
        assert!(request.spec.encryption_config.unwrap().auto_lock_managers);
        assert!(request.spec.ca_config.unwrap().node_cert_expiry.is_none());
    }

    #[test]
    fn an_init_without_address_is_refused() {
        let error = init_request(&json!({})).unwrap_err();
        assert_eq!(error.message(), "invalid ListenAddr \"\": invalid empty address");
    }
}
