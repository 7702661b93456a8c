//! The swarm's brain: Raft store, CA, dispatcher, network state, control.
