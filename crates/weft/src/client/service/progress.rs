//! Watches a service until it is as it shall be, as docker does after create, update, scale and rollback.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::connection::{Call, Daemon};
use crate::client::error::Outcome;
use crate::client::stream::line;
use crate::client::system::text;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// docker's time in which nothing may fail before a service counts as converged, unless its update is monitored for
/// another.
const STABLE: Duration = Duration::from_secs(5);

pub(super) async fn follow(daemon: &Daemon, id: &str, detach: bool, quiet: bool) -> Outcome {
    if detach {
        return Ok(0);
    }
    let mut stable_since = None;
    let mut shown = String::new();
    loop {
        let service = daemon.json(Call::get(format!("/services/{id}")).query("insertDefaults", true)).await?;
        let filters = json!({ "service": [id], "_up-to-date": ["true"] });
        let tasks = daemon.json(Call::get("/tasks").query("filters", filters)).await?;
        let nodes = daemon.json(Call::get("/nodes")).await?;
        let progress = Progress::of(&service, &tasks, &nodes);
        if !quiet && progress.text() != shown {
            shown = progress.text();
            line(&shown);
        }
        if let Some(stopped) = paused(&service) {
            eprintln!("{stopped}");
            return Ok(1);
        }
        if !progress.is_complete() || is_updating(&service) {
            stable_since = None;
        } else if progress.is_job
            || stable_since.get_or_insert_with(Instant::now).elapsed() >= monitor(&service)
        {
            if !quiet {
                line(&format!("verify: Service {} converged", text(&service["Spec"]["Name"])));
            }
            return Ok(0);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn monitor(service: &Value) -> Duration {
    let updated = !service["UpdateStatus"].is_null();
    let nanos = service["Spec"]["UpdateConfig"]["Monitor"].as_u64().filter(|_| updated);
    nanos.map_or(STABLE, Duration::from_nanos)
}

fn is_updating(service: &Value) -> bool {
    matches!(service["UpdateStatus"]["State"].as_str(), Some("updating" | "rollback_started"))
}

/// What docker says when an update does not go on.
fn paused(service: &Value) -> Option<String> {
    let status = &service["UpdateStatus"];
    let message = text(&status["Message"]);
    match status["State"].as_str()? {
        "paused" => Some(format!("service update paused: {message}")),
        "rollback_paused" => Some(format!("service rollback paused: {message}")),
        _ => None,
    }
}

struct Progress {
    done: u64,
    wanted: u64,
    is_job: bool,
    error: String,
}

impl Progress {
    fn of(service: &Value, tasks: &Value, nodes: &Value) -> Self {
        let mode = &service["Spec"]["Mode"];
        let tasks: Vec<&Value> = tasks.as_array().into_iter().flatten().collect();
        let job = &mode["ReplicatedJob"];
        let is_job = job.is_object() || mode["GlobalJob"].is_object();
        let of_this_run =
            |task: &&&Value| !is_job || task["JobIteration"] == service["JobStatus"]["JobIteration"];
        let state = if is_job { "complete" } else { "running" };
        let is_alive = |task: &&&Value| is_job || task["DesiredState"] == "running";
        let done =
            tasks.iter().filter(of_this_run).filter(is_alive).filter(|t| t["Status"]["State"] == state);
        let wanted = if let Some(replicas) = mode["Replicated"]["Replicas"].as_u64() {
            replicas
        } else if let Some(completions) = job["TotalCompletions"].as_u64() {
            completions
        } else {
            let ready = |node: &&Value| {
                node["Status"]["State"] == "ready" && node["Spec"]["Availability"] == "active"
            };
            let up = nodes.as_array().into_iter().flatten().filter(ready).map(|node| text(&node["ID"]));
            let given: BTreeSet<String> = tasks.iter().map(|task| text(&task["NodeID"])).collect();
            up.filter(|id| given.contains(id)).count().max(1) as u64
        };
        let error = tasks.iter().map(|task| text(&task["Status"]["Err"])).find(|error| !error.is_empty());
        Self { done: done.count() as u64, wanted, is_job, error: error.unwrap_or_default() }
    }

    fn is_complete(&self) -> bool {
        self.done >= self.wanted
    }

    fn text(&self) -> String {
        let what = if self.is_job { "job progress" } else { "overall progress" };
        let error = if self.is_complete() { "" } else { self.error.as_str() };
        format!("{what}: {} out of {} tasks {error}", self.done, self.wanted).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(state: &str, desired: &str, error: &str) -> Value {
        json!({ "NodeID": "n", "DesiredState": desired, "Status": { "State": state, "Err": error } })
    }

    #[test]
    fn replicas_count_when_they_run_and_shall() {
        let service = json!({ "Spec": { "Mode": { "Replicated": { "Replicas": 2 } } } });
        let tasks = json!([
            task("running", "running", ""),
            task("running", "shutdown", ""),
            task("rejected", "shutdown", "No such image")
        ]);
        let progress = Progress::of(&service, &tasks, &json!([]));
        assert_eq!(progress.text(), "overall progress: 1 out of 2 tasks No such image");
        assert!(!progress.is_complete());
    }

    #[test]
    fn a_global_service_waits_for_the_nodes_it_was_given_to() {
        let service = json!({ "Spec": { "Mode": { "Global": {} } } });
        let nodes = json!([
            { "ID": "n", "Status": { "State": "ready" }, "Spec": { "Availability": "active" } },
            { "ID": "m", "Status": { "State": "down" }, "Spec": { "Availability": "active" } },
        ]);
        let progress = Progress::of(&service, &json!([task("running", "running", "")]), &nodes);
        assert!(progress.is_complete());
        assert!(!Progress::of(&service, &json!([]), &nodes).is_complete());
    }

    #[test]
    fn an_update_that_stops_says_why() {
        let service = json!({ "UpdateStatus": { "State": "paused", "Message": "task failed" } });
        assert_eq!(paused(&service).unwrap(), "service update paused: task failed");
        assert_eq!(paused(&json!({})), None);
    }
}
