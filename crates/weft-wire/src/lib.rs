//! Bytes on the wire: SwarmKit protobufs, memberlist and NetworkDB codec, VXLAN.
