//! `service inspect --pretty`: a service as docker's client shows it to people. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::text;
use crate::client::table;

/// `network` gives a network's name by its id.
pub(super) fn pretty(service: &Value, network: impl Fn(&str) -> String) -> String {
    let mut out = String::from("\n");
    let spec = &service["Spec"];
    let task = &spec["TaskTemplate"];
    line(&mut out, format_args!("ID:\t\t{}", text(&service["ID"])));
    line(&mut out, format_args!("Name:\t\t{}", text(&spec["Name"])));
    pairs(&mut out, "Labels:", &spec["Labels"], "=");
    mode(&mut out, &spec["Mode"]);
    update_status(&mut out, &service["UpdateStatus"]);
    placement(&mut out, &task["Placement"]);
    update(&mut out, "UpdateConfig:", "Update order:      ", &spec["UpdateConfig"]);
    update(&mut out, "RollbackConfig:", "Rollback order:    ", &spec["RollbackConfig"]);
    container(&mut out, &task["ContainerSpec"]);
    resources(&mut out, &task["Resources"]);
    let names: String =
        list(&task["Networks"]).map(|it| format!("{} ", network(&text(&it["Target"])))).collect();
    if !names.is_empty() {
        line(&mut out, format_args!("Networks: {names}"));
    }
    line(&mut out, format_args!("Endpoint Mode:\t{}", text(&service["Endpoint"]["Spec"]["Mode"])));
    ports(&mut out, &service["Endpoint"]["Ports"]);
    out.push('\n');
    out
}

