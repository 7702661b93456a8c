//! What does not go together with the network of another container or with the host's.

use super::{Request, Result, invalid};

impl Request {
    /// Refuses, in Docker's words, what the owner of the network decides; warns of what has no meaning there.
    pub(crate) fn check_network_mode(&self) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let (host, config) = (&self.host, &self.config);
        let mode = host.network_mode.as_deref().unwrap_or_default();
        let has_ports = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
        let is_published = has_ports || host.publish_all_ports == Some(true);
        let is_named = config.hostname.as_deref().is_some_and(|name| !name.is_empty());
        if host.uts_mode.as_deref() == Some("host") && is_named {
            return invalid("conflicting options: hostname and the UTS mode");
        }
        if mode == "host" && is_published {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        let Some(other) = mode.strip_prefix("container:") else { return Ok(warnings) };
        if other.is_empty() {
            return invalid("Invalid network mode: invalid container format container:<name|id>");
        }
        let is_any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let conflict = if is_named {
            "hostname and the network mode"
        } else if is_any(&host.dns) {
            "dns and the network mode"
        } else if is_any(&host.extra_hosts) {
            "custom host-to-IP mapping and the network mode"
        } else if is_published {
            "port publishing and the container type network mode"
        } else if is_any(&config.exposed_ports) {
            "port exposing and the container type network mode"
        } else {
            return Ok(warnings);
        };
        invalid(format!("conflicting options: {conflict}"))
    }
}

#[cfg(test)]
mod tests {
    use bollard_stubs::models::ContainerCreateBody;
    use serde_json::{Value, json};

    use super::*;

    fn checked(body: Value) -> std::result::Result<Vec<String>, String> {
        let body: ContainerCreateBody = serde_json::from_value(body).unwrap();
        Request::split(body).check_network_mode().map_err(|error| error.to_string())
    }

    #[test]
    fn what_its_owner_decides_is_refused() {
        let of_another = |mut body: Value| {
            body["HostConfig"]["NetworkMode"] = "container:other".into();
            checked(body)
        };
        assert_eq!(of_another(json!({ "HostConfig": {} })), Ok(Vec::new()));
        for (body, words) in [
            (json!({ "Hostname": "a", "HostConfig": {} }), "hostname and the network mode"),
            (json!({ "HostConfig": { "Dns": ["10.0.0.1"] } }), "dns and the network mode"),
            (
                json!({ "HostConfig": { "ExtraHosts": ["a:10.0.0.1"] } }),
                "custom host-to-IP mapping and the network mode",
            ),
            (
                json!({ "HostConfig": { "PublishAllPorts": true } }),
                "port publishing and the container type network mode",
            ),
        ] {
            assert_eq!(of_another(body), Err(format!("conflicting options: {words}")));
        }
        assert!(checked(json!({ "HostConfig": { "NetworkMode": "container:" } })).is_err());
    }

    #[test]
    fn ports_on_the_hosts_network_are_warned_of() {
        let body = json!({ "HostConfig": { "NetworkMode": "host", "PublishAllPorts": true } });
        assert_eq!(checked(body).unwrap().len(), 1);
    }
}
