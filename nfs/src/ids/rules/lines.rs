//! A rule file's text, cut into rules.
//!
//! A rule is a line; a `\` at a line's end continues it on the next one. Lines that begin with `#` and empty ones are none.
//! Lines end in LF or CR LF; a byte order mark before the first is not part of it. Bytes are not changed otherwise, so
//! that a rule need not be UTF-8. One pass; a rule's text is copied only when it was continued.

use std::borrow::Cow;

/// The text of one rule, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'t> {
    pub text: Cow<'t, [u8]>,
    /// Where each of its lines begins in `text`, and its number in the file; the first begins at 0.
    starts: Vec<(usize, u32)>,
}

impl Line<'_> {
    /// The number of its first line, from 1.
    pub fn number(&self) -> u32 {
        self.starts.first().map_or(0, |(_, number)| *number)
    }

    /// The line and the column, both from 1, of the byte at `offset` of the text.
    pub fn place(&self, offset: usize) -> (u32, u32) {
        let before = self.starts.partition_point(|(start, _)| *start <= offset);
        let (start, number) = self.starts.get(before.saturating_sub(1)).copied().unwrap_or((0, 0));
        let column = u32::try_from(offset.saturating_sub(start)).unwrap_or(u32::MAX);
        (number, column.saturating_add(1))
    }
}

/// The rules of a file, in its order.
pub(super) fn rules(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut lines = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).split(|b| *b == b'\n');
    let mut number = 0_u32;
    std::iter::from_fn(move || {
        loop {
            let mut line = next(&mut lines, &mut number)?;
            if is_comment(line) {
                continue;
            }
            let starts = vec![(0, number)];
            let Some(first) = line.strip_suffix(b"\\") else {
                return Some(Line { text: Cow::Borrowed(line), starts });
            };
            let mut joined = Line { text: Cow::Borrowed(first), starts };
            // The file's end ends a rule that is continued.
            while let Some(more) = next(&mut lines, &mut number) {
                line = more;
                joined.starts.push((joined.text.len(), number));
                let part = line.strip_suffix(b"\\").unwrap_or(line);
                joined.text.to_mut().extend_from_slice(part);
                if part.len() == line.len() {
                    break;
                }
            }
            return Some(joined);
        }
    })
}

fn next<'t>(lines: &mut impl Iterator<Item = &'t [u8]>, number: &mut u32) -> Option<&'t [u8]> {
    let line = lines.next()?;
    *number = number.saturating_add(1);
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn is_comment(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), None | Some(b'#'))
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &[u8]) -> Vec<(String, u32)> {
        rules(file).map(|l| (String::from_utf8_lossy(&l.text).into_owned(), l.number())).collect()
    }

    #[test]
    fn a_rule_is_a_line_that_is_no_comment_whatever_ends_it() {
        let found = texts(b"\xef\xbb\xbfalert a\r\n# no\n\n   \r\n  # neither\nalert b");
        assert_eq!(found, [("alert a".to_owned(), 1), ("alert b".to_owned(), 6)]);
    }

    #[test]
    fn a_backslash_continues_a_rule_and_places_are_those_of_the_file() {
        let file = b"#\nalert \\\r\ntcp \\\nany\npass";
        let found: Vec<_> = rules(file).collect();
        assert_eq!(&*found[0].text, b"alert tcp any");
        assert_eq!(found[0].place(0), (2, 1));
        assert_eq!(found[0].place(6), (3, 1));
        assert_eq!(found[0].place(11), (4, 2));
        assert_eq!(found[1].place(3), (5, 4));
    }

    #[test]
    fn a_rule_that_the_file_ends_within_ends_there() {
        assert_eq!(texts(b"alert \\"), [("alert ".to_owned(), 1)]);
        assert_eq!(texts(b"alert \\\n"), [("alert ".to_owned(), 1)]);
    }
}
