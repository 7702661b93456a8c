//! Clients of before 1.30 leave it to the daemon to pin an image by its digest; newer ones do it themselves.

use weft_engine::RegistryAuth;
use weft_wire::swarmkit::{ServiceSpec, task_spec};

use crate::state::ApiState;
use crate::version::ApiVersion;

/// The version whose clients ask registries themselves.
const CLIENTS_ASK_SINCE: ApiVersion = ApiVersion(1, 30);

/// Pins the image; what could not be done becomes a warning.
pub(super) async fn pin(
    state: &ApiState,
    version: ApiVersion,
    spec: &mut ServiceSpec,
    auth: &RegistryAuth,
) -> Option<String> {
    let runtime = spec.task.as_mut().and_then(|task| task.runtime.as_mut());
    let Some(task_spec::Runtime::Container(container)) = runtime else { return None };
    if version >= CLIENTS_ASK_SINCE || container.image.is_empty() || container.image.contains('@') {
        return None;
    }
    match state.engine.images().distribution(&container.image, auth).await {
        Ok(served) => {
            container.image = format!("{}@{}", tagged(&container.image), served.digest);
            None
        }
        Err(error) => {
            tracing::warn!(image = container.image, %error, "image is not pinned to a digest");
            Some(warning(&container.image))
        }
    }
}

/// A name without a tag means `latest`. A colon before a slash is that of a port.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

/// Docker's wording.
fn warning(image: &str) -> String {
    format!(
        "image {image} could not be accessed on a registry to record\nits digest. Each node will access {image} \
         independently,\npossibly leading to different nodes running different\nversions of the image.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_tag_mean_latest() {
        assert_eq!(tagged("alpine"), "alpine:latest");
        assert_eq!(tagged("host:5000/a/b"), "host:5000/a/b:latest");
        assert_eq!(tagged("host:5000/a/b:1"), "host:5000/a/b:1");
    }
}
