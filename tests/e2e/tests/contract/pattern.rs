//! What was recorded, as a pattern for what is answered now.
//!
//! What differs between two engines by nature stands in a recording as a token: `<id7>` is the seventh id of 64
//! hexadecimal digits, `<id7.12>` its first twelve, `<time>`, `<mac>`, `<age>`, `<number>`, `<any>`, and names of places such
//! as `<root>`. The first id that is seen for a number stays its id, so that what refers to one object must go on doing so.

use std::collections::BTreeMap;

use serde_json::Value;

/// Stands for the rest of a list that was cut.
const MORE: &str = "<more>";
/// Digits of a whole id.
const ID_DIGITS: usize = 64;
const MAC_CHARS: usize = 17;
/// `2026-11-21T02:23:12Z`; a fraction makes it longer.
const TIME_CHARS: usize = 20;

/// A place where an answer is not as recorded.
#[derive(Debug, Clone)]
pub(crate) struct Mismatch {
    /// `/status`, `/headers/NAME`, or a JSON pointer below `/answer`.
    pub(crate) at: String,
    pub(crate) recorded: String,
    pub(crate) answered: String,
}

impl Mismatch {
    pub(crate) fn new(at: impl Into<String>, recorded: impl ToString, answered: impl ToString) -> Self {
        Self { at: at.into(), recorded: recorded.to_string(), answered: answered.to_string() }
    }
}

/// What tokens stand for here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    ids: BTreeMap<u32, String>,
    places: BTreeMap<String, String>,
}

