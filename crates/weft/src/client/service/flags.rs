//! Words of the command line as parts of a service's spec.

use serde_json::{Map, Value, json};

use crate::client::error::ClientError;

pub(super) fn usage(text: impl Into<String>) -> ClientError {
    ClientError::Usage(text.into())
}

/// Go's durations as far as people type them: `1h30m`, `5s`, `250ms`; in nanoseconds.
pub(in crate::client) fn duration(word: &str) -> Result<i64, ClientError> {
    let refused = || usage(format!("invalid duration {word:?}: want for example 1m30s or 250ms"));
    if word == "0" {
        return Ok(0);
    }
    let mut rest = word;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refused)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanos = match unit {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return Err(refused()),
        };
        total += number.parse::<f64>().map_err(|_| refused())? * nanos;
        rest = next;
    }
    if word.is_empty() { Err(refused()) } else { Ok(total as i64) }
}

/// `key=value` parts between commas.
fn parts(word: &str) -> impl Iterator<Item = (&str, &str)> {
    word.split(',').map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// `[published:]target[/protocol]`, or `published=…,target=…,protocol=…,mode=…`.
pub(super) fn port(word: &str) -> Result<Value, ClientError> {
    let refused = || usage(format!("invalid published port {word:?}"));
    let number = |text: &str| text.parse::<u16>().map_err(|_| refused());
    let mut port = json!({ "Protocol": "tcp", "PublishMode": "ingress" });
    if !word.contains('=') {
        let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let (published, target) = ports.split_once(':').unwrap_or(("", ports));
        port["Protocol"] = protocol.into();
        port["TargetPort"] = number(target)?.into();
        if !published.is_empty() {
            port["PublishedPort"] = number(published)?.into();
        }
        return Ok(port);
    }
    for (key, value) in parts(word) {
        match key {
            "published" => port["PublishedPort"] = number(value)?.into(),
            "target" => port["TargetPort"] = number(value)?.into(),
            "protocol" => port["Protocol"] = value.into(),
            "mode" => port["PublishMode"] = value.into(),
            _ => return Err(refused()),
        }
    }
    if port.get("TargetPort").is_none() { Err(refused()) } else { Ok(port) }
}

/// A network's name, or `name=…,alias=…,driver-opt=key=value`; the target is still a name.
pub(super) fn network(word: &str) -> Result<Value, ClientError> {
    if !word.contains('=') {
        return Ok(json!({ "Target": word }));
    }
    let (mut name, mut aliases, mut options) = (String::new(), Vec::new(), Map::new());
    for (key, value) in parts(word) {
        match key {
            "name" => name = value.to_owned(),
            "alias" => aliases.push(value.to_owned()),
            "driver-opt" => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                options.insert(key.to_owned(), value.into());
            }
            _ => return Err(usage(format!("invalid field {key:?} in network {word:?}"))),
        }
    }
    let mut network = json!({ "Target": name });
    if !aliases.is_empty() {
        network["Aliases"] = json!(aliases);
    }
    if !options.is_empty() {
        network["DriverOpts"] = options.into();
    }
    Ok(network)
}

/// `NAME`, or `source=NAME,target=…,uid=…,gid=…,mode=…`: the name, and the file it becomes.
pub(super) fn file(word: &str) -> Result<(String, Value), ClientError> {
    let mut source = word.to_owned();
    let mut target = String::new();
    let mut file = json!({ "UID": "0", "GID": "0", "Mode": 0o444 });
    if word.contains('=') {
        for (key, value) in parts(word) {
            match key {
                "source" | "src" => source = value.to_owned(),
                "target" => target = value.to_owned(),
                "uid" => file["UID"] = value.into(),
                "gid" => file["GID"] = value.into(),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8);
                    file["Mode"] = mode.map_err(|_| usage(format!("invalid mode {value:?}")))?.into();
                }
                _ => return Err(usage(format!("invalid field {key:?} in {word:?}"))),
            }
        }
    }
    file["Name"] = if target.is_empty() { source.clone().into() } else { target.into() };
    Ok((source, file))
}

/// `spread=node.labels.zone`.
pub(super) fn preference(word: &str) -> Result<Value, ClientError> {
    match word.split_once('=') {
        Some(("spread", descriptor)) => Ok(json!({ "Spread": { "SpreadDescriptor": descriptor } })),
        _ => Err(usage(format!("invalid placement preference {word:?}: want spread=LABEL"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_gos() {
        assert_eq!(duration("1m30s").unwrap(), 90_000_000_000);
        assert_eq!(duration("250ms").unwrap(), 250_000_000);
        assert_eq!(duration("1.5h").unwrap(), 5_400_000_000_000);
        assert_eq!(duration("0").unwrap(), 0);
        for bad in ["", "5", "x", "5x"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_in_both_forms() {
        let short = port("8080:80/udp").unwrap();
        let long = port("published=8080,target=80,protocol=udp,mode=ingress").unwrap();
        assert_eq!(short, long);
        assert_eq!(port("80").unwrap().get("PublishedPort"), None);
        assert!(port("x:80").is_err() && port("published=1").is_err());
    }

    #[test]
    fn networks_and_files() {
        assert_eq!(network("web").unwrap(), json!({ "Target": "web" }));
        let long = network("name=web,alias=a,alias=b").unwrap();
        assert_eq!(long, json!({ "Target": "web", "Aliases": ["a", "b"] }));
        let (source, target) = file("source=s,target=t,mode=0400").unwrap();
        assert_eq!((source.as_str(), &target["Name"], &target["Mode"]), ("s", &json!("t"), &json!(0o400)));
        assert_eq!(file("s").unwrap().1["Name"], "s");
    }
}
