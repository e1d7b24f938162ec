//! A handshake of SSH.

use super::json::Object;
use super::text::Texts;
use super::{Place, Settings};
use crate::ids::app::Side;
use crate::ids::app::ssh::Session;

/// A handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshRecord {
    /// Of the client and of the server.
    pub(super) ends: [Texts<WORDS>; 2],
}

/// The words of an end, by their place in [`SshRecord::ends`].
pub(super) mod word {
    pub const PROTO: usize = 0;
    pub const SOFTWARE: usize = 1;
    pub const HASSH: usize = 2;
    pub const HASSH_STRING: usize = 3;
}

impl SshRecord {
    /// What `settings` want to be said; `None`: nothing.
    pub fn of(session: &Session, place: Place, settings: &Settings) -> Option<Self> {
        if place == Place::Record && !settings.ssh {
            return None;
        }
        let ends = [Side::ToServer, Side::ToClient].map(|side| {
            let end = session.end(side);
            let hassh = end.hassh();
            let hash = hassh.map(|(_, hash)| hash);
            let parts = [end.proto(), end.software(), hash, hassh.map(|(string, _)| string)];
            Texts::gather(parts, MOST_WORD)
        });
        Some(Self { ends })
    }

    /// The memory that it holds, with its own size.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.ends.iter().map(Texts::bytes).sum::<usize>()
    }
}

impl SshRecord {
    pub(super) fn write(&self, o: &mut Object<'_>) {
        o.object("ssh", |o| {
            for (key, end) in ["client", "server"].iter().zip(&self.ends) {
                if end.get(word::PROTO).is_none() {
                    continue;
                }
                o.object(key, |o| {
                    o.text("proto_version", end.get(word::PROTO));
                    o.text("software_version", end.get(word::SOFTWARE));
                    if end.get(word::HASSH).is_some() {
                        o.object("hassh", |o| {
                            o.text("hash", end.get(word::HASSH));
                            o.text("string", end.get(word::HASSH_STRING));
                        });
                    }
                });
            }
        });
    }
}

const WORDS: usize = 4;

/// The parser's own bound of a key exchange.
const MOST_WORD: usize = 32 << 10;
