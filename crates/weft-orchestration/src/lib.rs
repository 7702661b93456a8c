//! Allocation as functions over a store snapshot.