enum Piece<'a> {
    Text(&'a str),
    Id(u32, usize),
    Place(&'a str),
    Time,
    Mac,
    Age,
    Number,
    Any,
}

impl Names {
    pub(crate) fn new<const N: usize>(places: [(&str, String); N]) -> Self {
        let places = places.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { ids: BTreeMap::new(), places }
    }

    /// A request's text with everything put in; none if an id was never seen.
    pub(crate) fn filled(&self, text: &str) -> Option<String> {
        let mut filled = String::new();
        for piece in self.pieces(text) {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Id(number, digits) => filled.push_str(self.ids.get(&number)?.get(..digits)?),
                Piece::Place(name) => filled.push_str(&self.places[name]),
                Piece::Time | Piece::Mac | Piece::Age | Piece::Number | Piece::Any => return None,
            }
        }
        Some(filled)
    }

    /// The same in all strings of a body.
    pub(crate) fn filled_body(&self, body: &Value) -> Option<Value> {
        Some(match body {
            Value::String(text) => self.filled(text)?.into(),
            Value::Array(list) => {
                list.iter().map(|v| self.filled_body(v)).collect::<Option<Vec<_>>>()?.into()
            }
            Value::Object(map) => {
                let fields = map.iter().map(|(key, v)| Some((self.filled(key)?, self.filled_body(v)?)));
                Value::Object(fields.collect::<Option<_>>()?)
            }
            other => other.clone(),
        })
    }

    /// Whether the text is as recorded; ids that are seen for the first time are kept.
    pub(crate) fn is(&mut self, recorded: &str, text: &str) -> bool {
        let pieces: Vec<Piece<'_>> = self.pieces(recorded).collect();
        let (mut rest, mut learnt) = (text, Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            let taken = match piece {
                Piece::Text(wanted) => rest.starts_with(wanted).then_some(wanted.len()),
                Piece::Id(number, digits) => self.id(*number, *digits, rest, &mut learnt),
                Piece::Place(name) => {
                    self.places.get(*name).filter(|p| rest.starts_with(*p)).map(String::len)
                }
                Piece::Time => {
                    run(rest, |c| c.is_ascii_digit() || "T:.Z+-".contains(c)).filter(|n| *n >= TIME_CHARS)
                }
                Piece::Mac => exactly(rest, MAC_CHARS, |c| c.is_ascii_hexdigit() || c == ':'),
                Piece::Age => age(rest),
                Piece::Number => run(rest, |c| c.is_ascii_digit()),
                Piece::Any => match pieces.get(at + 1) {
                    Some(Piece::Text(next)) => rest.find(next),
                    _ => Some(rest.len()),
                },
            };
            let Some(taken) = taken else { return false };
            rest = &rest[taken..];
        }
        if rest.is_empty() {
            self.ids.extend(learnt);
        }
        rest.is_empty()
    }

    fn id(&self, number: u32, digits: usize, text: &str, learnt: &mut Vec<(u32, String)>) -> Option<usize> {
        let known =
            self.ids.get(&number).or_else(|| learnt.iter().find(|(n, _)| *n == number).map(|(_, id)| id));
        if let Some(known) = known {
            return text.starts_with(known.get(..digits)?).then_some(digits);
        }
        exactly(text, digits, |c| matches!(c, '0'..='9' | 'a'..='f'))?;
        if digits == ID_DIGITS {
            learnt.push((number, text[..digits].to_owned()));
        }
        Some(digits)
    }

    /// All places where a value is not as recorded.
    pub(crate) fn compare(
        &mut self,
        at: &str,
        recorded: &Value,
        answered: &Value,
        found: &mut Vec<Mismatch>,
    ) {
        match (recorded, answered) {
            (Value::String(token), _) if token == "<any>" => (),
            (Value::String(token), Value::Number(_)) if token == "<number>" => (),
            (Value::String(text), Value::String(answer)) if self.is(text, answer) => (),
            (Value::Object(fields), Value::Object(answer)) => self.compare_fields(at, fields, answer, found),
            (Value::Array(list), Value::Array(answer)) => self.compare_lists(at, list, answer, found),
            (recorded, answered) if recorded == answered => (),
            _ => found.push(Mismatch::new(at, recorded, answered)),
        }
    }

    fn compare_lists(&mut self, at: &str, recorded: &[Value], answered: &[Value], found: &mut Vec<Mismatch>) {
        if is_unordered(at, recorded) {
            return self.compare_sets(at, recorded, answered, found);
        }
        let cut = recorded.last().is_some_and(|last| last == MORE);
        let wanted = if cut { &recorded[..recorded.len() - 1] } else { recorded };
        if wanted.len() > answered.len() || (!cut && wanted.len() < answered.len()) {
            let show = |list: &[Value]| Value::from(list.to_vec());
            found.push(Mismatch::new(at, show(recorded), show(answered)));
            return;
        }
        for (n, (recorded, answered)) in wanted.iter().zip(answered).enumerate() {
            self.compare(&format!("{at}/{n}"), recorded, answered, found);
        }
    }

    /// Each recorded element is compared with the one that is most like it. What is left on either side is told by a
    /// name: `-NAME` is missing, `+NAME` is too much.
    fn compare_sets(&mut self, at: &str, recorded: &[Value], answered: &[Value], found: &mut Vec<Mismatch>) {
        let mut left: Vec<&Value> = answered.iter().collect();
        for (n, wanted) in recorded.iter().enumerate() {
            let attempts = left.iter().enumerate().map(|(index, candidate)| {
                let (mut names, mut mismatches) = (self.clone(), Vec::new());
                names.compare(&format!("{at}/{n}"), wanted, candidate, &mut mismatches);
                (mismatches.len(), index, names, mismatches)
            });
            let own = name_of(wanted);
            let best = attempts
                .filter(|(wrong, index, ..)| *wrong == 0 || (!own.is_empty() && name_of(left[*index]) == own))
                .min_by_key(|(wrong, ..)| *wrong);
            match best {
                Some((_, index, names, mismatches)) => {
                    *self = names;
                    found.extend(mismatches);
                    left.remove(index);
                }
                None => found.push(Mismatch::new(format!("{at}/-{own}"), wanted, "not there")),
            }
        }
        found.extend(left.iter().map(|v| Mismatch::new(format!("{at}/+{}", name_of(v)), "not there", v)));
    }

    fn compare_fields(
        &mut self,
        at: &str,
        recorded: &serde_json::Map<String, Value>,
        answered: &serde_json::Map<String, Value>,
        found: &mut Vec<Mismatch>,
    ) {
        let mut seen = Vec::new();
        for (key, value) in recorded {
            let field = format!("{at}/{}", key.replace('/', "~1"));
            let same = answered.iter().find(|(k, _)| !seen.contains(k) && self.is(key, k));
            match same {
                Some((key, answer)) => {
                    seen.push(key);
                    self.compare(&field, value, answer, found);
                }
                None => found.push(Mismatch::new(field, value, "no such field")),
            }
        }
        for (key, answer) in answered.iter().filter(|(key, _)| !seen.contains(key)) {
            let field = format!("{at}/{}", key.replace('/', "~1"));
            found.push(Mismatch::new(field, "no such field", answer));
        }
    }

    fn pieces<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Piece<'a>> {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if let Some((piece, after)) = self.token(rest) {
                rest = after;
                return Some(piece);
            }
            let end = (1..rest.len())
                .find(|at| rest.is_char_boundary(*at) && self.token(&rest[*at..]).is_some())
                .unwrap_or(rest.len());
            let (literal, after) = rest.split_at(end);
            rest = after;
            Some(Piece::Text(literal))
        })
    }

    fn token<'a>(&self, text: &'a str) -> Option<(Piece<'a>, &'a str)> {
        let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
        let piece = match name {
            "time" => Piece::Time,
            "mac" => Piece::Mac,
            "age" => Piece::Age,
            "number" => Piece::Number,
            "any" => Piece::Any,
            place if self.places.contains_key(place) => Piece::Place(place),
            other => {
                let (number, digits) = match other.strip_prefix("id")?.split_once('.') {
                    Some((number, digits)) => (number, digits.parse().ok()?),
                    None => (&other[2..], ID_DIGITS),
                };
                Piece::Id(number.parse().ok()?, digits)
            }
        };
        Some((piece, rest))
    }
}

