//! What a node's kernel and resolver really hold, read with the usual tools, and what the managers say that they shall.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::Hosts;
use crate::api::{list, text};
use crate::dns::Inside;

type Addresses = BTreeSet<Ipv4Addr>;

/// What one node has of a network. Equal views are equal nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Endpoints of other nodes with the nodes that the VXLAN device sends to.
    pub(super) fdb: BTreeSet<(String, Ipv4Addr)>,
    /// Who answers for whom in ARP.
    pub(super) neighbours: BTreeSet<(Ipv4Addr, String)>,
    /// By virtual address, in the namespace of a container.
    pub(super) backends: BTreeMap<Ipv4Addr, Addresses>,
    /// By published port, on the host.
    pub(super) ports: BTreeMap<u16, Addresses>,
    /// By name, as the resolver says.
    pub(super) names: BTreeMap<String, Addresses>,
}

impl View {
    /// How many entries these are, and how many of them names.
    pub(super) fn size(&self) -> (u64, u64) {
        let of = |map: &mut dyn Iterator<Item = &Addresses>| map.map(BTreeSet::len).sum::<usize>();
        let rest = self.fdb.len() + self.neighbours.len();
        let all = rest + of(&mut self.backends.values()) + of(&mut self.ports.values());
        ((all + self.names.len()) as u64, self.names.len() as u64)
    }

