//! Encryption of messages: XChaCha20-Poly1305, of a crate that was audited.
//!
//! What a box's encoder draws at its start is 16 bytes of the nonce, which hellos carry, and the rest counts its messages, so
//! that no nonce comes twice, whichever end restarts. The first six bytes, by which a message is told, are in the clear and
//! authenticated; the counter is behind the tag.
//!
//! Source: RFC 8439; draft-irtf-cfrg-xchacha-03. The rejected: AES-GCM with 12 bytes of nonce, which two starts may share.

use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

/// What only the two boxes can read with.
#[derive(Clone, Copy)]
pub struct Cipher([u8; 32]);

/// What an encoder draws at its start.
pub type Salt = [u8; 16];

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// By a secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Encrypts a message, which begins at `start`, as the one of that count. `None`: it is none, or there were too many.
    pub fn close(&self, salt: Salt, count: u64, start: usize, out: &mut Vec<u8>) -> Option<()> {
        let message = out.get_mut(start..).filter(|_| count < COUNTS)?;
        let (clear, rest) = message.split_at_mut_checked(CLEAR)?;
        let aead = XChaCha20Poly1305::new(&self.0.into());
        let tag = aead.encrypt_inout_detached(&nonce(salt, count), clear, rest.into()).ok()?;
        out.extend_from_slice(&tag);
        let [_, _, count @ ..] = count.to_be_bytes();
        out.extend(count);
        Some(())
    }

    /// Decrypts a message into `out`, which is emptied before. `None`: nobody who has the secret has made it.
    pub fn open(&self, salt: Salt, message: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        let count = count_of(message)?;
        let (message, _) = message.split_last_chunk::<6>()?;
        let (message, tag) = message.split_last_chunk::<16>()?;
        out.extend_from_slice(message);
        let (clear, rest) = out.split_at_mut_checked(CLEAR)?;
        let aead = XChaCha20Poly1305::new(&self.0.into());
        let tag = Tag::from(*tag);
        aead.decrypt_inout_detached(&nonce(salt, count), clear, rest.into(), &tag).ok()
    }
}

/// The count of an encrypted message. `None`: it is too short.
pub fn count_of(message: &[u8]) -> Option<u64> {
    let [a, b, c, d, e, f] = *message.last_chunk::<6>()?;
    Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

fn nonce(salt: Salt, count: u64) -> XNonce {
    let mut nonce = [0; 24];
    let all = salt.into_iter().chain(count.to_be_bytes());
    nonce.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    nonce.into()
}

/// Bytes that encryption adds: a tag and six of the count.
pub const ADDED: usize = 22;
/// Messages of one encoder: at a million a second they last for nine years.
const COUNTS: u64 = 1 << 48;
/// Bytes at the start that are not encrypted: the kind, flags and session.
const CLEAR: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encrypted_comes_out_for_who_has_the_secret_and_only_unchanged() {
        let (cipher, other) = (Cipher::new([7; 32]), Cipher::new([8; 32]));
        let message: Vec<u8> = (0..100).collect();
        let mut closed = message.clone();
        cipher.close([1; 16], 5, 0, &mut closed).unwrap();
        assert_eq!(closed.len(), message.len() + ADDED);
        assert!(!closed.windows(8).any(|w| w == &message[50..58]), "it cannot be read");
        let mut out = Vec::new();
        cipher.open([1; 16], &closed, &mut out).unwrap();
        assert_eq!(out, message);
        assert_eq!(other.open([1; 16], &closed, &mut out), None, "another secret");
        assert_eq!(cipher.open([2; 16], &closed, &mut out), None, "another start");
        for at in 0..closed.len() {
            let mut changed = closed.clone();
            changed[at] ^= 1;
            assert_eq!(cipher.open([1; 16], &changed, &mut out), None, "byte {at}");
        }
        for short in 0..28 {
            assert_eq!(cipher.open([1; 16], &closed[..short], &mut out), None);
        }
        let mut again = message.clone();
        cipher.close([1; 16], 6, 0, &mut again).unwrap();
        assert_ne!(again[6..60], closed[6..60], "no two messages have one nonce");
        assert_eq!(cipher.close([1; 16], COUNTS, 0, &mut again), None);
    }
}
