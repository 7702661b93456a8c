/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Programs in an overlay network's namespace. Loaded once for each of its segments. */
#include "fast_path.h"

/* Set when loaded. */
volatile const __u32 vni = 0;

/* UDP source ports (weft-plan, SourcePorts::Open): the block above belongs to packets that must be encrypted. */
#define PORT_FIRST 0x8000U
#define PORT_COUNT 0x7000U

/* What stands between the outer Ethernet header and the inner IP header. */
struct outer {
	struct iphdr ip;
	struct udphdr udp;
	struct vxlanhdr vxlan;
	struct ethhdr inner;
};
/* Without what the compiler adds for alignment. */
#define OUTER_LEN ((__u32)(__builtin_offsetof(struct outer, inner) + ETH_HLEN))

#define ENCAPSULATE                                                                                          \
	(BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH |          \
	 BPF_F_ADJ_ROOM_ENCAP_L2((__u64)ETH_HLEN) | BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

/* Whether the tunnel packet, or each of those that it will be cut into, passes the underlay whole. */
INLINE int fits(struct __sk_buff *skb, const struct settings *set)
{
	if (skb->len - ETH_HLEN + OUTER_LEN > 0xffff)
		return 0;
	if (!skb->gso_size)
		return skb->len - ETH_HLEN + OUTER_LEN <= set->mtu;
	/* 0: of the interface it came in by, which has the overlay's MTU. Gives that back. */
	__u32 mtu = 0;
	return !bpf_check_mtu(skb, 0, &mtu, 0, BPF_MTU_CHK_SEGS) && mtu + OUTER_LEN <= set->mtu;
}

INLINE int encapsulate(struct __sk_buff *skb, const struct ethhdr *eth, const struct station *station)
{
	const struct settings *set = the_settings();
	if (!set || !set->vtep4 || !station->ifindex || !is_there(skb, station->ifindex) || !fits(skb, set))
		return counted(SLOW_PATH, GO_ON);

	struct ethhdr inner = *eth;
	__u8 ecn = ecn_of((const __u8 *)(eth + 1), eth->h_proto);
	__u64 flow = bpf_get_hash_recalc(skb);
	__u32 inside = station->ifindex;
	__be32 to;
	__builtin_memcpy(&to, &station->tunnel_end[12], sizeof(to));
	/* Refused, with nothing changed: what is a tunnel packet already, or cut by rules that do not fit. */
	if (bpf_skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, ENCAPSULATE))
		return counted(SLOW_PATH, GO_ON);

	struct ethhdr *outer_eth = first_bytes(skb, ETH_HLEN + OUTER_LEN);
	if (!outer_eth)
		return counted(ERRORS, TC_ACT_SHOT);
	struct outer *outer = (void *)(outer_eth + 1);
	__u32 total = skb->len - ETH_HLEN;
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		/* RFC 6040, section 4.1: normal mode. */
		.tos = ecn,
		.tot_len = BE16(total),
		/* It may be cut on its way, as the kernel's own tunnel packets may: no DF, and a number that does not
		 * come again soon in this flow. */
		.id = (__be16)(count(ENCAPSULATED) + flow),
		.ttl = 64,
		.protocol = IPPROTO_UDP,
		.saddr = set->vtep4,
		.daddr = to,
	};
	ip.check = header_checksum(&ip);
	outer_eth->h_proto = BE16(ETH_P_IP);
	outer->ip = ip;
	outer->udp.source = BE16(PORT_FIRST + (__u32)(flow * PORT_COUNT >> 32));
	outer->udp.dest = set->port;
	outer->udp.len = BE16(total - sizeof(struct iphdr));
	/* None: RFC 7348, section 5. */
	outer->udp.check = 0;
	outer->vxlan.flags = VXLAN_VNI_VALID;
	outer->vxlan.vni = BE32(vni << 8);
	outer->inner = inner;
	return (int)bpf_redirect_peer(inside, 0);
}

/* The Ethernet header of a frame that may take the fast path. */
INLINE const struct ethhdr *fast_frame(struct __sk_buff *skb)
{
	/* The shortest IP header, of which ECN is read. */
	const struct ethhdr *eth = first_bytes(skb, ETH_HLEN + sizeof(struct iphdr));
	if (!eth || skb->vlan_present || is_multicast(eth->h_dest) || !is_ip(eth->h_proto))
		return 0;
	return eth;
}

/* Ingress of a port of the bridge: what an endpoint sends. */
SEC("classifier") int from_endpoint(struct __sk_buff *skb)
{
	const struct ethhdr *eth = fast_frame(skb);
	if (!eth)
		return counted(SLOW_PATH, GO_ON);
	const struct station *station = find_station(vni, eth->h_dest);
	/* A bridge does not send a frame back through the port that it came in by. */
	if (!station || station->ifindex == skb->ifindex)
		return counted(SLOW_PATH, GO_ON);
	if (station->kind != TUNNEL && !is_there(skb, station->ifindex))
		return counted(SLOW_PATH, GO_ON);
	switch (station->kind) {
	case LOCAL:
		return counted(DELIVERED, hand_over(skb, station->ifindex));
	case TUNNEL:
		return encapsulate(skb, eth, station);
	case DEVICE:
		return counted(HANDED_OVER, (int)bpf_redirect(station->ifindex, 0));
	default:
		return counted(SLOW_PATH, GO_ON);
	}
}

INLINE const struct station *local_station(struct __sk_buff *skb)
{
	const struct ethhdr *eth = fast_frame(skb);
	const struct station *station = eth ? find_station(vni, eth->h_dest) : 0;
	return station && station->kind == LOCAL && is_there(skb, station->ifindex) ? station : 0;
}

/*
 * Ingress of the uplink's end in this namespace, a port of the bridge: what from_underlay took out of tunnel packets. It
 * goes on over the bridge where the port that it was for is no longer there.
 */
SEC("classifier") int from_uplink_inside(struct __sk_buff *skb)
{
	/* It found the port already. Nothing else leaves a mark on a packet that comes here: pairs take marks off. */
	__u32 port = skb->mark;
	if (port) {
		skb->mark = 0;
		if (is_there(skb, port))
			return counted(RECEIVED, (int)bpf_redirect_peer(port, 0));
	}
	const struct station *station = local_station(skb);
	if (!station)
		return counted(SLOW_PATH, GO_ON);
	return counted(RECEIVED, hand_over(skb, station->ifindex));
}

/* Ingress of a device that another engine serves, a port of the bridge. */
SEC("classifier") int from_device(struct __sk_buff *skb)
{
	const struct station *station = local_station(skb);
	if (!station)
		return counted(SLOW_PATH, GO_ON);
	return counted(RECEIVED, hand_over(skb, station->ifindex));
}

char licence[] SEC("license") = "GPL";
