//! JSON, written as it is said.
//!
//! An object or list is what a closure writes into it, so that what is opened is closed, and keys and commas are nobody's
//! care. Strings go through `serde_json`. Its own derive cannot leave out what settings leave out, and a tree of values
//! would copy every text once more.

use data_encoding::BASE64;

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    has_entry: bool,
}

/// A list that is being written.
#[derive(Debug)]
pub(super) struct List<'o> {
    out: &'o mut Vec<u8>,
    has_entry: bool,
}

/// Writes an object behind what is there.
pub(super) fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    write(&mut Object { out, has_entry: false });
    out.push(b'}');
}

impl Object<'_> {
    /// A string.
    pub(super) fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        string(self.out, value);
    }

    /// Bytes as text: see [`text`]. Nothing, if there are none.
    pub(super) fn text(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.key(key);
            text(self.out, value);
        }
    }

    /// Bytes, those that cannot be printed as dots.
    pub(super) fn printable(&mut self, key: &str, value: &[u8]) {
        let is_shown = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r');
        let shown: String = value
            .iter()
            .map(|byte| if is_shown(*byte) { char::from(*byte) } else { '.' })
            .collect();
        self.string(key, &shown);
    }

    /// Bytes in base64. Nothing, if there are none.
    pub(super) fn base64(&mut self, key: &str, value: &[u8]) {
        if !value.is_empty() {
            self.string(key, &BASE64.encode(value));
        }
    }

    /// A number.
    pub(super) fn number(&mut self, key: &str, value: impl Into<u64>) {
        self.key(key);
        number(self.out, value.into());
    }

    /// `true` or `false`.
    pub(super) fn truth(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// `true`, or nothing.
    pub(super) fn mark(&mut self, key: &str, value: bool) {
        if value {
            self.truth(key, true);
        }
    }

    /// An object.
    pub(super) fn object(&mut self, key: &str, write: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        object(self.out, write);
    }

    /// A list.
    pub(super) fn list(&mut self, key: &str, write: impl FnOnce(&mut List<'_>)) {
        self.key(key);
        self.out.push(b'[');
        write(&mut List { out: self.out, has_entry: false });
        self.out.push(b']');
    }

    fn key(&mut self, key: &str) {
        comma(self.out, &mut self.has_entry);
        string(self.out, key);
        self.out.push(b':');
    }
}

impl List<'_> {
    /// A string.
    pub(super) fn string(&mut self, value: &str) {
        comma(self.out, &mut self.has_entry);
        string(self.out, value);
    }

    /// Bytes as text: see [`text`].
    pub(super) fn text(&mut self, value: &[u8]) {
        comma(self.out, &mut self.has_entry);
        text(self.out, value);
    }

    /// Bytes in base64.
    pub(super) fn base64(&mut self, value: &[u8]) {
        self.string(&BASE64.encode(value));
    }

    /// A number.
    pub(super) fn number(&mut self, value: impl Into<u64>) {
        comma(self.out, &mut self.has_entry);
        number(self.out, value.into());
    }

    /// An object.
    pub(super) fn object(&mut self, write: impl FnOnce(&mut Object<'_>)) {
        comma(self.out, &mut self.has_entry);
        object(self.out, write);
    }
}

fn comma(out: &mut Vec<u8>, has_entry: &mut bool) {
    if std::mem::replace(has_entry, true) {
        out.push(b',');
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    write(out, &value);
}

fn string(out: &mut Vec<u8>, value: &str) {
    write(out, value);
}

/// Bytes as Suricata writes them: UTF-8 as it is; of anything else the bytes from 128 on as `\xNN`.
fn text(out: &mut Vec<u8>, value: &[u8]) {
    if let Ok(value) = std::str::from_utf8(value) {
        return string(out, value);
    }
    let mut shown = String::with_capacity(value.len() * 2);
    for byte in value {
        if byte.is_ascii() {
            shown.push(char::from(*byte));
        } else {
            shown.push_str("\\x");
            shown.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
    string(out, &shown);
}

fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // A string or a number into memory: there is nothing that can fail.
    let is_written = serde_json::to_writer(&mut *out, value).is_ok();
    debug_assert!(is_written);
}

const HEX: [u8; 16] = *b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Object<'_>)) -> String {
        let mut out = Vec::new();
        object(&mut out, write);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn objects_and_lists_are_closed_and_have_commas_between() {
        let json = written(|o| {
            o.number("a", 1u8);
            o.object("b", |_| ());
            o.list("c", |list| {
                list.number(1u8);
                list.string("x");
                list.object(|o| o.mark("y", true));
            });
            o.mark("d", false);
            o.truth("e", false);
        });
        assert_eq!(json, r#"{"a":1,"b":{},"c":[1,"x",{"y":true}],"e":false}"#);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_shown_by_their_numbers() {
        let json = written(|o| {
            o.text("utf8", Some("\u{e9}\"\n\u{1}".as_bytes()));
            o.text("other", Some(b"a\xf2\\b"));
            o.text("none", Some(b""));
        });
        assert_eq!(json, "{\"utf8\":\"\u{e9}\\\"\\n\\u0001\",\"other\":\"a\\\\xf2\\\\b\"}");
    }

    #[test]
    fn what_cannot_be_printed_is_a_dot() {
        assert_eq!(written(|o| o.printable("p", b"a\tb\r\n\xff")), r#"{"p":"a.b\r\n."}"#);
    }
}
