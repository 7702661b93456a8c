//! A tree and a value become text.

use serde_json::Value;

use super::functions::{self, Mode};
use super::parser::{Base, Node, Operand, Pipeline};

/// Prints what the nodes make of a value.
pub(super) fn run(nodes: &[Node], value: &Value, mode: Mode) -> Result<String, String> {
    let variables = vec![(String::new(), value.clone())];
    let mut evaluation = Evaluation { variables, mode, out: String::new() };
    evaluation.list(nodes, value)?;
    Ok(evaluation.out)
}

struct Evaluation {
    /// The innermost last; `$` is the one without a name.
    variables: Vec<(String, Value)>,
    mode: Mode,
    out: String,
}

impl Evaluation {
    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        nodes.iter().try_for_each(|node| self.node(node, dot))
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&functions::shown(&value));
                } else {
                    self.set(pipeline, value)?;
                }
            }
            Node::If { when, then, otherwise } => self.scoped(|scope| {
                let value = scope.declared(when, dot)?;
                scope.list(if functions::is_true(&value) { then } else { otherwise }, dot)
            })?,
            Node::With { of, then, otherwise } => self.scoped(|scope| {
                let value = scope.declared(of, dot)?;
                if functions::is_true(&value) { scope.list(then, &value) } else { scope.list(otherwise, dot) }
            })?,
            Node::Range { over, each, otherwise } => self.range(over, each, otherwise, dot)?,
        }
        Ok(())
    }

    /// Variables that are made inside end with it.
    fn scoped(&mut self, work: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let depth = self.variables.len();
        let outcome = work(self);
        self.variables.truncate(depth);
        outcome
    }

    fn declared(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.pipeline(pipeline, dot)?;
        if !pipeline.variables.is_empty() {
            self.set(pipeline, value.clone())?;
        }
        Ok(value)
    }

    fn set(&mut self, pipeline: &Pipeline, value: Value) -> Result<(), String> {
        let [name] = pipeline.variables.as_slice() else {
            return Err("two variables are only for {{range}}".to_owned());
        };
        if !pipeline.is_assignment {
            self.variables.push((name.clone(), value));
            return Ok(());
        }
        *self.variable(name)? = value;
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<&mut Value, String> {
        let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| format!("undefined variable \"${name}\""))
    }

    fn range(
        &mut self,
        over: &Pipeline,
        each: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), String> {
        let pairs: Vec<(Value, Value)> = match self.pipeline(over, dot)? {
            Value::Null => Vec::new(),
            Value::Array(items) => items.into_iter().enumerate().map(|(i, item)| (i.into(), item)).collect(),
            Value::Object(entries) => {
                let mut pairs: Vec<_> = entries.into_iter().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            other => return Err(format!("range can't iterate over {}", functions::shown(&other))),
        };
        if pairs.is_empty() {
            return self.scoped(|scope| scope.list(otherwise, dot));
        }
        for (key, value) in pairs {
            self.scoped(|scope| {
                match over.variables.as_slice() {
                    [] => {}
                    [item] => scope.variables.push((item.clone(), value.clone())),
                    [index, item, ..] => {
                        scope.variables.push((index.clone(), key));
                        scope.variables.push((item.clone(), value.clone()));
                    }
                }
                scope.list(each, &value)
            })?;
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(&mut self, command: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let Some((first, rest)) = command.split_first() else { return Err("missing value".to_owned()) };
        let Base::Function(name) = &first.base else {
            if !rest.is_empty() {
                return Err("can't give argument to non-function".to_owned());
            }
            return self.operand(first, dot);
        };
        // These look at no more than they need.
        if let "and" | "or" = name.as_str() {
            return self.shortest(name == "and", rest, dot, piped);
        }
        let mut arguments =
            rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
        arguments.extend(piped);
        functions::call(name, &arguments, self.mode).and_then(|value| fields(value, &first.fields))
    }

    fn shortest(
        &mut self,
        all: bool,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, String> {
        let mut value = None;
        for operand in operands {
            let next = self.operand(operand, dot)?;
            if functions::is_true(&next) != all {
                return Ok(next);
            }
            value = Some(next);
        }
        piped.or(value).ok_or_else(|| "wrong number of args for and, or: want at least 1 got 0".to_owned())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => self.variable(name)?.clone(),
            Base::Literal(value) => value.clone(),
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Function(name) => functions::call(name, &[], self.mode)?,
        };
        fields(base, &operand.fields)
    }
}

/// Follows a chain of names.
fn fields(mut value: Value, names: &[String]) -> Result<Value, String> {
    for name in names {
        value = match value {
            Value::Object(mut entries) => {
                // Go's structures write in capitals what JSON may not (`ID` is `Id`), and users know both.
                let key = match entries.contains_key(name) {
                    true => Some(name.clone()),
                    false => entries.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned(),
                };
                let found = key.and_then(|key| entries.remove(&key));
                found.ok_or_else(|| format!("map has no entry for key {name:?}"))?
            }
            Value::Null => return Err(format!("nil pointer evaluating interface {{}}.{name}")),
            _ => return Err(format!("can't evaluate field {name} in what is no object")),
        };
    }
    Ok(value)
}
