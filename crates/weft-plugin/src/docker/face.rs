//! Calls of dockerd by the controller.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weft_network::{
    Controller, EndpointSpec, ForeignPlace, HandedOn, Network, NetworkError, SandboxKind, SandboxSpec,
};
use weft_types::{ContainerId, EndpointAddress, MacAddr, NetworkId};

use super::protocol::{Address, CreateNetwork, Endpoint, Interface, RequestPool, text};
use crate::server::{Answer, Face};

/// The address space of all of Weft's networks: they do not overlap.
const ADDRESS_SPACE: &str = "weft";
/// What pools' ids begin with; the network's id follows.
const POOL: &str = "weft/";
/// Claims of places: this, and then whose they are. CNI's names of networks cannot look like that.
const CLAIM: &str = "docker:";
/// Which of Weft's networks a network of dockerd's stands for.
const NETWORK_OPTION: &str = "weft.network";
/// By what name the others find a container.
const NAME_OPTION: &str = "weft.name";
const GATEWAY: &str = "com.docker.network.gateway";
const ADDRESS_TYPE: &str = "RequestAddressType";

/// Why a call is refused, for dockerd's user.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the request cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error(transparent)]
    Network(#[from] Box<NetworkError>),
    #[error("which of Weft's networks it stands for is missing: add --ipam-opt {NETWORK_OPTION}=NAME")]
    NoNetwork,
    #[error(
        "addresses come from Weft, other hosts would give out the same ones: add --ipam-driver weft \
         --ipam-opt {NETWORK_OPTION}=NAME"
    )]
    ForeignAddresses,
    #[error("{0} is no overlay network: only those reach other hosts")]
    NoOverlay(String),
    #[error("network {0} has no IPv4 subnet, and dockerd's networks of this driver have no other")]
    NoSubnet(String),
    #[error("IPv6 is not there for networks of this driver: leave out --ipv6 and IPv6 subnets")]
    NoIpv6,
    #[error(
        "the subnet is {have}, by Weft's network: leave out --subnet, --ip-range and --aux-address ({wished})"
    )]
    OtherSubnet { have: String, wished: String },
    #[error("the gateway is {have}, by Weft's network: leave out --gateway ({wished})")]
    OtherGateway { have: IpAddr, wished: String },
    #[error("{0:?} is no pool of Weft's")]
    NoPool(String),
    #[error("{0:?} is no address")]
    NoAddress(String),
    #[error("no address {0} was given out for this endpoint")]
    NotGiven(String),
    #[error("there is no such endpoint: weftd lost it, restart the container")]
    NoEndpoint,
}

impl From<NetworkError> for Refused {
    fn from(error: NetworkError) -> Self {
        Self::Network(Box::new(error))
    }
}

/// Answers a dockerd.
pub struct DockerFace {
    controller: Arc<Controller>,
}

#[async_trait::async_trait]
impl Face for DockerFace {
    async fn answer(&self, path: &str, body: &[u8]) -> Answer {
        let outcome = match Box::pin(self.route(path, body)).await {
            Some(outcome) => outcome,
            None => return Answer { status: StatusCode::NOT_FOUND, body: b"{}".to_vec() },
        };
        let (status, value) = match outcome {
            Ok(value) => (StatusCode::OK, value),
            Err(error) => {
                tracing::warn!(path, %error, "a call of dockerd is refused");
                let status = match error {
                    Refused::Unreadable(_) => StatusCode::BAD_REQUEST,
                    _ => StatusCode::OK,
                };
                // The one is read from network drivers, the other from address management.
                (status, json!({ "Err": error.to_string(), "Error": error.to_string() }))
            }
        };
        Answer { status, body: value.to_string().into_bytes() }
    }

    fn media_type(&self) -> &'static str {
        "application/vnd.docker.plugins.v1.2+json"
    }
}

fn read<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, Refused> {
    Ok(serde_json::from_slice(body)?)
}

impl DockerFace {
    /// A face over a controller.
    pub fn new(controller: Arc<Controller>) -> Self {
        Self { controller }
    }

