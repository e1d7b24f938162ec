//! The rule language of Suricata and Snort: from text to what detection evaluates.

mod class;
mod regex;
mod translate;

pub use self::regex::{Flags, Found, NotCompiled, Regex, Scratch, Source as RegexSource};
