//! Containers: what is known of them, and their way from a request to a bundle.

pub(crate) mod create;
pub(crate) mod health;
pub(crate) mod live;
pub(crate) mod record;
pub(crate) mod rootfs;
pub(crate) mod signal;
pub(crate) mod status;