    /// What is not as it shall be.
    pub(super) fn difference(&self, want: &Self) -> Option<String> {
        let parts = [
            (self.fdb != want.fdb).then(|| format!("FDB {:?}, want {:?}", self.fdb, want.fdb)),
            (self.neighbours != want.neighbours)
                .then(|| format!("neighbours {:?}, want {:?}", self.neighbours, want.neighbours)),
            (self.backends != want.backends)
                .then(|| format!("backends {:?}, want {:?}", self.backends, want.backends)),
            (self.ports != want.ports).then(|| format!("ports {:?}, want {:?}", self.ports, want.ports)),
            (self.names != want.names).then(|| format!("names {:?}, want {:?}", self.names, want.names)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// An endpoint of a network.
struct Endpoint {
    host: String,
    address: Ipv4Addr,
}

/// What nodes shall have by the word of the managers; for plain containers by the word of their hosts.
pub(super) struct Wish {
    endpoints: Vec<Endpoint>,
    /// The same for every node.
    common: View,
    nodes: BTreeMap<String, Ipv4Addr>,
}

impl Wish {
    /// Asks; an error while something is still under way. `gone` are names that nobody has any more.
    pub(super) fn ask(hosts: &Hosts, network: &str, gone: &BTreeSet<String>) -> Result<Self, String> {
        let nodes = list(hosts, "h1", "/nodes")?;
        if let Some(node) = nodes.iter().find(|node| text(node, "/Status/State") != "ready") {
            return Err(format!(
                "{} is {}",
                text(node, "/Description/Hostname"),
                text(node, "/Status/State")
            ));
        }
        let host_of: BTreeMap<&str, &str> =
            nodes.iter().map(|node| (text(node, "/ID"), text(node, "/Description/Hostname"))).collect();
        let mut wish = Self {
            endpoints: Vec::new(),
            common: View::default(),
            nodes: hosts.lab().hosts().iter().map(|host| (host.name.clone(), host.ipv4)).collect(),
        };
        let tasks = list(hosts, "h1", "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D")?;
        for service in &list(hosts, "h1", "/services")? {
            let own: Vec<&Value> =
                tasks.iter().filter(|task| text(task, "/ServiceID") == text(service, "/ID")).collect();
            if let Some(task) = own.iter().find(|task| text(task, "/Status/State") != "running") {
                return Err(format!("task {} is {}", text(task, "/ID"), text(task, "/Status/State")));
            }
            let replicas = service.pointer("/Spec/Mode/Replicated/Replicas").and_then(Value::as_u64);
            if replicas != Some(own.len() as u64) {
                return Err(format!("{} of {replicas:?} tasks run", own.len()));
            }
            wish.service(service, &own, network, &host_of);
        }
        wish.containers(hosts, network)?;
        wish.common.names.extend(gone.iter().map(|name| (name.clone(), Addresses::new())));
        Ok(wish)
    }

    fn service(&mut self, service: &Value, tasks: &[&Value], network: &str, host_of: &BTreeMap<&str, &str>) {
        let on = |ingress: bool| -> Vec<(String, Ipv4Addr)> {
            let of = |task: &&Value| {
                let host = (*host_of.get(text(task, "/NodeID"))?).to_owned();
                let places = task.pointer("/NetworksAttachments")?.as_array()?.iter();
                let address = places
                    .filter(|place| match ingress {
                        true => place.pointer("/Network/Spec/Ingress") == Some(&Value::Bool(true)),
                        false => text(place, "/Network/Spec/Name") == network,
                    })
                    .find_map(|place| address(text(place, "/Addresses/0")))?;
                Some((host, address))
            };
            tasks.iter().filter_map(of).collect()
        };
        let (inside, mesh) = (on(false), on(true));
        let name = text(service, "/Spec/Name");
        let all: Addresses = inside.iter().map(|(_, address)| *address).collect();
        let network_id = tasks.iter().find_map(|task| {
            let places = task.pointer("/NetworksAttachments")?.as_array()?.iter();
            let place = places.into_iter().find(|place| text(place, "/Network/Spec/Name") == network)?;
            Some(text(place, "/Network/ID"))
        });
        let own = service.pointer("/Endpoint/VirtualIPs").and_then(Value::as_array);
        let own = own.into_iter().flatten().find(|own| Some(text(own, "/NetworkID")) == network_id);
        if let Some(virtual_ip) = own.and_then(|own| address(text(own, "/Addr"))) {
            self.common.backends.insert(virtual_ip, all.clone());
            self.common.names.insert(name.to_owned(), Addresses::from([virtual_ip]));
        }
        self.common.names.insert(format!("tasks.{name}"), all);
        for port in service.pointer("/Endpoint/Ports").and_then(Value::as_array).into_iter().flatten() {
            if let Some(port) = port.pointer("/PublishedPort").and_then(Value::as_u64) {
                let behind = mesh.iter().map(|(_, address)| *address).collect();
                self.common.ports.insert(port as u16, behind);
            }
        }
        self.endpoints.extend(inside.into_iter().map(|(host, address)| Endpoint { host, address }));
    }

    /// Containers that users started.
    fn containers(&mut self, hosts: &Hosts, network: &str) -> Result<(), String> {
        let path = format!("/NetworkSettings/Networks/{network}/IPAddress");
        for host in hosts.lab().hosts() {
            for container in list(hosts, &host.name, "/containers/json")? {
                let is_task = !text(&container, "/Labels/com.docker.swarm.task.id").is_empty();
                let Some(address) = address(text(&container, &path)).filter(|_| !is_task) else { continue };
                let name = text(&container, "/Names/0").trim_start_matches('/').to_owned();
                self.common.names.insert(name, Addresses::from([address]));
                self.endpoints.push(Endpoint { host: host.name.clone(), address });
            }
        }
        Ok(())
    }

    /// What this node shall have.
    pub(super) fn of(&self, host: &str) -> View {
        let mut view = self.common.clone();
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.host != host) {
            let Some(node) = self.nodes.get(&endpoint.host) else { continue };
            let mac = mac(endpoint.address);
            view.neighbours.insert((endpoint.address, mac.clone()));
            view.fdb.insert((mac, *node));
        }
        view
    }
}

/// Reads a node; `inside` are the namespace and the process of a container there that is on the network.
pub(super) fn read(
    hosts: &Hosts,
    host: &str,
    network_id: &str,
    (inside, pid): (&Inside, i32),
    names: impl Iterator<Item = String>,
) -> Result<View, String> {
    let netns = overlay_netns(network_id);
    let line = format!(
        "nsenter --net={netns} bridge fdb show dev vxlan0; echo ---; nsenter --net={netns} ip neigh show dev br0; \
         echo ---; nsenter -t {pid} --net nft -j list map ip weft-balance slots; echo ---; \
         nft -j list map ip weft-ingress slots"
    );
    let output = hosts.host(host).sh(&line).map_err(|error| error.to_string())?;
    let parts: Vec<&str> = output.split("---\n").collect();
    let [fdb, neighbours, balance, ingress] = parts[..] else { return Err(format!("{host}: {output}")) };
    let mut view = View { fdb: fdb.lines().filter_map(forwarded).collect(), ..View::default() };
    view.neighbours = neighbours.lines().filter_map(neighbour).collect();
    for (key, value) in elements(balance)? {
        if let (Some(virtual_ip), Some(backend)) = (first_address(&key), first_address(&value)) {
            view.backends.entry(virtual_ip).or_default().insert(backend);
        }
    }
    for (key, value) in elements(ingress)? {
        let port = parts_of(&key).iter().find_map(|part| part.as_u64()).filter(|port| *port <= 65535);
        if let (Some(port), Some(backend)) = (port, first_address(&value)) {
            view.ports.entry(port as u16).or_default().insert(backend);
        }
    }
    for name in names {
        let found = inside.addresses(&name).ok_or_else(|| format!("{host}: no answer about {name}"))?;
        view.names.insert(name, found);
    }
    Ok(view)
}

/// Where a host keeps the namespace of an overlay network.
pub(super) fn overlay_netns(network_id: &str) -> String {
    format!("/run/weft/network/netns/1-{}", &network_id[..10])
}

/// `02:42:0a:00:01:08 dst 10.99.0.1 self permanent`.
fn forwarded(line: &str) -> Option<(String, Ipv4Addr)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "dst")?;
    Some((words.first()?.to_string(), words.get(at + 1)?.parse().ok()?))
}

/// `10.0.1.8 lladdr 02:42:0a:00:01:08 PERMANENT proto 119`.
fn neighbour(line: &str) -> Option<(Ipv4Addr, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "lladdr")?;
    Some((words.first()?.parse().ok()?, (*words.get(at + 1)?).to_owned()))
}

