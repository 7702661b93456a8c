//! `/tasks`.

use serde_json::Value;
use weft_wire::swarmkit::{Task, task_spec};

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::filters::Filters;
use crate::request::Call;
use crate::response::ok;

const FILTERS: &[&str] =
    &["_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service"];

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(FILTERS)?;
    if let Some(word) = filters.get("desired-state").iter().find(|w| convert::desired_state(w).is_none()) {
        return Err(ApiError::system(format!("Invalid desired-state filter: '{word}'")));
    }
    let tasks = call.state.swarm.tasks().await?;
    // Docker lists those of attachments only when asked for by their runtime.
    let shown =
        tasks.iter().filter(|t| filters.has("runtime") || !is_attachment(t)).filter(|t| matches(t, &filters));
    ok(&shown.map(|task| convert::task(task)).collect::<Vec<Value>>())
}

fn is_attachment(task: &Task) -> bool {
    let runtime = task.spec.as_ref().and_then(|s| s.runtime.as_ref());
    matches!(runtime, Some(task_spec::Runtime::Attachment(_)))
}

fn matches(task: &Task, filters: &Filters) -> bool {
    let name = task.annotations.as_ref().map_or("", |a| a.name.as_str());
    let labels = task.annotations.clone().unwrap_or_default().labels;
    let runtime = if is_attachment(task) { "attachment" } else { "container" };
    filters.any("id", |id| task.id.starts_with(id))
        && filters.any("name", |wanted| name.contains(wanted))
        && filters.any("service", |service| task.service_id == service)
        && filters.any("node", |node| task.node_id == node)
        && filters.any("runtime", |wanted| wanted == runtime)
        && filters.any("desired-state", |word| convert::desired_state(word) == Some(task.desired_state()))
        && filters.labels_match(&labels)
}

pub(crate) async fn inspect(call: Call, id: String) -> ApiResult {
    ok(&convert::task(&*call.state.swarm.task(&id).await?))
}

pub(crate) async fn logs(call: Call, id: String) -> ApiResult {
    call.state.swarm.task(&id).await?;
    Err(ApiError::not_implemented("reading the logs of tasks"))
}
