//! The flows of a worker: slots, the index by key, and lists by protocol and phase.
//!
//! ```text
//!   hash of the key --> head --> slot --> slot     chained through the slots
//!   lists   tcp, udp, icmp, other  x  new, established, closed, bypassed     the longest idle first
//!           holders     those with an application or with what detection keeps, the longest idle first
//! ```
//!
//! As in the stream engine's table the index has its size from the start and never grows, slots come out of pages within a
//! budget, and timeouts look at the heads of lists only.

use nfv_core::clock::Time;
use nfv_core::packet::protocol;

use super::flow::{Flow, FlowKey, FlowPhase};
use super::settings::{PerProtocol, Timeouts};
use crate::ids::stream::pool::Pool;
use crate::ids::stream::{End, Secret};

/// Where a flow hangs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    /// The next one of its chain, or free slot.
    pub chain: u32,
    /// Before and behind it, by its age and among the holders.
    by_age: (u32, u32),
    by_use: (u32, u32),
    list: u8,
    is_used: bool,
    holds: bool,
}

/// By which links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Age,
    Use,
}

/// First and last of a list; 0 and 0 when it is empty.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: u32,
    last: u32,
}

/// The flows of a worker.
#[derive(Debug)]
pub(super) struct Flows {
    flows: Pool<Flow>,
    heads: Box<[u32]>,
    secret: Secret,
    lists: [Ends; LISTS],
    timeouts: Timeouts,
}

/// Why a flow's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// No packet came for too long.
    Idle,
    /// It makes room.
    Surplus,
}

impl Flows {
    /// As many as `bytes` hold.
    pub fn new(bytes: usize, timeouts: Timeouts) -> Self {
        let bytes = bytes.max(BYTES_MIN);
        let slots = (bytes / size_of::<Flow>()).max(1);
        let heads = 1usize << slots.ilog2();
        let rest = bytes.saturating_sub(heads * size_of::<u32>());
        Self {
            flows: Pool::new(rest),
            heads: vec![0; heads].into_boxed_slice(),
            secret: Secret::random(),
            lists: [Ends::default(); LISTS],
            timeouts,
        }
    }

    /// Memory that it has of the allocator's, without what flows have in boxes.
    pub fn reserved(&self) -> usize {
        self.flows.reserved() + size_of_val(&*self.heads)
    }

    pub fn len(&self) -> u32 {
        self.flows.taken()
    }

    pub fn most(&self) -> u32 {
        self.flows.most()
    }

    #[inline]
    pub fn get(&self, number: u32) -> Option<&Flow> {
        self.flows.get(number).filter(|flow| flow.links.is_used)
    }

    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Flow> {
        self.flows.get_mut(number).filter(|flow| flow.links.is_used)
    }

    #[inline]
    fn place(&self, key: &FlowKey) -> usize {
        let protocol = u64::from(key.protocol).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((key.ends.hash(self.secret) ^ protocol) >> 7) as usize & (self.heads.len() - 1)
    }

    /// A flow by its key, 0 without one.
    #[inline]
    pub fn find(&self, key: &FlowKey) -> u32 {
        let mut at = self.heads.get(self.place(key)).copied().unwrap_or_default();
        while let Some(flow) = self.flows.get(at) {
            if flow.key == *key {
                return at;
            }
            at = flow.links.chain;
        }
        0
    }

    /// Adds one whose key no other has; `None`: there is no room.
    pub fn insert(&mut self, key: &FlowKey, client: End, now: Time) -> Option<u32> {
        let number = self.flows.take()?;
        let place = self.place(key);
        let head = self.heads.get_mut(place)?;
        let chain = std::mem::replace(head, number);
        let flow = self.flows.get_mut(number)?;
        *flow = Flow::of(*key, client, now);
        flow.links.chain = chain;
        flow.links.is_used = true;
        self.push(By::Age, number);
        Some(number)
    }

    /// Takes one out.
    pub fn remove(&mut self, number: u32) -> Option<Flow> {
        self.get(number)?;
        self.set_holding(number, false);
        self.unlink(By::Age, number);
        let flow = std::mem::take(self.flows.get_mut(number)?);
        let place = self.place(&flow.key);
        let head = self.heads.get_mut(place)?;
        if *head == number {
            *head = flow.links.chain;
        } else {
            let mut at = *head;
            while let Some(before) = self.flows.get_mut(at) {
                if before.links.chain == number {
                    before.links.chain = flow.links.chain;
                    break;
                }
                at = before.links.chain;
            }
        }
        self.flows.give(number);
        Some(flow)
    }

    /// Notes that a packet came: it is the least idle one of its lists.
    #[inline]
    pub fn touch(&mut self, number: u32) {
        let Some(flow) = self.flows.get(number) else { return };
        let (list, links) = (list_of(flow), flow.links);
        let is_last = self.lists.get(list).is_some_and(|ends| ends.last == number);
        if list != usize::from(links.list) || !is_last {
            self.unlink(By::Age, number);
            self.push(By::Age, number);
        }
        if links.holds && self.lists.get(HOLDERS).is_some_and(|ends| ends.last != number) {
            self.unlink(By::Use, number);
            self.push(By::Use, number);
        }
    }

