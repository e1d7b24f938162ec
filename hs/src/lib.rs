//! Looks for thousands of literals at once, with the installed Vectorscan or Hyperscan: both have one API, `libhs`.
//!
//! ```text
//!   literals --Database::compile--> Database --serialize--> bytes --deserialize--> Database     shared by all threads
//!                                      |
//!   bytes, Scratch (of a thread) --Database::scan--> numbers of the literals that are in them
//! ```
//!
//! Where the library was not there at build time all of this fails with [`Failed::Absent`]: the caller has another matcher.
//!
//! The crate `hyperscan` binds the same library and was rejected: it does not build where the library is absent, its
//! literals are text and ours are bytes, and its callbacks may unwind into C.

#[cfg(not(libhs))]
mod absent;
#[cfg(libhs)]
mod library;

use std::fmt;

#[cfg(not(libhs))]
pub use absent::{Database, Scratch, version};
#[cfg(libhs)]
pub use library::{Database, Scratch, version};

/// Bytes to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal<'l> {
    /// At least one.
    pub bytes: &'l [u8],
    /// How letters are compared.
    pub case: Case,
}

/// How ASCII letters are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// As any other byte.
    Exact,
    /// `a` is `A`.
    Either,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// There is no library.
    Absent,
    /// The literals are refused: why.
    Refused(String),
    /// The library's number for what is wrong: of bytes that are no database of this version and processor, of a scratch
    /// that does not fit, of memory that is not there.
    Code(i32),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("neither Vectorscan nor Hyperscan was there at build time"),
            Self::Refused(why) => write!(f, "the literals are refused: {why}"),
            Self::Code(code) => write!(f, "libhs failed with {code}"),
        }
    }
}

impl std::error::Error for Failed {}
