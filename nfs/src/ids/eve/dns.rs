//! A message.

use super::{Place, Settings};
use crate::ids::app::dns::Message;

/// A message: a copy of what the parser made of it, which is in few pieces.
#[derive(Clone, Debug)]
pub struct DnsRecord {
    pub(super) message: Message,
    pub(super) transaction: u64,
}

impl DnsRecord {
    /// What `settings` want to be said; `None`: nothing.
    pub fn of(
        message: &Message,
        transaction: u64,
        place: Place,
        settings: &Settings,
    ) -> Option<Self> {
        if place == Place::Record {
            let dns = settings.dns.as_ref()?;
            let is_wanted = if message.is_response() { dns.responses } else { dns.requests };
            let is_type = |kind: u16| dns.types.as_ref().is_none_or(|types| types.contains(&kind));
            let has_type =
                message.queries().len() == 0 || message.queries().any(|query| is_type(query.kind));
            if !is_wanted || !has_type {
                return None;
            }
        }
        Some(Self { message: message.clone(), transaction })
    }

    /// The memory that it holds, with its own size.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.message.bytes()
    }
}
