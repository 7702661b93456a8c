//! Files that are replaced whole: after a crash at any instant there is the old one or the new one.

use std::io::Write as _;
use std::path::Path;

/// Writes a file beside `path`, makes it durable and puts it in the place of `path`; makes the folder if missing.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir)?;
    let partial = path.with_extension("tmp");
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    sync_dir(dir)
}

/// Makes what was added to or removed from a folder durable.
pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}
