//! A sieve in front of patterns: of most bytes it says that none is in them, at less than half of what looking for them costs.
//!
//! ```text
//!   bytes:    ....|x4fq|2zke|....         every fourth place has a word of four bytes
//!   pattern:     "4fq2zke"                wherever it begins, one of four of its words is at such a place
//!   words:    4fq2 fq2z q2zk 2zke    -->  a set of bits by their hashes --> hit? --> the words themselves --> a closer look around
//! ```
//!
//! As in DFC (Choi et al., NSDI 2016) a small table that stays in the cache decides for most places, with words instead of pairs
//! of bytes, so that one of four places is enough. Of a pattern of five or six bytes some words have a byte that is not its
//! own, and all of those are there. Shorter ones are looked for without a sieve, and so are too many.

use std::ops::Range;

/// Words of patterns.
#[derive(Debug)]
pub(super) struct Sieve {
    set: Set,
    /// The words by another hash, in the next free place; 0 is none.
    words: Box<[u32]>,
    /// Bytes of the longest pattern.
    longest: usize,
}

/// A set of folded words, and of others that have the same hashes.
#[derive(Debug)]
struct Set {
    bits: Box<[u32; WORDS]>,
    /// What words are multiplied by.
    factor: u32,
}

impl Sieve {
    /// One for these patterns. `None`: one is too short, or there are too few of them or too many for it to be worth it.
    pub fn of<'p>(patterns: impl Iterator<Item = &'p [u8]> + Clone) -> Option<Self> {
        let mut words = Vec::new();
        for pattern in patterns.clone() {
            add_words(pattern, &mut words)?;
            if words.len() > ENTRIES_MAX {
                return None;
            }
        }
        let longest = patterns.clone().map(<[u8]>::len).max()?;
        if patterns.count() < PATTERNS_MIN {
            return None;
        }
        let set = FACTORS.map(|factor| Set::of(&words, factor));
        let set = set.into_iter().min_by_key(Set::hits_in_text)?;
        let mut table = vec![0; 4 * ENTRIES_MAX];
        for word in words {
            let at = slots_of(word).find(|at| [0, word].contains(table.get(*at).unwrap_or(&0)))?;
            *table.get_mut(at)? = word;
        }
        Some(Self { set, words: table.into(), longest })
    }

    /// Shows `look` all parts of `bytes` that a pattern may be in. False: there are too many; it is to look at all of them.
    ///
    /// # Cost
    /// With AVX-512 some 0.1 ns a byte, with AVX2 0.15, and a call of `look` for each part.
    pub fn sift(&self, bytes: &[u8], mut look: impl FnMut(&[u8])) -> bool {
        let (mut parts, mut end) = (0, 0);
        let mut is_few = |at: usize, block: &[u8; BLOCK]| {
            for part in self.parts_of(at, block) {
                let part = part.start..part.end.min(bytes.len());
                // What was looked at just now.
                if part.end > end {
                    parts += 1;
                    end = part.end;
                    look(bytes.get(part).unwrap_or_default());
                }
            }
            parts <= PARTS_MAX
        };
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for (at, blocks) in (0..).step_by(64 * BLOCK).zip(blocks.chunks(64)) {
            let mut hits = hits_of(blocks, &self.set);
            while hits != 0 {
                let place = hits.trailing_zeros() as usize;
                hits &= hits - 1;
                if blocks.get(place).is_some_and(|block| !is_few(at + place * BLOCK, block)) {
                    return false;
                }
            }
        }
        let mut last = [0; BLOCK];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        is_few(bytes.len() - rest.len(), &last)
    }

    /// Where patterns may be that have a word in a block, which begins at `at`.
    #[inline]
    fn parts_of(&self, at: usize, block: &[u8; BLOCK]) -> impl Iterator<Item = Range<usize>> {
        let (words, _) = block.as_chunks::<4>();
        let mut hits = words_of(block, &self.set);
        let next = move || {
            let place = (hits != 0).then(|| hits.trailing_zeros() as usize)?;
            hits &= hits - 1;
            Some(place)
        };
        let are_there =
            move |place: &usize| words.get(*place).is_some_and(|word| self.has(folded(*word)));
        std::iter::from_fn(next).filter(are_there).map(move |place| {
            let at = at + 4 * place;
            at.saturating_sub(self.longest)..at + 4 + self.longest
        })
    }

    #[inline]
    fn has(&self, word: u32) -> bool {
        let found = slots_of(word).find_map(|at| {
            let found = *self.words.get(at)?;
            (found == 0 || found == word).then_some(found)
        });
        found == Some(word)
    }
}

