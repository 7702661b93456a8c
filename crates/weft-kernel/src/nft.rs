//! nftables through its own program: scripts in, JSON listings out.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use weft_plan::{Chain, Hook, HookKind, Learnt, NftRule, NftSet, Op, Table, TableId, mark};

use crate::KernelError;

/// Does all operations in one transaction. To be called inside the namespace: the child is born there.
pub(crate) fn apply(ops: &[&Op]) -> Result<(), KernelError> {
    let script: String = ops.iter().map(|op| script(op)).collect();
    if script.is_empty() {
        return Ok(());
    }
    let what = ops.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    run(&["-f", "-"], Some(&script), what).map(|_| ())
}

fn script(op: &Op) -> String {
    match op {
        Op::SetTable(table) => weft_plan::set_table_script(table),
        Op::DeleteTable(id) => weft_plan::delete_table_script(id),
        Op::ChangeElements { table, set, add, remove, .. } => {
            weft_plan::change_elements_script(table, set, add, remove)
        }
        _ => String::new(),
    }
}

/// Our tables in this thread's namespace.
pub(crate) fn list() -> Result<Vec<Table>, KernelError> {
    Ok(parse(&listing(&["list", "ruleset"], "list ruleset")?))
}

/// Base chains of others at the forward hook whose policy is to drop.
pub(crate) fn foreign_forward_drops() -> Result<BTreeSet<String>, KernelError> {
    let objects = listing(&["list", "chains"], "list chains")?;
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    let dropping = chains.filter(|chain| {
        text(chain, "hook").as_deref() == Some("forward") && text(chain, "policy").as_deref() == Some("drop")
    });
    let others = dropping
        .filter(|chain| text(chain, "table").is_some_and(|table| !table.starts_with(mark::TABLE_PREFIX)));
    Ok(others
        .filter_map(|chain| {
            Some(format!("{} {} {}", text(chain, "family")?, text(chain, "table")?, text(chain, "name")?))
        })
        .collect())
}

/// A named counter's packets and bytes.
pub(crate) fn counter(table: &TableId, name: &str) -> Result<Option<(u64, u64)>, KernelError> {
    let objects = listing(&["list", "counters"], "list counters")?;
    let wanted = objects.iter().filter_map(|object| object.get("counter")).find(|counter| {
        id(counter).as_ref() == Some(table) && counter.get("name").and_then(Value::as_str) == Some(name)
    });
    let number = |counter: &Value, key| counter.get(key).and_then(Value::as_u64).unwrap_or_default();
    Ok(wanted.map(|counter| (number(counter, "packets"), number(counter, "bytes"))))
}

