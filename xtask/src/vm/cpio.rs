//! Archives of the kernel's initial file system ("newc" format: Linux, driver-api/early-userspace/buffer-format).

use std::io::{self, Write};

/// File type bits of a mode.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Headers, names and contents start at multiples of this.
const ALIGNMENT: usize = 4;
/// Bytes of a header: a magic number of 6 and 13 fields of 8 hexadecimal digits.
const HEADER: usize = 6 + 13 * 8;
/// Name of the entry that ends an archive.
const END: &str = "TRAILER!!!";

/// Writes entries owned by root. Folders must come before what lies in them. Archives may be strung together.
pub(super) struct Archive<W> {
    out: W,
    /// Inode number of the next entry.
    next: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, next: 1 }
    }

    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, &[])
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | mode, content)
    }

    pub(super) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK | 0o777, target.as_bytes())
    }

    /// Ends the archive and hands back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(END, 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other("a file of 4 GiB or more"))?;
        let fields = [self.next, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.next += 1;
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(HEADER + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let missing = written.next_multiple_of(ALIGNMENT) - written;
        self.out.write_all(&[0; ALIGNMENT][..missing])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_the_archive_ends() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("/etc").unwrap();
        archive.file("etc/x", 0o644, b"hello").unwrap();
        archive.link("bin", "usr/bin").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let headers = bytes.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(at, _)| at);
        let headers: Vec<usize> = headers.collect();
        assert_eq!(headers.len(), 4);
        assert!(headers.iter().all(|at| at % ALIGNMENT == 0), "{headers:?}");
        let size = &bytes[headers[1] + 6 + 6 * 8..][..8];
        assert_eq!(size, b"00000005");
    }
}
