//! What a parser remarks about the bytes it is fed: the `anomaly` records of application layers.

use std::fmt;

use super::Protocol;

/// A remark. Its name is Suricata's, so that the same filters find it; rules compare it whatever its case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    layer: Layer,
    name: &'static str,
}

/// Who remarks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The guess of the protocol; belongs to the flow.
    Detection,
    /// A parser; belongs to a transaction.
    Parser(Protocol),
}

impl Event {
    /// Of the guess of the protocol.
    pub const fn detection(name: &'static str) -> Self {
        Self { layer: Layer::Detection, name }
    }

    /// Of HTTP's parser.
    pub const fn http(name: &'static str) -> Self {
        Self { layer: Layer::Parser(Protocol::Http), name }
    }

    /// Of DNS's.
    pub const fn dns(name: &'static str) -> Self {
        Self { layer: Layer::Parser(Protocol::Dns), name }
    }

    /// Of TLS's.
    pub const fn tls(name: &'static str) -> Self {
        Self { layer: Layer::Parser(Protocol::Tls), name }
    }

    /// Of SSH's.
    pub const fn ssh(name: &'static str) -> Self {
        Self { layer: Layer::Parser(Protocol::Ssh), name }
    }

    /// `event` of an `anomaly` record.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// `layer` of an `anomaly` record: `proto_detect` or `proto_parser`.
    pub fn layer(self) -> &'static str {
        match self.layer {
            Layer::Detection => "proto_detect",
            Layer::Parser(_) => "proto_parser",
        }
    }

    /// The protocol whose parser it is; `None` for the guess.
    pub fn protocol(self) -> Option<Protocol> {
        match self.layer {
            Layer::Detection => None,
            Layer::Parser(protocol) => Some(protocol),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The remarks about one transaction: each once, and a bounded number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    list: Vec<Event>,
}

impl Events {
    /// Adds one, unless it is there already.
    pub fn add(&mut self, event: Event) {
        if self.list.len() < MOST && !self.list.contains(&event) {
            self.list.push(event);
        }
    }

    /// In the order in which they were remarked.
    pub fn as_slice(&self) -> &[Event] {
        &self.list
    }

    /// Takes all.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.list)
    }

    /// The memory that they hold.
    pub fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Event>()
    }
}

/// More kinds than any parser can find in one transaction that is not made to have them.
const MOST: usize = 24;