fn listing(args: &[&str], what: &str) -> Result<Vec<Value>, KernelError> {
    let output = run(&[&["-j"], args].concat(), None, what.to_owned())?;
    let unreadable =
        |error: serde_json::Error| KernelError::Nft { what: what.to_owned(), message: error.to_string() };
    let mut listing: Value = serde_json::from_slice(&output.stdout).map_err(unreadable)?;
    match listing.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

fn run(args: &[&str], input: Option<&str>, what: String) -> Result<Output, KernelError> {
    let missing = |source| KernelError::NftMissing { source };
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new("nft")
        .args(args)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        // A child that fails early closes the pipe; its own words, read below, say more than "broken pipe".
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(missing)?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let message = words.lines().filter(|line| line.contains("Error")).collect::<Vec<_>>().join("; ");
    let message = if message.is_empty() { format!("{}: {}", output.status, words.trim()) } else { message };
    Err(KernelError::Nft { what, message })
}

/// Our tables out of a listing.
fn parse(objects: &[Value]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for object in objects {
        if let Some(id) = object.get("table").and_then(named) {
            tables.push(Table::new(id));
        } else if let Some((kind, value)) = object.as_object().and_then(|object| object.iter().next())
            && let Some(table) = id(value).and_then(|id| tables.iter_mut().find(|table| table.id == id))
        {
            add(table, kind, value);
        }
    }
    tables
}

fn add(table: &mut Table, kind: &str, value: &Value) {
    let Some(name) = text(value, "name").or_else(|| text(value, "chain")) else { return };
    match kind {
        "chain" => {
            table.chains.entry(name).or_default().hook = hook(value);
        }
        "rule" => {
            let comment = value.get("comment").and_then(Value::as_str);
            table.chains.entry(name).or_default().rules.push(NftRule::seen(comment));
        }
        "set" | "map" => {
            table.sets.insert(name, set(value));
        }
        "counter" => {
            table.counters.insert(name);
        }
        // Something we never make: a chain without our name for it shows the difference.
        _ => {
            table.chains.insert(format!("{kind} {name}"), Chain::default());
        }
    }
}

/// The table that an object belongs to, if it is ours.
fn id(value: &Value) -> Option<TableId> {
    table_id(value.get("family")?.as_str()?, value.get("table")?.as_str()?)
}

/// The table that a table object is, if it is ours.
fn named(value: &Value) -> Option<TableId> {
    table_id(value.get("family")?.as_str()?, value.get("name")?.as_str()?)
}

fn table_id(family: &str, name: &str) -> Option<TableId> {
    let ours = name.starts_with(mark::TABLE_PREFIX);
    let family = family.parse().ok()?;
    ours.then(|| TableId { family, name: name.to_owned() })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn hook(chain: &Value) -> Option<Hook> {
    let kind = match chain.get("type")?.as_str()? {
        "nat" => HookKind::Nat,
        "route" => HookKind::Route,
        _ => HookKind::Filter,
    };
    let priority = i32::try_from(chain.get("prio")?.as_i64()?).ok()?;
    let device = chain.get("dev").and_then(Value::as_str).and_then(|name| name.parse().ok());
    // Another policy than `accept` is a change of ours that nobody of us made.
    let policy = chain.get("policy").and_then(Value::as_str).unwrap_or("accept");
    let name = chain.get("hook")?.as_str()?;
    let hook = if policy == "accept" { name.to_owned() } else { format!("{name} policy {policy}") };
    Some(Hook { kind, hook, priority, device })
}

fn set(value: &Value) -> NftSet {
    let key = types(value.get("type"));
    let data = types(value.get("map"));
    let elements = value.get("elem").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let learnt = learnt(value);
    let elements = match learnt {
        Some(_) => BTreeSet::new(),
        None => elements.iter().map(|element| element_text(element, &key, &data)).collect(),
    };
    NftSet { key, value: data, elements, learnt }
}

/// Whether rules fill it. Versions differ in whether they list the flag `dynamic`; all list the timeout.
fn learnt(value: &Value) -> Option<Learnt> {
    let number = |key| value.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    Some(Learnt { timeout_s: number("timeout")?, size: number("size")? })
}

/// Versions differ: one word, words joined by dots, or a list.
fn types(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => text.split(" . ").map(str::to_owned).collect(),
        Some(Value::Array(parts)) => parts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// An element as it is written in a script; see [`NftSet::elements`].
fn element_text(element: &Value, key: &[String], data: &[String]) -> String {
    match element {
        Value::Array(pair) if !data.is_empty() && pair.len() == 2 => {
            format!("{} : {}", value_text(&pair[0], key), value_text(&pair[1], data))
        }
        other => value_text(other, key),
    }
}

/// A verdict that leads to another chain.
fn verdict_text(verdict: &serde_json::Map<String, Value>) -> Option<String> {
    let (word, chain) = verdict.iter().next()?;
    Some(format!("{word} {}", chain.get("target")?.as_str()?))
}

fn value_text(value: &Value, types: &[String]) -> String {
    // Elements with a comment, a timeout or a counter of their own are wrapped.
    let value = value.get("elem").and_then(|elem| elem.get("val")).unwrap_or(value);
    let parts = match value.get("concat") {
        Some(Value::Array(parts)) => parts.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let words = parts.iter().enumerate().map(|(index, part)| {
        let quoted = types.get(index).is_some_and(|kind| kind == "ifname");
        match part {
            Value::String(text) if quoted => format!("\"{text}\""),
            Value::String(text) => text.clone(),
            Value::Object(verdict) => verdict_text(verdict).unwrap_or_else(|| part.to_string()),
            other => other.to_string(),
        }
    });
    words.collect::<Vec<_>>().join(" . ")
}
