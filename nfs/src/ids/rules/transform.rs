//! What is done to a buffer's bytes before a rule looks at them.

use std::sync::Arc;

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use super::regex::{Regex, Scratch};

/// What is done to a buffer's bytes before they are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// ASCII letters to lower case.
    ToLowercase,
    /// Without white space.
    StripWhitespace,
    /// Each run of white space becomes one space.
    CompressWhitespace,
    /// A `.` in front.
    DotPrefix,
    /// `%xx` and `+` decoded.
    UrlDecode,
    /// The 16 bytes of its MD5.
    Md5,
    /// The 20 bytes of its SHA-1.
    Sha1,
    /// The 32 bytes of its SHA-256.
    Sha256,
    /// What the first group of this expression captures.
    PcreXform(Arc<Regex>),
    /// Exclusive or with these bytes, again and again; at least one.
    Xor(Box<[u8]>),
}

/// Whether there are bytes to look at after a transform.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transformed {
    /// They are in what was given for them.
    Done,
    /// There are none: an expression did not match. Nothing that the rule asks of the buffer holds then.
    Failed,
}

impl Transform {
    /// Puts the transformed bytes into `out`, in place of what is in it; at most one more than there are of `bytes`, or a
    /// digest.
    ///
    /// # Cost
    /// Nanoseconds a byte.
    pub fn apply(&self, bytes: &[u8], out: &mut Vec<u8>, scratch: &mut Scratch) -> Transformed {
        out.clear();
        match self {
            Self::ToLowercase => out.extend(bytes.iter().map(u8::to_ascii_lowercase)),
            Self::StripWhitespace => out.extend(bytes.iter().filter(|b| !is_space(**b))),
            Self::CompressWhitespace => {
                let before = std::iter::once(&b'.').chain(bytes);
                let kept =
                    bytes.iter().zip(before).filter(|(b, p)| !is_space(**b) || !is_space(**p));
                out.extend(kept.map(|(byte, _)| *byte));
            }
            Self::DotPrefix => {
                out.push(b'.');
                out.extend_from_slice(bytes);
            }
            Self::UrlDecode => url_decode(bytes, out),
            Self::Md5 => out.extend_from_slice(&Md5::digest(bytes)),
            Self::Sha1 => out.extend_from_slice(&Sha1::digest(bytes)),
            Self::Sha256 => out.extend_from_slice(&Sha256::digest(bytes)),
            Self::Xor(key) => out.extend(bytes.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k)),
            Self::PcreXform(regex) => {
                let groups = regex.groups(bytes, 0, scratch);
                let first = groups.and_then(|groups| groups.get(1).cloned().flatten());
                match first.and_then(|range| bytes.get(range)) {
                    Some(captured) => out.extend_from_slice(captured),
                    None => return Transformed::Failed,
                }
            }
        }
        Transformed::Done
    }

    /// Whether these bytes can be in what it makes: a content that cannot makes a rule that never matches.
    pub(super) fn can_make(&self, pattern: &[u8]) -> bool {
        match self {
            Self::ToLowercase => !pattern.iter().any(u8::is_ascii_uppercase),
            Self::StripWhitespace => !pattern.iter().any(|b| is_space(*b)),
            Self::CompressWhitespace => {
                let mut pairs = pattern.iter().zip(pattern.iter().skip(1));
                !pairs.any(|(a, b)| is_space(*a) && is_space(*b))
            }
            Self::Md5 => pattern.len() == 16,
            Self::Sha1 => pattern.len() == 20,
            Self::Sha256 => pattern.len() == 32,
            Self::DotPrefix | Self::UrlDecode | Self::PcreXform(_) | Self::Xor(_) => true,
        }
    }
}

