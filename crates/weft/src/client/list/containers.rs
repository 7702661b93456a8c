//! `ps`, `container ls`.

use clap::Args;
use serde_json::{Value, json};

use super::{ListFlags, Listing, labels, moment, now};
use crate::client::connection::{Call, Daemon};
use crate::client::error::Outcome;
use crate::client::system::text;
use crate::client::table;

/// Letters of a command in a table.
const COMMAND_WIDTH: usize = 20;
/// Letters of a mount in a table.
const MOUNT_WIDTH: usize = 15;

const LISTING: Listing = Listing {
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
};
const WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

#[derive(Debug, Args)]
pub(in crate::client) struct List {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// So many that were created last, whatever their state
    #[arg(short = 'n', long, value_name = "int", allow_hyphen_values = true)]
    last: Option<i64>,
    /// The one that was created last, whatever its state
    #[arg(short, long)]
    latest: bool,
    /// With sizes
    #[arg(short, long)]
    size: bool,
    #[command(flatten)]
    flags: ListFlags,
}

impl List {
    pub(in crate::client) async fn execute(&self, daemon: &Daemon) -> Outcome {
        let last = if self.latest { Some(1) } else { self.last.filter(|last| *last > 0) };
        let format = self.flags.shown.format.as_deref().unwrap_or_default();
        // The daemon has to add up files for it.
        let size = self.size || format.contains(".Size") || format == "json" || format.contains("json .}");
        let call = Call::get("/containers/json")
            .query_if(self.all, "all", 1)
            .query_if(last.is_some(), "limit", last.unwrap_or_default())
            .query_if(size, "size", 1)
            .filters(&self.flags.filter)?;
        let containers = daemon.json(call).await?;
        let rows: Vec<Value> =
            containers.as_array().into_iter().flatten().map(|c| row(c, now(), self.flags.no_trunc)).collect();
        let listing = Listing { table: if self.size { WITH_SIZE } else { LISTING.table }, ..LISTING };
        listing.print(&self.flags.shown, &rows)
    }
}

fn cut(text: &str, length: usize, no_trunc: bool) -> String {
    if no_trunc || text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

fn row(container: &Value, now: i64, no_trunc: bool) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names: Vec<String> =
        list(&container["Names"]).iter().map(|name| text(name).trim_start_matches('/').to_owned()).collect();
    let mounts: Vec<Value> = list(&container["Mounts"]);
    let mount = |mount: &Value| {
        let name = text(&mount["Name"]);
        cut(&if name.is_empty() { text(&mount["Source"]) } else { name }, MOUNT_WIDTH, no_trunc)
    };
    let networks = container["NetworkSettings"]["Networks"].as_object();
    let networks: Vec<&str> =
        networks.into_iter().flat_map(|networks| networks.keys().map(String::as_str)).collect();
    let created = container["Created"].as_i64().unwrap_or(now);
    let id = text(&container["Id"]);
    let bytes = |key: &str| container[key].as_i64().unwrap_or(0);
    let size = match container["SizeRootFs"].is_number() {
        true => format!("{} (virtual {})", table::size(bytes("SizeRw")), table::size(bytes("SizeRootFs"))),
        false => table::size(bytes("SizeRw")),
    };
    json!({
        "ID": if no_trunc { id } else { table::short(&id) },
        "Image": text(&container["Image"]),
        "Command": format!("\"{}\"", cut(&text(&container["Command"]), COMMAND_WIDTH, no_trunc)),
        "CreatedAt": moment(created),
        "RunningFor": table::ago(now - created),
        "Status": text(&container["Status"]),
        "State": text(&container["State"]),
        "Ports": ports(&container["Ports"]),
        "Names": names.join(","),
        "Size": size,
        "Labels": labels(&container["Labels"]),
        "Mounts": mounts.iter().map(mount).collect::<Vec<_>>().join(","),
        "LocalVolumes": mounts.iter().filter(|m| m["Driver"] == "local").count().to_string(),
        "Networks": networks.join(","),
    })
}

fn ports(ports: &Value) -> String {
    let shown = |port: &Value| {
        let private = format!("{}/{}", text(&port["PrivatePort"]), text(&port["Type"]));
        match (&port["PublicPort"], port["IP"].as_str()) {
            (Value::Null, _) => private,
            (public, Some(ip)) if ip.contains(':') => format!("[{ip}]:{public}->{private}"),
            (public, ip) => format!("{}:{public}->{private}", ip.unwrap_or_default()),
        }
    };
    let mut shown: Vec<String> = ports.as_array().into_iter().flatten().map(shown).collect();
    shown.sort();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_like_dockers() {
        let container = json!({
            "Id": "19edf1697dac76444ca0c95addecac73", "Names": ["/c1"], "Image": "busybox",
            "Command": "httpd -f -p 80 -h /etc/here", "Created": 1000, "Status": "Up 2 minutes", "State": "running",
            "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                      {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 81, "Type": "udp"}],
            "Labels": {"a": "b"}, "NetworkSettings": {"Networks": {"web": {}}},
            "Mounts": [{"Name": "data", "Driver": "local"}, {"Source": "/a/long/path/on/the/host"}],
        });
        let row = row(&container, 1130, false);
        for (key, wanted) in [
            ("ID", "19edf1697dac"),
            ("Command", "\"httpd -f -p 80 -h /…\""),
            ("RunningFor", "2 minutes ago"),
            ("Ports", "0.0.0.0:8080->80/tcp, 81/udp, [::]:8080->80/tcp"),
            ("Mounts", "data,/a/long/path/o…"),
            ("LocalVolumes", "1"),
            ("Networks", "web"),
            ("Labels", "a=b"),
            ("Names", "c1"),
        ] {
            assert_eq!(row[key], wanted, "{key}");
        }
        assert!(LISTING.titles.iter().all(|(name, _)| row[name].is_string()));
    }
}