/// Keys and values of the map that `nft -j list map` shows.
fn elements(json: &str) -> Result<Vec<(Value, Value)>, String> {
    let shown: Value = serde_json::from_str(json).map_err(|error| format!("{error}: {json}"))?;
    let all = shown.pointer("/nftables").and_then(Value::as_array).into_iter().flatten();
    let elements = all.filter_map(|one| one.pointer("/map/elem")?.as_array()).flatten();
    let pair = |element: &Value| Some((element.get(0)?.clone(), element.get(1)?.clone()));
    Ok(elements.filter_map(pair).collect())
}

/// The parts of a concatenation, or the value itself.
fn parts_of(value: &Value) -> Vec<Value> {
    let value = value.pointer("/elem/val").unwrap_or(value);
    value.pointer("/concat").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![value.clone()])
}

fn first_address(value: &Value) -> Option<Ipv4Addr> {
    parts_of(value).iter().find_map(|part| part.as_str()?.parse().ok())
}

/// Without the length of the prefix.
fn address(text: &str) -> Option<Ipv4Addr> {
    text.split('/').next()?.parse().ok()
}

/// Endpoints are given this address of the link layer, as Docker's.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tools_are_read() {
        let node = Ipv4Addr::new(10, 99, 0, 1);
        let line = "02:42:0a:00:01:08 dst 10.99.0.1 self permanent";
        assert_eq!(forwarded(line), Some(("02:42:0a:00:01:08".to_owned(), node)));
        assert_eq!(forwarded("33:33:00:00:00:01 self permanent"), None);
        let (address, mac) = neighbour("10.0.1.8 lladdr 02:42:0a:00:01:08 PERMANENT proto 119").unwrap();
        assert_eq!(mac, super::mac(address));
    }

    #[test]
    fn maps_of_nftables_are_read() {
        let json = r#"{"nftables": [{"metainfo": {}}, {"map": {"name": "slots", "elem":
            [[{"concat": ["10.0.1.5", 0]}, "10.0.1.6"], [{"concat": ["tcp", 8080, 134217728]}, {"concat": ["10.0.0.5", 80]}]]}}]}"#;
        let all = elements(json).unwrap();
        assert_eq!(first_address(&all[0].0), Some(Ipv4Addr::new(10, 0, 1, 5)));
        assert_eq!(first_address(&all[1].1), Some(Ipv4Addr::new(10, 0, 0, 5)));
        assert!(elements("no").is_err());
    }
}
