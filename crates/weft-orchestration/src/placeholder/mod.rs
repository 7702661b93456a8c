//! Docker's placeholders in hostname, environment, mounts, and templated secrets and configs. Pure.
//!
//! They are templates of Go with a context of node, service and task. Built is what such placeholders consist of:
//! fields (`{{.Node.Hostname}}`), `index .Service.Labels "key"`, and in payloads `env`, `secret` and `config` with a
//! quoted name. Control structures (`if`, `range`, `with`) are not built and refused with Docker's prefix.
//!
//! Managers check a spec's placeholders before they take it ([`check_placeholders`]); nodes fill them in.

mod check;
mod malformed;

use std::collections::BTreeMap;

use weft_wire::swarmkit::Task;

pub use check::{PlaceholderMistake, check_placeholders};
pub use malformed::Malformed;

use malformed::Place;

/// What Go's templates know besides.
const NOT_BUILT: [&str; 22] = [
    "if", "else", "end", "range", "with", "define", "template", "block", "break", "continue", "and", "or",
    "not", "len", "print", "printf", "println", "eq", "ne", "lt", "gt", "index",
];

/// Finds something by its name.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// What `env`, `secret` and `config` of a payload find.
#[derive(Default)]
pub struct PlaceholderFunctions<'a> {
    /// A variable of the task's environment.
    pub env: Option<Lookup<'a>>,
    /// A secret by the name of its file.
    pub secret: Option<Lookup<'a>>,
    /// A config by the name of its file.
    pub config: Option<Lookup<'a>>,
}

/// The node that a task runs on, as placeholders know it.
#[derive(Debug, Clone, Copy)]
pub struct PlaceholderNode<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its host name.
    pub hostname: &'a str,
    /// As it describes itself: `x86_64`.
    pub architecture: &'a str,
    /// As it describes itself: `linux`.
    pub os: &'a str,
}

/// Values of the fields.
#[derive(Debug, Clone)]
pub struct Placeholders {
    fields: BTreeMap<&'static str, String>,
    labels: BTreeMap<String, String>,
}

impl Placeholders {
    /// Those of a task with this name, which is in this slot (of a global service: on this node).
    pub fn of(task: &Task, name: String, slot: String, node: PlaceholderNode<'_>) -> Self {
        let service = task.service_annotations.clone().unwrap_or_default();
        let labels: BTreeMap<String, String> = service.labels.into_iter().collect();
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        let fields = BTreeMap::from([
            (".Node.ID", node.id.to_owned()),
            (".Node.Hostname", node.hostname.to_owned()),
            (".Node.Platform.Architecture", node.architecture.to_owned()),
            (".Node.Platform.OS", node.os.to_owned()),
            (".Node.Platform", format!("{{{} {}}}", node.architecture, node.os)),
            (".Service.ID", task.service_id.clone()),
            (".Service.Name", service.name),
            (".Service.Labels", format!("map[{}]", shown.join(" "))),
            (".Task.ID", task.id.clone()),
            (".Task.Name", name),
            (".Task.Slot", slot),
        ]);
        Self { fields, labels }
    }

    /// Expands a text.
    pub fn expand(&self, text: &str) -> Result<String, Malformed> {
        let bytes = self.expand_with(text.as_bytes(), &PlaceholderFunctions::default())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Expands a payload, which may hold anything between its placeholders.
    pub fn expand_with(
        &self,
        text: &[u8],
        functions: &PlaceholderFunctions<'_>,
    ) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = find(rest, b"{{") {
            out.extend_from_slice(&rest[..start]);
            let inner = &rest[start + 2..];
            let begin = text.len() - inner.len();
            let at = Place::of(&text[..begin]);
            let end = find(inner, b"}}").ok_or_else(|| at.malformed("unclosed action"))?;
            let action = String::from_utf8_lossy(&inner[..end]);
            rest = &inner[end + 2..];
            let (trim_before, trim_after) = (action.starts_with("- "), action.ends_with(" -"));
            let action = action.trim_start_matches("- ").trim_end_matches(" -");
            if trim_before {
                out.truncate(out.trim_ascii_end().len());
            }
            let blanks = inner.len() - inner.trim_ascii_start().len();
            out.extend_from_slice(&self.value(action.trim(), functions, at.further(blanks))?);
            if trim_after {
                rest = rest.trim_ascii_start();
            }
        }
        out.extend_from_slice(rest);
        Ok(out)
    }

