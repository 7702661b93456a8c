//! Docker's placeholders in hostname, environment, mounts, and templated secrets and configs. Pure.
//!
//! They are templates of Go with a context of node, service and task. Built is what such placeholders consist of:
//! fields (`{{.Node.Hostname}}`), `index .Service.Labels "key"`, and in payloads `env`, `secret` and `config` with a
//! quoted name. Control structures (`if`, `range`, `with`) are not built and refused with Docker's prefix.

use std::collections::BTreeMap;

use weft_wire::swarmkit::Task;

use super::naming;
use super::runtime::NodeFacts;

/// Why a text cannot be expanded, as Go's package words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: expansion:1: {0}")]
pub(crate) struct Malformed(String);

/// Finds something by its name.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// What `env`, `secret` and `config` of a payload find.
#[derive(Default)]
pub(crate) struct Functions<'a> {
    pub(crate) env: Option<Lookup<'a>>,
    pub(crate) secret: Option<Lookup<'a>>,
    pub(crate) config: Option<Lookup<'a>>,
}

/// Values of the fields.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    fields: BTreeMap<&'static str, String>,
    labels: BTreeMap<String, String>,
}

impl Context {
    pub(crate) fn of(task: &Task, node: &NodeFacts) -> Self {
        let service = task.service_annotations.clone().unwrap_or_default();
        let labels: BTreeMap<String, String> = service.labels.into_iter().collect();
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        let fields = BTreeMap::from([
            (".Node.ID", node.id.clone()),
            (".Node.Hostname", node.hostname.clone()),
            (".Node.Platform.Architecture", node.architecture.clone()),
            (".Node.Platform.OS", node.os.clone()),
            (".Node.Platform", format!("{{{} {}}}", node.architecture, node.os)),
            (".Service.ID", task.service_id.clone()),
            (".Service.Name", service.name),
            (".Service.Labels", format!("map[{}]", shown.join(" "))),
            (".Task.ID", task.id.clone()),
            (".Task.Name", naming::task_name(task)),
            (".Task.Slot", naming::slot(task)),
        ]);
        Self { fields, labels }
    }

    /// Expands a text.
    pub(crate) fn expand(&self, text: &str) -> Result<String, Malformed> {
        let bytes = self.expand_with(text.as_bytes(), &Functions::default())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Expands a payload, which may hold anything between its placeholders.
    pub(crate) fn expand_with(&self, text: &[u8], functions: &Functions<'_>) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = find(rest, b"{{") {
            out.extend_from_slice(&rest[..start]);
            let inner = &rest[start + 2..];
            let end = find(inner, b"}}").ok_or_else(|| Malformed("unclosed action".to_owned()))?;
            let action = String::from_utf8_lossy(&inner[..end]);
            rest = &inner[end + 2..];
            let (trim_before, trim_after) = (action.starts_with("- "), action.ends_with(" -"));
            let action = action.trim_start_matches("- ").trim_end_matches(" -");
            if trim_before {
                out.truncate(out.trim_ascii_end().len());
            }
            out.extend_from_slice(&self.value(action.trim(), functions)?);
            if trim_after {
                rest = rest.trim_ascii_start();
            }
        }
        out.extend_from_slice(rest);
        Ok(out)
    }

    fn value(&self, action: &str, functions: &Functions<'_>) -> Result<Vec<u8>, Malformed> {
        if action.starts_with("/*") && action.ends_with("*/") {
            return Ok(Vec::new());
        }
        let words = words(action)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let called = |function: Option<Lookup<'_>>, kind: &str, name: &str| {
            let function = function.ok_or_else(|| not_defined(kind))?;
            let missing =
                || Malformed(format!("executing \"expansion\" at <{kind}>: {kind} not found: {name}"));
            function(name).ok_or_else(missing)
        };
        match words[..] {
            [] => Err(Malformed("missing value for command".to_owned())),
            [field] if field.starts_with('.') => {
                self.fields.get(field).map(|value| value.clone().into_bytes()).ok_or_else(|| no_field(field))
            }
            [literal] if literal.starts_with('"') => Ok(unquoted(literal).as_bytes().to_vec()),
            ["index", ".Service.Labels", key] => {
                Ok(self.labels.get(unquoted(key)).cloned().unwrap_or_default().into_bytes())
            }
            ["env", name] => {
                let function = functions.env.ok_or_else(|| not_defined("env"))?;
                Ok(function(unquoted(name)).unwrap_or_default())
            }
            ["secret", name] => called(functions.secret, "secret", unquoted(name)),
            ["config", name] => called(functions.config, "config", unquoted(name)),
            [first, ..] => Err(not_defined(first)),
        }
    }
}

