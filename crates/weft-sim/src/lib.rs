//! Virtual time, network and faults for the pure crates.
