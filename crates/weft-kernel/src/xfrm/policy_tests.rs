use proptest::prelude::*;

use super::*;

const OWN: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn esp() -> EspPolicy {
    let (own, other) = (OWN.parse().unwrap(), OTHER.parse().unwrap());
    let by = Some(StateId { to: other, spi: 0x0102_0304 });
    EspPolicy { way: Way::between(own, other, 4789), by }
}

/// Places and lengths as `offsetof` and `sizeof` say of linux/xfrm.h on a machine of 64 bits.
#[test]
fn a_new_policy_has_the_layout_of_the_kernels() {
    let body = new_policy(&esp());
    assert_eq!(body[..4], [192, 0, 2, 2], "sel.daddr");
    assert_eq!(body[16..20], [192, 0, 2, 1], "sel.saddr");
    assert_eq!(body[32..40], [0x12, 0xb5, 0xff, 0xff, 0xf0, 0, 0xf0, 0], "ports and masks");
    assert_eq!(body[40..45], [2u16.to_ne_bytes().as_slice(), &[32, 32, 17]].concat());
    assert_eq!(body[45..56], [0; 11]);
    assert_eq!(body[152..156], 1000u32.to_ne_bytes(), "priority");
    assert_eq!(body[156..INFO_LEN], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], "index, dir, action");
    let (kind, template) = Attributes(&body[INFO_LEN..]).next().unwrap();
    assert_eq!((kind, template.len()), (XFRMA_TMPL, TEMPLATE_LEN));
    assert_eq!(template[..4], [192, 0, 2, 2], "id.daddr");
    assert_eq!(template[16..21], [1, 2, 3, 4, 50], "id.spi, id.proto");
    assert_eq!(template[24..26], 2u16.to_ne_bytes(), "family");
    assert_eq!(template[28..32], [192, 0, 2, 1], "saddr");
    assert_eq!(template[44..48], mark::XFRM_REQID.to_ne_bytes(), "reqid");
    assert_eq!(template[48..52], [0; 4], "mode, share, optional");
    assert_eq!(template[52..], [0xff; 12], "algorithms");
}

#[test]
fn what_forbids_is_asked_last_and_is_for_everywhere() {
    let [v4, v6] = Way::anywhere(4789).map(|way| new_policy(&EspPolicy { way, by: None }));
    assert_eq!(v4.len(), INFO_LEN, "no association");
    assert_eq!(v4[152..156], 2000u32.to_ne_bytes());
    assert_eq!(v4[160..162], [1, 1], "dir, action");
    assert_eq!((&v4[42..44], &v6[42..44]), (&[0, 0][..], &[0, 0][..]), "prefixes");
    assert_eq!(v6[40..42], 10u16.to_ne_bytes());
}

#[test]
fn what_is_named_is_the_selector_and_the_direction() {
    let (named, made) = (name(&esp().way), new_policy(&esp()));
    assert_eq!((named.len(), &named[..56]), (64, &made[..56]));
    assert_eq!(named[56..], [0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn they_are_read_as_they_are_written_and_others_are_not_ours() {
    let mut all: Vec<EspPolicy> = Way::anywhere(4789).map(|way| EspPolicy { way, by: None }).into();
    all.push(esp());
    for policy in all {
        assert_eq!(seen(&new_policy(&policy)), Some(policy));
    }
    // Other ports, another protocol, another direction, another number.
    for at in [36, 38, 44, 160, INFO_LEN + 4 + 44] {
        let mut other = new_policy(&esp());
        other[at] ^= 1;
        assert_eq!(seen(&other), None, "{at}");
    }
}

/// A policy of another program: at the places of `struct xfrm_userpolicy_info`.
fn other(to: &str, port: (u16, u16), protocol: u8, direction: u8) -> Vec<u8> {
    let to: IpNet = to.parse().unwrap();
    let mut body = vec![0; INFO_LEN];
    if let IpAddr::V4(ip) = to.addr() {
        body[..4].copy_from_slice(&ip.octets());
        body[40..42].copy_from_slice(&2u16.to_ne_bytes());
    }
    body[32..34].copy_from_slice(&port.0.to_be_bytes());
    body[34..36].copy_from_slice(&port.1.to_be_bytes());
    (body[42], body[44], body[160]) = (to.prefix_len(), protocol, direction);
    body
}

#[test]
fn others_policies_count_where_they_select_tunnel_packets() {
    let packets =
        TunnelPackets { from: OWN.parse().unwrap(), to: [OTHER.parse().unwrap()].into(), port: 4789 };
    let all = u16::MAX;
    for (policy, expected) in [
        (other("0.0.0.0/0", (0, 0), 0, XFRM_POLICY_OUT), true),
        (other("192.0.2.0/24", (4789, all), IPPROTO_UDP, XFRM_POLICY_OUT), true),
        (other("192.0.2.0/24", (4500, all), IPPROTO_UDP, XFRM_POLICY_OUT), false),
        (other("198.51.100.0/24", (0, 0), 0, XFRM_POLICY_OUT), false),
        (other("0.0.0.0/0", (0, 0), 6, XFRM_POLICY_OUT), false),
        (other("0.0.0.0/0", (0, 0), 0, 0), false),
        (new_policy(&esp()), false),
        (Vec::new(), false),
    ] {
        assert_eq!(is_others_for(&policy, &packets), expected, "{policy:?}");
    }
    let nobody = TunnelPackets { to: BTreeSet::new(), ..packets };
    assert!(!is_others_for(&other("0.0.0.0/0", (0, 0), 0, XFRM_POLICY_OUT), &nobody));
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = seen(&bytes);
        let _ = is_others_for(&bytes, &TunnelPackets { from: OWN.parse().unwrap(), to: BTreeSet::new(), port: 1 });
    }

    #[test]
    fn any_damage_is_survived(at in 0usize..236, byte: u8, cut in 0usize..300) {
        let mut body = new_policy(&esp());
        body[at] = byte;
        body.truncate(cut);
        let _ = seen(&body);
    }
}
