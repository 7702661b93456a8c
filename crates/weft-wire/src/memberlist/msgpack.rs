//! The part of MessagePack that memberlist needs: flat maps with text keys.
//!
//! Written in the old form that go-msgpack 0.5 understands: strings and bytes are fixraw, raw16 or raw32, never
//! str8 or bin, and numbers take the shortest unsigned form. Read tolerantly: any raw form, any integer form for
//! any number, nil for empty, unknown keys skipped.

use crate::WireError;

/// Nested unknown values deeper than this are refused; memberlist's own are flat.
const MAX_DEPTH: usize = 8;

/// Most fields of one map; memberlist's own have at most eight. Keeps memory in proportion to the input.
const MAX_FIELDS: usize = 64;

/// Writes one map.
pub(super) struct MapWriter {
    out: Vec<u8>,
}

impl MapWriter {
    /// Starts a map of `fields` entries (at most 15) behind `out`.
    pub(super) fn new(mut out: Vec<u8>, fields: u8) -> Self {
        debug_assert!(fields <= 15);
        out.push(0x80 | (fields & 0x0f));
        Self { out }
    }

    pub(super) fn uint(mut self, key: &str, value: u64) -> Self {
        self.put_raw(key.as_bytes());
        self.put_uint(value);
        self
    }

    /// Bytes or text; empty is written as nil, as Go does for an unset slice.
    pub(super) fn bytes(mut self, key: &str, value: &[u8]) -> Self {
        self.put_raw(key.as_bytes());
        if value.is_empty() {
            self.out.push(0xc0);
        } else {
            self.put_raw(value);
        }
        self
    }

    pub(super) fn text(mut self, key: &str, value: &str) -> Self {
        self.put_raw(key.as_bytes());
        self.put_raw(value.as_bytes());
        self
    }

