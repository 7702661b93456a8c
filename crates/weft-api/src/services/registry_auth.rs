//! What a node needs to pull a service's image, as clients send it: base64 of JSON, kept as it came.

use weft_wire::swarmkit::container_spec::PullOptions;
use weft_wire::swarmkit::{ContainerSpec, Service, ServiceSpec, task_spec};

use crate::error::ApiError;
use crate::request::Call;

const HEADER: &str = "x-registry-auth";

pub(super) fn given(call: &Call) -> Option<String> {
    let text = call.headers.get(HEADER)?.to_str().ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// An update without any keeps that of the spec it replaces, or of the one before that.
pub(super) fn kept(current: &Service, from: &str) -> Result<Option<String>, ApiError> {
    let spec = match from {
        "" | "spec" => current.spec.as_ref(),
        "previous-spec" => Some(
            current
                .previous_spec
                .as_ref()
                .ok_or_else(|| ApiError::system("service does not have a previous spec"))?,
        ),
        _ => return Err(ApiError::system("unsupported registryAuthFrom value")),
    };
    let container = spec.and_then(container_of);
    let container = container.ok_or_else(|| ApiError::system("service does not use container tasks"))?;
    Ok(container.pull_options.as_ref().map(|options| options.registry_auth.clone()))
}

pub(super) fn put(spec: &mut ServiceSpec, auth: Option<String>) {
    if let Some(task_spec::Runtime::Container(container)) =
        spec.task.as_mut().and_then(|task| task.runtime.as_mut())
    {
        container.pull_options = auth.map(|registry_auth| PullOptions { registry_auth });
    }
}

fn container_of(spec: &ServiceSpec) -> Option<&ContainerSpec> {
    match spec.task.as_ref()?.runtime.as_ref()? {
        task_spec::Runtime::Container(container) => Some(container),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert;

    fn service(auth: Option<&str>) -> Service {
        let request = json!({ "TaskTemplate": { "ContainerSpec": { "Image": "i" } } });
        let mut spec = convert::service_spec(&request).unwrap();
        put(&mut spec, auth.map(str::to_owned));
        Service { spec: Some(spec), ..Service::default() }
    }

    #[test]
    fn updates_keep_what_they_do_not_bring() {
        assert_eq!(kept(&service(Some("x")), "").unwrap().as_deref(), Some("x"));
        assert_eq!(kept(&service(None), "spec").unwrap(), None);
        let error = kept(&service(None), "previous-spec").unwrap_err();
        assert_eq!(error.message(), "service does not have a previous spec");
        assert_eq!(
            kept(&service(None), "bogus").unwrap_err().message(),
            "unsupported registryAuthFrom value"
        );
    }
}