/// Lists that Docker makes of maps, and images of one second: their order differs from one answer to the next.
fn is_unordered(at: &str, list: &[Value]) -> bool {
    let name = at.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
    let of_maps = ["Mounts", "Ports", "NetworksDeleted", "ContainersDeleted", "VolumesDeleted", "Volumes"];
    of_maps.contains(&name)
        || at.contains("/NetworkSettings/Ports/")
        || list.iter().any(|v| v.get("IPAM").is_some() || v.get("ParentId").is_some())
}

/// What tells an element of such a list from others of its kind.
fn name_of(value: &Value) -> String {
    let key = ["Destination", "Name", "IP", "HostIp"].iter().find_map(|key| value.get(key)?.as_str());
    key.unwrap_or_default().replace('/', "~1")
}

/// Bytes of the longest beginning of such characters; none without any.
fn run(text: &str, is: impl Fn(char) -> bool) -> Option<usize> {
    Some(text.find(|c| !is(c)).unwrap_or(text.len())).filter(|end| *end > 0)
}

/// Exactly so many of such characters.
fn exactly(text: &str, count: usize, is: impl Fn(char) -> bool) -> Option<usize> {
    text.get(..count).filter(|start| start.chars().all(is)).map(str::len)
}

/// As Docker tells ages: `5 seconds`, `About a minute`.
fn age(text: &str) -> Option<usize> {
    let fixed = ["Less than a second", "About a minute", "About an hour"];
    if let Some(words) = fixed.iter().find(|words| text.starts_with(**words)) {
        return Some(words.len());
    }
    let number = run(text, |c| c.is_ascii_digit())?;
    let unit = text[number..].strip_prefix(' ')?;
    Some(number + 1 + run(unit, |c| c.is_ascii_lowercase())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_stays_what_it_was_first() {
        let mut names = Names::new([("root", "/data".to_owned())]);
        let (one, other) = ("a".repeat(64), "b".repeat(64));
        assert!(names.is("<root>/<id1>/x", &format!("/data/{one}/x")));
        assert!(names.is("<id1.12>", &one[..12]));
        assert!(!names.is("<id1>", &other));
        assert_eq!(names.filled("/c/<id1.3>").as_deref(), Some("/c/aaa"));
        assert_eq!(names.filled("/c/<id2>"), None);
    }

    #[test]
    fn what_differs_by_nature_is_compared_by_its_form() {
        let mut names = Names::default();
        for (recorded, answered) in [
            ("<time>", "2026-11-21T02:23:12.584354143Z"),
            ("<mac>", "1e:bb:8d:eb:24:83"),
            ("Up <age> (healthy)", "Up 12 seconds (healthy)"),
            ("Exited (0) <age> ago", "Exited (0) Less than a second ago"),
            ("a<any>z", "abcz"),
        ] {
            assert!(names.is(recorded, answered), "{recorded} {answered}");
        }
        assert!(!names.is("<time>", "0001") && !names.is("Up <age>", "Up") && !names.is("<mac>", ""));
    }

    #[test]
    fn lists_that_were_maps_have_no_order() {
        let recorded = json!({ "Mounts": [{ "Destination": "/a", "RW": true }, { "Destination": "/b" }] });
        let answered = json!({ "Mounts": [{ "Destination": "/c" }, { "Destination": "/a", "RW": false }] });
        let mut found = Vec::new();
        Names::default().compare("", &recorded, &answered, &mut found);
        let places: Vec<&str> = found.iter().map(|m| m.at.as_str()).collect();
        assert_eq!(places, ["/Mounts/0/RW", "/Mounts/-~1b", "/Mounts/+~1c"]);
    }

    #[test]
    fn every_place_that_differs_is_found() {
        let recorded = json!({ "a": null, "b": ["x", "<more>"], "c": { "80/tcp": 1 }, "n": "<number>" });
        let answered = json!({ "a": [], "b": ["x", "y"], "c": { "80/tcp": 2 }, "d": 1, "n": 5 });
        let mut found = Vec::new();
        Names::default().compare("", &recorded, &answered, &mut found);
        let mut places: Vec<&str> = found.iter().map(|m| m.at.as_str()).collect();
        places.sort_unstable();
        assert_eq!(places, ["/a", "/c/80~1tcp", "/d"]);
    }
}
