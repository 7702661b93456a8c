//! Settings of interfaces (`net/ipv4/conf/eth0/arp_ignore`), as the kernel tells of them with the interfaces themselves.
//!
//! They are files below `/proc/sys`, too. But `net/ipv4` there has an entry for each namespace, all in one chain
//! (`proc_sys_compare`), so to find one takes the longer the more containers there are, and the host has such
//! settings for each container.

use std::collections::{BTreeMap, HashMap};

use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, Inet6DevConf, InetDevConf, LinkAttribute, LinkMessage,
};
use weft_plan::LinkName;

use crate::observe::link_name;

/// The values of those of `keys` that are settings of these interfaces. Others are to be read from their files.
pub(crate) fn values(messages: &[LinkMessage], keys: &[String]) -> BTreeMap<String, String> {
    let links: HashMap<LinkName, &LinkMessage> =
        messages.iter().filter_map(|message| Some((link_name(message)?, message))).collect();
    let value = |key: &String| Some((key.clone(), value(&links, key)?.to_string()));
    keys.iter().filter_map(value).collect()
}

fn value(links: &HashMap<LinkName, &LinkMessage>, key: &str) -> Option<i32> {
    let (family, rest) = key.strip_prefix("net/")?.split_once("/conf/")?;
    let (link, setting) = rest.split_once('/')?;
    let link = links.get(&link.parse::<LinkName>().ok()?)?;
    match family {
        "ipv4" => of_ipv4(ipv4(link)?, setting),
        "ipv6" => of_ipv6(ipv6(link)?, setting),
        _ => None,
    }
}

fn of_ipv4(settings: &InetDevConf, name: &str) -> Option<i32> {
    Some(match name {
        "arp_ignore" => settings.arp_ignore,
        "route_localnet" => settings.route_localnet,
        "src_valid_mark" => settings.src_vmark,
        _ => return None,
    })
}

fn of_ipv6(settings: &Inet6DevConf, name: &str) -> Option<i32> {
    Some(match name {
        "accept_dad" => settings.accept_dad,
        "accept_ra" => settings.accept_ra,
        "addr_gen_mode" => settings.addr_gen_mode,
        "disable_ipv6" => settings.disable_ipv6,
        _ => return None,
    })
}

/// What is told for each family of addresses.
fn specs(message: &LinkMessage) -> impl Iterator<Item = &AfSpecUnspec> {
    let specs = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(specs) => Some(specs),
        _ => None,
    });
    specs.into_iter().flatten()
}

fn ipv4(message: &LinkMessage) -> Option<&InetDevConf> {
    let inet = specs(message).find_map(|spec| match spec {
        AfSpecUnspec::Inet(inet) => Some(inet),
        _ => None,
    });
    inet?.iter().find_map(|one| match one {
        AfSpecInet::DevConf(settings) => Some(settings),
        _ => None,
    })
}

fn ipv6(message: &LinkMessage) -> Option<&Inet6DevConf> {
    let inet6 = specs(message).find_map(|spec| match spec {
        AfSpecUnspec::Inet6(inet6) => Some(inet6),
        _ => None,
    });
    inet6?.iter().find_map(|one| match one {
        AfSpecInet6::DevConf(settings) => Some(settings),
        _ => None,
    })
}
