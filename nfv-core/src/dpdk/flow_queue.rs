//! Rules by templates: rules of one shape have a table, and a batch of them goes through a queue of operations, which some
//! drivers take many times faster than rules one by one.
//!
//! ```text
//!   group 0   eth / ipv4 / tcp -> group 1                        the driver's first group is its slowest
//!   group 1   rules of ipv4 / tcp, by priority
//!             eth / ipv4 / tcp -> queues, as without rules       what meets none is not lost there
//! ```
//!
//! Operations of one batch may be carried out in any order: a batch has only rules that do not overlap, and is waited for.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use dpdk_sys::{nfv_flow_done, nfv_flow_table, rte_flow};

use super::flow_rules::{FlowFate, FlowPort, FlowRule, HashFields, Raw, told};

/// Which groups rules are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// The first alone.
    First,
    /// The second, to which the first leads. For a NIC where a rule that names no VLAN takes untagged frames only: what has a
    /// tag stays in the first.
    Second,
}

/// A rule that was made by a template.
#[derive(Debug)]
pub(super) struct Made {
    flow: NonNull<rte_flow>,
    table: (FlowRule, usize),
}

/// The tables and the queue of a port. Its calls are made by who has the port's control alone.
#[derive(Debug)]
pub(super) struct FlowQueue {
    port: u16,
    /// Operations that the queue holds.
    depth: usize,
    groups: Groups,
    /// How many queues packets are spread over that meet no rule.
    queues: u16,
    /// By shape; those behind the first were made when the ones before were full.
    tables: HashMap<FlowRule, Vec<Option<Table>>>,
    /// By family and transport: what leads to the second group, and what spreads the rest there.
    planes: HashMap<(bool, u8), [Option<Made>; 2]>,
    /// How many rules of them are in the second group.
    in_plane: HashMap<(bool, u8), usize>,
    /// What the driver did not answer: it is asked nothing any more.
    dead: Option<String>,
}

#[derive(Debug)]
struct Table {
    raw: NonNull<nfv_flow_table>,
    used: usize,
    room: usize,
}

// SAFETY: the pointers are handles that are never followed here; they go back to the driver by one thread at a time, which has
// the port's control.
unsafe impl Send for FlowQueue {}
// SAFETY: as above.
unsafe impl Send for Made {}

/// What an operation is about.
enum Operation<'r> {
    Create(&'r FlowRule, (FlowRule, usize)),
    Destroy(NonNull<rte_flow>),
}

/// Asks a port that is not started yet for a queue of operations; how many it holds. `None`: it has none, as most.
pub(super) fn open_queue(port: u16) -> Option<u32> {
    let mut depth = 0;
    // SAFETY: the port exists and is not started; the call writes a number.
    told(|why, room| unsafe { dpdk_sys::nfv_flow_queue_open(port, &mut depth, why, room) }).ok()?;
    (depth > 1).then_some(depth)
}

impl Made {
    pub fn as_ptr(&self) -> *mut rte_flow {
        self.flow.as_ptr()
    }
}

impl FlowQueue {
    /// Of a port whose queue holds so many operations.
    pub fn new(port: u16, depth: u32, groups: Groups, queues: u16) -> Self {
        Self {
            port,
            depth: depth as usize,
            groups,
            queues,
            tables: HashMap::new(),
            planes: HashMap::new(),
            in_plane: HashMap::new(),
            dead: None,
        }
    }

    /// Whether the driver makes a table for such a rule.
    ///
    /// # Errors
    /// Its words.
    pub fn validate(&self, rule: &FlowRule) -> Result<(), String> {
        let shape = shape(rule);
        if self.tables.contains_key(&shape) {
            return Ok(());
        }
        let table = self.make_table(&shape, self.group_of(rule), TABLE_MIN)?;
        self.free_table(table)
    }

    /// Gives the driver rules of which none overlaps another.
    pub fn create(&mut self, rules: &[FlowRule]) -> Vec<Result<Made, String>> {
        if let Some(why) = self.make_way(rules).err() {
            return rules.iter().map(|_| Err(why.clone())).collect();
        }
        let placed: Vec<_> = rules.iter().map(|rule| self.place(rule, rules.len())).collect();
        let both = rules.iter().zip(&placed);
        let operations: Vec<Operation<'_>> = both
            .filter_map(|(rule, placed)| Some(Operation::Create(rule, placed.clone().ok()?)))
            .collect();
        let mut done = self.carry_out(operations).into_iter();
        let mut made = Vec::new();
        for (rule, place) in rules.iter().zip(placed) {
            let one = place.and_then(|table| {
                let flow = done.next().unwrap_or_else(|| Err(DEAD.to_owned()));
                let flow = flow.and_then(|flow| flow.ok_or_else(|| DEAD.to_owned()));
                match flow {
                    Ok(flow) => Ok(Made { flow, table }),
                    Err(why) => {
                        self.leave(&table);
                        Err(why)
                    }
                }
            });
            if one.is_ok()
                && let Some(plane) = self.plane_of(rule)
            {
                *self.in_plane.entry(plane).or_default() += 1;
            }
            made.push(one);
        }
        self.close_planes();
        made
    }

