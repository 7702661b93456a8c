//! Docker's plugin protocol: Weft as a network driver and as the address management that belongs to it.
//!
//! A real `dockerd` makes networks of the driver `weft`, each standing for one of Weft's overlays; the containers are
//! dockerd's own. It takes an address first, then makes an endpoint of it, and moves the endpoint's interface into the
//! container:
//!
//! ```text
//! RequestAddress --> a place on the overlay, whose interface waits in the host's namespace
//! CreateEndpoint --> the place is that endpoint's from now on          Join --> the interface's name
//! DeleteEndpoint --> it is nobody's again                    ReleaseAddress --> it is given back
//! ```
//!
//! All of that stands in the controller's state, so that a restart of either daemon loses nothing.

mod face;
mod protocol;

pub use face::DockerFace;
