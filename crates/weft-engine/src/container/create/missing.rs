//! Wishes that would otherwise be ignored: refused, so that nobody relies on them.

use super::{Request, Result, invalid};
use crate::error::EngineError;

impl Request {
    /// Names what is not there, in Docker's words where a Docker may lack it too.
    pub(super) fn check_missing(&self) -> Result<()> {
        let host = &self.host;
        if let Some(request) = host.device_requests.iter().flatten().next() {
            let driver = request.driver.as_deref().unwrap_or_default();
            let sets: Vec<String> =
                request.capabilities.iter().flatten().map(|set| format!("[{}]", set.join(" "))).collect();
            return Err(EngineError::Refused(format!(
                "could not select device driver \"{driver}\" with capabilities: [{}]",
                sets.join(" ")
            )));
        }
        if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
            return invalid(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            );
        }
        if host.blkio_weight_device.as_ref().is_some_and(|devices| !devices.is_empty()) {
            return Err(EngineError::NotImplemented(
                "weights of devices are not implemented: leave BlkioWeightDevice out".to_owned(),
            ));
        }
        let ipc = host.ipc_mode.as_deref().unwrap_or_default();
        let is_of_another = ipc.strip_prefix("container:").is_some_and(|other| !other.is_empty());
        if !matches!(ipc, "" | "none" | "host" | "private" | "shareable") && !is_of_another {
            return invalid(format!("invalid IPC mode: {ipc}"));
        }
        match host.oom_score_adj.unwrap_or(0) {
            -1000..=1000 => Ok(()),
            other => invalid(format!("Invalid value {other}, range for oom score adj is [-1000, 1000]")),
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard_stubs::models::ContainerCreateBody;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn nothing_is_ignored() {
        let refusal = |host: Value| {
            let body: ContainerCreateBody = serde_json::from_value(json!({ "HostConfig": host })).unwrap();
            Request::split(body).check_missing().err().map(|error| error.to_string())
        };
        for (host, words) in [
            (
                json!({ "DeviceRequests": [{ "Driver": "", "Count": -1, "Capabilities": [["gpu"]] }] }),
                "could not select device driver \"\" with capabilities: [[gpu]]",
            ),
            (json!({ "IpcMode": "bogus" }), "invalid IPC mode: bogus"),
            (json!({ "IpcMode": "container:" }), "invalid IPC mode: container:"),
            (json!({ "OomScoreAdj": 1001 }), "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
            (
                json!({ "StorageOpt": { "size": "1G" } }),
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            ),
        ] {
            assert_eq!(refusal(host).as_deref(), Some(words));
        }
        for fine in [json!({}), json!({ "IpcMode": "shareable", "OomScoreAdj": -1000, "DeviceRequests": [] })]
        {
            assert_eq!(refusal(fine), None);
        }
    }
}
