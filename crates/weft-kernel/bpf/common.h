/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Words that every program is written in. */
#ifndef WEFT_COMMON_H
#define WEFT_COMMON_H

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* Fields of map definitions, as loaders read them from BTF. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type_of) type_of *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(x) ((__be16)__builtin_bswap16(x))
#define BE32(x) ((__be32)__builtin_bswap32(x))
#else
#define BE16(x) ((__be16)(x))
#define BE32(x) ((__be32)(x))
#endif
#define CPU16(x) ((__u16)BE16(x))
#define CPU32(x) ((__u32)BE32(x))

#define HELPER(result, name, ...) static result (*const bpf_##name)(__VA_ARGS__) = (void *)BPF_FUNC_##name
HELPER(void *, map_lookup_elem, void *map, const void *key);

#endif