/// Adds the words of a pattern, one at least for each place that it may begin at. `None`: it is too short.
fn add_words(pattern: &[u8], to: &mut Vec<u32>) -> Option<()> {
    let rarest = pattern.windows(7).max_by_key(|window| rarity(window));
    let own = rarest.unwrap_or(pattern).windows(4).filter_map(|word| word.first_chunk());
    to.extend(own.map(|word| folded(*word)));
    if rarest.is_none() {
        // Of six bytes three, of five two: the others have whatever is before the first byte, or behind the last one.
        let [a, b, c, d, e, ..] = *pattern else { return None };
        let any = || (0..=u8::MAX).filter(|byte| byte & 0x20 != 0);
        to.extend(any().map(|before| folded([before, a, b, c])));
        if pattern.len() == 5 {
            to.extend(any().map(|behind| folded([c, d, e, behind])));
        }
    }
    Some(())
}

/// How rare bytes are in what people write.
fn rarity(bytes: &[u8]) -> u32 {
    let one = |byte: &u8| match byte.to_ascii_lowercase() {
        b' ' | b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'h' | b'l' => 0,
        b'd' | b'c' | b'u' | b'm' | b'f' | b'p' | b'g' | b'w' | b'y' | b'b' | b'v' | b'k' => 1,
        b'<' | b'>' | b'"' | b'/' | b'=' | b'.' | b'-' | b',' | b'\r' | b'\n' => 1,
        b'!'..=b'~' | 0 | 0xff => 3,
        _ => 4,
    };
    bytes.iter().map(one).sum()
}

/// Four bytes, with capital letters as small ones are, and some others as their likes.
#[inline(always)]
fn folded(word: [u8; 4]) -> u32 {
    u32::from_le_bytes(word) | 0x2020_2020
}

/// Where a folded word may be, the likeliest place first.
fn slots_of(word: u32) -> impl Iterator<Item = usize> {
    let first = word.wrapping_mul(0x85eb_ca6b) as usize >> 12;
    (first..).map(|at| at % (4 * ENTRIES_MAX))
}

/// Of at most 64 blocks those, a bit each, that have a word whose bit is set.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn hits_of(blocks: &[[u8; BLOCK]], set: &Set) -> u64 {
    let mut hits = 0;
    for (at, block) in blocks.iter().enumerate().take(64) {
        let (words, _) = block.as_chunks::<4>();
        let mut all = [0; BLOCK / 4];
        for (to, word) in all.iter_mut().zip(words) {
            *to = folded(*word);
        }
        let any = all.into_iter().fold(0, |any, word| any | set.bit(word));
        hits |= u64::from(any & 1) << at;
    }
    hits
}

/// Of a block the words, a bit each, whose bit is set.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn words_of(block: &[u8; BLOCK], set: &Set) -> u32 {
    let (words, _) = block.as_chunks::<4>();
    let one = |(at, word): (usize, &[u8; 4])| (set.bit(folded(*word)) & 1) << at;
    words.iter().enumerate().map(one).fold(0, |all, one| all | one)
}

impl Set {
    fn of(words: &[u32], factor: u32) -> Self {
        let mut set = Self { bits: Box::new([0; WORDS]), factor };
        for word in words {
            let place = set.place_of(*word);
            if let Some(bits) = set.bits.get_mut(place as usize / 32) {
                *bits |= 1 << (place % 32);
            }
        }
        set
    }

    /// A word's bit, the lowest one, below others.
    #[inline(always)]
    fn bit(&self, word: u32) -> u32 {
        let place = self.place_of(word);
        self.bits.get(place as usize / 32).map_or(0, |bits| bits >> (place % 32))
    }

    #[inline(always)]
    fn place_of(&self, word: u32) -> u32 {
        word.wrapping_mul(self.factor) >> (32 - BITS)
    }

    /// How many words of what most texts are made of seem to be in it.
    fn hits_in_text(&self) -> u32 {
        let words = TEXT.windows(4).filter_map(|word| word.first_chunk());
        words.map(|word| self.bit(folded(*word)) & 1).sum()
    }
}

