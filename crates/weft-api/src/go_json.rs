//! What Go's `encoding/json` says about text that is no JSON: clients and their tests know those words.
//!
//! Only the scanner's complaints are rebuilt; serde does the decoding.

/// The complaint about the first byte that cannot be, or about the missing end. Asked for only when serde refused
/// the text as such, so a text that is fine here gives the general one.
pub(crate) fn syntax_complaint(text: &[u8]) -> String {
    match (Scanner { text, at: 0 }).value(Place::Value, 0) {
        Err(Stop::Byte { byte, context }) => format!("invalid character {} {context}", quoted(byte)),
        Err(Stop::End) => "unexpected EOF".to_owned(),
        Err(Stop::Deep) => "exceeded max depth".to_owned(),
        Ok(()) => "invalid value".to_owned(),
    }
}

/// Where the first value ends, if it is well formed.
#[cfg(test)]
pub(crate) fn end_of_value(text: &[u8]) -> Option<usize> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.value(Place::Value, 0).ok()?;
    Some(scanner.at)
}

/// Go's limit is 10000; this stays well below what a stack holds.
const MAX_DEPTH: usize = 500;

enum Stop {
    Byte { byte: u8, context: String },
    End,
    Deep,
}

#[derive(Clone, Copy)]
enum Place {
    Value,
    Key,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn blank(&mut self) -> Result<u8, Stop> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(Stop::End)
    }

    fn refuse<T>(&self, byte: u8, context: impl Into<String>) -> Result<T, Stop> {
        Err(Stop::Byte { byte, context: context.into() })
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = *self.text.get(self.at).ok_or(Stop::End)?;
        self.at += 1;
        Ok(byte)
    }

    fn value(&mut self, place: Place, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Deep);
        }
        let byte = self.blank()?;
        match (byte, place) {
            (b'"', _) => self.string(),
            (_, Place::Key) => self.refuse(byte, "looking for beginning of object key string"),
            (b'{', _) => self.object(depth),
            (b'[', _) => self.array(depth),
            (b't', _) => self.literal("true"),
            (b'f', _) => self.literal("false"),
            (b'n', _) => self.literal("null"),
            (b'-' | b'0'..=b'9', _) => self.number(),
            _ => self.refuse(byte, "looking for beginning of value"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Stop> {
        self.at += 1;
        if self.blank()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(Place::Key, depth + 1)?;
            match self.blank()? {
                b':' => self.at += 1,
                byte => return self.refuse(byte, "after object key"),
            }
            self.value(Place::Value, depth + 1)?;
            match self.blank()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                byte => return self.refuse(byte, "after object key:value pair"),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Stop> {
        self.at += 1;
        if self.blank()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(Place::Value, depth + 1)?;
            match self.blank()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                byte => return self.refuse(byte, "after array element"),
            }
        }
    }

    fn string(&mut self) -> Result<(), Stop> {
        self.at += 1;
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                byte @ 0..0x20 => return self.refuse(byte, "in string literal"),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Stop> {
        match self.next()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let byte = self.next()?;
                    if !byte.is_ascii_hexdigit() {
                        return self.refuse(byte, "in \\u hexadecimal character escape");
                    }
                }
                Ok(())
            }
            byte => self.refuse(byte, "in string escape code"),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Stop> {
        self.at += 1;
        for expected in word.bytes().skip(1) {
            let byte = self.next()?;
            if byte != expected {
                return self.refuse(byte, format!("in literal {word} (expecting {})", quoted(expected)));
            }
        }
        Ok(())
    }

    fn digits(&mut self, context: &str) -> Result<(), Stop> {
        match self.text.get(self.at) {
            Some(b'0'..=b'9') => {}
            Some(byte) => return self.refuse(*byte, context),
            None => return Err(Stop::End),
        }
        while matches!(self.text.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }
}

/// As Go quotes a byte in such a complaint.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x20..0x7f => format!("'{}'", char::from(byte)),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_are_gos() {
        for (text, want) in [
            ("{bad", "invalid character 'b' looking for beginning of object key string"),
            ("bad", "invalid character 'b' looking for beginning of value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("nul1", "invalid character '1' in literal null (expecting 'l')"),
            ("{\"a\":", "unexpected EOF"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
        ] {
            assert_eq!(syntax_complaint(text.as_bytes()), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = syntax_complaint(&text);
        }

        #[test]
        fn json_like_text_is_scanned_as_serde_does(text in "[\\[\\]{}:,\"0-9ntrue\\\\. -]{0,40}") {
            let serde = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            let ours = end_of_value(text.as_bytes()).is_some_and(|end| text[end..].trim().is_empty());
            // Numbers beyond a double's range are fine to the scanner.
            prop_assert!(!serde || ours, "{text}");
        }
    }
}
