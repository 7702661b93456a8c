//! Root CA, certificates, join tokens and TLS configuration.
