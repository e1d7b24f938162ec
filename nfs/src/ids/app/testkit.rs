//! Conversations for the parsers' tests, and pictures of what came of them.

use std::fmt::Write;

use super::{App, Fields, Input, Limits, Pickup, Ports, Progress, Side, Transaction};
use crate::ids::buffer::BUFFERS;

pub const UP: Side = Side::ToServer;
pub const DOWN: Side = Side::ToClient;
pub const WEB: Ports = Ports { client: 40000, server: 80 };

/// A flow with its owner.
pub struct Talk {
    pub app: App,
    pub limits: Limits,
    pub remarks: String,
}

impl Talk {
    pub fn tcp(ports: Ports) -> Self {
        Self::of(App::tcp(ports, Pickup::Start))
    }

    pub fn of(app: App) -> Self {
        Self { app, limits: Limits::default(), remarks: String::new() }
    }

    /// Feeds all of it, as an owner that frees nothing does.
    pub fn say(&mut self, direction: Side, bytes: &[u8]) -> Progress {
        let mut rest = bytes;
        loop {
            let progress = self.app.feed(direction, Input::Bytes(rest), &self.limits);
            for event in self.app.take_events() {
                let _ = writeln!(self.remarks, "flow {event:?}");
            }
            rest = rest.get(progress.consumed..).unwrap_or_default();
            if rest.is_empty() {
                return progress;
            }
        }
    }

    pub fn end(&mut self) {
        for direction in [UP, DOWN] {
            self.app.feed(direction, Input::Eof, &self.limits);
        }
    }

    pub fn tx(&self, id: u64) -> &Transaction {
        self.app.transactions().get(id).unwrap()
    }

    /// A buffer as text.
    pub fn text(&self, id: u64, name: &str, direction: Side) -> String {
        let info = BUFFERS.iter().find(|info| info.name == name).unwrap();
        self.tx(id).buffer(info.buffer, direction).map_or("-".into(), text)
    }

    pub fn events(&self, id: u64) -> String {
        let names: Vec<_> = self.tx(id).events().iter().map(|event| event.name()).collect();
        names.join(" ")
    }

    /// All that can be asked of the flow.
    pub fn picture(&self) -> String {
        let mut out = self.remarks.clone();
        let _ = writeln!(out, "{:?} {:?}", self.app.protocol(), self.app.original());
        for tx in self.app.transactions().iter() {
            let stages = [UP, DOWN].map(|direction| tx.stage(direction));
            let _ = writeln!(out, "{} {stages:?} {:?}", tx.id(), tx.events());
            match tx.fields() {
                Fields::Http(x) => {
                    let length = x.length();
                    let _ = writeln!(out, "{:?} {:?} {length}", x.status(), x.hostname().map(text));
                }
                Fields::Dns(x) => {
                    let answers: Vec<_> = x.answers().collect();
                    let _ = writeln!(out, "{:x} {:x} {answers:?}", x.id(), x.flags());
                }
                Fields::Tls(x) => {
                    let _ = writeln!(out, "{:?} {}", x.version(), x.is_resumed());
                }
                Fields::Ssh(_) => {}
            }
            for direction in [UP, DOWN] {
                for info in BUFFERS {
                    let at = |index| tx.buffer_at(info.buffer, direction, index);
                    for bytes in (0..).map_while(at) {
                        let _ = writeln!(out, "{direction:?} {} {}", info.name, text(bytes));
                    }
                }
            }
        }
        out
    }
}

/// Bytes, readable.
pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A conversation has the same picture whole, cut once anywhere, and byte by byte. Returns it.
pub fn same_however_cut(new: impl Fn() -> Talk, pieces: &[(Side, &[u8])]) -> String {
    let picture = |cut: &dyn Fn(usize, usize) -> bool| {
        let mut talk = new();
        for (number, (direction, bytes)) in pieces.iter().enumerate() {
            let mut start = 0;
            for end in 1..=bytes.len() {
                if end == bytes.len() || cut(number, end) {
                    talk.say(*direction, &bytes[start..end]);
                    start = end;
                }
            }
        }
        talk.end();
        talk.picture()
    };
    let whole = picture(&|_, _| false);
    assert_eq!(picture(&|_, _| true), whole, "byte by byte");
    for (number, (_, bytes)) in pieces.iter().enumerate() {
        for at in 1..bytes.len() {
            let cut = picture(&|n, end| n == number && end == at);
            assert_eq!(cut, whole, "piece {number} cut at {at}");
        }
    }
    whole
}

/// Bytes of a string of hexadecimal digits.
pub fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}
