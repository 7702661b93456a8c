//! What an old client may say without knowing it is not taken over (moby `adjustForAPIVersion`).

use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::{
    ContainerSpec, ReplicatedService, ServiceSpec, config_reference, privileges, task_spec,
};

use crate::version::ApiVersion;

pub(super) fn adjust(version: ApiVersion, spec: &mut ServiceSpec) {
    if version >= ApiVersion(1, 46) {
        return;
    }
    if version < ApiVersion(1, 41) && matches!(spec.mode, Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_))) {
        spec.mode = Some(Mode::Replicated(ReplicatedService { replicas: 1 }));
    }
    let Some(task) = &mut spec.task else { return };
    if version < ApiVersion(1, 40)
        && let Some(placement) = &mut task.placement
    {
        placement.max_replicas = 0;
    }
    if let Some(task_spec::Runtime::Container(container)) = &mut task.runtime {
        adjust_container(version, container);
    }
}

fn adjust_container(version: ApiVersion, container: &mut ContainerSpec) {
    container.oom_score_adj = 0;
    for tmpfs in container.mounts.iter_mut().filter_map(|mount| mount.tmpfs_options.as_mut()) {
        tmpfs.options.clear();
    }
    if version < ApiVersion(1, 44)
        && let Some(privileges) = &mut container.privileges
    {
        (privileges.seccomp, privileges.apparmor) = (None, None);
        privileges.no_new_privileges = false;
    }
    if version < ApiVersion(1, 41) {
        container.capability_add.clear();
        container.capability_drop.clear();
        container.ulimits.clear();
        container.pids_limit = 0;
    }
    if version < ApiVersion(1, 40) {
        container.sysctls.clear();
        container
            .configs
            .iter_mut()
            .filter(|c| matches!(c.target, Some(config_reference::Target::Runtime(_))))
            .for_each(|c| c.target = None);
        let credential = container.privileges.as_mut().and_then(|p| p.credential_spec.as_mut());
        if let Some(credential) = credential
            && matches!(credential.source, Some(privileges::credential_spec::Source::Config(_)))
        {
            credential.source = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert;

    fn adjusted(version: ApiVersion) -> serde_json::Value {
        let request = json!({
            "TaskTemplate": {
                "ContainerSpec": { "Image": "i", "Sysctls": { "a": "b" }, "CapabilityAdd": ["CAP_SYS_TIME"] },
                "Placement": { "MaxReplicas": 2 },
                "Resources": { "Limits": { "Pids": 5 } },
            },
            "Mode": { "GlobalJob": {} },
        });
        let mut spec = convert::service_spec(&request).unwrap();
        adjust(version, &mut spec);
        convert::service(&weft_wire::swarmkit::Service { spec: Some(spec), ..Default::default() })["Spec"]
            .take()
    }

    #[test]
    fn fields_appear_with_their_version() {
        let now = adjusted(ApiVersion::MAX);
        assert_eq!(now["TaskTemplate"]["Resources"]["Limits"]["Pids"], 5);
        assert_eq!(now["Mode"], json!({ "GlobalJob": {} }));
        let old = adjusted(ApiVersion(1, 40));
        assert!(old["TaskTemplate"]["ContainerSpec"].get("CapabilityAdd").is_none());
        assert_eq!(old["TaskTemplate"]["ContainerSpec"]["Sysctls"], json!({ "a": "b" }));
        assert_eq!(old["Mode"], json!({ "Replicated": { "Replicas": 1 } }));
        let older = adjusted(ApiVersion(1, 39));
        assert!(older["TaskTemplate"]["ContainerSpec"].get("Sysctls").is_none());
        assert_eq!(older["TaskTemplate"]["Placement"], json!({}));
    }
}