fn not_defined(function: &str) -> Malformed {
    Malformed(format!("function {function:?} not defined"))
}

fn no_field(field: &str) -> Malformed {
    let name = field.rsplit('.').next().unwrap_or_default();
    Malformed(format!(
        "executing \"expansion\" at <{field}>: can't evaluate field {name} in type template.Context"
    ))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Words between blanks; a quoted one keeps its quotes in front.
fn words(action: &str) -> Result<Vec<String>, Malformed> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if matches!(first, '"' | '`') {
            let close =
                rest[1..].find(first).ok_or_else(|| Malformed("unterminated quoted string".to_owned()))?;
            words.push(format!("\"{}", &rest[1..=close]));
            close + 2
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            end
        };
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

fn unquoted(word: &str) -> &str {
    word.strip_prefix('"').unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::Annotations;

    use super::*;

    fn context(slot: u64) -> Context {
        let annotations = Annotations {
            name: "web".into(),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            ..Annotations::default()
        };
        let task = Task {
            id: "t1".into(),
            service_id: "s1".into(),
            node_id: "n1".into(),
            slot,
            service_annotations: Some(annotations),
            ..Task::default()
        };
        let node = NodeFacts {
            id: "n1".into(),
            hostname: "host".into(),
            architecture: "x86_64".into(),
            os: "linux".into(),
        };
        Context::of(&task, &node)
    }

    #[test]
    fn fields_are_put_in() {
        let context = context(2);
        let expand = |text: &str| context.expand(text).unwrap();
        assert_eq!(expand("plain"), "plain");
        assert_eq!(expand("{{.Node.Hostname}}-{{ .Task.Slot }}"), "host-2");
        assert_eq!(expand("{{.Service.Name}}/{{.Service.ID}}/{{.Task.Name}}"), "web/s1/web.2.t1");
        assert_eq!(expand("{{.Node.Platform.OS}}_{{.Node.Platform.Architecture}}"), "linux_x86_64");
        assert_eq!(expand(r#"{{index .Service.Labels "tier"}}{{.Service.Labels}}"#), "frontmap[tier:front]");
        assert_eq!(expand("a {{- .Node.ID -}} b{{/* no */}}"), "an1b");
    }

    #[test]
    fn a_global_tasks_slot_is_its_node() {
        assert_eq!(context(0).expand("{{.Task.Slot}}").unwrap(), "n1");
    }

    #[test]
    fn mistakes_are_named() {
        let context = context(1);
        for (text, part) in [
            ("{{.Task.Slot", "unclosed action"),
            ("{{.Bogus}}", "can't evaluate field Bogus"),
            ("{{bogus 1}}", "function \"bogus\" not defined"),
            ("{{}}", "missing value for command"),
            ("{{secret \"x\"}}", "function \"secret\" not defined"),
        ] {
            let error = context.expand(text).unwrap_err().to_string();
            assert!(error.starts_with("template: expansion:1: ") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn payloads_reach_environment_and_each_other() {
        let secret = |name: &str| (name == "key").then(|| vec![0xff, 0]);
        let env = |name: &str| (name == "A").then(|| b"1".to_vec());
        let functions = Functions { env: Some(&env), secret: Some(&secret), config: None };
        let text = br#"{{env "A"}}|{{env "B"}}|{{secret "key"}}"#;
        assert_eq!(context(1).expand_with(text, &functions).unwrap(), b"1||\xff\0");
        assert!(context(1).expand_with(br#"{{secret "other"}}"#, &functions).is_err());
    }
}
