//! What matches leave behind for later ones, by number instead of by name.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use nfv_core::clock::Time;

use super::Packet;
use super::flow::FlowState;
use super::memory::{Key, Memory};
use crate::ids::rules::{Effect, IntegerChange, IntegerTest, IntegerValue, Rule, StateTest, Store};

/// Numbers for the names that rules have.
#[derive(Debug, Default)]
pub(super) struct Names {
    bits: HashMap<Box<str>, u32>,
    integers: HashMap<Box<str>, u32>,
}

/// The names by their numbers.
#[derive(Debug, Default)]
pub(super) struct NameLists {
    pub bits: Box<[Box<str>]>,
    pub integers: Box<[Box<str>]>,
}

/// A question about what earlier matches left.
#[derive(Debug)]
pub(super) enum Asked {
    /// One of these bits of the flow is so.
    Bits(Box<[u32]>, Wanted),
    /// One of these bits of hosts is so.
    HostBits(Store, Box<[u64]>, Wanted),
    /// An integer is there, or not.
    Integer(u32, Wanted),
    /// An integer compares so.
    Compared(u32, IntegerTest, Operand),
}

/// What a match leaves.
#[derive(Debug)]
pub(super) enum Left {
    Bit(u32, BitChange),
    HostBit(Store, u64, BitChange, Option<u32>),
    Integer(u32, IntegerChange, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    There,
    NotThere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitChange {
    Set,
    Unset,
    Toggle,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Number(u32),
    /// Another integer.
    Integer(u32),
}

impl Names {
    /// What a rule asks.
    pub fn asked(&mut self, rule: &Rule) -> Box<[Asked]> {
        let bits = |names: &mut Self, store, list: &[Box<str>], wanted| match store {
            Store::Flow => Asked::Bits(list.iter().map(|n| names.bit(n)).collect(), wanted),
            store => Asked::HostBits(store, list.iter().map(|n| digest(n)).collect(), wanted),
        };
        rule.state
            .iter()
            .map(|test| match test {
                StateTest::IsSet(store, list) => bits(self, *store, list, Wanted::There),
                StateTest::IsNotSet(store, list) => bits(self, *store, list, Wanted::NotThere),
                StateTest::IntegerIsSet(name) => Asked::Integer(self.integer(name), Wanted::There),
                StateTest::IntegerIsNotSet(name) => {
                    Asked::Integer(self.integer(name), Wanted::NotThere)
                }
                StateTest::Integer(name, test, value) => {
                    let value = self.operand(value);
                    Asked::Compared(self.integer(name), *test, value)
                }
            })
            .collect()
    }

    /// What a rule's match leaves.
    pub fn left(&mut self, rule: &Rule) -> Box<[Left]> {
        let bit = |names: &mut Self, store, name: &str, change, seconds| match store {
            Store::Flow => Left::Bit(names.bit(name), change),
            store => Left::HostBit(store, digest(name), change, seconds),
        };
        rule.effects
            .iter()
            .map(|effect| match effect {
                Effect::Set(store, name, seconds) => {
                    bit(self, *store, name, BitChange::Set, *seconds)
                }
                Effect::Unset(store, name) => bit(self, *store, name, BitChange::Unset, None),
                Effect::Toggle(store, name, seconds) => {
                    bit(self, *store, name, BitChange::Toggle, *seconds)
                }
                Effect::Integer(name, change, value) => {
                    let value = self.operand(value);
                    Left::Integer(self.integer(name), *change, value)
                }
            })
            .collect()
    }

    /// The names by their numbers.
    pub fn into_lists(self) -> NameLists {
        let list = |names: HashMap<Box<str>, u32>| {
            let mut names: Vec<_> = names.into_iter().collect();
            names.sort_unstable_by_key(|(_, number)| *number);
            names.into_iter().map(|(name, _)| name).collect()
        };
        NameLists { bits: list(self.bits), integers: list(self.integers) }
    }

    fn bit(&mut self, name: &str) -> u32 {
        number(&mut self.bits, name)
    }

    fn integer(&mut self, name: &str) -> u32 {
        number(&mut self.integers, name)
    }

    fn operand(&mut self, value: &IntegerValue) -> Operand {
        match value {
            IntegerValue::Number(number) => Operand::Number(*number),
            IntegerValue::Named(name) => Operand::Integer(self.integer(name)),
        }
    }
}

fn number(names: &mut HashMap<Box<str>, u32>, name: &str) -> u32 {
    if let Some(known) = names.get(name) {
        return *known;
    }
    let next = u32::try_from(names.len()).unwrap_or(u32::MAX);
    names.insert(name.into(), next);
    next
}

/// A name of a host's bit, the same in all rulesets: what one set another finds.
fn digest(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl Asked {
    /// Whether it is so.
    pub fn holds(&self, packet: &Packet<'_>, flow: Option<&FlowState>, memory: &Memory) -> bool {
        match self {
            Self::Bits(bits, wanted) => flow.is_some_and(|flow| {
                bits.iter().any(|bit| flow.bit(*bit) == (*wanted == Wanted::There))
            }),
            Self::HostBits(store, bits, wanted) => bits.iter().any(|bit| {
                let is_set = memory.is_set(host_key(*store, *bit, packet), packet.time);
                is_set == (*wanted == Wanted::There)
            }),
            Self::Integer(integer, wanted) => flow
                .is_some_and(|flow| flow.integer(*integer).is_some() == (*wanted == Wanted::There)),
            Self::Compared(integer, test, operand) => {
                let values =
                    flow.and_then(|flow| Some((flow.integer(*integer)?, operand.value(flow)?)));
                values.is_some_and(|(value, with)| match test {
                    IntegerTest::Less => value < with,
                    IntegerTest::LessOrEqual => value <= with,
                    IntegerTest::Equal => value == with,
                    IntegerTest::NotEqual => value != with,
                    IntegerTest::GreaterOrEqual => value >= with,
                    IntegerTest::Greater => value > with,
                })
            }
        }
    }
}

impl Operand {
    fn value(self, flow: &FlowState) -> Option<u32> {
        match self {
            Self::Number(number) => Some(number),
            Self::Integer(integer) => flow.integer(integer),
        }
    }
}

impl Left {
    /// Leaves it.
    pub fn leave(&self, packet: &Packet<'_>, flow: Option<&mut FlowState>, memory: &Memory) {
        match self {
            Self::Bit(bit, change) => {
                let Some(flow) = flow else { return };
                let set = match change {
                    BitChange::Set => true,
                    BitChange::Unset => false,
                    BitChange::Toggle => !flow.bit(*bit),
                };
                flow.set_bit(*bit, if set { Wanted::There } else { Wanted::NotThere });
            }
            Self::HostBit(store, bit, change, seconds) => {
                let key = host_key(*store, *bit, packet);
                let is_set = memory.is_set(key, packet.time);
                let until = match seconds {
                    Some(seconds) => Time(packet.time.0.saturating_add(nanoseconds(*seconds))),
                    None => Time(u64::MAX),
                };
                match change {
                    BitChange::Toggle if is_set => memory.unset(key),
                    BitChange::Set | BitChange::Toggle => memory.set(key, packet.time, until),
                    BitChange::Unset => memory.unset(key),
                }
            }
            Self::Integer(integer, change, operand) => {
                let Some(flow) = flow else { return };
                let Some(value) = operand.value(flow) else { return };
                let before = flow.integer(*integer).unwrap_or(0);
                let after = match change {
                    IntegerChange::Set => value,
                    IntegerChange::Add => before.wrapping_add(value),
                    IntegerChange::Subtract => before.wrapping_sub(value),
                };
                flow.set_integer(*integer, after);
            }
        }
    }
}

fn host_key(store: Store, bit: u64, packet: &Packet<'_>) -> Key {
    let (src, dst) = (packet.src, packet.dst);
    let (one, other): (IpAddr, Option<IpAddr>) = match store {
        Store::Pair => (src.min(dst), Some(src.max(dst))),
        Store::DstHost => (dst, None),
        Store::SrcHost | Store::Flow => (src, None),
    };
    Key::bit(bit, one, other)
}

/// In nanoseconds.
pub(super) fn nanoseconds(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000_000
}