    /// Takes rules back.
    pub fn destroy(&mut self, made: Vec<Made>) -> Vec<Result<(), String>> {
        let operations = made.iter().map(|made| Operation::Destroy(made.flow)).collect();
        let done = self.carry_out(operations);
        for made in &made {
            self.leave(&made.table);
            if let Some(n) = self.plane_of(&made.table.0).and_then(|p| self.in_plane.get_mut(&p)) {
                *n = n.saturating_sub(1);
            }
        }
        self.close_planes();
        done.into_iter().map(|one| one.map(drop)).collect()
    }

    /// Forgets all: the driver has none of it any more.
    pub fn forget(&mut self) {
        self.tables.clear();
        self.planes.clear();
        self.in_plane.clear();
        self.dead = None;
    }

    /// The family and transport of a rule of the second group.
    fn plane_of(&self, rule: &FlowRule) -> Option<(bool, u8)> {
        let second = self.groups == Groups::Second && rule.vlan.is_none();
        second.then_some((rule.is_ipv6, rule.protocol))
    }

    fn group_of(&self, rule: &FlowRule) -> u32 {
        u32::from(self.plane_of(rule).is_some() && !matches!(rule.fate, FlowFate::Jump { .. }))
    }

    /// Before the first rule of a family and transport: what spreads those of its packets that meet none, and then what
    /// leads there.
    fn make_way(&mut self, rules: &[FlowRule]) -> Result<(), String> {
        let mut planes: Vec<(bool, u8)> = rules.iter().filter_map(|r| self.plane_of(r)).collect();
        planes.sort_unstable();
        planes.dedup();
        planes.retain(|plane| !self.planes.contains_key(plane));
        for (is_ipv6, protocol) in planes {
            let any = FlowPort { first: 0, last: 0, mask: 0 };
            let rest = FlowRule {
                priority: LAST,
                is_ipv6,
                src: ([0; 16], 0),
                dst: ([0; 16], 0),
                vlan: None,
                protocol,
                sport: any,
                dport: any,
                flags: (0, 0),
                icmp_type: None,
                mark: None,
                counts: false,
                fate: match self.queues {
                    1 => FlowFate::Queue(0),
                    n => FlowFate::Rss { queues: (0..n).collect(), by: HashFields::OfPattern },
                },
            };
            let way = FlowRule { priority: 0, fate: FlowFate::Jump { group: 1 }, ..rest };
            let mut made = [None, None];
            for (place, rule) in made.iter_mut().rev().zip([&rest, &way]) {
                let table = self.place(rule, 1)?;
                let flow = self.carry_out(vec![Operation::Create(rule, table.clone())]).pop();
                match flow {
                    Some(Ok(Some(flow))) => *place = Some(Made { flow, table }),
                    Some(Err(why)) => {
                        self.leave(&table);
                        return Err(why);
                    }
                    _ => return Err(DEAD.to_owned()),
                }
            }
            self.planes.insert((is_ipv6, protocol), made);
        }
        Ok(())
    }

    /// Behind the last rule of a family and transport nothing leads to the second group.
    fn close_planes(&mut self) {
        let unused = |plane: &&(bool, u8)| self.in_plane.get(plane).is_none_or(|n| *n == 0);
        let unused: Vec<(bool, u8)> = self.planes.keys().filter(unused).copied().collect();
        for plane in unused {
            // What leads there first.
            for made in self.planes.remove(&plane).into_iter().flatten().flatten() {
                self.carry_out(vec![Operation::Destroy(made.flow)]);
                self.leave(&made.table);
            }
        }
    }