/// Bytes that are looked at together.
const BLOCK: usize = 128;
/// The set has 2 to this power bits: 32 KiB.
const BITS: u32 = 18;
const WORDS: usize = 1 << (BITS - 5);
/// Of fewer patterns the library is as fast.
const PATTERNS_MIN: usize = 24;
/// What words may be multiplied by: odd, and about half of their bits set.
const FACTORS: [u32; 16] = [
    0x9e37_79b1,
    0x85eb_ca6b,
    0xc2b2_ae35,
    0x27d4_eb2f,
    0x1656_67b1,
    0xcc9e_2d51,
    0x1b87_3593,
    0xe654_6b65,
    0x7feb_352d,
    0x846c_a68b,
    0x045d_9f3b,
    0x2c1b_3c6d,
    0x297a_2d39,
    0xa136_aaad,
    0x8da6_b343,
    0xd8b3_4b7f,
];
/// Of what most texts are made of.
const TEXT: &[u8] = b"the of and to in is that for it was on are as with his they be at one have this from or had by not but \
what all were when we there can an your which their said if do will each about how up out them then she many some so these \
would other into has more her two like him see time could no make than first been its who now people my made over did down \
only way find use may water long little very after words called just where most know get through back much go good new write \
our me man too any day same right look think also around another came come work three must because does part even place well \
such here take why help put years different away again off went old number great tell men say small every found still between \
name should home big give air line set own under read last never us left end along while might next sound below saw something \
thought both few those always show large often together asked house world going want school important until form food keep \
children feet land side without boy once animal life enough took four head above kind began almost live page got earth need \
far hand high year mother light country father let night picture being study second soon story since white ever paper hard \
<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title></title><link rel=\"stylesheet\" href=\"https://www.\"> \
<script type=\"text/javascript\" src=\"/js/jquery.min.js\"></script></head><body><div class=\"container\" id=\"main\"><p><a href=\"/\"> \
<span style=\"color:#000;\"></span></a></p><ul><li><img src=\"/images/.png\" width=\"100\" height=\"100\" alt=\"\"></li></ul><br/> \
<table><tr><td></td></tr></table><form action=\"\" method=\"post\"><input type=\"hidden\" name=\"\" value=\"\"></form></div></body></html> \
function(){var a=this;return a.length>0&&window.document.getElementById(null)}if(typeof e===\"undefined\"){else}for(i=0;i<n;i++) \
HTTP/1.1 200 OK Content-Type: text/html; charset=utf-8 Content-Length: Date: Server: Connection: keep-alive Cache-Control: no-cache";
/// Most words: of more, too many others have the same bits.
const ENTRIES_MAX: usize = 1 << 12;
/// Parts that are looked at by themselves at most.
const PARTS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where a pattern begins in some bytes that are shown.
    fn shown(sieve: &Sieve, bytes: &[u8], pattern: &[u8]) -> Option<bool> {
        let mut is_there = false;
        let is_pattern = |at: &[u8]| at.eq_ignore_ascii_case(pattern);
        let few = sieve.sift(bytes, |part| is_there |= part.windows(pattern.len()).any(is_pattern));
        few.then_some(is_there)
    }

    fn sieve(patterns: &[Vec<u8>]) -> Option<Sieve> {
        Sieve::of(patterns.iter().map(Vec::as_slice))
    }

    /// As they are in rules: letters, digits and bytes that no text has.
    fn patterns() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte =
            prop_oneof![8 => b'a'..=b'z', 4 => b'0'..=b'9', 2 => b'A'..=b'Z', 1 => any::<u8>()];
        prop::collection::vec(prop::collection::vec(byte, 5..24), PATTERNS_MIN..60).prop_map(
            |mut all| {
                // Few of five bytes: each has 258 words.
                for (place, pattern) in
                    all.iter_mut().enumerate().filter(|(place, _)| place % 8 != 0)
                {
                    pattern.extend_from_slice(&[b'x', place as u8]);
                }
                all
            },
        )
    }

    proptest! {
        #[test]
        fn what_holds_a_pattern_is_shown_wherever_it_lies(
            all in patterns(),
            which: prop::sample::Index,
            before in prop::collection::vec(any::<u8>(), 0..300),
            behind in prop::collection::vec(any::<u8>(), 0..300),
            is_capital: bool,
        ) {
            let Some(sieve) = sieve(&all) else { return Ok(()) };
            let pattern = which.get(&all);
            let planted = if is_capital { pattern.to_ascii_uppercase() } else { pattern.clone() };
            let bytes = [before, planted, behind].concat();
            prop_assert_ne!(shown(&sieve, &bytes, pattern), Some(false));
        }
    }

    /// Numbers and letters by turns: none of them is a word.
    fn tokens(count: usize) -> Vec<Vec<u8>> {
        let mut seed = 7_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"abcdefghijklmnopqrstuvwxyz0123456789"[(seed >> 16) as usize % 36]
        };
        (0..count).map(|place| (0..7 + place % 6).map(|_| next()).collect()).collect()
    }

    #[test]
    fn of_text_next_to_nothing_is_left() {
        let sieve = sieve(&tokens(300)).unwrap();
        let text =
            b"Most of what people write has none of the patterns that people look for in it. "
                .repeat(50);
        let mut left = 0;
        assert!(sieve.sift(&text, |part| left += part.len()));
        assert!(left * 20 < text.len(), "{left} of {}", text.len());
    }

    #[test]
    fn where_all_of_it_would_be_shown_it_says_so() {
        let all = tokens(40);
        let sieve = sieve(&all).unwrap();
        let mut shown = 0;
        assert!(!sieve.sift(&all.concat().repeat(20), |_| shown += 1));
        assert!(shown <= 2 * PARTS_MAX + 16, "{shown}");
    }

    #[test]
    fn there_is_none_for_short_patterns_for_few_and_for_too_many() {
        assert!(sieve(&tokens(PATTERNS_MIN)).is_some());
        assert!(sieve(&tokens(PATTERNS_MIN - 1)).is_none());
        assert!(sieve(&tokens(ENTRIES_MAX / 4 + 1)).is_none());
        assert!(sieve(&[tokens(50), vec![b"four".to_vec()]].concat()).is_none());
        assert!(sieve(&[tokens(50), vec![b"fives".to_vec()]].concat()).is_some());
    }
}
