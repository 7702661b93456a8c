//! The two protocols whose frames the kernel makes larger than the wire takes.

const TCP: u8 = 6;
const UDP: u8 = 17;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Transport {
    /// A frame is a part of a stream.
    #[default]
    Tcp,
    /// A frame is so many datagrams of one size, of which the last one may be shorter.
    Udp,
}

impl Transport {
    pub(crate) fn of(protocol: u8) -> Option<Self> {
        match protocol {
            TCP => Some(Self::Tcp),
            UDP => Some(Self::Udp),
            _ => None,
        }
    }

    /// Its number among protocols.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
        }
    }

    /// Bytes of a header without options.
    pub(crate) const fn header_len(self) -> usize {
        match self {
            Self::Tcp => 20,
            Self::Udp => 8,
        }
    }

    /// Where its header has the checksum.
    pub(crate) const fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }

    /// Bytes of a header that says how long it is, if that can be.
    pub(crate) fn len_of(self, header: &[u8]) -> Option<usize> {
        let len = match self {
            Self::Tcp => usize::from(header.get(12)? >> 4) * 4,
            Self::Udp => self.header_len(),
        };
        (len >= self.header_len() && len <= header.len()).then_some(len)
    }
}