/// `+` is a space, `%41` is `A`; what only looks like one stays.
fn url_decode(bytes: &[u8], out: &mut Vec<u8>) {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut rest = bytes;
    loop {
        let (used, decoded) = match *rest {
            [] => return,
            [b'+', ..] => (1, b' '),
            [b'%', high, low, ..] => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => (3, high << 4 | low),
                // Nor does what follows the `%` begin anything.
                (Some(_), None) => {
                    out.extend_from_slice(&[b'%', high]);
                    (3, low)
                }
                (None, _) => {
                    out.push(b'%');
                    (2, high)
                }
            },
            [b'%', last] => {
                out.push(b'%');
                (2, last)
            }
            [byte, ..] => (1, byte),
        };
        out.push(decoded);
        rest = rest.get(used..).unwrap_or_default();
    }
}

/// As C without locale has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::regex::{Flags, Source};
    use super::*;

    fn apply(transform: &Transform, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"what was there before".to_vec();
        match transform.apply(bytes, &mut out, &mut Scratch::new(0)) {
            Transformed::Done => Some(out),
            Transformed::Failed => None,
        }
    }

    #[test]
    fn each_transform_makes_what_its_name_says() {
        let cases: [(Transform, &[u8], &[u8]); 8] = [
            (Transform::ToLowercase, b"AbC\xc9", b"abc\xc9"),
            (Transform::StripWhitespace, b" a\t\r\n\x0b\x0c b ", b"ab"),
            (Transform::CompressWhitespace, b"  a\t b \n", b" a\tb "),
            (Transform::DotPrefix, b"google.com", b".google.com"),
            (
                Transform::UrlDecode,
                b"Suricata%20is+%27%61wesome%21%27%25%30%30%ZZ%4",
                b"Suricata is 'awesome!'%00%ZZ%4",
            ),
            (Transform::UrlDecode, b"%%41%4+%", b"%%41%4+%"),
            (Transform::Xor([0x0a, 0x0d, 0xc8, 0xff].into()), b"example", b"ou\xa9\x92za\xad"),
            (Transform::Xor([1].into()), b"", b""),
        ];
        for (transform, bytes, expected) in cases {
            assert_eq!(apply(&transform, bytes).as_deref(), Some(expected), "{transform:?}");
        }
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        let hex = |transform| -> String {
            apply(&transform, b"abc").unwrap().iter().map(|b| format!("{b:02x}")).collect()
        };
        assert_eq!(hex(Transform::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(Transform::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex(Transform::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        );
    }

    #[test]
    fn an_expression_makes_its_group_or_nothing() {
        let source = Source { pattern: b"^a(.*)c".as_slice().into(), flags: Flags::default() };
        let transform = Transform::PcreXform(Arc::new(Regex::new(source).unwrap()));
        assert_eq!(apply(&transform, b"a\xffbc").as_deref(), Some(&b"\xffb"[..]));
        assert_eq!(apply(&transform, b"abd"), None);
    }

    proptest! {
        #[test]
        fn what_is_made_is_never_much_longer_and_twice_the_key_is_none(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            key in prop::collection::vec(any::<u8>(), 1..5),
        ) {
            let xor = Transform::Xor(key.into());
            for transform in [Transform::UrlDecode, Transform::CompressWhitespace, Transform::DotPrefix, xor.clone()] {
                prop_assert!(apply(&transform, &bytes).unwrap().len() <= bytes.len() + 1);
            }
            let twice = apply(&xor, &apply(&xor, &bytes).unwrap()).unwrap();
            prop_assert_eq!(twice, bytes);
        }

        #[test]
        fn a_content_that_is_refused_is_in_nothing_that_is_made(
            bytes in "[aA \t]{0,8}",
            pattern in "[aA \t]{1,4}",
        ) {
            for transform in [Transform::ToLowercase, Transform::StripWhitespace, Transform::CompressWhitespace] {
                let made = apply(&transform, bytes.as_bytes()).unwrap();
                let is_in = made.windows(pattern.len()).any(|w| w == pattern.as_bytes());
                prop_assert!(!is_in || transform.can_make(pattern.as_bytes()));
            }
        }
    }
}
