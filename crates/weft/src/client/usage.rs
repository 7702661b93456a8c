//! `system df`.

use clap::Args;
use serde_json::{Value, json};

use super::connection::{Call, Daemon};
use super::error::Outcome;
use super::list::{Listing, Shown};
use super::system::text;
use super::table;

const LISTING: Listing = Listing {
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
};

#[derive(Debug, Args)]
pub(super) struct DiskUsage {
    /// table, json or a template of Go's
    #[arg(long, value_name = "format")]
    format: Option<String>,
    /// Name what there is
    #[arg(short, long)]
    verbose: bool,
}

impl DiskUsage {
    pub(super) async fn execute(&self, daemon: &Daemon) -> Outcome {
        let usage = daemon.json(Call::get("/system/df")).await?;
        if self.verbose {
            details(&usage);
            return Ok(0);
        }
        LISTING.print(&Shown { quiet: false, format: self.format.clone() }, &rows(&usage))
    }
}

fn items<'a>(usage: &'a Value, key: &str) -> Vec<&'a Value> {
    usage[key].as_array().into_iter().flatten().collect()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0).max(0)
}

fn is_running(container: &Value) -> bool {
    matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"))
}

fn rows(usage: &Value) -> Vec<Value> {
    let row = |name: &str, total: usize, active: usize, size: i64, free: i64| {
        let percent = if size > 0 { format!(" ({}%)", free * 100 / size) } else { String::new() };
        json!({
            "Type": name, "TotalCount": total.to_string(), "Active": active.to_string(), "Size": table::size(size),
            "Reclaimable": format!("{}{percent}", table::size(free)),
        })
    };
    let images = items(usage, "Images");
    let used: Vec<_> = images.iter().filter(|image| number(&image["Containers"]) > 0).collect();
    // Layers that images share count once, and a shared one goes only with the last image.
    let all = number(&usage["LayersSize"]);
    let own = |image: &Value| (number(&image["Size"]) - number(&image["SharedSize"])).max(0);
    let in_use: i64 = used.iter().map(|image| own(image)).sum();
    let containers = items(usage, "Containers");
    let size =
        |containers: &[&Value]| containers.iter().map(|container| number(&container["SizeRw"])).sum::<i64>();
    let (running, stopped): (Vec<&Value>, Vec<&Value>) =
        containers.iter().copied().partition(|c| is_running(c));
    let volumes = items(usage, "Volumes");
    let of =
        |volumes: &[&Value]| volumes.iter().map(|volume| number(&volume["UsageData"]["Size"])).sum::<i64>();
    let (linked, free): (Vec<&Value>, Vec<&Value>) =
        volumes.iter().copied().partition(|volume| number(&volume["UsageData"]["RefCount"]) > 0);
    vec![
        row("Images", images.len(), used.len(), all, (all - in_use).max(0)),
        row("Containers", containers.len(), running.len(), size(&containers), size(&stopped)),
        row("Local Volumes", volumes.len(), linked.len(), of(&volumes), of(&free)),
        row("Build Cache", 0, 0, 0, 0),
    ]
}

fn details(usage: &Value) {
    let size = |value: &Value| table::size(number(value));
    println!("Images space usage:\n");
    let image = |image: &&Value| {
        let name = image["RepoTags"]
            .as_array()
            .and_then(|tags| tags.first())
            .map_or("<none>:<none>".to_owned(), text);
        let id = table::short(text(&image["Id"]).trim_start_matches("sha256:"));
        let unique = number(&image["Size"]) - number(&image["SharedSize"]);
        vec![
            name,
            id,
            size(&image["Size"]),
            size(&image["SharedSize"]),
            table::size(unique),
            number(&image["Containers"]).to_string(),
        ]
    };
    let rows: Vec<_> = items(usage, "Images").iter().map(image).collect();
    table::print(&["IMAGE", "IMAGE ID", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"], &rows);
    println!("\nContainers space usage:\n");
    let container = |container: &&Value| {
        let name =
            container["Names"].as_array().and_then(|names| names.first()).map(text).unwrap_or_default();
        let id = table::short(&text(&container["Id"]));
        let (image, status) = (text(&container["Image"]), text(&container["Status"]));
        vec![id, image, size(&container["SizeRw"]), status, name.trim_start_matches('/').to_owned()]
    };
    let rows: Vec<_> = items(usage, "Containers").iter().map(container).collect();
    table::print(&["CONTAINER ID", "IMAGE", "SIZE", "STATUS", "NAMES"], &rows);
    println!("\nLocal Volumes space usage:\n");
    let volume = |volume: &&Value| {
        let usage = &volume["UsageData"];
        vec![text(&volume["Name"]), number(&usage["RefCount"]).to_string(), size(&usage["Size"])]
    };
    let rows: Vec<_> = items(usage, "Volumes").iter().map(volume).collect();
    table::print(&["VOLUME NAME", "LINKS", "SIZE"], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_come_free_is_told() {
        let rows = rows(&json!({
            "LayersSize": 1000,
            "Images": [{"Size": 600, "SharedSize": 0, "Containers": 1}, {"Size": 400, "SharedSize": -1, "Containers": 0}],
            "Containers": [{"State": "running", "SizeRw": 10}, {"State": "exited", "SizeRw": 30}],
            "Volumes": [{"UsageData": {"RefCount": 1, "Size": 5}}, {"UsageData": {"RefCount": 0, "Size": 15}}],
        }));
        assert_eq!(
            rows[0],
            json!({"Type": "Images", "TotalCount": "2", "Active": "1", "Size": "1.00kB", "Reclaimable": "400B (40%)"})
        );
        assert_eq!(rows[1]["Reclaimable"], "30B (75%)");
        assert_eq!(rows[2]["Reclaimable"], "15B (75%)");
        assert_eq!(rows[3]["Reclaimable"], "0B");
    }
}
