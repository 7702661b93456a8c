/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Programs at the root of the control groups: a TCP socket that asks for a virtual IP is connected to a task.
 *
 * What they do not know they leave as it is: rules below the sockets translate it.
 *
 * The layout of maps is known to src/bpf/connect/layout.rs, too; whoever changes it raises LAYOUT there.
 */
#include "common.h"

#include <linux/in.h>

#define AF_INET 2
#define AF_INET6 10
#define ECONNREFUSED 111

HELPER(__u32, get_prandom_u32, void);
HELPER(__u64, get_netns_cookie, void *ctx);
HELPER(void *, sk_storage_get, void *map, void *sk, void *value, __u64 flags);
HELPER(long, sk_storage_delete, void *map, void *sk);
HELPER(int, set_retval, int retval);

#define GO_ON 1 /* the socket is connected to what is in the context now */
#define REFUSE 0

/* Whether programs can say why a socket is not connected (Linux 6.1); set by the loader. */
volatile const __u32 can_refuse = 0;

/* IPv6, or IPv4 mapped to it (RFC 4291, section 2.5.5.2), in network byte order. */
struct address {
	__be32 words[4];
};

struct service_key {
	__u64 reach;
	struct address virtual_ip;
};

/*
 * The number of a service's slots, 0 where no task takes flows, and in the upper half what these slots are found by:
 * another number, never 0, whenever they change. One word, so that it is read at once.
 */
typedef __u64 service;
#define SLOTS(service) ((__u32)(service))
#define ID(service) ((__u32)((service) >> 32))

struct slot_key {
	__u32 service;
	__u32 number;
};

/* What a socket asked for, and what it got. */
struct peer {
	struct address asked;
	struct address task;
};

/* From the cookie of a network namespace to what is reached from there; others have nothing to do with services. */
struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	NUMBER(max_entries, 32768);
	TYPE(key, __u64);
	TYPE(value, __u64);
} namespaces SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	NUMBER(max_entries, 65536);
	TYPE(key, struct service_key);
	TYPE(value, service);
} services SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	NUMBER(max_entries, 262144);
	TYPE(key, struct slot_key);
	TYPE(value, struct address);
} slots SEC(".maps");

/* Goes with the socket. */
struct {
	NUMBER(type, BPF_MAP_TYPE_SK_STORAGE);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, int);
	TYPE(value, struct peer);
} peers SEC(".maps");

enum counter {
	TRANSLATED,
	REFUSED,
	LEFT, /* to the rules: a slot was replaced that very moment, or memory was short */
	COUNTERS,
};

struct {
	NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	NUMBER(max_entries, COUNTERS);
	TYPE(key, __u32);
	TYPE(value, __u64);
} counters SEC(".maps");

INLINE void count(enum counter which)
{
	__u32 index = which;
	__u64 *each = bpf_map_lookup_elem(&counters, &index);
	if (each)
		(*each)++;
}

INLINE int is_same(const struct address *a, const struct address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
	       a->words[3] == b->words[3];
}

INLINE struct address mapped(__be32 ip)
{
	struct address address = { { 0, 0, BE32(0xffff), ip } };
	return address;
}

/* Has the socket remember what it asked for; false where it cannot. */
INLINE int remember(struct bpf_sock_addr *ctx, const struct address *asked, const struct address *task)
{
	struct peer *peer = bpf_sk_storage_get(&peers, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!peer)
		return 0;
	peer->asked = *asked;
	peer->task = *task;
	return 1;
}

#define NO_REACH 1 /* no service has this number: its upper half is 0 */

/* What is behind an address, 0 where it is nothing that is known here, NO_REACH where nothing is. */
INLINE service find(__u64 cookie, const struct address *to)
{
	const volatile __u64 *reach = bpf_map_lookup_elem(&namespaces, &cookie);
	if (!reach)
		return NO_REACH;
	struct service_key key = { .reach = *reach, .virtual_ip = *to };
	const volatile service *found = bpf_map_lookup_elem(&services, &key);
	return found ? *found : 0;
}

/*
 * A task for `to`, put there; unchanged where it is no virtual IP that is known here.
 *
 * The kernel may use an element of a map for another key while it is read here. So what was found is looked for once
 * more in the end: numbers do not come again, and slots are there from before their number is in the map until after
 * it has left it, so what is the same then was right in between.
 */
INLINE int choose(struct bpf_sock_addr *ctx, struct address *to)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	service found = find(cookie, to);
	if (found == NO_REACH)
		return GO_ON;
	if (!found) {
		/* A socket that begins anew, now with an address of its own choice. */
		bpf_sk_storage_delete(&peers, ctx->sk);
		return GO_ON;
	}
	if (!SLOTS(found)) {
		if (!can_refuse || find(cookie, to) != found)
			return GO_ON;
		count(REFUSED);
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	}
	struct slot_key slot = { .service = ID(found), .number = bpf_get_prandom_u32() % SLOTS(found) };
	const struct address *task = bpf_map_lookup_elem(&slots, &slot);
	struct address chosen = {};
	if (task)
		chosen = *task;
	if (!task || find(cookie, to) != found || !remember(ctx, to, &chosen)) {
		count(LEFT);
		return GO_ON;
	}
	*to = chosen;
	count(TRANSLATED);
	return GO_ON;
}

SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol != IPPROTO_TCP || ctx->user_family != AF_INET)
		return GO_ON;
	struct address to = mapped(ctx->user_ip4);
	int verdict = choose(ctx, &to);
	ctx->user_ip4 = to.words[3];
	return verdict;
}

SEC("cgroup/connect6") int connect6(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol != IPPROTO_TCP || ctx->user_family != AF_INET6)
		return GO_ON;
	struct address to = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
	int verdict = choose(ctx, &to);
	ctx->user_ip6[0] = to.words[0];
	ctx->user_ip6[1] = to.words[1];
	ctx->user_ip6[2] = to.words[2];
	ctx->user_ip6[3] = to.words[3];
	return verdict;
}

/* The virtual IP, where the socket's peer is the task that was chosen for it. */
INLINE const struct address *asked(struct bpf_sock_addr *ctx, const struct address *peer_now)
{
	const struct peer *peer = bpf_sk_storage_get(&peers, ctx->sk, 0, 0);
	return peer && is_same(&peer->task, peer_now) ? &peer->asked : 0;
}

SEC("cgroup/getpeername4") int getpeername4(struct bpf_sock_addr *ctx)
{
	struct address now = mapped(ctx->user_ip4);
	const struct address *shown = asked(ctx, &now);
	if (shown)
		ctx->user_ip4 = shown->words[3];
	return GO_ON;
}

SEC("cgroup/getpeername6") int getpeername6(struct bpf_sock_addr *ctx)
{
	struct address now = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
	const struct address *shown = asked(ctx, &now);
	if (shown) {
		ctx->user_ip6[0] = shown->words[0];
		ctx->user_ip6[1] = shown->words[1];
		ctx->user_ip6[2] = shown->words[2];
		ctx->user_ip6[3] = shown->words[3];
	}
	return GO_ON;
}

char licence[] SEC("license") = "GPL";
