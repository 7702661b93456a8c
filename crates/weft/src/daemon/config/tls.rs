//! Which files TLS on TCP addresses takes, and whether clients have to show a certificate.

use std::path::{Path, PathBuf};

use super::super::flags::Settings;
use super::absolute;

/// The files that TLS on a TCP address needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct TlsFiles {
    /// The authority of clients' certificates; none: clients need no certificate.
    pub(in super::super) client_ca: Option<PathBuf>,
    pub(in super::super) certificate: PathBuf,
    pub(in super::super) key: PathBuf,
}

/// Where dockerd looks for files that are not named.
pub(super) fn default_dir() -> PathBuf {
    let named = std::env::var_os("DOCKER_CERT_PATH").filter(|dir| !dir.is_empty());
    named.map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        PathBuf::from(home.unwrap_or_else(|| "/root".into())).join(".docker")
    })
}

/// As dockerd: whoever says anything of `tlsverify` wants TLS, and TLS verifies clients unless told not to.
pub(super) fn resolve(settings: &Settings, default_dir: &Path) -> Option<TlsFiles> {
    let wanted = settings.tlsverify.is_some() || settings.tls == Some(true);
    if !wanted {
        return None;
    }
    let file = |named: &Option<PathBuf>, usual: &str| {
        absolute(named.clone().unwrap_or_else(|| default_dir.join(usual)))
    };
    let verify = settings.tlsverify != Some(false);
    Some(TlsFiles {
        client_ca: verify.then(|| file(&settings.tlscacert, "ca.pem")),
        certificate: file(&settings.tlscert, "cert.pem"),
        key: file(&settings.tlskey, "key.pem"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifies(tls: Option<bool>, tlsverify: Option<bool>) -> Option<bool> {
        let settings = Settings { tls, tlsverify, ..Settings::default() };
        resolve(&settings, Path::new("/c")).map(|files| files.client_ca.is_some())
    }

    #[test]
    fn tls_verifies_clients_unless_told_not_to() {
        assert_eq!(verifies(None, None), None);
        assert_eq!(verifies(Some(false), None), None);
        assert_eq!(verifies(Some(true), None), Some(true));
        assert_eq!(verifies(None, Some(true)), Some(true));
        assert_eq!(verifies(Some(true), Some(false)), Some(false));
        assert_eq!(verifies(None, Some(false)), Some(false));
    }

    #[test]
    fn files_that_are_not_named_are_in_the_usual_folder() {
        let settings = Settings { tlsverify: Some(true), tlskey: Some("/k".into()), ..Settings::default() };
        let files = resolve(&settings, Path::new("/c")).unwrap();
        assert_eq!(files.client_ca.unwrap(), Path::new("/c/ca.pem"));
        assert_eq!((files.certificate, files.key), ("/c/cert.pem".into(), "/k".into()));
    }
}
