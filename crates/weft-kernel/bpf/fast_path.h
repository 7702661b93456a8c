/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the programs of the fast path share: maps, settings, counters, and access to packets.
 *
 * Rule for all of them: a frame that a program does not understand wholly is not its business. It goes on
 * (GO_ON) to the bridge, which carries everything, until the first byte of it was changed.
 *
 * The layout of maps is known to src/bpf/layout.rs, too; whoever changes it raises LAYOUT there.
 */
#ifndef WEFT_FAST_PATH_H
#define WEFT_FAST_PATH_H

#include "common.h"
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#define ENODEV 19

HELPER(__u64, ktime_get_coarse_ns, void);
HELPER(long, redirect, __u32 ifindex, __u64 flags);
HELPER(long, skb_change_proto, struct __sk_buff *skb, __be16 proto, __u64 flags);
HELPER(long, skb_change_type, struct __sk_buff *skb, __u32 type);
HELPER(__u32, get_hash_recalc, struct __sk_buff *skb);
HELPER(long, skb_pull_data, struct __sk_buff *skb, __u32 len);
HELPER(long, skb_adjust_room, struct __sk_buff *skb, __s32 len_diff, __u32 mode, __u64 flags);
HELPER(long, fib_lookup, void *ctx, struct bpf_fib_lookup *params, int plen, __u32 flags);
HELPER(long, skb_ecn_set_ce, struct __sk_buff *skb);
HELPER(long, csum_level, struct __sk_buff *skb, __u64 level);
HELPER(long, redirect_neigh, __u32 ifindex, struct bpf_redir_neigh *params, int plen, __u64 flags);
HELPER(long, redirect_peer, __u32 ifindex, __u64 flags);
HELPER(long, check_mtu, void *ctx, __u32 ifindex, __u32 *mtu_len, __s32 len_diff, __u64 flags);

/* Newer than the headers of some machines that build this; kernels without them refuse (EINVAL). */
#define FIB_LOOKUP_SKIP_NEIGH (1U << 2)         /* Linux 6.5 */
#define ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)      /* Linux 6.3 */
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

/* The next program, filter, or the device's owner (a bridge, the host) goes on with the packet. */
#define GO_ON TC_ACT_UNSPEC

#define IP_MORE_OR_OFFSET 0x3fff /* of iphdr.frag_off: more fragments, or not the first */
#define ECN_MASK 3
#define ECN_NOT_CAPABLE 0
#define ECN_ECT1 1
#define ECN_CE 3

/* RFC 7348, section 5. */
struct vxlanhdr {
	__be32 flags;
	__be32 vni; /* 24 bits, and 8 that are reserved */
};
#define VXLAN_VNI_VALID BE32(0x08000000)

enum counter {
	DELIVERED,
	ENCAPSULATED,
	DECAPSULATED,
	RECEIVED,
	HANDED_OVER,
	SLOW_PATH,
	WRONG_SENDER,
	MALFORMED,
	CONGESTION_DROPPED,
	STRAY,
	UNROUTABLE,
	ERRORS,
	COUNTERS,
};

enum kind {
	LOCAL = 1,  /* behind a port of the network's namespace */
	TUNNEL = 2, /* on another node */
	DEVICE = 3, /* on another node, by a device of the network's namespace */
};

struct station_key {
	__u32 vni;
	__u8 mac[ETH_ALEN];
	__u8 zero[2];
};

#define FORWARDS 1U /* of LOCAL: what is delivered there leaves this machine again */

struct station {
	__u32 kind;
	__u32 ifindex;         /* in the network's namespace: the port, the uplink's end, the device; 0: slow path */
	__u32 outside;         /* of LOCAL, in the host's: where tunnel packets for it go; 0: none are taken */
	__u32 flags;
	__u8 tunnel_end[16];   /* of TUNNEL: IPv6, or IPv4 mapped to it (RFC 4291, section 2.5.5.2) */
};

struct settings {
	__u8 vtep6[16];        /* this node's data-path address, mapped as above */
	__be32 vtep4;          /* 0: it is an IPv6 one */
	__u32 mtu;             /* of the underlay: the longest IP packet; 0: nothing is sent */
	__be16 port;
	__u8 zero[2];
	__u32 underlay;        /* an interface of it, for when routes cannot be asked for; 0: none is known */
};

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	NUMBER(max_entries, 65536);
	TYPE(key, struct station_key);
	TYPE(value, struct station);
} stations SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct settings);
} settings SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	NUMBER(max_entries, COUNTERS);
	TYPE(key, __u32);
	TYPE(value, __u64);
} counters SEC(".maps");

/* Gives back how many there were before, on this processor. */
INLINE __u64 count(enum counter which)
{
	__u32 index = which;
	__u64 *each = bpf_map_lookup_elem(&counters, &index);
	return each ? (*each)++ : 0;
}

INLINE int counted(enum counter which, int verdict)
{
	count(which);
	return verdict;
}

INLINE const struct settings *the_settings(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&settings, &zero);
}

INLINE const struct station *find_station(__u32 vni, const __u8 mac[ETH_ALEN])
{
	struct station_key key = { .vni = vni };
	__builtin_memcpy(key.mac, mac, ETH_ALEN);
	return bpf_map_lookup_elem(&stations, &key);
}

/* The packet from its Ethernet header on, of which `len` bytes can be read; none where it is shorter. */
INLINE void *first_bytes(struct __sk_buff *skb, __u32 len)
{
	void *data = (void *)(long)skb->data;
	if (data + len <= (void *)(long)skb->data_end)
		return data;
	/* What the device left in pages of its own. */
	if (skb->len < len || bpf_skb_pull_data(skb, len))
		return 0;
	data = (void *)(long)skb->data;
	return data + len <= (void *)(long)skb->data_end ? data : 0;
}

INLINE int is_multicast(const __u8 mac[ETH_ALEN])
{
	return mac[0] & 1;
}

INLINE int is_ip(__be16 ethertype)
{
	return ethertype == BE16(ETH_P_IP) || ethertype == BE16(ETH_P_IPV6);
}

/* The ECN bits of an IP header of either version. */
INLINE __u8 ecn_of(const __u8 *ip, __be16 ethertype)
{
	/* IPv6's traffic class is 4 bits in. */
	return (ethertype == BE16(ETH_P_IP) ? ip[1] : ip[1] >> 4) & ECN_MASK;
}

/* The checksum of an IPv4 header without options; 0 for one that carries its right one. */
INLINE __u16 header_checksum(const struct iphdr *ip)
{
	const __u32 *words = (const void *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];
	/* RFC 1071: halves of the sum add up to the same, however wide the words were. */
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/*
 * Whether there is such an interface. One that was made again has another number until the daemon has seen it, and a
 * redirection to a number of nothing loses the packet.
 */
INLINE int is_there(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 mtu = 0;
	/* Says ENODEV; that a packet is too long for the interface is not asked here. */
	return bpf_check_mtu(skb, ifindex, &mtu, 0, 0) != -ENODEV;
}

/* Into the namespace at the other end of the pair that `ifindex` is an end of. */
INLINE int hand_over(struct __sk_buff *skb, __u32 ifindex)
{
	/* Addressed to a station behind the pair, it was another host's for the interface that it came in by. */
	if (skb->pkt_type != PACKET_HOST && bpf_skb_change_type(skb, PACKET_HOST))
		return counted(ERRORS, TC_ACT_SHOT);
	return (int)bpf_redirect_peer(ifindex, 0);
}

#endif
