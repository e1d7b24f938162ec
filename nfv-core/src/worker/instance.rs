//! What a worker has of each function for itself.

use std::any::Any;

use crate::clock::Time;
use crate::nf::{Nf, PacketNf, Shard};

/// What a worker has of a function for itself.
pub(super) enum Instance {
    /// The slice of a flow NF.
    Slice(Box<dyn Any + Send>),
    /// A packet NF.
    Packet(Box<dyn PacketNf>),
}

impl Instance {
    /// Of a function, for a part of its resources.
    pub fn of(nf: &Nf, shard: Shard) -> Self {
        match nf {
            Nf::Flow(nf) => Self::Slice(nf.any_slice(shard)),
            Nf::Packet(make) => Self::Packet(make(shard)),
        }
    }

    /// No packet comes any more.
    pub fn end(&mut self, now: Time) {
        if let Self::Packet(nf) = self {
            nf.end(now);
        }
    }

    /// Takes over what another kept.
    pub fn inherit(&mut self, before: &mut Self) {
        if let (Self::Packet(nf), Self::Packet(before)) = (self, before) {
            nf.inherit(before.as_mut());
        }
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slice(_) => f.write_str("Slice"),
            Self::Packet(nf) => nf.fmt(f),
        }
    }
}
