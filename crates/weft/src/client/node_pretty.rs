//! `node inspect --pretty`: a node as docker's client shows it to people. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::service::binary;
use super::system::text;

pub(super) fn pretty(node: &Value) -> String {
    let mut out = String::new();
    let (spec, status, description) = (&node["Spec"], &node["Status"], &node["Description"]);
    line(&mut out, "ID:\t\t\t", &text(&node["ID"]));
    let labels = spec["Labels"].as_object().into_iter().flatten();
    for (number, (key, value)) in labels.enumerate() {
        if number == 0 {
            line(&mut out, "Labels:", "");
        }
        line(&mut out, " - ", &format!("{key}={}", text(value)));
    }
    line(&mut out, "Hostname:              \t", &text(&description["Hostname"]));
    let joined = text(&node["CreatedAt"]).replace('T', " ").replace('Z', " +0000 utc");
    line(&mut out, "Joined at:             \t", &joined);
    line(&mut out, "Status:", "");
    line(&mut out, " State:\t\t\t", &titled(&status["State"]));
    if let Some(message) = status["Message"].as_str().filter(|message| !message.is_empty()) {
        line(&mut out, " Message:              \t", &titled(&message.into()));
    }
    line(&mut out, " Availability:         \t", &titled(&spec["Availability"]));
    line(&mut out, " Address:\t\t", &text(&status["Addr"]));
    let manager = &node["ManagerStatus"];
    if manager.is_object() {
        line(&mut out, "Manager Status:", "");
        line(&mut out, " Address:\t\t", &text(&manager["Addr"]));
        line(&mut out, " Raft Status:\t\t", &titled(&manager["Reachability"]));
        let leads = manager["Leader"].as_bool().unwrap_or_default();
        line(&mut out, " Leader:\t\t", if leads { "Yes" } else { "No" });
    }
    line(&mut out, "Platform:", "");
    line(&mut out, " Operating System:\t", &text(&description["Platform"]["OS"]));
    line(&mut out, " Architecture:\t\t", &text(&description["Platform"]["Architecture"]));
    line(&mut out, "Resources:", "");
    let resources = &description["Resources"];
    line(
        &mut out,
        " CPUs:\t\t\t",
        &(resources["NanoCPUs"].as_u64().unwrap_or_default() / 1_000_000_000).to_string(),
    );
    line(&mut out, " Memory:\t\t", &binary(resources["MemoryBytes"].as_u64().unwrap_or_default()));
    plugins(&mut out, &description["Engine"]["Plugins"]);
    line(&mut out, "Engine Version:\t\t", &text(&description["Engine"]["EngineVersion"]));
    let tls = &description["TLSInfo"];
    if tls.is_object() {
        line(&mut out, "TLS Info:", "");
        line(&mut out, " TrustRoot:\n", &text(&tls["TrustRoot"]));
        line(&mut out, " Issuer Subject:\t", &text(&tls["CertIssuerSubject"]));
        line(&mut out, " Issuer Public Key:\t", &text(&tls["CertIssuerPublicKey"]));
    }
    out
}

fn plugins(out: &mut String, plugins: &Value) {
    let mut by_kind: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for plugin in plugins.as_array().into_iter().flatten() {
        by_kind.entry(text(&plugin["Type"])).or_default().push(text(&plugin["Name"]));
    }
    if by_kind.is_empty() {
        return;
    }
    line(out, "Plugins:", "");
    for (kind, mut names) in by_kind {
        names.sort_unstable();
        line(out, &format!(" {kind}:\t\t"), &names.join(", "));
    }
}

fn line(out: &mut String, title: &str, value: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(out, "{title}{value}");
}

/// With a capital, as docker's client shows states.
fn titled(value: &Value) -> String {
    let text = text(value);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As docker's client shows it, by the recordings.
    #[test]
    fn a_node_is_shown_as_dockers_client_does() {
        let node = json!({
            "ID": "kqva",
            "CreatedAt": "2026-11-21T02:09:44.145389922Z",
            "Spec": { "Availability": "active", "Labels": { "zone": "a" } },
            "Status": { "State": "ready", "Addr": "10.98.0.1" },
            "ManagerStatus": { "Addr": "10.98.0.1:2377", "Reachability": "reachable", "Leader": true },
            "Description": {
                "Hostname": "apic1",
                "Platform": { "OS": "linux", "Architecture": "x86_64" },
                "Resources": { "NanoCPUs": 2_000_000_000_u64, "MemoryBytes": 25_275_880_000_u64 },
                "Engine": {
                    "EngineVersion": "28.5.2",
                    "Plugins": [
                        { "Type": "Network", "Name": "overlay" },
                        { "Type": "Network", "Name": "bridge" },
                        { "Type": "Log", "Name": "json-file" },
                    ],
                },
            },
        });
        let want = "ID:\t\t\tkqva\nLabels:\n - zone=a\nHostname:              \tapic1\nJoined at:             \t2026-11-21 \
                    02:09:44.145389922 +0000 utc\nStatus:\n State:\t\t\tReady\n Availability:         \tActive\n \
                    Address:\t\t10.98.0.1\nManager Status:\n Address:\t\t10.98.0.1:2377\n Raft Status:\t\tReachable\n \
                    Leader:\t\tYes\nPlatform:\n Operating System:\tlinux\n \
                    Architecture:\t\tx86_64\nResources:\n CPUs:\t\t\t2\n Memory:\t\t23.54GiB\nPlugins:\n \
                    Log:\t\tjson-file\n Network:\t\tbridge, overlay\nEngine Version:\t\t28.5.2\n";
        assert_eq!(pretty(&node), want);
    }
}