    /// A place in a table for a rule, of which so many come.
    fn place(&mut self, rule: &FlowRule, coming: usize) -> Result<(FlowRule, usize), String> {
        let shape = shape(rule);
        let known = self.tables.get(&shape).map_or(&[][..], Vec::as_slice);
        let has_room = |table: &Option<Table>| table.as_ref().is_some_and(|t| t.used < t.room);
        if let Some(at) = known.iter().position(has_room) {
            if let Some(Some(table)) = self.tables.get_mut(&shape).and_then(|all| all.get_mut(at)) {
                table.used += 1;
            }
            return Ok((shape, at));
        }
        let used: usize = known.iter().flatten().map(|table| table.used).sum();
        let room = (coming.max(used)).next_power_of_two().clamp(TABLE_MIN, TABLE_MAX);
        let mut table = self.make_table(&shape, self.group_of(rule), room)?;
        table.used = 1;
        let all = self.tables.entry(shape.clone()).or_default();
        let at = all.iter().position(Option::is_none).unwrap_or(all.len());
        if at == all.len() {
            all.push(None);
        }
        if let Some(place) = all.get_mut(at) {
            *place = Some(table);
        }
        Ok((shape, at))
    }

    /// A place is free; a table without rules ends.
    fn leave(&mut self, (shape, at): &(FlowRule, usize)) {
        let Some(all) = self.tables.get_mut(shape) else { return };
        let Some(place) = all.get_mut(*at) else { return };
        let Some(table) = place else { return };
        table.used = table.used.saturating_sub(1);
        if table.used > 0 {
            return;
        }
        if let Some(table) = place.take()
            && let Err(why) = self.free_table(table)
        {
            tracing::debug!("port {}: a table of rules is not freed: {why}", self.port);
        }
        if self.tables.get(shape).is_some_and(|all| all.iter().all(Option::is_none)) {
            self.tables.remove(shape);
        }
    }

    fn make_table(&self, shape: &FlowRule, group: u32, room: usize) -> Result<Table, String> {
        if let Some(why) = &self.dead {
            return Err(why.clone());
        }
        let (raw, rules) = (Raw::of(shape), room as u32);
        let mut made = std::ptr::null_mut();
        // SAFETY: the port exists; the call reads the rule, writes the table, and text of at most that length.
        told(|why, length| unsafe {
            dpdk_sys::nfv_flow_table_create(
                self.port,
                raw.get(),
                group,
                rules,
                &mut made,
                why,
                length,
            )
        })?;
        let raw = NonNull::new(made).ok_or("the driver returned no table")?;
        Ok(Table { raw, used: 0, room })
    }

    fn free_table(&self, table: Table) -> Result<(), String> {
        // SAFETY: the driver made the table, and it is given back here alone.
        told(|why, length| unsafe {
            dpdk_sys::nfv_flow_table_destroy(self.port, table.raw.as_ptr(), why, length)
        })
    }

    /// Carries out operations, and waits until all are done. What was made, of those that make a rule.
    fn carry_out(
        &mut self,
        operations: Vec<Operation<'_>>,
    ) -> Vec<Result<Option<NonNull<rte_flow>>, String>> {
        let mut results: Vec<Result<Option<NonNull<rte_flow>>, String>> =
            operations.iter().map(|_| Err(DEAD.to_owned())).collect();
        let mut handles = vec![None; operations.len()];
        let (mut waiting, mut start) = (0, Instant::now());
        let mut next = operations.iter().enumerate().peekable();
        while next.peek().is_some() || waiting > 0 {
            if let Some(why) = &self.dead {
                results.iter_mut().filter(|r| r.is_err()).for_each(|r| *r = Err(why.clone()));
                break;
            }
            // As many as it holds, or takes.
            while waiting < self.depth
                && let Some((at, operation)) = next.peek()
            {
                match self.enqueue(*at, operation) {
                    Ok(made) => {
                        if let Some(handle) = handles.get_mut(*at) {
                            *handle = made;
                        }
                        waiting += 1;
                    }
                    Err((FULL, _)) if waiting > 0 => break,
                    Err((_, why)) => {
                        if let Some(result) = results.get_mut(*at) {
                            *result = Err(why);
                        }
                    }
                }
                next.next();
            }
            if waiting == 0 {
                continue;
            }
            match self.push_and_pull(&handles, &mut results) {
                Ok(0) if start.elapsed() > PATIENCE => self.give_up(DEAD.to_owned()),
                Ok(0) => std::thread::sleep(Duration::from_micros(20)),
                Ok(done) => {
                    waiting = waiting.saturating_sub(done);
                    start = Instant::now();
                }
                Err(why) => self.give_up(why),
            }
        }
        results
    }

