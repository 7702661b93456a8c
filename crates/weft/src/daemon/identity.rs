//! The id of this daemon, the same over restarts.

use std::path::Path;

use anyhow::Context as _;

const FILE: &str = "engine-id";

/// The recorded id, or a new one.
pub(super) fn daemon_id(data_root: &Path) -> anyhow::Result<String> {
    let path = data_root.join(FILE);
    if let Ok(id) = std::fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let id = random_uuid();
    std::fs::create_dir_all(data_root).with_context(|| format!("create {}", data_root.display()))?;
    weft_durable::replace(&path, id.as_bytes(), 0o644)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(id)
}

/// A random UUID (RFC 9562 section 5.4).
fn random_uuid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_version_4_uuids() {
        let id = super::random_uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
    }
}
