//! Hosts as network namespaces on one machine.
