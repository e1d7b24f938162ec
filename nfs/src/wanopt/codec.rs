//! What is no copy, made smaller: by zstd with a part of the log as its dictionary, or by LZ4 when there is no time.
//!
//! A packet must come out without the one before it, so that a stream's state cannot go on from packet to packet; what
//! both ends have in their logs can. The encoder prepares a dictionary once for many packets; the decoder only points
//! at the bytes.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use zstd_safe::{CCtx, CDict, DCtx};

use super::wire::Codec;

/// How much may be done for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The worker is behind.
    Fast,
    /// There is time.
    Best,
}

/// Makes bytes smaller.
pub struct Compressor {
    zstd: CCtx<'static>,
    lz4: CompressTable,
    dictionary: Option<Prepared>,
    level: i32,
}

/// A part of the log as a dictionary.
struct Prepared {
    made: CDict<'static>,
    place: u64,
    length: u32,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("dictionary", &self.dictionary()).finish_non_exhaustive()
    }
}

impl Compressor {
    /// Without a dictionary.
    pub fn new(level: i32) -> Self {
        Self { zstd: CCtx::create(), lz4: CompressTable::small(), dictionary: None, level }
    }

    /// Takes another dictionary: bytes of the log from a place. Some 100 us of 64 KiB, and the memory of it.
    pub fn prepare(&mut self, place: u64, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        self.dictionary =
            CDict::try_create(bytes, self.level).map(|made| Prepared { made, place, length });
    }

    /// Has none any more.
    pub fn forget(&mut self) {
        self.dictionary = None;
    }

    /// The place and length of the dictionary.
    pub fn dictionary(&self) -> Option<(u64, u32)> {
        self.dictionary.as_ref().map(|d| (d.place, d.length))
    }

    /// Writes bytes to `out`, smaller or as they are. Returns how, and whether the dictionary is needed.
    pub fn compress(&mut self, bytes: &[u8], effort: Effort, out: &mut Vec<u8>) -> (Codec, Uses) {
        out.clear();
        let made = match effort {
            _ if bytes.len() < LEAST => None,
            Effort::Best => self.by_zstd(bytes, out),
            Effort::Fast => by_lz4(&mut self.lz4, bytes, out),
        };
        if let Some(made) = made
            && out.len() < bytes.len()
        {
            return made;
        }
        out.clear();
        out.extend_from_slice(bytes);
        (Codec::Raw, Uses::Nothing)
    }

    fn by_zstd(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<(Codec, Uses)> {
        out.reserve(zstd_safe::compress_bound(bytes.len()));
        let uses = match &self.dictionary {
            Some(prepared) => {
                self.zstd.compress_using_cdict(out, bytes, &prepared.made).ok()?;
                Uses::Dictionary
            }
            None => {
                self.zstd.compress(out, bytes, self.level).ok()?;
                Uses::Nothing
            }
        };
        // Each frame begins with the same four bytes.
        out.starts_with(MAGIC).then(|| out.drain(..MAGIC.len()))?;
        Some((Codec::Zstd, uses))
    }
}

/// Whether a dictionary is needed to read something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// It is not.
    Nothing,
    /// It is.
    Dictionary,
}

fn by_lz4(table: &mut CompressTable, bytes: &[u8], out: &mut Vec<u8>) -> Option<(Codec, Uses)> {
    out.resize(get_maximum_output_size(bytes.len()), 0);
    let length = compress_into_with_table(bytes, out, table).ok()?;
    out.truncate(length);
    Some((Codec::Lz4, Uses::Nothing))
}

/// Makes bytes what they were.
pub struct Decompressor {
    zstd: DCtx<'static>,
    frame: Vec<u8>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// One for all codecs.
    pub(super) fn new() -> Self {
        Self { zstd: DCtx::create(), frame: Vec::with_capacity(1 << 16) }
    }

    /// Writes exactly `length` bytes to `out`, which is emptied before. `None`: they do not come out.
    pub fn decompress(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        dictionary: &[u8],
        length: usize,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        out.clear();
        match codec {
            Codec::Raw => out.extend_from_slice(bytes),
            Codec::Lz4 => {
                out.resize(length, 0);
                let made = lz4_flex::block::decompress_into(bytes, out).ok()?;
                out.truncate(made);
            }
            Codec::Zstd => {
                self.frame.clear();
                self.frame.extend_from_slice(MAGIC);
                self.frame.extend_from_slice(bytes);
                // Into no more than the bytes that are wanted, whatever the frame says.
                out.resize(length, 0);
                let to = out.as_mut_slice();
                let made = self.zstd.decompress_using_dict(to, &self.frame, dictionary).ok()?;
                out.truncate(made);
            }
        }
        (out.len() == length).then_some(())
    }
}

const MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Fewer bytes do not shrink.
pub const LEAST: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"The quick brown fox jumps over the lazy dog; the lazy dog sleeps on, and the fox jumps.";

    #[test]
    fn what_is_compressed_comes_out_by_each_codec() {
        let mut decompressor = Decompressor::new();
        let (mut small, mut back) = (Vec::new(), Vec::new());
        for (effort, with_dictionary) in
            [(Effort::Fast, false), (Effort::Best, false), (Effort::Best, true)]
        {
            let mut compressor = Compressor::new(3);
            if with_dictionary {
                compressor.prepare(0, &TEXT.repeat(3));
            }
            let text = TEXT.repeat(4);
            let (codec, uses) = compressor.compress(&text, effort, &mut small);
            assert!(small.len() < text.len() / 2, "{codec:?}: {}", small.len());
            assert_eq!(uses == Uses::Dictionary, with_dictionary);
            let dictionary = if with_dictionary { TEXT.repeat(3) } else { Vec::new() };
            let n = text.len();
            decompressor.decompress(codec, &small, &dictionary, n, &mut back).unwrap();
            assert_eq!(back, text);
            assert_eq!(decompressor.decompress(codec, &small, &dictionary, n - 1, &mut back), None);
        }
    }

    #[test]
    fn a_dictionary_makes_short_text_shorter_and_is_needed_to_read_it() {
        let (mut bare, mut with) = (Vec::new(), Vec::new());
        let mut compressor = Compressor::new(3);
        compressor.compress(TEXT, Effort::Best, &mut bare);
        compressor.prepare(0, &TEXT.repeat(3));
        compressor.compress(TEXT, Effort::Best, &mut with);
        assert!(with.len() * 3 < bare.len(), "{} and {}", with.len(), bare.len());
        let mut back = Vec::new();
        let other = [b'x'; 200];
        let read =
            Decompressor::new().decompress(Codec::Zstd, &with, &other, TEXT.len(), &mut back);
        assert!(read.is_none() || back != TEXT);
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        let noise: Vec<u8> =
            (0..1000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let noise: Vec<u8> = noise
            .iter()
            .scan(0u8, |s, b| {
                *s = s.wrapping_mul(31) ^ b;
                Some(*s)
            })
            .collect();
        let mut out = Vec::new();
        for effort in [Effort::Fast, Effort::Best] {
            let (codec, _) = Compressor::new(3).compress(&noise[..40], effort, &mut out);
            assert_eq!((codec, &out[..]), (Codec::Raw, &noise[..40]));
        }
    }
}
