/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Programs in the namespace that tunnels leave from. */
#include "fast_path.h"

#define AF_INET 2
#define AF_INET6 10

/*
 * Where packets to another node leave. The route is asked for anew after WAY_NS, so that changes are followed, and not
 * for every packet. The neighbour is the kernel's business with each packet: resolved, confirmed and aged as for the
 * host's own.
 */
struct way {
	__u64 until;
	__be32 to;
	__u32 ifindex;
	struct bpf_redir_neigh next;
};
#define WAY_NS 10000000ULL
#define WAYS 64

struct {
	NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	NUMBER(max_entries, WAYS);
	TYPE(key, __u32);
	TYPE(value, struct way);
} ways SEC(".maps");

/* What bpf_fib_lookup says. */
INLINE long find_way(struct __sk_buff *skb, const struct iphdr *ip, const struct udphdr *udp, struct way *way)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.sport = udp->source,
		.dport = udp->dest,
		.ifindex = skb->ifindex,
		.ipv4_src = ip->saddr,
		.ipv4_dst = ip->daddr,
	};
	way->to = ip->daddr;
	long found = bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_LOOKUP_SKIP_NEIGH);
	/* A kernel that always looks for the neighbour, too. It need not be known: see above. */
	if (found < 0)
		found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	way->until = 0;
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return found;
	way->ifindex = fib.ifindex;
	way->next.nh_family = fib.family;
	if (fib.family == AF_INET6)
		__builtin_memcpy(way->next.ipv6_nh, fib.ipv6_dst, sizeof(way->next.ipv6_nh));
	else
		way->next.ipv4_nh = fib.ipv4_dst;
	way->until = bpf_ktime_get_coarse_ns() + WAY_NS;
	return BPF_FIB_LKUP_RET_SUCCESS;
}

/* Ingress of an uplink's outer end: tunnel packets that from_endpoint made. */
SEC("classifier") int from_uplink_outside(struct __sk_buff *skb)
{
	const struct settings *set = the_settings();
	const struct ethhdr *eth = first_bytes(skb, ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr));
	if (!set || !eth || eth->h_proto != BE16(ETH_P_IP))
		return counted(STRAY, TC_ACT_SHOT);
	const struct iphdr *ip = (const void *)(eth + 1);
	const struct udphdr *udp = (const void *)(ip + 1);
	if (ip->ihl != 5 || ip->protocol != IPPROTO_UDP || !set->vtep4 || ip->saddr != set->vtep4 ||
	    udp->dest != set->port)
		return counted(STRAY, TC_ACT_SHOT);

	/* Packets of one flow leave by one way; flows may have several (ECMP). */
	__u32 slot = (__u32)(CPU16(udp->source) ^ CPU32(ip->daddr)) % WAYS;
	struct way *way = bpf_map_lookup_elem(&ways, &slot);
	if (!way)
		return counted(ERRORS, TC_ACT_SHOT);
	if (way->to != ip->daddr || way->until < bpf_ktime_get_coarse_ns()) {
		long found = find_way(skb, ip, udp, way);
		/* Somebody stopped the host from forwarding, and with it this interface: it gets it back at the next
		 * reconciliation. The host's own packets do not need it, so these are routed as such. */
		if (found == BPF_FIB_LKUP_RET_FWD_DISABLED && set->underlay)
			return (int)bpf_redirect_neigh(set->underlay, 0, 0, 0);
		if (found != BPF_FIB_LKUP_RET_SUCCESS)
			return counted(UNROUTABLE, TC_ACT_SHOT);
	}
	struct bpf_redir_neigh next = way->next;
	return (int)bpf_redirect_neigh(way->ifindex, &next, sizeof(next), 0);
}

/* A tunnel packet for this node, as far as it was looked at. */
struct tunnel_packet {
	__u8 sender[16];         /* mapped, as in the map */
	__u32 outer_len;         /* from the outer IP header to the inner one */
	__u8 ecn;                /* the outer one's */
};

