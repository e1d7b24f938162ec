//! Several messages in one datagram: docs/wanopt.md has the picture, this file puts them together and takes them apart.
//!
//! They are of one session, which is said once. Each comes out by itself: what is wrong with one says nothing of others.

use super::wire::{Message, Reader, put_number};

/// Begins a bundle of a session at `out`'s end.
pub fn begin(session: u32, out: &mut Vec<u8>) {
    out.extend([Message::Bundle.byte(), 0]);
    out.extend(session.to_be_bytes());
}

/// Adds a message to the bundle that begins at `start`; it is of the bundle's session. False: it is none, or there are
/// [`MESSAGES_MAX`].
pub fn add(message: &[u8], start: usize, out: &mut Vec<u8>) -> bool {
    let Some((kind, rest)) = parts(message) else { return false };
    let Ok(length) = u16::try_from(kind.len() + rest.len()) else { return false };
    let count = out.get_mut(start + 1).filter(|count| usize::from(**count) < MESSAGES_MAX);
    let Some(count) = count.filter(|_| length < 1 << 15) else { return false };
    *count += 1;
    put_number(length, out);
    out.extend_from_slice(kind);
    out.extend_from_slice(rest);
    true
}

/// How many bytes a message of that length adds, at most.
pub const fn added(message: usize) -> usize {
    message - SESSION + 2
}

/// The only message of a bundle at `out`'s end, as it goes alone.
pub fn lone(bundle: &[u8], out: &mut Vec<u8>) -> Option<()> {
    Bundle::read(bundle)?.next(out)?.ok()
}

/// The messages of a bundle that came.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'b> {
    left: u8,
    session: [u8; SESSION],
    rest: Reader<'b>,
}

/// There is no whole message where one was to be, and none behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl<'b> Bundle<'b> {
    /// Reads its head. `None`: it is none.
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let [kind, left, session @ ..] = rest.take::<HEAD>()?;
        let is_one = kind == Message::Bundle.byte() && usize::from(left) <= MESSAGES_MAX;
        is_one.then_some(Self { left, session, rest })
    }

    /// The next message at `out`'s end, with its session. `None`: that was all.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Option<Result<(), Cut>> {
        self.left = self.left.checked_sub(1)?;
        let length = self.rest.number().map(usize::from);
        let message = length.and_then(|length| self.rest.slice(length));
        let Some((kind, rest)) = message.and_then(|message| message.split_first_chunk::<KIND>())
        else {
            self.left = 0;
            return Some(Err(Cut));
        };
        out.extend_from_slice(kind);
        out.extend_from_slice(&self.session);
        out.extend_from_slice(rest);
        Some(Ok(()))
    }
}

/// A message without its session.
fn parts(message: &[u8]) -> Option<(&[u8], &[u8])> {
    Some((message.get(..KIND)?, message.get(KIND + SESSION..)?))
}

/// Messages of a bundle, at most.
pub const MESSAGES_MAX: usize = 64;
/// Bytes of a bundle before its messages.
pub const HEAD: usize = 2 + SESSION;
/// Bytes of a message before its session, and of that.
const KIND: usize = 2;
const SESSION: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bundle: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let (mut messages, mut bundle) = (Vec::new(), Bundle::read(bundle).expect("it is one"));
        loop {
            let mut message = Vec::new();
            match bundle.next(&mut message) {
                None => return (messages, true),
                Some(Err(Cut)) => return (messages, false),
                Some(Ok(())) => messages.push(message),
            }
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_of_a_bundle_as_they_went_in(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..=MESSAGES_MAX),
            session: u32, room in 0usize..50, cut: prop::sample::Index,
        ) {
            let messages: Vec<Vec<u8>> = bodies
                .iter()
                .map(|body| [&[0x11, 3][..], &session.to_be_bytes(), body].concat())
                .collect();
            let mut out = vec![9; room];
            begin(session, &mut out);
            for message in &messages {
                let before = out.len();
                prop_assert!(add(message, room, &mut out));
                prop_assert!(out.len() - before <= added(message.len()));
            }
            prop_assert_eq!(all(&out[room..]), (messages.clone(), true));
            let mut alone = Vec::new();
            prop_assert_eq!(lone(&out[room..], &mut alone), Some(()));
            prop_assert_eq!(&alone, &messages[0]);
            if messages.len() == MESSAGES_MAX {
                prop_assert!(!add(&messages[0], room, &mut out), "there are enough");
            }
            // Cut anywhere, those that are whole come out.
            let short = &out[room..room + HEAD + cut.index(out.len() - room - HEAD)];
            let (came, is_whole) = all(short);
            prop_assert!(!is_whole && messages.starts_with(&came));
        }

        #[test]
        fn any_bytes_are_a_bundle_or_not(mut bytes: Vec<u8>) {
            if let Some(first) = bytes.first_mut() {
                *first = Message::Bundle.byte();
            }
            if let Some(mut bundle) = Bundle::read(&bytes) {
                let mut out = Vec::new();
                while bundle.next(&mut out).is_some() {}
                prop_assert!(out.len() <= bytes.len() + MESSAGES_MAX * SESSION);
            }
        }
    }
}
