//! `top`, `port`.

use serde_json::Value;

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::system::text;
use super::table;

pub(super) async fn top(daemon: &Daemon, name: &str, options: &[String]) -> Outcome {
    let call = Call::get(format!("/containers/{name}/top"));
    let answer = daemon.json(call.query_if(!options.is_empty(), "ps_args", options.join(" "))).await?;
    let cells = |row: &Value| row.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let processes = answer["Processes"].as_array().into_iter().flatten();
    let rows: Vec<_> = std::iter::once(&answer["Titles"]).chain(processes).map(cells).collect();
    table::aligned(&rows).iter().for_each(|line| println!("{line}"));
    Ok(0)
}

pub(super) async fn port(daemon: &Daemon, name: &str, wanted: Option<&str>) -> Outcome {
    let container = daemon.json(Call::get(format!("/containers/{}/json", escape(name)))).await?;
    let ports = &container["NetworkSettings"]["Ports"];
    let Some(wanted) = wanted else {
        let mut lines: Vec<String> = Vec::new();
        for (port, bindings) in ports.as_object().into_iter().flatten() {
            lines.extend(addresses(bindings).iter().map(|address| format!("{port} -> {address}")));
        }
        lines.sort();
        lines.iter().for_each(|line| println!("{line}"));
        return Ok(0);
    };
    let wanted = if wanted.contains('/') { wanted.to_owned() } else { format!("{wanted}/tcp") };
    let found = addresses(&ports[wanted.as_str()]);
    if found.is_empty() {
        return Err(ClientError::Usage(format!("no public port '{wanted}' published for {name}")));
    }
    found.iter().for_each(|address| println!("{address}"));
    Ok(0)
}

fn addresses(bindings: &Value) -> Vec<String> {
    let address = |binding: &Value| {
        let (ip, port) = (text(&binding["HostIp"]), text(&binding["HostPort"]));
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    };
    bindings.as_array().into_iter().flatten().map(address).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_of_both_families_can_be_used_as_they_are() {
        let bindings = json!([{"HostIp": "0.0.0.0", "HostPort": "80"}, {"HostIp": "::", "HostPort": "80"}]);
        assert_eq!(addresses(&bindings), ["0.0.0.0:80", "[::]:80"]);
        assert!(addresses(&Value::Null).is_empty());
    }
}
