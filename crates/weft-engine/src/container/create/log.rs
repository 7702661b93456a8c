//! The log driver of a container and its options.

use std::collections::HashMap;

use bollard_stubs::models::HostConfigLogConfig;

use super::{Request, Result, invalid, parse_size};

/// Drivers whose logs the daemon reads, and `none`.
const DRIVERS: [&str; 3] = ["json-file", "local", "none"];
/// Options that every driver has. A log is a file here: nobody waits for it, and nothing is dropped.
const OF_ALL: [&str; 2] = ["mode", "max-buffer-size"];
/// Options of logs in files, and of json-file alone.
const OF_FILES: [&str; 3] = ["max-size", "max-file", "compress"];
const OF_JSON_FILE: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

impl Request {
    /// Refuses unknown drivers and options in Docker's words, and fills in the default driver.
    pub(super) fn check_log_config(&mut self) -> Result<()> {
        let log = self.host.log_config.get_or_insert_with(HostConfigLogConfig::default);
        let driver = log.typ.clone().filter(|typ| !typ.is_empty()).unwrap_or_else(|| DRIVERS[0].to_owned());
        if !DRIVERS.contains(&driver.as_str()) {
            return invalid(format!(
                "error looking up logging plugin {driver}: plugin \"{driver}\" not found"
            ));
        }
        check_options(&driver, log.config.get_or_insert_default())?;
        log.typ = Some(driver);
        Ok(())
    }
}

fn check_options(driver: &str, options: &HashMap<String, String>) -> Result<()> {
    let mode = options.get("mode").map_or("blocking", String::as_str);
    if !matches!(mode, "blocking" | "non-blocking") {
        return invalid(format!("logger: logging mode not supported: {mode}"));
    }
    match options.get("max-buffer-size") {
        Some(_) if mode == "blocking" => {
            return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
        }
        Some(size) => drop(parse_size(size)?),
        None => {}
    }
    if driver == "none" {
        return Ok(());
    }
    let is_known = |key: &&String| {
        let key = key.as_str();
        OF_ALL.contains(&key)
            || OF_FILES.contains(&key)
            || (driver == "json-file" && OF_JSON_FILE.contains(&key))
    };
    if let Some(option) = options.keys().find(|key| !is_known(key)) {
        return invalid(format!("unknown log opt '{option}' for {driver} log driver"));
    }
    options.get("max-size").map(|size| parse_size(size)).transpose()?;
    match options.get("max-file").map(|files| files.parse::<u32>()) {
        None | Some(Ok(1..)) => {}
        Some(_) => return invalid("max-file cannot be less than 1"),
    }
    match options.get("compress").map(String::as_str) {
        None | Some("true" | "false") => Ok(()),
        Some(other) => invalid(format!("invalid value '{other}' for log opt 'compress': true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_by_driver() {
        let check = |driver: &str, options: &[(&str, &str)]| {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            check_options(driver, &options.collect()).map_err(|error| error.to_string())
        };
        assert_eq!(check("json-file", &[("max-size", "10m"), ("max-file", "2"), ("tag", "x")]), Ok(()));
        assert_eq!(check("local", &[("max-size", "10m"), ("compress", "false")]), Ok(()));
        assert_eq!(check("json-file", &[("mode", "non-blocking"), ("max-buffer-size", "1m")]), Ok(()));
        for (driver, option, words) in [
            ("local", ("tag", "x"), "unknown log opt 'tag' for local log driver"),
            ("json-file", ("bogus", "x"), "unknown log opt 'bogus' for json-file log driver"),
            ("json-file", ("max-file", "0"), "max-file cannot be less than 1"),
            ("json-file", ("mode", "fast"), "logger: logging mode not supported: fast"),
            ("json-file", ("max-size", "many"), "invalid size: 'many'"),
        ] {
            assert_eq!(check(driver, &[option]), Err(words.to_owned()));
        }
    }
}
