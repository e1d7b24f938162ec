//! A rule while its options are read, one after another.
//!
//! ```text
//!   option -> keyword's reader -> test -> the buffer that is current     a sticky buffer, or the payload
//!                                     \-> the buffer of the last match   a relative test without a sticky buffer
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::Setup;
use super::address::{Addresses, Ports};
use super::inspect::{Content, Inspect, Test};
use super::mistake::{Read, broken};
use super::packet::PacketTest;
use super::rate::{DetectionFilter, Threshold};
use super::regex::Regex;
use super::rule::{AppTest, Class, FlowTest, Header, Protocol, Reference, Tag, Target};
use super::state::{Effect, StateTest};
use super::transform::Transform;
use crate::ids::buffer::{App, Buffer, Instances};

/// What rules share: read once, however many have it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub addresses: HashMap<Box<str>, Arc<Addresses>>,
    pub ports: HashMap<Box<str>, Arc<Ports>>,
    pub regexes: HashMap<super::regex::Source, Arc<Regex>>,
}

/// A rule so far.
#[derive(Debug)]
pub(super) struct Draft<'s> {
    pub setup: &'s Setup<'s>,
    pub shared: &'s mut Shared,
    pub header: Header,
    pub sid: Option<u32>,
    pub gid: Option<u32>,
    pub rev: Option<u32>,
    pub msg: Option<Box<str>>,
    pub class: Option<Arc<Class>>,
    pub priority: Option<u8>,
    pub references: Vec<Reference>,
    pub metadata: Vec<(Box<str>, Box<str>)>,
    pub target: Option<Target>,
    pub flow: Option<FlowTest>,
    pub packet: Vec<PacketTest>,
    pub app: Vec<AppTest>,
    pub state: Vec<StateTest>,
    pub effects: Vec<Effect>,
    pub threshold: Option<Threshold>,
    pub detection_filter: Option<DetectionFilter>,
    pub tag: Option<Tag>,
    pub noalert: bool,
    pub protocol: Option<App>,
    pub parts: Vec<Part>,
    current: Current,
    /// Transforms that are not yet part of a buffer, and where the first stands.
    transforms: (Vec<Transform>, usize),
    variables: Vec<Box<str>>,
    /// How many tests there were: the last one's number tells how far back it is.
    tests: u32,
}

/// What is asked of a buffer so far; each test with its number.
#[derive(Debug)]
pub(super) struct Part {
    pub buffer: Buffer,
    pub transforms: Vec<Transform>,
    pub tests: Vec<(u32, Test)>,
}

/// The buffer that the next test is put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// No sticky buffer was named yet, or `pkt_data` was.
    Payload,
    /// This one, which has no test yet; it stands here.
    Named(Buffer, usize),
    /// An index of a part, which has one.
    Part(usize),
}

impl<'s> Draft<'s> {
    pub fn new(setup: &'s Setup<'s>, shared: &'s mut Shared, header: Header) -> Self {
        let protocol = match header.protocol {
            Protocol::App(app) => Some(app),
            _ => None,
        };
        Self {
            setup,
            shared,
            header,
            sid: None,
            gid: None,
            rev: None,
            msg: None,
            class: None,
            priority: None,
            references: Vec::new(),
            metadata: Vec::new(),
            target: None,
            flow: None,
            packet: Vec::new(),
            app: Vec::new(),
            state: Vec::new(),
            effects: Vec::new(),
            threshold: None,
            detection_filter: None,
            tag: None,
            noalert: false,
            protocol,
            parts: Vec::new(),
            current: Current::Payload,
            transforms: (Vec::new(), 0),
            variables: Vec::new(),
            tests: 0,
        }
    }

    /// Makes a sticky buffer current.
    pub fn enter(&mut self, buffer: Buffer, at: usize) -> Read<()> {
        self.leave(at)?;
        if self.current_buffer() == Buffer::Base64Data && buffer != Buffer::Payload {
            return broken(at, "no other buffer can follow base64_data");
        }
        self.current = match buffer {
            Buffer::Payload => Current::Payload,
            buffer => Current::Named(buffer, at),
        };
        if let Some(app) = buffer.app() {
            self.needs_app(app, at)?;
        }
        Ok(())
    }

    /// Nothing more comes for the current buffer: it must have something.
    pub fn leave(&mut self, at: usize) -> Read<()> {
        if let Current::Named(buffer, at) = self.current {
            return broken(at, format!("nothing is looked for in {}", buffer.info().name));
        }
        match self.transforms.0.is_empty() {
            true => Ok(()),
            false => broken(self.transforms.1.min(at), "nothing is looked for in what this makes"),
        }
    }

    /// Adds a transform of the current buffer.
    pub fn transform(&mut self, transform: Transform, at: usize) -> Read<()> {
        match self.current {
            Current::Named(..) => {
                if self.transforms.0.is_empty() {
                    self.transforms.1 = at;
                }
                self.transforms.0.push(transform);
                Ok(())
            }
            _ => broken(at, "a transform comes directly behind a sticky buffer"),
        }
    }

    /// Whether a sticky buffer is current.
    pub fn is_sticky(&self) -> bool {
        self.current != Current::Payload
    }

    /// The buffer that is current.
    pub fn current_buffer(&self) -> Buffer {
        match self.current {
            Current::Payload => Buffer::Payload,
            Current::Named(buffer, _) => buffer,
            Current::Part(index) => self.parts.get(index).map_or(Buffer::Payload, |p| p.buffer),
        }
    }