    /// Notes whether it holds something besides itself.
    #[inline]
    pub fn set_holding(&mut self, number: u32, holds: bool) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        if std::mem::replace(&mut flow.links.holds, holds) == holds {
            return;
        }
        if holds {
            self.push(By::Use, number);
        } else {
            self.unlink(By::Use, number);
        }
    }

    /// The one of those that hold something that was idle the longest, but for one; 0 without one.
    pub fn oldest_holder(&self, but: u32) -> u32 {
        let first = self.lists.get(HOLDERS).map_or(0, |ends| ends.first);
        if first != but {
            return first;
        }
        self.flows.get(first).map_or(0, |flow| flow.links.by_use.1)
    }

    /// A flow whose time is up, and why. Of those that make room, the closed and the bypassed are first, then the new,
    /// then the established; of each, who was idle the longest.
    pub fn due(&self, now: Time) -> Option<(u32, Due)> {
        let is_crowded = self.len() > self.most() - self.most() / 10;
        let timeouts = if is_crowded { &self.timeouts.emergency } else { &self.timeouts.usual };
        for (list, ends) in self.lists.iter().enumerate().take(HOLDERS) {
            if let Some(flow) = self.flows.get(ends.first)
                && is_idle(flow, now, seconds(timeouts, list))
            {
                return Some((ends.first, Due::Idle));
            }
        }
        let spare = (self.most() / 64).clamp(1, SPARE_MAX);
        if self.len() + spare <= self.most() {
            return None;
        }
        self.surplus().map(|number| (number, Due::Surplus))
    }

    /// The flow that makes room before the others.
    fn surplus(&self) -> Option<u32> {
        for phase in [2, 3, 0, 1] {
            let oldest = (0..CLASSES)
                .filter_map(|class| self.lists.get(class * PHASES + phase))
                .filter_map(|ends| Some((self.flows.get(ends.first)?.last, ends.first)))
                .min();
            if let Some((_, number)) = oldest {
                return Some(number);
            }
        }
        None
    }

    /// Whether a flow was idle for so long that a packet with its ends is another flow's.
    pub fn is_over(&self, number: u32, now: Time) -> bool {
        self.get(number)
            .is_some_and(|flow| is_idle(flow, now, seconds(&self.timeouts.usual, list_of(flow))))
    }

    /// Any of them, of those at the heads of lists the one that began first; `None`: there is none.
    pub fn any(&self) -> Option<u32> {
        self.lists
            .iter()
            .take(HOLDERS)
            .filter_map(|ends| Some((self.flows.get(ends.first)?.start, ends.first)))
            .min()
            .map(|(_, number)| number)
    }

    fn push(&mut self, by: By, number: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        let list = if by == By::Age { list_of(flow) } else { HOLDERS };
        let Some(ends) = self.lists.get_mut(list) else { return };
        let last = std::mem::replace(&mut ends.last, number);
        if ends.first == 0 {
            ends.first = number;
        }
        if by == By::Age {
            flow.links.list = list as u8;
        }
        *flow.links.of(by) = (last, 0);
        if let Some(last) = self.flows.get_mut(last) {
            last.links.of(by).1 = number;
        }
    }

    fn unlink(&mut self, by: By, number: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        let (previous, next) = *flow.links.of(by);
        let list = if by == By::Age { usize::from(flow.links.list) } else { HOLDERS };
        let Some(ends) = self.lists.get_mut(list) else { return };
        match self.flows.get_mut(previous) {
            Some(flow) => flow.links.of(by).1 = next,
            None => ends.first = next,
        }
        match self.flows.get_mut(next) {
            Some(flow) => flow.links.of(by).0 = previous,
            None => ends.last = previous,
        }
    }
}

impl Links {
    #[inline]
    fn of(&mut self, by: By) -> &mut (u32, u32) {
        if by == By::Age { &mut self.by_age } else { &mut self.by_use }
    }
}

/// By whole seconds, as Suricata has it.
fn is_idle(flow: &Flow, now: Time, timeout: u32) -> bool {
    now.0 / SECOND > flow.last.0 / SECOND + u64::from(timeout)
}

#[inline]
fn list_of(flow: &Flow) -> usize {
    let class = match flow.key.protocol {
        protocol::TCP => 0,
        protocol::UDP => 1,
        protocol::ICMP | protocol::ICMP6 => 2,
        _ => 3,
    };
    class * PHASES + flow.phase as usize
}

fn seconds(timeouts: &PerProtocol, list: usize) -> u32 {
    let of = match list / PHASES {
        0 => &timeouts.tcp,
        1 => &timeouts.udp,
        2 => &timeouts.icmp,
        _ => &timeouts.other,
    };
    of.get(list % PHASES).copied().unwrap_or_default()
}

const CLASSES: usize = 4;
const PHASES: usize = FlowPhase::Bypassed as usize + 1;
/// The list of those that hold something.
const HOLDERS: usize = CLASSES * PHASES;
const LISTS: usize = HOLDERS + 1;
const SECOND: u64 = 1_000_000_000;
/// Least memory for flows.
const BYTES_MIN: usize = 64 << 10;
/// Places that are kept free for new flows: more than a burst has.
const SPARE_MAX: u32 = 64;
