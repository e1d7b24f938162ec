//! What a rule asks of the bytes of a buffer.

use std::sync::Arc;

use super::number::Compare;
use super::regex::Regex;
use super::transform::Transform;
use crate::ids::buffer::Buffer;

/// All that a rule asks of one buffer: the tests hold one after another, each relative one behind the end of the last
/// that matched.
#[derive(Clone, Debug)]
pub struct Inspect {
    /// Which.
    pub buffer: Buffer,
    /// What is done to its bytes first, in this order.
    pub transforms: Box<[Transform]>,
    /// At least one; the order is the rule's.
    pub tests: Box<[Test]>,
}

/// One question to a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// These bytes are in it.
    Content(Content),
    /// This expression matches.
    Pcre(Pcre),
    /// It is long enough.
    IsDataAt(IsDataAt),
    /// A number in it compares so.
    ByteTest(ByteTest),
    /// The next test begins where a number in it says. Never false of itself, but for a jump out of the buffer.
    ByteJump(ByteJump),
    /// A number in it becomes a variable.
    ByteExtract(ByteExtract),
    /// What comes of a number in it becomes a variable.
    ByteMath(ByteMath),
    /// Its length: `bsize`, and `urilen` of a URI.
    Size(Compare<u64>),
    /// Part of it is decoded, for [`Buffer::Base64Data`]. False if nothing can be.
    Base64Decode(Base64Decode),
}

/// A number that the rule gives or one that was extracted before: an index below [`super::Rule::variables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Given.
    Number(i64),
    /// Extracted.
    Variable(u8),
}

/// Whether bytes must be there, or must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// They must.
    #[default]
    Present,
    /// They must not.
    Absent,
}

/// Where a test begins to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// At the buffer's first byte.
    #[default]
    Start,
    /// Behind the last match.
    LastMatch,
}

/// Bytes to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// At least one; of `nocase` as the rule has them.
    pub pattern: Box<[u8]>,
    /// Whether they must be there or not.
    pub presence: Presence,
    /// ASCII letters match either case.
    pub nocase: bool,
    /// First byte from the buffer's start.
    pub offset: Option<Value>,
    /// The match ends within so many bytes behind `offset`.
    pub depth: Option<Value>,
    /// First byte from the end of the last match, or from the buffer's start when there was none.
    pub distance: Option<Value>,
    /// The match ends within so many bytes behind where `distance` lets it begin.
    pub within: Option<Value>,
    /// It is the buffer's beginning.
    pub starts_with: bool,
    /// It is the buffer's end.
    pub ends_with: bool,
    /// In the payload as received: of no difference here, where no protocol changes the payload.
    pub raw_bytes: bool,
    /// What the rule says of it as a fast pattern; what was chosen is in [`super::Rule::fast_pattern`].
    pub fast: FastPatternWish,
}

impl Content {
    /// Whether it is looked for behind the last match.
    pub fn is_relative(&self) -> bool {
        self.distance.is_some() || self.within.is_some()
    }

    /// Whether it is looked for at certain places of the whole buffer.
    pub fn is_absolute(&self) -> bool {
        self.offset.is_some() || self.depth.is_some() || self.starts_with
    }
}

/// What a rule says of a content as its fast pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastPatternWish {
    /// Nothing.
    #[default]
    None,
    /// Take this one.
    Whole,
    /// Take this one, and look no further for it.
    Only,
    /// Take this part of it.
    Part {
        /// From this byte.
        offset: u16,
        /// So many.
        length: u16,
    },
}

/// A regular expression to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pcre {
    /// Compiled, shared with all rules that have the same.
    pub regex: Arc<Regex>,
    /// Whether it must match or must not.
    pub presence: Presence,
    /// Whether the bytes before the last match's end are hidden from it.
    pub from: From,
    /// Where its groups' matches are kept, in the order of its groups.
    pub captures: Box<[Capture]>,
}

/// A name that a group's match is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Kept with what.
    pub scope: CaptureScope,
    /// Under which name.
    pub name: Box<str>,
}

/// What keeps a group's match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureScope {
    /// The packet.
    Packet,
    /// The flow.
    Flow,
    /// The alert.
    Alert,
}

/// Whether there is a byte at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsDataAt {
    /// `Absent`: there must be none.
    pub presence: Presence,
    /// From the start: the buffer is longer than this. Behind the last match: there are at least so many bytes. (Suricata
    /// counts the two differently.)
    pub offset: Value,
    /// From where.
    pub from: From,
    /// In the payload as received.
    pub raw_bytes: bool,
}

/// How the bytes of a number are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The first byte is the greatest.
    BigEndian,
    /// The first byte is the least.
    LittleEndian,
    /// Digits of this base: 8, 10 or 16.
    Digits(u32),
    /// Digits whose base they say themselves: `0x` before hexadecimal ones, `0` before octal ones.
    AnyDigits,
}

/// A number in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// So many bytes; 0 only of a [`ByteJump`], which reads none then.
    pub length: Value,
    /// Behind `from`; may be negative.
    pub offset: Value,
    /// From where.
    pub from: From,
    /// How they are read.
    pub encoding: Encoding,
    /// Only these bits count, moved right by as many as there are zeros below the lowest.
    pub mask: Option<u32>,
}

/// Compares a number in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteTest {
    /// Which.
    pub field: Field,
    /// How.
    pub operator: Operator,
    /// Whether the comparison must hold or must not.
    pub presence: Presence,
    /// With what.
    pub value: Value,
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `=`
    Equal,
    /// A bit is set in both.
    And,
    /// A bit is set in one of them only.
    Or,
}

/// Moves the end of the last match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteJump {
    /// By this number.
    pub field: Field,
    /// Times this one.
    pub multiplier: u32,
    /// Up to the next multiple of four.
    pub align: bool,
    /// From where the jump is made.
    pub base: JumpBase,
    /// And then so far.
    pub post_offset: Value,
}

/// From where a jump is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JumpBase {
    /// Behind the number.
    #[default]
    Field,
    /// The buffer's first byte.
    Start,
    /// The buffer's end.
    End,
}

/// Keeps a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteExtract {
    /// Which.
    pub field: Field,
    /// Times this one.
    pub multiplier: u32,
    /// Up to the next multiple of this, 2 or 4.
    pub align: Option<u8>,
    /// Where it is kept: an index below [`super::Rule::variables`].
    pub variable: u8,
}

/// Computes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteMath {
    /// Of this one.
    pub field: Field,
    /// By this.
    pub operator: Arithmetic,
    /// With this one; never the number 0 for a division.
    pub value: Value,
    /// Where it is kept.
    pub variable: u8,
}

/// What `byte_math` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `<<`
    ShiftLeft,
    /// `>>`
    ShiftRight,
}

/// Decodes a part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base64Decode {
    /// At most so many encoded bytes; `None`: all.
    pub bytes: Option<u32>,
    /// From here behind `from`.
    pub offset: u32,
    /// From where.
    pub from: From,
}
