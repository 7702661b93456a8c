//! Making, pinning, entering and removing namespaces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::error::Error;

use weft_kernel::{Kernel, KernelError, Netns, NetnsError};
use weft_plan::{Link, LinkKind, LinkName, NamespaceState};
use weft_types::{Classified, ErrorKind};

#[test]
fn a_pinned_namespace_outlives_its_maker_and_goes_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/one");
    let id = Netns::create(&path).unwrap().id().unwrap();
    assert_eq!(Netns::open(&path).unwrap().id().unwrap(), id);
    let again = Netns::create(&path).unwrap_err();
    assert!(matches!(again, NetnsError::Exists { .. }), "{again}");
    assert_eq!(again.kind(), ErrorKind::Conflict);
    Netns::remove(&path).unwrap();
    assert!(!path.exists());
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("deep/er/one"));
    Netns::remove(&path).unwrap();
}

#[test]
fn what_is_no_namespace_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let words = Netns::open(&file).unwrap_err();
    assert!(words.to_string().ends_with("file is not a network namespace"), "{words}");
    let missing = Netns::open(folder.path().join("none")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.source().unwrap().to_string().contains("No such file"));
    // A file that an interrupted start left behind.
    Netns::remove(&file).unwrap();
    assert!(!file.exists());
}

#[test]
fn entering_changes_no_thread_of_ours() {
    let own = Netns::of_process(std::process::id()).unwrap().id().unwrap();
    let netns = Netns::anonymous().unwrap();
    let inside = netns.run_in(|| Netns::open("/proc/thread-self/ns/net").unwrap().id().unwrap()).unwrap();
    assert_eq!(inside, netns.id().unwrap());
    assert_ne!(inside, own);
    assert_eq!(Netns::open("/proc/thread-self/ns/net").unwrap().id().unwrap(), own);
}

#[test]
fn sockets_stay_where_they_were_made() {
    let (one, two) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let address = "127.0.0.11:0".parse().unwrap();
    let socket = one.udp_socket(address).unwrap();
    assert_eq!(socket.local_addr().unwrap().ip().to_string(), "127.0.0.11");
    let bound = socket.local_addr().unwrap();
    assert!(two.udp_socket(bound).is_ok(), "another namespace, another port space");
    let taken = one.udp_socket(bound).unwrap_err();
    assert!(taken.to_string().contains("bind a UDP socket"), "{taken}");
    assert!(taken.source().unwrap().to_string().contains("in use"));
}

/// Two daemons of two hosts on one machine make the same names and numbers at once.
#[test]
fn hosts_of_one_machine_do_not_meet() {
    let build = || {
        let (host, network) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
        let mut state = NamespaceState::empty();
        let name = |text: &str| text.parse::<LinkName>().unwrap();
        let vxlan = weft_plan::Vxlan {
            vni: 4096.try_into().unwrap(),
            local: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 4789,
            underlay: host.reference(),
            sources: weft_plan::SourcePorts::Open,
        };
        state.links.insert(name("vxlan0"), Link::new(LinkKind::Vxlan(vxlan)));
        let kernel = Kernel::open_blocking(network).unwrap();
        for _ in 0..20 {
            assert!(kernel.reconcile_blocking(&state).unwrap().is_clean());
            assert!(kernel.reconcile_blocking(&NamespaceState::empty()).unwrap().is_clean());
        }
    };
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(build))));
}

#[test]
fn the_kernels_own_words_are_kept() {
    let netns = Netns::anonymous().unwrap();
    let kernel = Kernel::open_blocking(netns).unwrap();
    let name: LinkName = "lo".parse().unwrap();
    let op = weft_plan::Op::SetRoute(weft_plan::Route::default_via("10.9.9.9".parse().unwrap(), name));
    let report = kernel.apply_blocking(std::slice::from_ref(&op));
    let words = report.failed[0].source().unwrap().to_string();
    assert!(words.starts_with("set route 0.0.0.0/0 via 10.9.9.9 dev lo"), "{words}");
    assert!(words.contains("ENETUNREACH") && words.contains("Nexthop has invalid gateway"), "{words}");
    let gone = kernel.link_mtu_blocking(&"none".parse().unwrap()).unwrap_err();
    assert!(matches!(gone, KernelError::NoLink { .. }), "{gone}");
}

#[tokio::test]
async fn the_async_side_works_on_a_runtime() {
    let kernel = Kernel::open(Netns::anonymous().unwrap()).await.unwrap();
    let mut state = NamespaceState::empty();
    state.links.insert(LinkName::lo(), Link::new(LinkKind::Loopback));
    assert!(kernel.reconcile(&state).await.unwrap().is_clean());
    let lo = kernel.link_with_address("127.0.0.1".parse().unwrap()).await.unwrap();
    assert_eq!(lo, Some(LinkName::lo()));
    assert_eq!(kernel.sysctl("net/ipv4/ip_forward").await.unwrap().map(|v| v.len()), Some(1));
    assert_eq!(kernel.link_mtu(&LinkName::lo()).await.unwrap(), None, "65536 is more than IP can use");
}

#[test]
fn settings_of_interfaces_are_what_their_files_say() {
    let netns = Netns::anonymous().unwrap();
    let kernel = Kernel::open_blocking(netns.clone()).unwrap();
    let mut wish = NamespaceState::empty();
    let names = [
        ("ipv4", ["arp_ignore", "route_localnet", "src_valid_mark", "forwarding"].as_slice()),
        ("ipv6", &["accept_dad", "accept_ra", "addr_gen_mode", "disable_ipv6", "no_such_setting"]),
    ];
    for link in ["lo", "all", "default", "none"] {
        for (family, settings) in names {
            wish.sysctls.extend(
                settings.iter().map(|name| (format!("net/{family}/conf/{link}/{name}"), String::new())),
            );
        }
    }
    for value in ["0", "1"] {
        netns
            .run_in(|| {
                for key in wish.sysctls.keys() {
                    // Those that are not there cannot be written.
                    let _ = std::fs::write(format!("/proc/sys/{key}"), value);
                }
            })
            .unwrap();
        let seen = kernel.observe_blocking(&wish).unwrap().sysctls;
        assert_eq!(seen["net/ipv6/conf/lo/disable_ipv6"], value);
        for key in wish.sysctls.keys() {
            assert_eq!(seen.get(key).cloned(), kernel.sysctl_blocking(key).unwrap(), "{key}");
        }
    }
}
