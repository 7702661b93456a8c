//! Settings below `/proc/sys`. The network ones are those of the reading thread's namespace.

use std::io;

use crate::KernelError;

/// The file of a network setting. Names come from users too, so they are checked.
fn path(key: &str) -> Result<String, KernelError> {
    let clean = key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if clean && key.starts_with("net/") && !key.contains('\0') {
        return Ok(format!("/proc/sys/{key}"));
    }
    let source = io::Error::new(io::ErrorKind::InvalidInput, "not a network setting");
    Err(KernelError::Sysctl { key: key.to_owned(), source })
}

/// The setting's value; none where the kernel does not have it.
pub(crate) fn read(key: &str) -> Result<Option<String>, KernelError> {
    match std::fs::read_to_string(path(key)?) {
        Ok(text) => Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" "))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KernelError::Sysctl { key: key.to_owned(), source }),
    }
}

/// Writes it. One that the kernel does not have is passed over: a module or IPv6 is missing, and with it the need.
pub(crate) fn write(key: &str, value: &str) -> Result<(), KernelError> {
    match std::fs::write(path(key)?, value) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KernelError::Sysctl { key: key.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_settings() {
        for bad in ["kernel/core_pattern", "net/../kernel/core_pattern", "net//x", "", "net/\0"] {
            assert!(write(bad, "0").is_err(), "{bad}");
        }
        assert_eq!(read("net/no/such/thing").unwrap(), None);
    }
}
