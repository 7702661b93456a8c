//! Frames for tests.

use crate::checksum::{fold, sum};
use crate::transport::Transport;

/// A frame of TCP or UDP as a TAP device gives it: headers of the whole, the pseudo header's sum in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Large {
    pub(crate) transport: Transport,
    pub(crate) v4: bool,
    /// Words of four bytes, of TCP alone.
    pub(crate) options: usize,
    /// Of TCP alone.
    pub(crate) flags: u8,
    pub(crate) source_port: u16,
}

impl Large {
    /// Its first byte of TCP or UDP.
    pub(crate) fn start(self) -> usize {
        if self.v4 { 34 } else { 54 }
    }

    pub(crate) fn headers(self) -> usize {
        let options = match self.transport {
            Transport::Tcp => self.options * 4,
            Transport::Udp => 0,
        };
        self.start() + self.transport.header_len() + options
    }

    pub(crate) fn frame(self, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let (len, protocol) = (self.headers() - self.start() + data.len(), self.transport.number());
        if self.v4 {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(((20 + len) as u16).to_be_bytes());
            frame.extend([0xff, 0xfe, 0x40, 0, 64, protocol, 0, 0, 10, 0, 1, 2, 10, 0, 1, 3]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((len as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend((0..32).map(|n| n * 7));
        }
        let pseudo = fold(self.pseudo(&frame, len));
        frame.extend(self.source_port.to_be_bytes());
        frame.extend([0x00, 0x50]);
        match self.transport {
            Transport::Tcp => {
                frame.extend([0xff, 0xff, 0xff, 0x00, 0, 0, 0, 9]);
                frame.extend([((5 + self.options) << 4) as u8, self.flags, 0x10, 0]);
                frame.extend(pseudo.to_be_bytes());
                frame.extend([0, 0]);
                frame.extend(std::iter::repeat_n(1, self.options * 4));
            }
            Transport::Udp => {
                frame.extend((len as u16).to_be_bytes());
                frame.extend(pseudo.to_be_bytes());
            }
        }
        frame.extend(data);
        frame
    }

    fn pseudo(self, frame: &[u8], len: usize) -> u32 {
        let addresses = if self.v4 { 26..34 } else { 22..54 };
        sum(&frame[addresses], u32::from(self.transport.number()) + len as u32)
    }

    /// Puts right the checksums of a finished frame whose bytes were changed.
    pub(crate) fn mend(self, frame: &mut [u8]) {
        if self.v4 {
            frame[24..26].fill(0);
            let check = !fold(sum(&frame[14..34], 0));
            frame[24..26].copy_from_slice(&check.to_be_bytes());
        }
        let at = self.start() + self.transport.checksum_at();
        frame[at..at + 2].fill(0);
        let check = !fold(self.sum(frame));
        frame[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }

    /// All ones where the checksum is right.
    pub(crate) fn sum(self, frame: &[u8]) -> u32 {
        sum(&frame[self.start()..], self.pseudo(frame, frame.len() - self.start()))
    }
}