    /// None: there is no such call, which dockerd takes for one that is not needed.
    async fn route(&self, path: &str, body: &[u8]) -> Option<Result<Value, Refused>> {
        Some(match path {
            "/Plugin.Activate" => self.activate().await,
            "/NetworkDriver.GetCapabilities" => {
                Ok(json!({ "Scope": "local", "ConnectivityScope": "global" }))
            }
            "/NetworkDriver.CreateNetwork" => read(body).and_then(|request| create_network(&request)),
            "/NetworkDriver.CreateEndpoint" => match read(body) {
                Ok(request) => self.create_endpoint(&request).await,
                Err(error) => Err(error),
            },
            "/NetworkDriver.Join" => read(body).and_then(|request| self.join(&request)),
            "/NetworkDriver.DeleteEndpoint" => match read(body) {
                Ok(request) => self.delete_endpoint(&request).await,
                Err(error) => Err(error),
            },
            "/NetworkDriver.EndpointOperInfo" => Ok(json!({ "Value": {} })),
            // Nothing hangs on these: the place stays until its address is released.
            "/NetworkDriver.DeleteNetwork"
            | "/NetworkDriver.Leave"
            | "/NetworkDriver.DiscoverNew"
            | "/NetworkDriver.DiscoverDelete"
            | "/IpamDriver.ReleasePool" => Ok(json!({})),
            "/IpamDriver.GetCapabilities" => Ok(json!({ "RequiresMACAddress": false })),
            "/IpamDriver.GetDefaultAddressSpaces" => Ok(json!({
                "LocalDefaultAddressSpace": ADDRESS_SPACE, "GlobalDefaultAddressSpace": ADDRESS_SPACE,
            })),
            "/IpamDriver.RequestPool" => match read(body) {
                Ok(request) => self.request_pool(&request).await,
                Err(error) => Err(error),
            },
            "/IpamDriver.RequestAddress" => match read(body) {
                Ok(request) => self.request_address(&request).await,
                Err(error) => Err(error),
            },
            "/IpamDriver.ReleaseAddress" => match read(body) {
                Ok(request) => self.release_address(&request).await,
                Err(error) => Err(error),
            },
            _ => return None,
        })
    }

    /// A dockerd that starts has no call under way: addresses that nobody made an endpoint of were its predecessor's.
    async fn activate(&self) -> Result<Value, Refused> {
        for place in self.places().into_iter().filter(|place| place.claim == CLAIM) {
            tracing::info!(address = ?place.endpoint.address, "an address that dockerd did not use is given back");
            self.controller.remove_sandbox(&place.endpoint.container).await?;
        }
        Ok(json!({ "Implements": ["NetworkDriver", "IpamDriver"] }))
    }

    async fn request_pool(&self, request: &RequestPool) -> Result<Value, Refused> {
        if request.v6 {
            return Err(Refused::NoIpv6);
        }
        let term = text(&request.options, NETWORK_OPTION).ok_or(Refused::NoNetwork)?;
        let network = self.controller.look_up(term).await?;
        let gateway = gateway(&network)?;
        let subnet = gateway.subnet().to_string();
        let other =
            [&request.pool, &request.sub_pool].into_iter().find(|text| !text.is_empty() && **text != subnet);
        if let Some(wished) = other {
            return Err(Refused::OtherSubnet { have: subnet, wished: wished.clone() });
        }
        Ok(json!({
            "PoolID": format!("{POOL}{}", network.id),
            "Pool": subnet,
            "Data": { GATEWAY: gateway.to_string() },
        }))
    }

    async fn request_address(&self, request: &Address) -> Result<Value, Refused> {
        let id = pool(&request.pool)?;
        let wished = match request.address.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| Refused::NoAddress(text.to_owned()))?),
        };
        if text(&request.options, ADDRESS_TYPE) == Some(GATEWAY) {
            let gateway = gateway(&self.controller.look_up(id.as_str()).await?)?;
            return match wished.filter(|ip| *ip != gateway.ip()) {
                Some(ip) => Err(Refused::OtherGateway { have: gateway.ip(), wished: ip.to_string() }),
                None => Ok(json!({ "Address": gateway.to_string() })),
            };
        }
        let container = ContainerId::random(&mut rand::rng());
        self.controller.create_sandbox(sandbox(&container)).await?;
        let spec = EndpointSpec {
            ipv4: wished.map(|ip| ip.to_string()),
            claim: CLAIM.to_owned(),
            ..EndpointSpec::default()
        };
        let joined = self.controller.connect(&container, id.as_str(), spec).await;
        let address = match joined {
            Ok(view) => view.address.ok_or(Refused::NoSubnet(view.network)),
            Err(error) => Err(error.into()),
        };
        if address.is_err() {
            self.controller.remove_sandbox(&container).await?;
        }
        Ok(json!({ "Address": address?.to_string() }))
    }

    /// What an endpoint has is left to it: a late word about an address that is another's by now does no harm.
    async fn release_address(&self, request: &Address) -> Result<Value, Refused> {
        let id = pool(&request.pool)?;
        let ip: Option<IpAddr> = request.address.parse().ok();
        let is_it = |place: &ForeignPlace| {
            place.endpoint.network_id == id && place.claim == CLAIM && ip.is_some() && address(place) == ip
        };
        if let Some(place) = self.places().into_iter().find(is_it) {
            self.controller.remove_sandbox(&place.endpoint.container).await?;
        }
        Ok(json!({}))
    }

    async fn create_endpoint(&self, request: &Endpoint) -> Result<Value, Refused> {
        let Interface { address: wished, mac_address, .. } = request.interface.clone().unwrap_or_default();
        let ip = wished.parse::<EndpointAddress>().map_err(|_| Refused::NoAddress(wished.clone()))?.ip();
        let free = |place: &ForeignPlace| place.claim == CLAIM && address(place) == Some(ip);
        let place = self.places().into_iter().find(free).ok_or_else(|| Refused::NotGiven(wished.clone()))?;
        let mac = match mac_address.as_str() {
            "" => None,
            text => Some(text.parse::<MacAddr>().map_err(|_| Refused::NoAddress(text.to_owned()))?),
        };
        let handed = HandedOn {
            claim: claim(request),
            name: text(&request.options, NAME_OPTION).map(str::to_owned),
            mac,
        };
        self.controller.hand_on(&place.endpoint.container, handed).await?;
        // What was given must not be given back.
        let own =
            if mac.is_some() { json!({}) } else { json!({ "MacAddress": place.endpoint.mac.to_string() }) };
        Ok(json!({ "Interface": own }))
    }

    fn join(&self, request: &Endpoint) -> Result<Value, Refused> {
        let place = self.place(request).ok_or(Refused::NoEndpoint)?;
        let is_internal = self.controller.find(place.endpoint.network_id.as_str())?.internal;
        Ok(json!({
            "InterfaceName": { "SrcName": place.endpoint.interface, "DstPrefix": "eth" },
            "StaticRoutes": [],
            // Without a gateway dockerd adds its own way out.
            "DisableGatewayService": is_internal,
        }))
    }

    async fn delete_endpoint(&self, request: &Endpoint) -> Result<Value, Refused> {
        if let Some(place) = self.place(request) {
            let handed = HandedOn { claim: CLAIM.to_owned(), ..HandedOn::default() };
            self.controller.hand_on(&place.endpoint.container, handed).await?;
        }
        Ok(json!({}))
    }

    fn places(&self) -> Vec<ForeignPlace> {
        let all = self.controller.foreign_places().into_iter();
        all.filter(|place| place.claim.starts_with(CLAIM)).collect()
    }

    fn place(&self, request: &Endpoint) -> Option<ForeignPlace> {
        let claim = claim(request);
        self.places().into_iter().find(|place| place.claim == claim)
    }
}

