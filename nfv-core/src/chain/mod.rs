//! The chain file: reading, reporting mistakes, compiling to a program.
//!
//! `text -> Node -> checked against tables of keys -> Section -> spec`. The text becomes a tree in
//! which everything knows its place ([`node`]); the tree is checked against the tables of keys
//! ([`key`]); what passed is read through [`section`]; [`spec`] is the whole file.
//! Mistakes go to the [`report`], and nobody stops at the first.

pub(crate) mod cells;
mod check;
pub mod claims;
pub mod compile;
mod device;
mod entry;
pub mod environment;
mod file_keys;
pub mod key;
pub mod matching;
mod names;
pub mod node;
pub mod piece;
mod plan;
pub mod port;
pub mod report;
mod routing;
pub mod schema;
pub mod section;
pub mod source;
pub mod spec;
#[cfg(test)]
mod testing;
pub mod value;
pub mod zone;