    /// Asks something of the current buffer.
    pub fn test(&mut self, test: Test) {
        let index = match self.current {
            Current::Payload => self.part_of(Buffer::Payload, Vec::new()),
            Current::Named(buffer, _) => {
                let transforms = std::mem::take(&mut self.transforms.0);
                self.part_of(buffer, transforms)
            }
            Current::Part(index) => index,
        };
        if self.current != Current::Payload {
            self.current = Current::Part(index);
        }
        self.push(index, test);
    }

    /// Asks something behind the last match: of the current buffer, or, if no sticky one is, of the one that the last
    /// test was put to.
    pub fn test_relative(&mut self, test: Test) {
        match self.last_part() {
            Some(index) if !self.is_sticky() => self.push(index, test),
            _ => self.test(test),
        }
    }

    /// Asks something of a buffer that is not current.
    pub fn test_in(&mut self, buffer: Buffer, test: Test) {
        let index = self.part_of(buffer, Vec::new());
        self.push(index, test);
    }

    fn push(&mut self, index: usize, test: Test) {
        self.tests += 1;
        if let Some(part) = self.parts.get_mut(index) {
            part.tests.push((self.tests, test));
        }
    }

    fn part_of(&mut self, buffer: Buffer, transforms: Vec<Transform>) -> usize {
        let sticky = matches!(self.current, Current::Named(..));
        let anew = sticky && buffer.info().instances == Instances::Many;
        let same = |p: &Part| p.buffer == buffer && p.transforms == transforms;
        if let Some(index) = self.parts.iter().position(same).filter(|_| !anew) {
            return index;
        }
        self.parts.push(Part { buffer, transforms, tests: Vec::new() });
        self.parts.len() - 1
    }

    /// The part with the last test that a relative one can stand behind.
    pub fn last_part(&self) -> Option<usize> {
        let last = |part: &Part| {
            let mut tests = part.tests.iter().rev();
            tests.find(|(_, t)| !matches!(t, Test::Size(_))).map(|(number, _)| *number)
        };
        let numbered = self.parts.iter().enumerate();
        numbered.filter_map(|(i, p)| Some((last(p)?, i))).max().map(|(_, index)| index)
    }

    /// The rule's last content, whatever its buffer.
    pub fn last_content(&mut self) -> Option<&mut Content> {
        let contents = self.parts.iter_mut().flat_map(|p| &mut p.tests);
        let contents = contents.filter_map(|(number, test)| match test {
            Test::Content(content) => Some((*number, content)),
            _ => None,
        });
        contents.max_by_key(|(number, _)| *number).map(|(_, content)| content)
    }

    /// All contents.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        self.parts.iter().flat_map(|p| &p.tests).filter_map(|(_, test)| match test {
            Test::Content(content) => Some(content),
            _ => None,
        })
    }

    /// Moves the payload's last content into another buffer: the keyword behind a content.
    pub fn modify(&mut self, buffer: Buffer, keyword: &str, at: usize) -> Read<()> {
        if self.is_sticky() {
            return broken(
                at,
                format!("`{keyword}` cannot follow a sticky buffer: go back by `pkt_data` first"),
            );
        }
        if let Some(app) = buffer.app() {
            self.needs_app(app, at)?;
        }
        let payload = self.parts.iter_mut().find(|p| p.buffer == Buffer::Payload);
        let moved = payload.and_then(|part| {
            let index = part.tests.iter().rposition(|(_, t)| matches!(t, Test::Content(_)))?;
            Some(part.tests.remove(index))
        });
        let Some(moved) = moved else {
            return broken(at, format!("`{keyword}` has no content before it"));
        };
        if let (Test::Content(content), true) = (&moved.1, buffer != Buffer::Payload)
            && content.raw_bytes
        {
            return broken(at, format!("a content with `rawbytes` cannot have `{keyword}`"));
        }
        let index = self.part_of(buffer, Vec::new());
        if let Some(part) = self.parts.get_mut(index) {
            part.tests.push(moved);
        }
        self.parts.retain(|p| !p.tests.is_empty());
        Ok(())
    }

    /// The rule is for flows of this application.
    pub fn needs_app(&mut self, app: App, at: usize) -> Read<()> {
        match self.protocol {
            Some(other) if other != app => broken(
                at,
                format!("the rule is for {}, and this is of {}", other.name(), app.name()),
            ),
            _ => {
                self.protocol = Some(app);
                Ok(())
            }
        }
    }

    /// The number of a variable that was extracted before.
    pub fn variable(&self, name: &str) -> Option<u8> {
        let index = self.variables.iter().position(|v| **v == *name)?;
        u8::try_from(index).ok()
    }

    /// A number for a variable: the same if it has one.
    pub fn new_variable(&mut self, name: &str, at: usize) -> Read<u8> {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return broken(at, format!("`{name}` is no name of a variable"));
        }
        if let Some(known) = self.variable(name) {
            return Ok(known);
        }
        self.variables.push(name.into());
        match u8::try_from(self.variables.len() - 1) {
            Ok(number) if number < VARIABLES_MAX => Ok(number),
            _ => broken(at, format!("more than {VARIABLES_MAX} variables")),
        }
    }

    /// How many variables there are.
    pub fn variables(&self) -> u8 {
        u8::try_from(self.variables.len()).unwrap_or(VARIABLES_MAX)
    }

    /// What is asked of buffers, in the order in which the rule first names them.
    pub fn take_inspects(&mut self) -> Box<[Inspect]> {
        let parts = std::mem::take(&mut self.parts);
        let inspect = |part: Part| Inspect {
            buffer: part.buffer,
            transforms: part.transforms.into(),
            tests: part.tests.into_iter().map(|(_, test)| test).collect(),
        };
        parts.into_iter().map(inspect).collect()
    }
}

/// Most variables of a rule.
const VARIABLES_MAX: u8 = 64;
