//! What the other end of a stream has not read yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc;

#[allow(unsafe_code, reason = "the count has no other door")]
mod request {
    use super::libc;

    nix::ioctl_read_bad!(siocoutq, libc::TIOCOUTQ, libc::c_int);

    pub(super) fn unread(fd: i32) -> nix::Result<libc::c_int> {
        let mut count = 0;
        // SAFETY: the kernel writes one `int`, which lives through the call.
        unsafe { siocoutq(fd, &mut count) }.map(|_| count)
    }
}

/// Whether the other end of a Unix stream has read all that was written; of a TCP stream, whether its kernel has it
/// (SIOCOUTQ, unix(7) and tcp(7)).
pub fn all_is_read(stream: impl AsFd) -> io::Result<bool> {
    Ok(request::unread(stream.as_fd().as_raw_fd())? == 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_written_is_unread_until_the_other_end_reads_it() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert!(all_is_read(&here).unwrap());
        here.write_all(b"head").unwrap();
        assert!(!all_is_read(&here).unwrap());
        there.read_exact(&mut [0; 4]).unwrap();
        assert!(all_is_read(&here).unwrap());
    }
}
