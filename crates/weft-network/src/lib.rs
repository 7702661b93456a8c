//! The CNM controller: networks, endpoints, sandboxes, drivers, resolver and the helper process.
