//! Go's functions, and docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::number;

/// What the values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Values,
    /// Titles of columns, which docker's functions leave as they are.
    Titles,
}

type Outcome = Result<Value, String>;

/// Calls one by its name.
pub(super) fn call(name: &str, arguments: &[Value], mode: Mode) -> Outcome {
    let is_dockers = matches!(name, "json" | "join" | "lower" | "upper" | "title" | "truncate");
    if mode == Mode::Titles && is_dockers {
        return arguments.first().cloned().ok_or_else(|| few(name));
    }
    match (name, arguments) {
        ("json", [value]) => serde_json::to_string(value).map(Value::String).map_err(|e| e.to_string()),
        ("lower", [text]) => Ok(string(text)?.to_lowercase().into()),
        ("upper", [text]) => Ok(string(text)?.to_uppercase().into()),
        ("title", [text]) => Ok(title(string(text)?).into()),
        ("split", [text, by]) => {
            Ok(string(text)?.split(string(by)?).map(|part| Value::from(part.to_owned())).collect())
        }
        ("join", [list, by]) => {
            let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
            Ok(items.iter().map(shown).collect::<Vec<_>>().join(string(by)?).into())
        }
        ("pad", [text, before, after]) => {
            let blanks = |count: &Value| Ok::<_, String>(" ".repeat(position(count)?.min(10_000)));
            let text = string(text)?;
            Ok(if text.is_empty() {
                "".into()
            } else {
                format!("{}{text}{}", blanks(before)?, blanks(after)?).into()
            })
        }
        ("truncate", [text, most]) => {
            Ok(string(text)?.chars().take(position(most)?).collect::<String>().into())
        }
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("print", values) => Ok(print(values).into()),
        ("println", values) => Ok((values.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into()),
        ("printf", [format, values @ ..]) => formatted(string(format)?, values).map(Value::String),
        ("eq", [value, others @ ..]) if !others.is_empty() => Ok(others
            .iter()
            .any(|other| order(value, other) == Some(Ordering::Equal) || value == other)
            .into()),
        ("ne", [a, b]) => Ok((order(a, b) != Some(Ordering::Equal) && a != b).into()),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = order(a, b).ok_or("incompatible types for comparison")?;
            Ok(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
            .into())
        }
        ("urlquery", [value]) => {
            Ok(crate::client::connection::escape(&shown(value)).replace("%20", "+").into())
        }
        (
            "json" | "lower" | "upper" | "title" | "split" | "join" | "pad" | "truncate" | "len" | "index"
            | "slice" | "not" | "printf" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "urlquery",
            _,
        ) => Err(few(name)),
        _ => Err(format!("function {name:?} not defined")),
    }
}

fn few(name: &str) -> String {
    format!("wrong number of args for {name}")
}

/// What Go takes for true: all but zero, false, empty and nothing.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// A value as `%v` prints it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number::text(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(entries) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
    }
}

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("wrong type for value; expected string; got {}", shown(value)))
}

fn position(value: &Value) -> Result<usize, String> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{} is no position", shown(value)))
}

/// The first letter of each word in capitals.
fn title(text: &str) -> String {
    let mut inside = false;
    let letter = |letter: char| {
        let first =
            !std::mem::replace(&mut inside, letter.is_alphanumeric() || letter == '_' || letter == '\'');
        if first { letter.to_uppercase().collect::<String>() } else { letter.to_string() }
    };
    text.chars().map(letter).collect()
}

fn length(value: &Value) -> Outcome {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(entries) => Ok(entries.len().into()),
        // A list or map that is not set.
        Value::Null => Ok(0.into()),
        other => Err(format!("len of type {}", shown(other))),
    }
}