    fn value(
        &self,
        action: &str,
        functions: &PlaceholderFunctions<'_>,
        at: Place,
    ) -> Result<Vec<u8>, Malformed> {
        if action.starts_with("/*") && action.ends_with("*/") {
            return Ok(Vec::new());
        }
        let words = words(action, at)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let called = |function: Option<Lookup<'_>>, kind: &str, name: &str| {
            let function = function.ok_or_else(|| at.not_defined(kind))?;
            function(name).ok_or_else(|| at.executing(kind, &format!("{kind} not found: {name}")))
        };
        match words[..] {
            [] => Err(at.malformed("missing value for command")),
            [field] if field.starts_with('.') => match self.fields.get(field) {
                Some(value) => Ok(value.clone().into_bytes()),
                None => Err(at.no_field(field)),
            },
            [literal] if literal.starts_with('"') => Ok(unquoted(literal).as_bytes().to_vec()),
            ["index", ".Service.Labels", key] => {
                Ok(self.labels.get(unquoted(key)).cloned().unwrap_or_default().into_bytes())
            }
            ["env", name] => {
                let function = functions.env.ok_or_else(|| at.not_defined("env"))?;
                Ok(function(unquoted(name)).unwrap_or_default())
            }
            ["secret", name] => called(functions.secret, "secret", unquoted(name)),
            ["config", name] => called(functions.config, "config", unquoted(name)),
            [first, ..] if NOT_BUILT.contains(&first) || words.contains(&"|") => Err(at.not_built(action)),
            [first, ..] => Err(at.not_defined(first)),
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Words between blanks; a quoted one keeps its quotes in front.
fn words(action: &str, at: Place) -> Result<Vec<String>, Malformed> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if matches!(first, '"' | '`') {
            let close = rest[1..].find(first).ok_or_else(|| at.malformed("unterminated quoted string"))?;
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

    fn context() -> Placeholders {
        let annotations = Annotations {
            name: "web".into(),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            ..Annotations::default()
        };
        let task = Task {
            id: "t1".into(),
            service_id: "s1".into(),
            service_annotations: Some(annotations),
            ..Task::default()
        };
        let node = PlaceholderNode { id: "n1", hostname: "host", architecture: "x86_64", os: "linux" };
        Placeholders::of(&task, "web.2.t1".to_owned(), "2".to_owned(), node)
    }

    #[test]
    fn fields_are_put_in() {
        let context = context();
        let expand = |text: &str| context.expand(text).unwrap();
        assert_eq!(expand("plain"), "plain");
        assert_eq!(expand("{{.Node.Hostname}}-{{ .Task.Slot }}"), "host-2");
        assert_eq!(expand("{{.Service.Name}}/{{.Service.ID}}/{{.Task.Name}}"), "web/s1/web.2.t1");
        assert_eq!(expand("{{.Node.Platform.OS}}_{{.Node.Platform.Architecture}}"), "linux_x86_64");
        assert_eq!(expand(r#"{{index .Service.Labels "tier"}}{{.Service.Labels}}"#), "frontmap[tier:front]");
        assert_eq!(expand("a {{- .Node.ID -}} b{{/* no */}}"), "an1b");
    }

    #[test]
    fn mistakes_are_named_as_go_does() {
        let context = context();
        for (text, error) in [
            ("{{.Task.Slot", "1: unclosed action"),
            (
                "{{.Bogus}}",
                "1:2: executing \"expansion\" at <.Bogus>: can't evaluate field Bogus in type *template.Context",
            ),
            (
                "a\nb {{ .Bogus }}",
                "2:5: executing \"expansion\" at <.Bogus>: can't evaluate field Bogus in type *template.Context",
            ),
            (
                "{{.Task.Bogus}}",
                "1:7: executing \"expansion\" at <.Task.Bogus>: can't evaluate field Bogus in type struct { ID \
                 string; Name string; Slot string }",
            ),
            ("{{bogus 1}}", "1: function \"bogus\" not defined"),
            ("{{}}", "1: missing value for command"),
            ("{{secret \"x\"}}", "1: function \"secret\" not defined"),
        ] {
            let found = context.expand(text).unwrap_err().to_string();
            assert_eq!(found, format!("template: expansion:{error}"));
        }
        for text in ["{{if eq .Task.Slot \"1\"}}", "{{.Task.ID | printf}}"] {
            let found = context.expand(text).unwrap_err().to_string();
            assert!(found.contains("is not implemented"), "{found}");
        }
    }

    #[test]
    fn payloads_reach_environment_and_each_other() {
        let secret = |name: &str| (name == "key").then(|| vec![0xff, 0]);
        let env = |name: &str| (name == "A").then(|| b"1".to_vec());
        let functions = PlaceholderFunctions { env: Some(&env), secret: Some(&secret), config: None };
        let text = br#"{{env "A"}}|{{env "B"}}|{{secret "key"}}"#;
        assert_eq!(context().expand_with(text, &functions).unwrap(), b"1||\xff\0");
        assert!(context().expand_with(br#"{{secret "other"}}"#, &functions).is_err());
    }
}