INLINE int is_same(const __u8 a[16], const __u8 b[16])
{
	const __u32 *x = (const void *)a, *y = (const void *)b;
	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

/*
 * Whether to take it, and where to: the station that the inner frame is for. The sender must be the one node that the
 * inner source is behind: VXLAN has no other authentication.
 */
INLINE const struct station *receiver(const struct udphdr *udp, const struct tunnel_packet *packet, int *verdict)
{
	const struct vxlanhdr *vxlan = (const void *)(udp + 1);
	const struct ethhdr *inner = (const void *)(vxlan + 1);
	__u32 vni = CPU32(vxlan->vni) >> 8;

	*verdict = GO_ON;
	if (vxlan->flags != VXLAN_VNI_VALID || CPU32(vxlan->vni) & 0xff) {
		counted(MALFORMED, 0);
		return 0;
	}
	const struct station *to = 0;
	if (!is_multicast(inner->h_dest) && is_ip(inner->h_proto))
		to = find_station(vni, inner->h_dest);
	if (!to || to->kind != LOCAL || !to->outside) {
		counted(SLOW_PATH, 0);
		return 0;
	}
	const struct station *from = find_station(vni, inner->h_source);
	if (!from || from->kind != TUNNEL || !is_same(from->tunnel_end, packet->sender)) {
		counted(WRONG_SENDER, 0);
		return 0;
	}
	/* RFC 6040, section 4.2. */
	__u8 ecn = ecn_of((const __u8 *)(inner + 1), inner->h_proto);
	if (packet->ecn == ECN_CE && ecn == ECN_NOT_CAPABLE) {
		*verdict = counted(CONGESTION_DROPPED, TC_ACT_SHOT);
		return 0;
	}
	/* ECT(1) over ECT(0) becomes ECT(1): hardly ever seen, the kernel does it. */
	if (packet->ecn == ECN_ECT1 && ecn != ECN_NOT_CAPABLE && ecn != packet->ecn) {
		counted(SLOW_PATH, 0);
		return 0;
	}
	return to;
}

enum taken {
	TAKEN,
	REFUSED, /* with nothing changed */
	BROKEN,
};

/* Takes so many bytes out behind the Ethernet header; what follows them is of the version that `inner` says. */
INLINE enum taken take_out(struct __sk_buff *skb, __u32 len, __be16 inner)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET, version = 0;
	if (skb->protocol != inner)
		version = inner == BE16(ETH_P_IP) ? ADJ_ROOM_DECAP_L3_IPV4 : ADJ_ROOM_DECAP_L3_IPV6;
	if (!bpf_skb_adjust_room(skb, -(__s32)len, BPF_ADJ_ROOM_MAC, flags | version))
		return TAKEN;
	if (version != ADJ_ROOM_DECAP_L3_IPV6)
		return REFUSED;
	/* Linux before 6.3 changes the version only of a header that stays, and makes room for the longer one. */
	if (bpf_skb_change_proto(skb, BE16(ETH_P_IPV6), 0))
		return REFUSED;
	len += sizeof(struct ipv6hdr) - sizeof(struct iphdr);
	return bpf_skb_adjust_room(skb, -(__s32)len, BPF_ADJ_ROOM_MAC, flags) ? BROKEN : TAKEN;
}

INLINE int decapsulate(struct __sk_buff *skb, const struct udphdr *udp, const struct tunnel_packet *packet)
{
	int verdict;
	const struct station *to = receiver(udp, packet, &verdict);
	if (!to)
		return verdict;
	/* What GRO joined still says that it is a tunnel's, for interfaces that it leaves by again. */
	if (to->flags & FORWARDS && skb->gso_size)
		return counted(SLOW_PATH, GO_ON);

	__u32 outside = to->outside, port = to->ifindex;
	if (!is_there(skb, outside))
		return counted(SLOW_PATH, GO_ON);
	struct ethhdr inner = *(const struct ethhdr *)((const void *)(udp + 1) + sizeof(struct vxlanhdr));
	switch (take_out(skb, packet->outer_len, inner.h_proto)) {
	case TAKEN:
		break;
	case REFUSED:
		return counted(SLOW_PATH, GO_ON);
	default:
		return counted(ERRORS, TC_ACT_SHOT);
	}
	/* What the interface checked was the outer checksum; an inner one only where it said so. Fails where it said nothing. */
	bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
	struct ethhdr *eth = first_bytes(skb, ETH_HLEN);
	if (!eth)
		return counted(ERRORS, TC_ACT_SHOT);
	*eth = inner;
	if (packet->ecn == ECN_CE && bpf_skb_ecn_set_ce(skb) != 1)
		return counted(ERRORS, TC_ACT_SHOT);
	/* Spares the program over there to look again. */
	skb->mark = port;
	return counted(DECAPSULATED, hand_over(skb, outside));
}