fn create_network(request: &CreateNetwork) -> Result<Value, Refused> {
    let spaces = |pools: &Option<Vec<super::protocol::Pool>>| pools.clone().unwrap_or_default();
    if spaces(&request.ipv4).iter().any(|pool| pool.address_space != ADDRESS_SPACE) {
        return Err(Refused::ForeignAddresses);
    }
    if !spaces(&request.ipv6).is_empty() {
        return Err(Refused::NoIpv6);
    }
    Ok(json!({}))
}

fn claim(request: &Endpoint) -> String {
    format!("{CLAIM}{}/{}", request.network, request.endpoint)
}

fn address(place: &ForeignPlace) -> Option<IpAddr> {
    place.endpoint.address.map(|address| address.ip())
}

fn pool(id: &str) -> Result<NetworkId, Refused> {
    let network = id.strip_prefix(POOL).and_then(|id| id.parse().ok());
    network.ok_or_else(|| Refused::NoPool(id.to_owned()))
}

/// The router's address in the network's first IPv4 subnet; with it the subnet.
fn gateway(network: &Network) -> Result<EndpointAddress, Refused> {
    let spec = network.overlay().ok_or_else(|| Refused::NoOverlay(network.name.clone()))?;
    let subnet = spec.subnets.iter().find(|subnet| subnet.subnet.addr().is_ipv4());
    let subnet = subnet.ok_or_else(|| Refused::NoSubnet(network.name.clone()))?;
    let first = || subnet.subnet.hosts().next();
    let router = subnet.gateway.or_else(first).ok_or_else(|| Refused::NoSubnet(network.name.clone()))?;
    Ok(EndpointAddress::new(router, subnet.subnet))
}

fn sandbox(container: &ContainerId) -> SandboxSpec {
    SandboxSpec {
        container: container.clone(),
        name: String::new(),
        kind: SandboxKind::Handed,
        hostname: String::new(),
        domainname: String::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        extra_hosts: Vec::new(),
        ports: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_with_addresses_of_others_are_refused_with_what_to_do() {
        let pool = |space: &str| super::super::protocol::Pool {
            address_space: space.to_owned(),
            pool: String::new(),
        };
        let with = |ipv4, ipv6| CreateNetwork { ipv4: Some(vec![ipv4]), ipv6, ..CreateNetwork::default() };
        assert!(create_network(&with(pool("weft"), None)).is_ok());
        let text = create_network(&with(pool("LocalDefault"), None)).unwrap_err().to_string();
        assert!(text.contains("--ipam-driver weft --ipam-opt weft.network=NAME"), "{text}");
        let text =
            create_network(&with(pool("weft"), Some(vec![pool("LocalDefault")]))).unwrap_err().to_string();
        assert!(text.contains("leave out --ipv6"), "{text}");
    }

    #[test]
    fn pools_name_their_network() {
        let id = "ja88tkpf0jo0a316mp9mhodd4";
        assert_eq!(pool(&format!("weft/{id}")).unwrap().as_str(), id);
        assert!(pool("LocalDefault/10.0.0.0/8").is_err());
    }
}