fn index(value: &Value, key: &Value) -> Outcome {
    let outside = |at: usize| format!("error calling index: index out of range: {at}");
    match (value, key) {
        (Value::Object(entries), Value::String(key)) => Ok(entries.get(key).cloned().unwrap_or_else(|| {
            // What Go's map of texts says of a key that it does not have, and what one of anything says.
            if entries.values().all(Value::is_string) { "".into() } else { Value::Null }
        })),
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Array(items), at) => {
            let at = position(at)?;
            items.get(at).cloned().ok_or_else(|| outside(at))
        }
        (Value::String(text), at) => {
            let at = position(at)?;
            text.as_bytes().get(at).map(|byte| Value::from(*byte)).ok_or_else(|| outside(at))
        }
        (value, _) => Err(format!("error calling index: can't index item of {}", shown(value))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Outcome {
    let from = bounds.first().map_or(Ok(0), position)?;
    let outside = || "error calling slice: index out of range".to_owned();
    match value {
        Value::String(text) => {
            let to = bounds.get(1).map_or(Ok(text.len()), position)?;
            text.get(from..to).map(Value::from).ok_or_else(outside)
        }
        Value::Array(items) => {
            let to = bounds.get(1).map_or(Ok(items.len()), position)?;
            items.get(from..to).map(|items| items.to_vec().into()).ok_or_else(outside)
        }
        other => Err(format!("error calling slice: can't slice {}", shown(other))),
    }
}

/// None: the two cannot be compared.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Some(x.cmp(&y)),
            _ => x.as_f64()?.partial_cmp(&y.as_f64()?),
        },
        _ => None,
    }
}

/// As Go's `Sprint`: a space between two of which none is a text.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !value.is_string() && !values[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&shown(value));
    }
    out
}

/// As Go's `Sprintf` with the verbs for texts, numbers and truth, with width, precision and `-`, `0`, `+`.
fn formatted(format: &str, values: &[Value]) -> Result<String, String> {
    /// More is nobody's intention.
    const MAX_WIDTH: usize = 10_000;
    let (mut out, mut values, mut letters) = (String::new(), values.iter(), format.chars().peekable());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = letters.next_if(|c| "-+# 0".contains(*c)) {
            flags.push(flag);
        }
        let mut digits = || {
            let mut text = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            text
        };
        let width = digits().parse::<usize>().unwrap_or(0).min(MAX_WIDTH);
        let precision = letters.next_if_eq(&'.').map(|_| {
            let mut text = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            text.parse::<usize>().unwrap_or(0).min(MAX_WIDTH)
        });
        let verb = letters.next().ok_or("%!(NOVERB)")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let text = verb_text(verb, value, precision, flags.contains('+'));
        let missing = width.saturating_sub(text.chars().count());
        match (flags.contains('-'), flags.contains('0') && value.is_number()) {
            (true, _) => out.push_str(&format!("{text}{}", " ".repeat(missing))),
            (false, true) => {
                let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
                out.push_str(&format!("{sign}{}{digits}", "0".repeat(missing)));
            }
            (false, false) => out.push_str(&format!("{}{text}", " ".repeat(missing))),
        }
    }
    Ok(out)
}

fn verb_text(verb: char, value: &Value, precision: Option<usize>, plus: bool) -> String {
    let signed = |text: String| if plus && !text.starts_with('-') { format!("+{text}") } else { text };
    match (verb, value) {
        ('s' | 'v', Value::String(text)) => text.chars().take(precision.unwrap_or(usize::MAX)).collect(),
        ('q', Value::String(text)) => format!("{text:?}"),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('v', value)
        | ('t', value @ Value::Bool(_))
        | ('s', value @ (Value::Array(_) | Value::Object(_))) => shown(value),
        ('d' | 'x' | 'X' | 'o' | 'b', Value::Number(number)) if number.is_i64() || number.is_u64() => {
            let number = number.as_i64().unwrap_or(i64::MAX);
            match verb {
                'd' => signed(number.to_string()),
                'x' => format!("{number:x}"),
                'X' => format!("{number:X}"),
                'o' => format!("{number:o}"),
                _ => format!("{number:b}"),
            }
        }
        ('f' | 'F', Value::Number(number)) if number.is_f64() => {
            signed(format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or_default()))
        }
        ('e' | 'g', Value::Number(number)) if number.is_f64() => number::text(number),
        _ => format!("%!{verb}({})", shown(value)),
    }
}