    /// Nobody knows what it has by now: it is to have nothing, and is asked nothing any more.
    fn give_up(&mut self, why: String) {
        tracing::error!("port {}: rules by templates: {why}", self.port);
        // SAFETY: the port exists; the call writes text of at most that length.
        let _ = told(|why, length| unsafe { dpdk_sys::nfv_flow_flush(self.port, why, length) });
        self.dead = Some(why);
    }

    /// `Err`: errno's number, and the driver's words.
    fn enqueue(
        &self,
        at: usize,
        operation: &Operation<'_>,
    ) -> Result<Option<NonNull<rte_flow>>, (c_int, String)> {
        let number = at as u64;
        let mut failed = 0;
        let mut made = std::ptr::null_mut();
        let done = match operation {
            Operation::Create(rule, (shape, place)) => {
                let table = self.tables.get(shape).and_then(|all| all.get(*place));
                let Some(Some(table)) = table else { return Err((0, DEAD.to_owned())) };
                let raw = Raw::of(rule);
                told(|why, length| {
                    // SAFETY: the table is the driver's and not given back; the call reads the rule and writes its handle.
                    failed = unsafe {
                        dpdk_sys::nfv_flow_enqueue_create(
                            self.port,
                            table.raw.as_ptr(),
                            raw.get(),
                            number,
                            &mut made,
                            why,
                            length,
                        )
                    };
                    failed
                })
            }
            Operation::Destroy(flow) => told(|why, length| {
                // SAFETY: the driver made the rule; who takes it back has let go of it.
                failed = unsafe {
                    dpdk_sys::nfv_flow_enqueue_destroy(
                        self.port,
                        flow.as_ptr(),
                        number,
                        why,
                        length,
                    )
                };
                failed
            }),
        };
        done.map(|()| NonNull::new(made)).map_err(|why| (failed, why))
    }

    /// How many operations were done, and what came of each.
    fn push_and_pull(
        &self,
        handles: &[Option<NonNull<rte_flow>>],
        results: &mut [Result<Option<NonNull<rte_flow>>, String>],
    ) -> Result<usize, String> {
        // SAFETY: the port exists; the call writes text of at most that length.
        told(|why, length| unsafe { dpdk_sys::nfv_flow_push(self.port, why, length) })?;
        let mut done = [nfv_flow_done { operation: 0, failed: 0 }; PULLED];
        let mut why = [0 as c_char; 256];
        // SAFETY: as many results are written as there is room for, and text of at most that length.
        let count = unsafe {
            dpdk_sys::nfv_flow_pull(
                self.port,
                done.as_mut_ptr(),
                PULLED as u16,
                why.as_mut_ptr(),
                why.len(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            // SAFETY: the shim wrote a NUL-terminated string within the room that it was given.
            let text = unsafe { CStr::from_ptr(why.as_ptr()) };
            return Err(text.to_string_lossy().into_owned());
        };
        for one in done.iter().take(count) {
            let at = one.operation as usize;
            if let (Some(result), Some(handle)) = (results.get_mut(at), handles.get(at)) {
                *result = match one.failed {
                    0 => Ok(*handle),
                    _ => Err("the NIC did not carry it out".to_owned()),
                };
            }
        }
        Ok(count)
    }
}

/// A rule without what may differ between rules of one table.
fn shape(rule: &FlowRule) -> FlowRule {
    let port = |port: FlowPort| {
        let is_range = port.last > port.first;
        FlowPort { first: 0, last: u16::from(is_range), mask: port.mask }
    };
    FlowRule {
        src: ([0; 16], rule.src.1),
        dst: ([0; 16], rule.dst.1),
        vlan: rule.vlan.map(|_| 0),
        sport: port(rule.sport),
        dport: port(rule.dport),
        flags: (rule.flags.0, 0),
        icmp_type: rule.icmp_type.map(|_| 0),
        mark: rule.mark.map(|_| 0),
        fate: match &rule.fate {
            FlowFate::Queue(_) => FlowFate::Queue(0),
            other => other.clone(),
        },
        ..rule.clone()
    }
}

/// Behind all other rules of a group.
const LAST: u32 = 1000;
/// Rules of a table.
const TABLE_MIN: usize = 64;
const TABLE_MAX: usize = 1 << 16;
/// Results that are taken at once.
const PULLED: usize = 64;
/// How long the driver may do nothing.
const PATIENCE: Duration = Duration::from_secs(2);
const DEAD: &str = "the NIC does not answer";
/// What the shim calls a queue that is full.
const FULL: c_int = -11;

#[cfg(test)]
mod tests;
