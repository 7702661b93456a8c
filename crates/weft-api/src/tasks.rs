//! `/tasks`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use weft_wire::swarmkit::{Service, Task, TaskState, task_spec};

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::filters::Filters;
use crate::request::Call;
use crate::response::ok;
use crate::state::ApiState;

const FILTERS: &[&str] =
    &["_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service"];

pub(crate) async fn list(call: Call) -> ApiResult {
    let filters = call.query.filters(FILTERS)?;
    let wanted = Wanted::resolve(&call.state, &filters).await?;
    let tasks = call.state.swarm.tasks().await?;
    ok(&tasks
        .iter()
        .filter(|t| wanted.includes(t, &filters))
        .map(|t| convert::task(t))
        .collect::<Vec<Value>>())
}

/// What filters mean beyond their text.
struct Wanted {
    states: Vec<TaskState>,
    services: Vec<String>,
    nodes: Vec<String>,
    /// The services as they are, when only tasks made from their present specs are asked for.
    current: Option<BTreeMap<String, Arc<Service>>>,
}

impl Wanted {
    async fn resolve(state: &ApiState, filters: &Filters) -> Result<Self, ApiError> {
        let mut wanted =
            Self { states: desired_states(filters)?, services: Vec::new(), nodes: Vec::new(), current: None };
        for term in filters.get("service") {
            wanted.services.push(state.swarm.service(term).await?.id.clone());
        }
        for term in filters.get("node") {
            wanted.nodes.push(state.swarm.node(term).await?.id);
        }
        if filters.has("_up-to-date") {
            let services = state.swarm.services().await?;
            wanted.current = Some(services.into_iter().map(|s| (s.id.clone(), s)).collect());
        }
        Ok(wanted)
    }

    fn includes(&self, task: &Task, filters: &Filters) -> bool {
        let among = |ids: &[String], id: &String| ids.is_empty() || ids.contains(id);
        among(&self.services, &task.service_id)
            && among(&self.nodes, &task.node_id)
            && (self.states.is_empty() || self.states.contains(&task.desired_state()))
            && matches(task, filters)
            && self.current.as_ref().is_none_or(|services| {
                services.get(&task.service_id).is_some_and(|service| is_up_to_date(task, service))
            })
    }
}

fn desired_states(filters: &Filters) -> Result<Vec<TaskState>, ApiError> {
    let words = filters.get("desired-state").iter().filter(|word| !word.is_empty());
    let state = |word: &String| {
        convert::task_state(word)
            .ok_or_else(|| ApiError::system(format!("Invalid desired-state filter: '{word}'")))
    };
    words.map(state).collect()
}

/// SwarmKit's rule: of the spec's version, or made from the same words.
fn is_up_to_date(task: &Task, service: &Service) -> bool {
    if task.spec_version.is_some() && task.spec_version == service.spec_version {
        return true;
    }
    let Some(spec) = &service.spec else { return false };
    let endpoint = task.endpoint.as_ref();
    task.spec == spec.task && endpoint.is_none_or(|endpoint| endpoint.spec == spec.endpoint)
}

fn is_attachment(task: &Task) -> bool {
    let runtime = task.spec.as_ref().and_then(|s| s.runtime.as_ref());
    matches!(runtime, Some(task_spec::Runtime::Attachment(_)))
}

/// Labels are those of the service; ids and names match by their beginning. Tasks of attachments are listed only when
/// asked for by their runtime.
fn matches(task: &Task, filters: &Filters) -> bool {
    let runtime = if is_attachment(task) { "attachment" } else { "container" };
    let mut labels = task.service_annotations.clone().unwrap_or_default().labels;
    labels.extend(task.annotations.clone().unwrap_or_default().labels);
    (filters.has("runtime") || runtime == "container")
        && filters.any("runtime", |wanted| wanted == runtime)
        && filters.any("id", |id| task.id.starts_with(id))
        && filters.any("name", |wanted| convert::task_name(task).starts_with(wanted))
        && filters.labels_match(&labels)
}

pub(crate) async fn inspect(call: Call, id: String) -> ApiResult {
    ok(&convert::task(&*call.state.swarm.task(&id).await?))
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::{Annotations, ServiceSpec, TaskSpec, Version};

    use super::*;

    fn task() -> Task {
        Task {
            id: "t1".to_owned(),
            slot: 2,
            spec: Some(TaskSpec::default()),
            spec_version: Some(Version { index: 1 }),
            service_annotations: Some(Annotations {
                name: "web".to_owned(),
                labels: BTreeMap::from([("stack".to_owned(), "st".to_owned())]),
                indices: Vec::new(),
            }),
            ..Task::default()
        }
    }

    #[test]
    fn tasks_are_found_by_the_names_and_labels_of_their_service() {
        let at = |text: &str| matches(&task(), &Filters::parse(text).unwrap());
        for yes in ["", r#"{"name":["web.2"]}"#, r#"{"id":["t"]}"#, r#"{"label":["stack=st"]}"#] {
            assert!(at(yes), "{yes}");
        }
        for no in [r#"{"name":["web.1"]}"#, r#"{"runtime":["attachment"]}"#, r#"{"label":["stack=x"]}"#] {
            assert!(!at(no), "{no}");
        }
    }

    #[test]
    fn a_task_is_up_to_date_by_version_or_by_its_words() {
        let service = |index, force_update| Service {
            spec_version: Some(Version { index }),
            spec: Some(ServiceSpec {
                task: Some(TaskSpec { force_update, ..TaskSpec::default() }),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        assert!(is_up_to_date(&task(), &service(1, 1)));
        assert!(is_up_to_date(&task(), &service(2, 0)));
        assert!(!is_up_to_date(&task(), &service(2, 1)));
    }

    #[test]
    fn unknown_states_are_refused() {
        let at = |text: &str| desired_states(&Filters::parse(text).unwrap());
        assert_eq!(at(r#"{"desired-state":["running","SHUTDOWN"]}"#).unwrap().len(), 2);
        let error = at(r#"{"desired-state":["bogus"]}"#).unwrap_err();
        assert_eq!(error.message(), "Invalid desired-state filter: 'bogus'");
    }
}
