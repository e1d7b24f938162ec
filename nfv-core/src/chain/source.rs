//! The text of a chain file, and places in it.
//!
//! Everything read from a chain file keeps its [`Span`], so that a mistake found late (a port that
//! does not exist, a rule that can never match) still points at the line the user wrote.
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest chain file in bytes (16 MiB): about a million rules, and offsets fit 32 bits.
pub const SOURCE_MAX: usize = 16 << 20;

/// A stretch of a chain file: where it starts, as an editor counts, and which bytes it covers.
///
/// Ordered by place. `line` and `column` count from 1, `column` in characters; `start..end` are
/// offsets in bytes into [`Source::text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Line of the first character, from 1.
    pub line: u32,
    /// Column of the first character, from 1, in characters.
    pub column: u32,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The first character of the file, for what is wrong with the file as a whole.
    pub const START: Self = Self { line: 1, column: 1, start: 0, end: 0 };

    /// A part of this span: `skip` bytes (and as many columns as they are characters) further on.
    ///
    /// `text` is the text of this span up to the part's end, all on one line.
    pub(crate) fn part(self, text: &str, skip: usize, len: usize) -> Self {
        let columns = text.get(..skip).map_or(0, |before| before.chars().count());
        let start = self.start.saturating_add(clamp(skip));
        let column = self.column.saturating_add(clamp(columns));
        Self { line: self.line, column, start, end: start.saturating_add(clamp(len)) }
    }
}

/// A value and where it stands in the chain file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// A chain file in memory: its name as the user gave it, and its text.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
}

/// Why a chain file could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system refused.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// More than [`SOURCE_MAX`] bytes.
    #[error("{name}: larger than 16 MiB, which no chain file is; give the path of the YAML file")]
    TooLarge {
        /// The file.
        name: String,
    },
    /// Not UTF-8.
    #[error("{name}:{line}:{column}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// The file.
        name: String,
        /// Line of the first wrong byte, from 1.
        line: usize,
        /// Column of the first wrong byte, from 1.
        column: usize,
        /// The wrong byte.
        byte: u8,
    },
}

impl Source {
    /// Reads a chain file.
    ///
    /// # Errors
    /// [`SourceError`], each a sentence for the user; the caller prints it and exits with 2.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let failed = |cause| SourceError::Read { path: path.to_owned(), cause };
        let mut bytes = Vec::new();
        // `take` bounds what a pipe or a device file can send; one byte more tells "too large".
        let file = File::open(path).map_err(failed)?;
        file.take(SOURCE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Self::from_bytes(path.display().to_string(), bytes)
    }

    /// Takes bytes that were read elsewhere; `name` stands in messages before line and column.
    ///
    /// # Errors
    /// [`SourceError::TooLarge`] and [`SourceError::NotUtf8`].
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, SourceError> {
        let name = name.into();
        if bytes.len() > SOURCE_MAX {
            return Err(SourceError::TooLarge { name });
        }
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.as_bytes();
            let before = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
            let byte = bytes.get(at).copied().unwrap_or_default();
            SourceError::NotUtf8 { name: name.clone(), line, column, byte }
        })?;
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
        Ok(Self { name, text })
    }

    /// The file's name as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line in which the byte at `offset` stands, without its line end, and where it starts.
    pub(crate) fn line_around(&self, offset: usize) -> (&str, usize) {
        let is_line_end = |c| c == '\n' || c == '\r';
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let (before, after) = self.text.split_at(offset);
        let start = before.rfind(is_line_end).map_or(0, |at| at + 1);
        let end = after.find(is_line_end).map_or(self.text.len(), |at| offset + at);
        (self.text.get(start..end).unwrap_or_default(), start)
    }
}

/// A number of bytes or characters of a chain file as the 32 bits that [`SOURCE_MAX`] allows.
pub(crate) fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_not_utf8_is_named_with_its_place() {
        let error = Source::from_bytes("a.yaml", b"ports:\n  l\xe4n: x\n".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "a.yaml:2:4: byte 0xe4 is not UTF-8; save the file as UTF-8");
    }

    #[test]
    fn a_byte_order_mark_shifts_no_column() {
        let source = Source::from_bytes("a", "\u{feff}ports: 1".into()).unwrap();
        assert_eq!(source.text(), "ports: 1");
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        assert!(matches!(
            Source::from_bytes("a", vec![b' '; SOURCE_MAX + 1]),
            Err(SourceError::TooLarge { .. })
        ));
        assert!(matches!(Source::open(Path::new("/dev/zero")), Err(SourceError::TooLarge { .. })));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Source::open(Path::new("/nonexistent/x.yaml")).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/x.yaml: cannot be read");
    }
}