    pub(super) fn bool(mut self, key: &str, value: bool) -> Self {
        self.put_raw(key.as_bytes());
        self.out.push(if value { 0xc3 } else { 0xc2 });
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    fn put_raw(&mut self, bytes: &[u8]) {
        match bytes.len() {
            n @ 0..=31 => self.out.push(0xa0 | n as u8),
            n @ 32..=0xffff => {
                self.out.push(0xda);
                self.out.extend((n as u16).to_be_bytes());
            }
            n => {
                self.out.push(0xdb);
                self.out.extend((n as u32).to_be_bytes());
            }
        }
        self.out.extend(bytes);
    }

    fn put_uint(&mut self, value: u64) {
        if value < 0x80 {
            self.out.push(value as u8);
        } else if let Ok(value) = u8::try_from(value) {
            self.out.extend([0xcc, value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.out.push(0xcd);
            self.out.extend(value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.out.push(0xce);
            self.out.extend(value.to_be_bytes());
        } else {
            self.out.push(0xcf);
            self.out.extend(value.to_be_bytes());
        }
    }
}

/// A value of a kind that memberlist uses; others are skipped and become `Other`.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Nil,
    Bool(bool),
    Int(i128),
    Raw(&'a [u8]),
    Other,
}

/// One map read from the front of a buffer.
pub(super) struct Map<'a> {
    message: &'static str,
    fields: Vec<(&'a [u8], Value<'a>)>,
}

impl<'a> Map<'a> {
    /// Reads one map for `message`; also gives the bytes behind it.
    pub(super) fn read(message: &'static str, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let mut reader = Reader { rest: bytes };
        let entries = reader.map_len()?;
        if entries > MAX_FIELDS {
            return Err(WireError::Field { message, field: "number of fields" });
        }
        let mut fields = Vec::new();
        for _ in 0..entries {
            let Value::Raw(key) = reader.value(0)? else { return Err(WireError::MessagePack) };
            let value = reader.value(0)?;
            fields.push((key, value));
        }
        Ok((Self { message, fields }, reader.rest))
    }

    fn get(&self, key: &'static str) -> Value<'a> {
        // The last one wins, as it does when Go decodes into a struct.
        let field = self.fields.iter().rev().find(|(name, _)| *name == key.as_bytes());
        field.map_or(Value::Nil, |(_, value)| *value)
    }

    fn refuse(&self, field: &'static str) -> WireError {
        WireError::Field { message: self.message, field }
    }

    /// A number; 0 when absent.
    pub(super) fn uint<T: TryFrom<i128> + Default>(&self, key: &'static str) -> Result<T, WireError> {
        match self.get(key) {
            Value::Nil => Ok(T::default()),
            Value::Int(value) => T::try_from(value).map_err(|_| self.refuse(key)),
            _ => Err(self.refuse(key)),
        }
    }

    /// Bytes; empty when absent.
    pub(super) fn bytes(&self, key: &'static str) -> Result<&'a [u8], WireError> {
        match self.get(key) {
            Value::Nil => Ok(&[]),
            Value::Raw(bytes) => Ok(bytes),
            _ => Err(self.refuse(key)),
        }
    }

    /// Text; empty when absent.
    pub(super) fn text(&self, key: &'static str) -> Result<&'a str, WireError> {
        str::from_utf8(self.bytes(key)?).map_err(|_| self.refuse(key))
    }

    /// False when absent.
    pub(super) fn bool(&self, key: &'static str) -> Result<bool, WireError> {
        match self.get(key) {
            Value::Nil => Ok(false),
            Value::Bool(value) => Ok(value),
            _ => Err(self.refuse(key)),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated("MessagePack"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian unsigned number of `len` bytes.
    fn uint(&mut self, len: usize) -> Result<u64, WireError> {
        Ok(self.take(len)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn len(&mut self, bytes: usize) -> Result<usize, WireError> {
        usize::try_from(self.uint(bytes)?).map_err(|_| WireError::MessagePack)
    }

    fn raw(&mut self, len: usize) -> Result<Value<'a>, WireError> {
        Ok(Value::Raw(self.take(len)?))
    }

    fn map_len(&mut self) -> Result<usize, WireError> {
        match self.byte()? {
            tag @ 0x80..=0x8f => Ok(usize::from(tag & 0x0f)),
            0xde => self.len(2),
            0xdf => self.len(4),
            _ => Err(WireError::MessagePack),
        }
    }

    /// Skips `count` values of an array or map, each of which takes at least one byte of input.
    fn skip(&mut self, count: usize, depth: usize) -> Result<Value<'a>, WireError> {
        if depth >= MAX_DEPTH {
            return Err(WireError::TooDeep("MessagePack"));
        }
        for _ in 0..count {
            self.value(depth + 1)?;
        }
        Ok(Value::Other)
    }

    /// Skips an extension's type byte and content.
    fn skip_extension(&mut self, len: usize) -> Result<Value<'a>, WireError> {
        self.take(1)?;
        self.take(len)?;
        Ok(Value::Other)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, WireError> {
        let tag = self.byte()?;
        match tag {
            0x00..=0x7f => Ok(Value::Int(i128::from(tag))),
            0xe0..=0xff => Ok(Value::Int(i128::from(tag as i8))),
            0xa0..=0xbf => self.raw(usize::from(tag & 0x1f)),
            0x90..=0x9f => self.skip(usize::from(tag & 0x0f), depth),
            0x80..=0x8f => self.skip(2 * usize::from(tag & 0x0f), depth),
            0xc0 => Ok(Value::Nil),
            0xc2 => Ok(Value::Bool(false)),
            0xc3 => Ok(Value::Bool(true)),
            0xc4 | 0xd9 => self.len(1).and_then(|len| self.raw(len)),
            0xc5 | 0xda => self.len(2).and_then(|len| self.raw(len)),
            0xc6 | 0xdb => self.len(4).and_then(|len| self.raw(len)),
            0xcc..=0xcf => Ok(Value::Int(i128::from(self.uint(1 << (tag - 0xcc))?))),
            0xd0..=0xd3 => Ok(Value::Int(self.signed(1 << (tag - 0xd0))?)),
            0xca => self.take(4).map(|_| Value::Other),
            0xcb => self.take(8).map(|_| Value::Other),
            0xc7 => self.len(1).and_then(|len| self.skip_extension(len)),
            0xc8 => self.len(2).and_then(|len| self.skip_extension(len)),
            0xc9 => self.len(4).and_then(|len| self.skip_extension(len)),
            0xd4..=0xd8 => self.skip_extension(1 << (tag - 0xd4)),
            0xdc => self.len(2).and_then(|len| self.skip(len, depth)),
            0xdd => self.len(4).and_then(|len| self.skip(len, depth)),
            0xde => self.len(2).and_then(|len| self.skip(2 * len, depth)),
            0xdf => self.len(4).and_then(|len| self.skip(len.saturating_mul(2), depth)),
            0xc1 => Err(WireError::MessagePack),
        }
    }

    /// A two's complement number of `len` bytes.
    fn signed(&mut self, len: usize) -> Result<i128, WireError> {
        let unsigned = self.uint(len)?;
        let unused_bits = 64 - 8 * len as u32;
        Ok(i128::from(((unsigned << unused_bits) as i64) >> unused_bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_integer_form_is_read_for_any_number() {
        for form in [
            &[0x07][..],
            &[0xcc, 7],
            &[0xcd, 0, 7],
            &[0xce, 0, 0, 0, 7],
            &[0xcf, 0, 0, 0, 0, 0, 0, 0, 7],
            &[0xd0, 7],
            &[0xd1, 0, 7],
            &[0xd2, 0, 0, 0, 7],
            &[0xd3, 0, 0, 0, 0, 0, 0, 0, 7],
        ] {
            let bytes = [&[0x81, 0xa1, b'N'][..], form].concat();
            let (map, rest) = Map::read("test", &bytes).unwrap();
            assert_eq!(map.uint::<u32>("N"), Ok(7), "{form:x?}");
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn negative_numbers_are_refused_where_unsigned_ones_are_wanted() {
        let bytes = [0x81, 0xa1, b'N', 0xff];
        let (map, _) = Map::read("test", &bytes).unwrap();
        assert_eq!(map.uint::<u32>("N"), Err(WireError::Field { message: "test", field: "N" }));
    }

    #[test]
    fn unknown_keys_of_every_kind_are_skipped() {
        let mut bytes = vec![0x86];
        for (index, value) in
            [&[0x92, 1, 2][..], &[0x81, 1, 2], &[0xca, 0, 0, 0, 0], &[0xd4, 0, 0], &[0xc7, 2, 0, 1, 2]]
                .into_iter()
                .enumerate()
        {
            bytes.extend([0xa1, b'a' + index as u8]);
            bytes.extend(value);
        }
        bytes.extend([0xa1, b'N', 5]);
        let (map, rest) = Map::read("test", &bytes).unwrap();
        assert_eq!(map.uint::<u16>("N"), Ok(5));
        assert!(rest.is_empty());
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = vec![0x81, 0xa1, b'N'];
        bytes.extend([0x91; 1000]);
        assert_eq!(Map::read("test", &bytes).err(), Some(WireError::TooDeep("MessagePack")));
    }

    #[test]
    fn a_map_of_very_many_fields_is_refused() {
        let mut bytes = vec![0xdf, 0, 0x10, 0, 0];
        bytes.resize(1 << 16, 0xa0);
        let refused = WireError::Field { message: "test", field: "number of fields" };
        assert_eq!(Map::read("test", &bytes).err(), Some(refused));
    }

    #[test]
    fn long_bytes_take_the_old_raw_forms() {
        for (len, tag) in [(31, 0xbf), (32, 0xda), (0xffff, 0xda), (0x10000, 0xdb)] {
            let bytes = MapWriter::new(Vec::new(), 1).bytes("B", &vec![1; len]).finish();
            assert_eq!(bytes[3], tag, "length {len}");
            let (map, _) = Map::read("test", &bytes).unwrap();
            assert_eq!(map.bytes("B").unwrap().len(), len);
        }
    }
}
