//! Desired kernel state from networks, endpoints and peers, and the difference to what is there.
