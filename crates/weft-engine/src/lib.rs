//! Local containers: images, bundles, runtime, shim, exec, logs.
