//! The chunked coding of a body, taken apart as it comes (RFC 9112, section 7.1), with the tolerance of libhtp.

/// Where in the coding one is. Holds no bytes, so that extensions of any length cost nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    /// Before the length, or in it.
    Size(Size),
    /// Behind the length's digits, up to the line's end.
    Extension { size: u64 },
    /// So many bytes of data are left.
    Data { left: u64 },
    /// Behind the data, up to the line's end.
    DataEnd,
}

impl Default for At {
    fn default() -> Self {
        Self::Size(Size::default())
    }
}

/// A length so far, and its bytes in case it is none.
#[derive(Clone, Debug, Default)]
struct Size {
    seen: [u8; MOST_DIGITS],
    len: usize,
    value: u64,
    has_digits: bool,
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// All of the input was framing.
    More,
    /// Data of the body; the rest follows.
    Data(&'a [u8]),
    /// The last chunk was read; trailers follow.
    Last,
    /// This is no length; the bytes of the line so far.
    Invalid(Vec<u8>),
}

/// Whether a chunk has an extension, which is worth a remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    No,
    Yes,
}

impl Chunks {
    /// Takes what comes next from the front of `input`; counts the framing in `wire`.
    pub fn take<'a>(&mut self, input: &mut &'a [u8], wire: &mut u64) -> (Part<'a>, Extended) {
        let mut extended = Extended::No;
        while let Some((byte, rest)) = input.split_first() {
            match &mut self.at {
                At::Data { left } => {
                    let fits = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at_checked(fits).unwrap_or_default();
                    *input = rest;
                    *left -= data.len() as u64;
                    *wire += data.len() as u64;
                    if *left == 0 {
                        self.at = At::DataEnd;
                    }
                    return (Part::Data(data), extended);
                }
                At::DataEnd => {
                    if skip_line(input, wire) {
                        self.at = At::default();
                    }
                }
                At::Extension { size } => {
                    let line = *input;
                    let is_whole = skip_line(input, wire);
                    let skipped = line.get(..line.len() - input.len()).unwrap_or_default();
                    if memchr::memchr(b';', skipped).is_some() {
                        extended = Extended::Yes;
                    }
                    if is_whole {
                        let size = *size;
                        if size == 0 {
                            return (Part::Last, extended);
                        }
                        self.at = At::Data { left: size };
                    }
                }
                At::Size(size) => {
                    *wire += 1;
                    *input = rest;
                    match size.add(*byte) {
                        Digit::Taken => {}
                        Digit::End => {
                            // The byte that ends it may be the line's end or an extension's start.
                            let size = size.value;
                            extended = if *byte == b';' { Extended::Yes } else { extended };
                            self.at = At::Extension { size };
                            if *byte == b'\n' {
                                if size == 0 {
                                    return (Part::Last, extended);
                                }
                                self.at = At::Data { left: size };
                            }
                        }
                        Digit::None => {
                            let mut seen = size.seen.get(..size.len).unwrap_or_default().to_vec();
                            seen.push(*byte);
                            *wire -= seen.len() as u64;
                            return (Part::Invalid(seen), extended);
                        }
                    }
                }
            }
        }
        (Part::More, extended)
    }

    /// So many bytes are missing: within a chunk's data that can be borne. Returns whether it was.
    pub fn skip(&mut self, gap: u64) -> bool {
        let At::Data { left } = &mut self.at else { return false };
        if gap > *left {
            return false;
        }
        *left -= gap;
        if *left == 0 {
            self.at = At::DataEnd;
        }
        true
    }
}

enum Digit {
    Taken,
    End,
    None,
}

impl Size {
    fn add(&mut self, byte: u8) -> Digit {
        let digit = char::from(byte).to_digit(16);
        match (digit, byte) {
            (Some(digit), _) if self.len < MOST_DIGITS && self.value <= u64::MAX >> 4 => {
                self.value = self.value << 4 | u64::from(digit);
                self.has_digits = true;
            }
            // White space and empty lines before the digits are borne.
            (None, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c) if !self.has_digits => {
                self.len = 0;
                return Digit::Taken;
            }
            (None, _) if self.has_digits && self.value <= LARGEST => return Digit::End,
            _ => return Digit::None,
        }
        if let Some(slot) = self.seen.get_mut(self.len) {
            *slot = byte;
        }
        self.len += 1;
        Digit::Taken
    }
}

/// Takes the rest of a line; whether its end was among it.
fn skip_line(input: &mut &[u8], wire: &mut u64) -> bool {
    let end = memchr::memchr(b'\n', input).map(|at| at + 1);
    let len = end.unwrap_or(input.len());
    *wire += len as u64;
    *input = input.get(len..).unwrap_or_default();
    end.is_some()
}

/// Leading zeros included.
const MOST_DIGITS: usize = 32;

/// Larger lengths are taken for no lengths, as by libhtp.
const LARGEST: u64 = i32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(mut input: &[u8]) -> (Vec<u8>, Vec<u8>, &'static str) {
        let (mut chunks, mut data, mut wire) = (Chunks::default(), Vec::new(), 0);
        loop {
            match chunks.take(&mut input, &mut wire).0 {
                Part::Data(part) => data.extend_from_slice(part),
                Part::More => return (data, input.to_vec(), "more"),
                Part::Last => return (data, input.to_vec(), "last"),
                Part::Invalid(seen) => return (data, [&seen, input].concat(), "invalid"),
            }
        }
    }

    #[test]
    fn chunks_are_put_together() {
        let all = decode(b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n");
        assert_eq!(all, (b"hello world".to_vec(), b"\r\n".to_vec(), "last"));
    }

    #[test]
    fn blanks_zeros_and_empty_lines_around_a_length_are_borne() {
        assert_eq!(decode(b"\r\n 0005 \nhello\n\n0\n").0, b"hello");
    }

    #[test]
    fn what_is_no_length_is_given_back() {
        assert_eq!(decode(b"1\r\na\r\nfxyz"), (b"a".to_vec(), Vec::new(), "more"));
        assert_eq!(decode(b"xyz\r\n"), (Vec::new(), b"xyz\r\n".to_vec(), "invalid"));
        assert_eq!(decode(b"-5\r\n").2, "invalid");
        assert_eq!(decode(b"ffffffffffffffffff\r\n").2, "invalid");
    }

    #[test]
    fn an_extension_of_a_megabyte_holds_nothing() {
        let mut long = b"3;".to_vec();
        long.resize(1 << 20, b'x');
        long.extend_from_slice(b"\r\nabc\r\n0\r\n");
        assert_eq!(decode(&long).0, b"abc");
        assert!(size_of::<Chunks>() <= 64);
    }
}
