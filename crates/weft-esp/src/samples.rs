//! Frames for tests.

use crate::checksum::{fold, sum};

/// A frame of TCP as a TAP device gives it: headers of the whole, the pseudo header's sum in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Large {
    pub(crate) v4: bool,
    /// Words of four bytes.
    pub(crate) options: usize,
    pub(crate) flags: u8,
    pub(crate) source_port: u16,
}

impl Large {
    /// Its first byte of TCP.
    pub(crate) fn tcp(self) -> usize {
        if self.v4 { 34 } else { 54 }
    }

    pub(crate) fn headers(self) -> usize {
        self.tcp() + 20 + self.options * 4
    }

    pub(crate) fn frame(self, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let tcp_len = self.headers() - self.tcp() + data.len();
        if self.v4 {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(((20 + tcp_len) as u16).to_be_bytes());
            frame.extend([0xff, 0xfe, 0x40, 0, 64, 6, 0, 0, 10, 0, 1, 2, 10, 0, 1, 3]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((tcp_len as u16).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend((0..32).map(|n| n * 7));
        }
        let addresses = if self.v4 { 26..34 } else { 22..54 };
        let pseudo = sum(&frame[addresses], 6 + tcp_len as u32);
        frame.extend(self.source_port.to_be_bytes());
        frame.extend([0x00, 0x50, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 9]);
        frame.extend([((5 + self.options) << 4) as u8, self.flags, 0x10, 0]);
        frame.extend(fold(pseudo).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(std::iter::repeat_n(1, self.options * 4));
        frame.extend(data);
        frame
    }

    /// Puts right the checksums of a finished frame whose bytes were changed.
    pub(crate) fn mend(self, frame: &mut [u8]) {
        let tcp = self.tcp();
        if self.v4 {
            frame[24..26].fill(0);
            let check = !fold(sum(&frame[14..34], 0));
            frame[24..26].copy_from_slice(&check.to_be_bytes());
        }
        frame[tcp + 16..tcp + 18].fill(0);
        let check = !fold(self.tcp_sum(frame));
        frame[tcp + 16..tcp + 18].copy_from_slice(&check.to_be_bytes());
    }

    /// All ones where the checksum is right.
    pub(crate) fn tcp_sum(self, frame: &[u8]) -> u32 {
        let addresses = if self.v4 { 26..34 } else { 22..54 };
        let pseudo = sum(&frame[addresses], 6 + (frame.len() - self.tcp()) as u32);
        sum(&frame[self.tcp()..], pseudo)
    }
}
