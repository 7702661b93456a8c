//! The only door to the kernel: namespaces, links, routes, FDB, neighbours, nftables.
