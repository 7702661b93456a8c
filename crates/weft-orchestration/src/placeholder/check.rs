//! Placeholders of a spec, tried out before there is a task.

use weft_wire::swarmkit::{Annotations, ContainerSpec, Mount, Task};

use super::{Malformed, PlaceholderNode, Placeholders};

/// A part of a container's spec has a placeholder that nobody can fill in: SwarmKit's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expanding {part} failed: {mistake}")]
pub struct PlaceholderMistake {
    part: &'static str,
    #[source]
    mistake: Malformed,
}

/// Fills placeholders in as for a task of nowhere. What they find there, labels for example, is not looked at.
pub fn check_placeholders(spec: &ContainerSpec) -> Result<(), PlaceholderMistake> {
    let task = Task { service_annotations: Some(Annotations::default()), ..Task::default() };
    let node = PlaceholderNode { id: "", hostname: "", architecture: "", os: "" };
    let placeholders = Placeholders::of(&task, String::new(), String::new(), node);
    let check = |part, text: &str| match placeholders.expand(text) {
        Ok(_) => Ok(()),
        Err(mistake) => Err(PlaceholderMistake { part, mistake }),
    };
    spec.env.iter().try_for_each(|entry| check("env", entry))?;
    spec.mounts.iter().flat_map(texts).try_for_each(|text| check("mounts", text))?;
    check("hostname", &spec.hostname)
}

/// All of a mount that may hold placeholders.
fn texts(mount: &Mount) -> impl Iterator<Item = &str> {
    let options = mount.volume_options.as_ref();
    let labels = options.into_iter().flat_map(|options| options.labels.values());
    let driver = options.and_then(|options| options.driver_config.as_ref());
    let driver = driver.into_iter().flat_map(|driver| driver.options.values());
    [&mount.source, &mount.target].into_iter().chain(labels).chain(driver).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_names_its_part() {
        let spec = |hostname: &str, env: &str, source: &str| ContainerSpec {
            hostname: hostname.into(),
            env: vec![env.into()],
            mounts: vec![Mount { source: source.into(), ..Mount::default() }],
            ..ContainerSpec::default()
        };
        let good = spec("h-{{.Task.Slot}}", "A={{.Node.Hostname}}", "/{{index .Service.Labels \"x\"}}");
        assert_eq!(check_placeholders(&good), Ok(()));
        for (spec, part) in [
            (spec("{{.Bogus}}", "", ""), "hostname"),
            (spec("", "A={{.Bogus}}", ""), "env"),
            (spec("", "", "{{.Bogus}}"), "mounts"),
        ] {
            let text = check_placeholders(&spec).unwrap_err().to_string();
            assert!(text.starts_with(&format!("expanding {part} failed: template: expansion:1:")), "{text}");
        }
        // As a dockerd answered.
        assert_eq!(
            check_placeholders(&spec("{{.Bogus}}", "", "")).unwrap_err().to_string(),
            "expanding hostname failed: template: expansion:1:2: executing \"expansion\" at <.Bogus>: can't \
             evaluate field Bogus in type *template.Context"
        );
    }
}
