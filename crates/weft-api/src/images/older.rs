//! What clients of older API versions read of an image and newer ones no longer get (Docker's API history: 1.44, 1.45
//! and 1.50).

use hyper::HeaderMap;
use hyper::header::USER_AGENT;
use serde_json::{Map, Value, json};

use crate::version::ApiVersion;

/// The last version with the size of an image and its parents together.
const VIRTUAL_SIZE_UNTIL: ApiVersion = ApiVersion(1, 44);
/// From here on without the container that an image was committed from.
const CONTAINER_UNTIL: ApiVersion = ApiVersion(1, 45);
/// From here on an image's configuration has only what OCI images have.
const CONTAINER_FIELDS_UNTIL: ApiVersion = ApiVersion(1, 50);

/// The version that an answer has to suit. Compose 1 asks by the newest one and yet reads what 1.45 has dropped:
/// without it, it cannot make a container anew.
pub(super) fn reader(version: ApiVersion, headers: &HeaderMap) -> ApiVersion {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if agent.starts_with("docker-compose/1.") { version.min(ApiVersion(1, 44)) } else { version }
}

/// Adds them to the answer of `GET /images/{name}/json`.
pub(super) fn inspected(version: ApiVersion, image: &mut Value) {
    let Some(image) = image.as_object_mut() else { return };
    if version < CONTAINER_FIELDS_UNTIL
        && let Some(config) = image.get_mut("Config").and_then(Value::as_object_mut)
    {
        for (key, value) in container_fields() {
            config.entry(key).or_insert(value);
        }
    }
    if version < CONTAINER_UNTIL {
        image.insert("Container".to_owned(), "".into());
        image.insert("ContainerConfig".to_owned(), nothing_configured());
    }
    virtual_size(version, image);
}

/// Adds them to an entry of `GET /images/json`.
pub(super) fn listed(version: ApiVersion, image: &mut Value) {
    if let Some(image) = image.as_object_mut() {
        virtual_size(version, image);
    }
}

fn virtual_size(version: ApiVersion, image: &mut Map<String, Value>) {
    if version < VIRTUAL_SIZE_UNTIL
        && let Some(size) = image.get("Size").cloned()
    {
        image.insert("VirtualSize".to_owned(), size);
    }
}

/// What only containers have, unset.
fn container_fields() -> Map<String, Value> {
    let texts = ["Hostname", "Domainname", "Image"].map(|key| (key.to_owned(), "".into()));
    let flags = ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"];
    texts.into_iter().chain(flags.map(|key| (key.to_owned(), false.into()))).collect()
}

fn nothing_configured() -> Value {
    let mut all = container_fields();
    for key in ["Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"] {
        all.insert(key.to_owned(), Value::Null);
    }
    for key in ["User", "WorkingDir"] {
        all.insert(key.to_owned(), json!(""));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: ApiVersion) -> Value {
        let mut image = json!({"Size": 7, "Config": {"User": "u"}});
        inspected(version, &mut image);
        image
    }

    #[test]
    fn compose_1_is_an_older_client() {
        let mut headers = HeaderMap::new();
        assert_eq!(reader(ApiVersion::MAX, &headers), ApiVersion::MAX);
        headers.insert(USER_AGENT, "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1".parse().unwrap());
        assert_eq!(reader(ApiVersion::MAX, &headers), ApiVersion(1, 44));
        assert_eq!(reader(ApiVersion(1, 30), &headers), ApiVersion(1, 30));
    }

    #[test]
    fn older_clients_get_what_they_read_and_newer_ones_no_more() {
        assert_eq!(of(ApiVersion::MAX), json!({"Size": 7, "Config": {"User": "u"}}));
        let of_49 = of(ApiVersion(1, 49));
        assert_eq!((of_49["Config"]["Tty"].clone(), of_49.get("ContainerConfig")), (json!(false), None));
        let of_44 = of(ApiVersion(1, 44));
        assert_eq!(
            (of_44["ContainerConfig"]["Volumes"].clone(), of_44.get("VirtualSize")),
            (Value::Null, None)
        );
        let of_38 = of(ApiVersion(1, 38));
        assert_eq!((of_38["VirtualSize"].clone(), of_38["Config"]["User"].clone()), (json!(7), json!("u")));
        let mut entry = json!({"Size": 7});
        listed(ApiVersion(1, 43), &mut entry);
        assert_eq!(entry["VirtualSize"], 7);
    }
}
