//! No library.

use super::{Failed, Literal};

/// Compiled literals; of this type there is none.
#[derive(Debug)]
pub enum Database {}

/// What scans of one thread need besides a database.
#[derive(Debug, Default)]
pub struct Scratch {}

impl Scratch {
    /// Makes it large enough for a database.
    ///
    /// # Errors
    /// None: there is no database.
    pub fn fit(&mut self, database: &Database) -> Result<(), Failed> {
        match *database {}
    }
}

impl Database {
    /// Compiles literals.
    ///
    /// # Errors
    /// [`Failed::Absent`]
    pub fn compile(_literals: &[Literal<'_>]) -> Result<Self, Failed> {
        Err(Failed::Absent)
    }

    /// As bytes.
    ///
    /// # Errors
    /// None: there is no database.
    pub fn serialize(&self) -> Result<Vec<u8>, Failed> {
        match *self {}
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`Failed::Absent`]
    pub fn deserialize(_bytes: &[u8]) -> Result<Self, Failed> {
        Err(Failed::Absent)
    }

    /// Adds the number of each literal that is in `bytes`.
    ///
    /// # Errors
    /// None: there is no database.
    pub fn scan(
        &self,
        _bytes: &[u8],
        _scratch: &mut Scratch,
        _found: &mut Vec<u32>,
    ) -> Result<(), Failed> {
        match *self {}
    }
}

/// The library's version; `None`: there is none.
pub fn version() -> Option<String> {
    None
}