/* How much must be there after the outer IP header, up to the shortest inner one. */
#define REST_LEN                                                                                             \
	(sizeof(struct udphdr) + sizeof(struct vxlanhdr) + sizeof(struct ethhdr) + sizeof(struct iphdr))
#define BETWEEN_LEN (REST_LEN - sizeof(struct iphdr))

INLINE int over_ipv4(struct __sk_buff *skb, const struct settings *set)
{
	const struct ethhdr *eth = first_bytes(skb, ETH_HLEN + sizeof(struct iphdr) + REST_LEN);
	if (!eth)
		return GO_ON;
	const struct iphdr *ip = (const void *)(eth + 1);
	const struct udphdr *udp = (const void *)(ip + 1);
	if (ip->protocol != IPPROTO_UDP || !set->vtep4 || ip->daddr != set->vtep4)
		return GO_ON;
	if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & BE16(IP_MORE_OR_OFFSET))
		return GO_ON;
	if (udp->dest != set->port)
		return GO_ON;
	__u32 total = skb->len - ETH_HLEN;
	if (CPU16(ip->tot_len) != total || CPU16(udp->len) != total - sizeof(*ip) || header_checksum(ip))
		return counted(MALFORMED, GO_ON);
	struct tunnel_packet packet = {
		.sender = { [10] = 0xff, [11] = 0xff },
		.outer_len = sizeof(*ip) + BETWEEN_LEN,
		.ecn = ip->tos & ECN_MASK,
	};
	__builtin_memcpy(&packet.sender[12], &ip->saddr, 4);
	return decapsulate(skb, udp, &packet);
}

INLINE int over_ipv6(struct __sk_buff *skb, const struct settings *set)
{
	const struct ethhdr *eth = first_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr) + REST_LEN);
	if (!eth)
		return GO_ON;
	const struct ipv6hdr *ip = (const void *)(eth + 1);
	const struct udphdr *udp = (const void *)(ip + 1);
	/* A header of options, or of a fragment, is not UDP's. */
	if (ip->version != 6 || ip->nexthdr != IPPROTO_UDP || udp->dest != set->port || set->vtep4)
		return GO_ON;
	struct tunnel_packet packet = {
		.outer_len = sizeof(*ip) + BETWEEN_LEN,
		.ecn = ecn_of((const __u8 *)ip, BE16(ETH_P_IPV6)),
	};
	__builtin_memcpy(packet.sender, &ip->daddr, sizeof(packet.sender));
	if (!is_same(packet.sender, set->vtep6))
		return GO_ON;
	__u32 length = skb->len - ETH_HLEN - sizeof(*ip);
	/* Without a checksum only the kernel may say that it is fine (RFC 6935). */
	if (CPU16(ip->payload_len) != length || CPU16(udp->len) != length || !udp->check)
		return counted(MALFORMED, GO_ON);
	__builtin_memcpy(packet.sender, &ip->saddr, sizeof(packet.sender));
	return decapsulate(skb, udp, &packet);
}

/* Ingress of an interface that carries the data-path address. Most of what comes is the host's own. */
SEC("classifier") int from_underlay(struct __sk_buff *skb)
{
	const struct settings *set = the_settings();
	if (!set || !set->port || skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return GO_ON;
	if (skb->protocol == BE16(ETH_P_IP))
		return over_ipv4(skb, set);
	if (skb->protocol == BE16(ETH_P_IPV6))
		return over_ipv6(skb, set);
	return GO_ON;
}

char licence[] SEC("license") = "GPL";
