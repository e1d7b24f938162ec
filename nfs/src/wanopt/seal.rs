//! Digests: of each packet that is to come out, and of what the boxes tell each other.
//!
//! Without a key they find what went wrong, by a quicker hash; with one, which both boxes read from a file, nobody else can
//! make them.
//!
//! Source: Aumasson and Bernstein, SipHash: a fast short-input PRF, INDOCRYPT 2012; Collet, XXH3 (xxhash.com)

use std::hash::Hasher;

use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;
use twox_hash::XxHash3_64;

use super::cipher::{self, ADDED, Cipher, Salt};
use super::wire::{Hello, Keep, Number, put_place, widened};

/// What the decoder writes down of a packet, under which number, and where.
pub type Kept = (Keep, u32, u64);
/// A session, the number of a message in it, if it has one, and its count where there is a key.
pub type Numbered = (u32, Option<Number>, u64);

/// A secret of the two boxes, or none.
#[derive(Clone, Copy)]
pub struct Seal {
    key: [u64; 2],
    /// By which messages are encrypted, if they are.
    pub cipher: Option<Cipher>,
    /// Sees nothing: to show what the digests are for.
    #[cfg(test)]
    pub is_blind: bool,
}

/// Whether messages are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypts {
    /// They are not.
    Nothing,
    /// They are.
    Messages,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

impl Seal {
    /// By a secret of which each use has its own part. `realm`: what the secret is used in.
    pub fn of(secret: [u8; 16], realm: &str, encrypts: Encrypts) -> Self {
        let part = |of: &str| -> [u8; 32] {
            let text = format!("wanopt {realm} {of} ");
            Sha256::new().chain_update(text).chain_update(secret).finalize().into()
        };
        let seal = Self::new(*part("seal").first_chunk().unwrap_or(&secret));
        let cipher = Cipher::new(part("encrypt"));
        Self { cipher: Some(cipher).filter(|_| encrypts == Encrypts::Messages), ..seal }
    }

    /// By the key itself; all zero: there is none.
    pub fn new(key: [u8; 16]) -> Self {
        let half = |at: usize| {
            let bytes = key.as_chunks::<8>().0.get(at).copied().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        Self {
            key: [half(0), half(1)],
            cipher: None,
            #[cfg(test)]
            is_blind: false,
        }
    }

    /// Of a packet that comes out, whole, in a session, and of what is kept of it where.
    #[inline]
    pub fn packet(&self, of: Numbered, kept: Kept, headers: &[u8], payload: &[u8]) -> u64 {
        #[cfg(test)]
        if self.is_blind {
            return 0;
        }
        let ((session, number, count), (keep, record, place)) = (of, kept);
        // As 40 bits are sent of it.
        let place = place & 0xff_ffff_ffff;
        let is_numbered = u64::from(number.is_some());
        let (number, back) = number.unwrap_or((0, 0));
        let first = u64::from(back) << 48 | place << 8 | is_numbered << 4 | keep as u64;
        let second = u64::from(session) << 32 | u64::from(number);
        match self.key {
            // It is to find what went wrong, and nobody.
            [0, 0] => {
                let about = XxHash3_64::oneshot_with_seed(second, &first.to_le_bytes());
                let about = XxHash3_64::oneshot_with_seed(about ^ u64::from(record), headers);
                XxHash3_64::oneshot_with_seed(about, payload)
            }
            [a, b] => {
                let mut hasher = SipHasher24::new_with_keys(a, b);
                hasher.write_u64(count);
                hasher.write_u64(first);
                hasher.write_u64(second);
                hasher.write_u32(record);
                hasher.write(headers);
                hasher.write(payload);
                hasher.finish()
            }
        }
    }

    /// Whether there is a key: messages are counted then, so that none is taken twice.
    pub fn is_keyed(&self) -> bool {
        self.key != [0, 0]
    }

    /// How many bytes a message has behind what the encoder writes.
    pub fn added(&self) -> usize {
        match self.cipher {
            Some(_) => ADDED,
            None if self.is_keyed() => COUNT,
            None => 0,
        }
    }

    /// Completes a message that begins at `start`, as the one of that count. `None`: it cannot be encrypted.
    pub fn complete(&self, salt: Salt, count: u64, start: usize, out: &mut Vec<u8>) -> Option<()> {
        match self.cipher {
            Some(cipher) => cipher.close(salt, count, start, out)?,
            None if self.is_keyed() => put_place(count, out),
            None => {}
        }
        Some(())
    }

    /// The count of a message that was completed, if there is one: of those that are written so, the one nearest to
    /// `highest`. `None`: it is too short.
    pub fn count_of(&self, message: &[u8], highest: u64) -> Option<u64> {
        if self.cipher.is_some() {
            return cipher::count_of(message);
        }
        if !self.is_keyed() {
            return Some(0);
        }
        let [a, b, c, d, e] = *message.last_chunk::<COUNT>()?;
        Some(widened(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]), highest))
    }

    /// Adds the seal to a message that begins at `start`.
    pub fn close(&self, start: usize, out: &mut Vec<u8>) {
        let seal = self.message(out.get(start..).unwrap_or_default());
        out.extend(seal.to_be_bytes());
    }

    /// Whether `rest` is the seal of the message before it, and nothing more.
    pub fn is_closed(&self, whole: &[u8], rest: &[u8]) -> bool {
        let message = whole.get(..whole.len().saturating_sub(rest.len())).unwrap_or_default();
        rest == self.message(message).to_be_bytes()
    }

    /// Whether a hello has its seal.
    pub fn is_closed_hello(&self, message: &[u8]) -> bool {
        Hello::read(message).is_some_and(|(_, rest)| self.is_closed(message, rest))
    }

    fn message(&self, message: &[u8]) -> u64 {
        let [a, b] = self.key;
        SipHasher24::new_with_keys(a, !b).hash(message)
    }
}

/// Bytes of a message's count, where it is not encrypted.
pub const COUNT: usize = 5;
