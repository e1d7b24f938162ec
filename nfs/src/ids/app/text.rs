//! What the text of HTTP and SSH is made of: spans, lines and white space.

/// A part of a text, by its places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From `start` up to `end`. A text of 4 GiB has none.
    pub fn new(start: usize, end: usize) -> Self {
        let at = |place| u32::try_from(place).unwrap_or(u32::MAX);
        Self { start: at(start), end: at(end) }
    }

    /// The span of `part`, which is `offset` bytes into the text.
    pub fn at(offset: usize, part: &[u8]) -> Self {
        Self::new(offset, offset.saturating_add(part.len()))
    }

    /// The same span of a text that starts `offset` bytes earlier.
    pub fn moved(self, offset: usize) -> Self {
        Self::new(self.start as usize + offset, self.end as usize + offset)
    }

    /// Its bytes.
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Its bytes, if it has any.
    pub fn some_of(self, text: &[u8]) -> Option<&[u8]> {
        (self.end > self.start).then(|| self.of(text))
    }
}

/// White space as C's `isspace` sees it, by which the parsers of servers go.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// Without white space at its ends.
pub fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_space(*b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !is_space(*b)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Without the line's end: LF, and CRs before it.
pub fn chomp(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
    line.get(..end).unwrap_or_default()
}

/// The text up to the first byte that `ends` it, and what follows from there.
pub fn split_at_first(text: &[u8], ends: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let at = text.iter().position(|b| ends(*b)).unwrap_or(text.len());
    text.split_at_checked(at).unwrap_or((text, &[]))
}

/// Whether `text` has `word` somewhere, whatever its case.
pub fn has_word(text: &[u8], word: &[u8]) -> bool {
    !word.is_empty() && text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// Whether `text` begins with `word`, whatever its case.
pub fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The distance from the start of `text` to `part`, which is a part of it.
pub fn place_in(text: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// A decimal number with white space around it, as `Content-Length` has it; also `"12 bytes"`, of which the digits count.
pub fn number(text: &[u8]) -> Option<u64> {
    let text = trim(text);
    let (digits, _) = split_at_first(text, |b| !b.is_ascii_digit());
    let digits = std::str::from_utf8(digits).ok()?;
    digits.parse().ok()
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_taken_off_both_ends() {
        assert_eq!(trim(b" \t a b\r\n"), b"a b");
        assert_eq!(trim(b"  "), b"");
        assert_eq!(chomp(b"GET /\r\r\n"), b"GET /");
        assert_eq!(chomp(b"\r\n"), b"");
    }

    #[test]
    fn a_part_knows_its_place() {
        let text = b"Host: there";
        let part = &text[6..];
        assert_eq!(Span::at(place_in(text, part), part).of(text), b"there");
        assert_eq!(Span::new(5, 50).of(text), b"");
    }

    #[test]
    fn a_number_is_read_up_to_what_is_none() {
        assert_eq!(number(b" 12\t"), Some(12));
        assert_eq!(number(b"12, 12"), Some(12));
        assert_eq!(number(b"twelve"), None);
        assert_eq!(number(b"99999999999999999999999"), None);
    }
}