fn line(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _ = writeln!(out, "{what}");
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn words(value: &Value) -> Vec<String> {
    list(value).map(text).collect()
}

/// A title with what belongs to it, if there is any.
fn pairs(out: &mut String, title: &str, of: &Value, between: &str) {
    let Some(map) = of.as_object().filter(|map| !map.is_empty()) else { return };
    line(out, format_args!("{title}"));
    for (key, value) in map {
        line(out, format_args!(" {key}{between}{}", text(value)));
    }
}

fn mode(out: &mut String, mode: &Value) {
    let name = match mode.as_object().and_then(|map| map.keys().next()).map(String::as_str) {
        Some("Global") => "Global",
        Some("ReplicatedJob") => "Replicated Job",
        Some("GlobalJob") => "Global Job",
        _ => "Replicated",
    };
    line(out, format_args!("Service Mode:\t{name}"));
    if let Some(replicas) = mode["Replicated"]["Replicas"].as_u64() {
        line(out, format_args!(" Replicas:\t{replicas}"));
    }
    if let Some(job) = mode["ReplicatedJob"].as_object() {
        let number = |key: &str| job.get(key).map(text).unwrap_or_default();
        line(out, format_args!("  Max Concurrent:\t{}", number("MaxConcurrent")));
        line(out, format_args!("  Total Completions:\t{}", number("TotalCompletions")));
    }
}

fn update_status(out: &mut String, status: &Value) {
    if status["State"].as_str().unwrap_or_default().is_empty() {
        return;
    }
    line(out, format_args!("UpdateStatus:"));
    line(out, format_args!(" State:\t\t{}", text(&status["State"])));
    for (title, key) in [("Started:\t", "StartedAt"), ("Completed:\t", "CompletedAt")] {
        let since = table::since(&text(&status[key]));
        if !since.is_empty() {
            line(out, format_args!(" {title}{since}"));
        }
    }
    line(out, format_args!(" Message:\t{}", text(&status["Message"])));
}

fn placement(out: &mut String, placement: &Value) {
    line(out, format_args!("Placement:"));
    let constraints = words(&placement["Constraints"]);
    if !constraints.is_empty() {
        line(out, format_args!(" Constraints:\t[{}]", constraints.join(" ")));
    }
    let spread = list(&placement["Preferences"]).map(|it| text(&it["Spread"]["SpreadDescriptor"]));
    let spread: Vec<String> = spread.map(|it| format!("spread={it}")).collect();
    if !spread.is_empty() {
        line(out, format_args!(" Preferences:   [{}]", spread.join(" ")));
    }
    if let Some(most) = placement["MaxReplicas"].as_u64().filter(|most| *most > 0) {
        line(out, format_args!(" Max Replicas Per Node:   {most}"));
    }
}

fn update(out: &mut String, title: &str, order: &str, config: &Value) {
    if !config.is_object() {
        return;
    }
    line(out, format_args!("{title}"));
    line(out, format_args!(" Parallelism:\t{}", text(&config["Parallelism"])));
    if config["Delay"].as_u64().is_some_and(|delay| delay > 0) {
        line(out, format_args!(" Delay:\t\t{}", duration(&config["Delay"])));
    }
    line(out, format_args!(" On failure:\t{}", text(&config["FailureAction"])));
    if config["Monitor"].as_u64().is_some_and(|time| time > 0) {
        line(out, format_args!(" Monitoring Period: {}", duration(&config["Monitor"])));
    }
    let ratio = config["MaxFailureRatio"].as_f64().unwrap_or_default();
    line(out, format_args!(" Max failure ratio: {ratio}"));
    line(out, format_args!(" {order}{}", text(&config["Order"])));
}

fn container(out: &mut String, spec: &Value) {
    line(out, format_args!("ContainerSpec:"));
    line(out, format_args!(" Image:\t\t{}", text(&spec["Image"])));
    let args = [words(&spec["Command"]), words(&spec["Args"])].concat();
    if !args.is_empty() {
        line(out, format_args!(" Args:\t\t{} ", args.join(" ")));
    }
    let env = words(&spec["Env"]);
    if !env.is_empty() {
        line(out, format_args!(" Env:\t\t{} ", env.join(" ")));
    }
    if let Some(dir) = spec["Dir"].as_str().filter(|dir| !dir.is_empty()) {
        line(out, format_args!(" Dir:\t\t{dir}"));
    }
    if let Some(init) = spec["Init"].as_bool() {
        line(out, format_args!(" Init:\t\t{init}"));
    }
    if let Some(user) = spec["User"].as_str().filter(|user| !user.is_empty()) {
        line(out, format_args!(" User: {user}"));
    }
    let (add, drop) = (words(&spec["CapabilityAdd"]), words(&spec["CapabilityDrop"]));
    if !add.is_empty() || !drop.is_empty() {
        line(out, format_args!("Capabilities:"));
        for (title, names) in [("Add", add), ("Drop", drop)] {
            if !names.is_empty() {
                line(out, format_args!(" {title}: {}", names.join(", ")));
            }
        }
    }
    pairs(out, "SysCtls:", &spec["Sysctls"], ": ");
    for (number, mount) in list(&spec["Mounts"]).enumerate() {
        if number == 0 {
            line(out, format_args!("Mounts:"));
        }
        line(out, format_args!(" Target:\t{}", text(&mount["Target"])));
        line(out, format_args!("  Source:\t{}", text(&mount["Source"])));
        line(out, format_args!("  ReadOnly:\t{}", mount["ReadOnly"].as_bool().unwrap_or_default()));
        line(out, format_args!("  Type:\t\t{}", text(&mount["Type"])));
    }
}

fn resources(out: &mut String, resources: &Value) {
    line(out, format_args!("Resources:"));
    for (title, of) in [("Reservations", &resources["Reservations"]), ("Limits", &resources["Limits"])] {
        let number = |key: &str| of[key].as_u64().filter(|number| *number > 0);
        let (cpu, memory, pids) = (number("NanoCPUs"), number("MemoryBytes"), number("Pids"));
        if cpu.is_none() && memory.is_none() && pids.is_none() {
            continue;
        }
        line(out, format_args!(" {title}:"));
        if let Some(cpu) = cpu {
            #[allow(clippy::cast_precision_loss, reason = "only shown")]
            let share = cpu as f64 / 1e9;
            line(out, format_args!("  CPU:\t\t{share}"));
        }
        if let Some(memory) = memory {
            line(out, format_args!("  Memory:\t{}", binary(memory)));
        }
        if let Some(pids) = pids {
            line(out, format_args!("  PIDs:\t\t{pids}"));
        }
    }
}

fn ports(out: &mut String, ports: &Value) {
    let shown = |port: &Value| {
        let (published, target) = (text(&port["PublishedPort"]), text(&port["TargetPort"]));
        let (protocol, mode) = (text(&port["Protocol"]), text(&port["PublishMode"]));
        format!(
            " PublishedPort = {published}\n  Protocol = {protocol}\n  TargetPort = {target}\n  PublishMode = {mode}"
        )
    };
    let all: Vec<String> = list(ports).map(shown).collect();
    if !all.is_empty() {
        line(out, format_args!("Ports:\n{} ", all.join("\n")));
    }
}

/// Go's text of a number of nanoseconds, as far as people write such in specs.
fn duration(value: &Value) -> String {
    let duration = Duration::from_nanos(value.as_u64().unwrap_or_default());
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    match (minutes / 60, minutes % 60, duration.subsec_millis()) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, millis) if seconds == 0 => format!("{millis}ms"),
        (0, 0, _) => format!("{}s", duration.as_secs_f64()),
        (0, minutes, _) => format!("{minutes}m{seconds}s"),
        (hours, minutes, _) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A size in units of 1024, with four digits.
pub(in crate::client) fn binary(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "only shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value >= 1000.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As docker's client shows it, by the recordings.
    #[test]
    fn a_service_is_shown_as_dockers_client_does() {
        let service = json!({
            "ID": "irkz",
            "Spec": {
                "Name": "s3",
                "Labels": { "q": "w" },
                "TaskTemplate": {
                    "ContainerSpec": { "Image": "alpine:latest", "Args": ["httpd", "-f"], "Init": false },
                    "Resources": { "Limits": { "MemoryBytes": 33_554_432 }, "Reservations": {} },
                    "Placement": { "Constraints": ["node.role==worker"] },
                    "Networks": [{ "Target": "v1ga" }],
                },
                "Mode": { "Replicated": { "Replicas": 1 } },
                "UpdateConfig": {
                    "Parallelism": 1, "Delay": 1_000_000_000, "FailureAction": "pause",
                    "Monitor": 5_000_000_000_u64, "MaxFailureRatio": 0, "Order": "stop-first",
                },
            },
            "Endpoint": {
                "Spec": { "Mode": "vip" },
                "Ports": [
                    { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress" },
                    { "Protocol": "tcp", "TargetPort": 85, "PublishedPort": 8085, "PublishMode": "host" },
                ],
            },
        });
        let shown = pretty(&service, |id| format!("net of {id}"));
        let want = "\nID:\t\tirkz\nName:\t\ts3\nLabels:\n q=w\nService Mode:\tReplicated\n Replicas:\t1\nPlacement:\n \
                    Constraints:\t[node.role==worker]\nUpdateConfig:\n Parallelism:\t1\n Delay:\t\t1s\n On \
                    failure:\tpause\n Monitoring Period: 5s\n Max failure ratio: 0\n Update order:      \
                    stop-first\nContainerSpec:\n Image:\t\talpine:latest\n Args:\t\thttpd -f \n \
                    Init:\t\tfalse\nResources:\n Limits:\n  Memory:\t32MiB\nNetworks: net of v1ga \nEndpoint \
                    Mode:\tvip\nPorts:\n PublishedPort = 8080\n  Protocol = tcp\n  TargetPort = 80\n  PublishMode = \
                    ingress\n PublishedPort = 8085\n  Protocol = tcp\n  TargetPort = 85\n  PublishMode = host \n\n";
        assert_eq!(shown, want);
    }

    #[test]
    fn durations_and_sizes_read_like_gos() {
        for (nanos, shown) in [(5_000_000_000_u64, "5s"), (90_000_000_000, "1m30s"), (250_000_000, "250ms")] {
            assert_eq!(duration(&json!(nanos)), shown);
        }
        assert_eq!(binary(16 << 20), "16MiB");
        assert_eq!(binary(1536), "1.5KiB");
    }
}
