//! All that can happen while a flow moves, in every order: three workers, each of which receives some of its packets, the
//! source, the destination and one beside. A word that the control side writes may be seen by a worker late, up to when it
//! takes up an order that was given afterwards. Other packets come from one sender by a NIC: its table says by which queue,
//! they spend some time inside of it, and then in the queue's ring; they must stay in order whichever queues they take. So
//! must those of another flow, of a shard that stays, which share the table's entry (answers whose ends were replaced).
//! Each step of the protocol that is left out leads to a packet that is lost or overtaken.

use std::collections::{HashSet, VecDeque};

const WORKERS: usize = 3;
const SOURCE: usize = 0;
const DESTINATION: usize = 1;
/// Packets come in streams, each of which is in order: one by each worker's queue, of which the others know nothing, one by a
/// NIC with a table, and one of another flow by the same entry.
const STREAMS: usize = 5;
const BY_NIC: usize = 3;
const FOREIGN: usize = 4;

/// How many packets each stream has.
type Packets = [u8; STREAMS];

/// Where no NIC has a table.
const WITHOUT_TABLE: Packets = [2, 2, 2, 0, 0];
const WITH_TABLE: Packets = [1, 1, 1, 3, 0];
const WITH_ANOTHER: Packets = [0, 0, 1, 1, 3];

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// The destination lets nothing wait.
    Hold,
    /// The source lets go without others knowing that they are to hand it nothing more.
    See,
    /// The source lets go with packets in its inbox.
    Inbox,
    /// The source hands on what it receives while it still begins flows of what is in its inbox.
    Keep,
    /// What waits goes on without looking whether its flow has come.
    Order,
    /// The table is rewritten before anything waits.
    HoldFirst,
    /// Nobody waits for what the source's queue has from the time before the rewriting.
    Drain,
    /// A look into the ring is taken for one into the NIC.
    Settle,
    /// The destination lets packets of the moving flow wait alone.
    Hashes,
    /// What waits goes on before what others handed over.
    OpenInbox,
}

/// A packet: its stream, and its number there.
type Packet = (usize, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flow {
    At(usize),
    InParcel,
    /// It begins with the packet that comes first.
    IsNew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Order {
    Hold,
    Keep,
    Drain,
    Open,
    See,
    Export,
    Import,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Hold,
    Drain,
    Open,
    See,
    Export,
    Import,
    Release,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    stage: Stage,
    /// Orders that workers have not taken up; in the order of workers.
    desks: [Option<Order>; WORKERS],
    flow: Flow,
    /// Whom each worker takes for the shard's owner.
    owner: [usize; WORKERS],
    /// That the source takes itself for it until it lets go.
    keeps: bool,
    inboxes: [VecDeque<Packet>; WORKERS],
    /// Packets that the source has still to take before it lets go, once it was asked.
    before_export: Option<usize>,
    /// That it has let go of what it had, when it was asked last.
    lets_go: bool,
    hold: Option<VecDeque<Packet>>,
    /// Whether all that the destination's queue receives waits.
    holds_hashes: bool,
    /// Whose the other flow is.
    foreign: usize,
    /// To which queue the NIC sends the flow.
    table: usize,
    /// What is inside of the NIC, with the queue that was chosen.
    inside: VecDeque<(usize, Packet)>,
    rings: [VecDeque<Packet>; WORKERS],
    /// Whether the source looks for its ring to be empty, and has seen it so.
    drain: Drain,
    /// By stream, how many came, and how many went on.
    received: Packets,
    passed: Packets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Drain {
    No,
    Looks,
    IsEmpty,
}

type Wrong = String;

impl State {
    fn first(flow: Flow, foreign: usize) -> Self {
        Self {
            stage: Stage::Begin,
            desks: [None; WORKERS],
            flow,
            owner: [SOURCE; WORKERS],
            keeps: false,
            inboxes: Default::default(),
            before_export: None,
            lets_go: false,
            hold: None,
            holds_hashes: false,
            foreign,
            table: SOURCE,
            inside: VecDeque::new(),
            rings: Default::default(),
            drain: Drain::No,
            received: [0; STREAMS],
            passed: [0; STREAMS],
        }
    }

    /// All that may happen next, with what it leads to.
    fn next(&self, packets: &Packets, without: Without) -> Vec<Result<Self, Wrong>> {
        let mut all = Vec::new();
        let mut add = |step: &dyn Fn(&mut Self) -> Result<(), Wrong>| {
            let mut state = self.clone();
            all.push(step(&mut state).map(|()| state));
        };
        for stream in [BY_NIC, FOREIGN] {
            if self.received[stream] < packets[stream] {
                add(&|s| {
                    s.received[stream] += 1;
                    s.inside.push_back((s.table, (stream, s.received[stream])));
                    Ok(())
                });
            }
        }
        if !self.inside.is_empty() {
            add(&|s| {
                s.inside.pop_front().into_iter().for_each(|(q, p)| s.rings[q].push_back(p));
                Ok(())
            });
        }
        for (worker, packets) in packets.iter().enumerate().take(WORKERS) {
            if self.received[worker] < *packets {
                add(&|s| {
                    s.received[worker] += 1;
                    s.come(worker, (worker, s.received[worker]), Handed::No)
                });
            }
            if !self.rings[worker].is_empty() || (worker, self.drain) == (SOURCE, Drain::Looks) {
                add(&|s| s.poll(worker, without));
            }
            if !self.inboxes[worker].is_empty() {
                add(&|s| s.take(worker));
            }
            if self.desks[worker].is_some() {
                add(&|s| s.carry_out(worker, without));
            }
            // It comes to see what was written.
            let keeps = worker == SOURCE && self.keeps;
            if self.is_given() && self.owner[worker] == SOURCE && !keeps {
                add(&|s| {
                    s.owner[worker] = DESTINATION;
                    Ok(())
                });
            }
        }
        if self.desks.iter().all(Option::is_none) && self.stage != Stage::Done {
            add(&|s| {
                s.order(without);
                Ok(())
            });
        }
        all
    }

    fn is_given(&self) -> bool {
        !matches!(self.stage, Stage::Begin | Stage::Hold | Stage::Drain | Stage::Open)
    }

    /// A packet comes to a worker, from its queue or from its inbox.
    fn come(&mut self, worker: usize, packet: Packet, handed: Handed) -> Result<(), Wrong> {
        if packet.0 == FOREIGN {
            if worker == self.foreign {
                return self.pass(packet);
            }
            self.inboxes[self.foreign].push_back(packet);
            return Ok(());
        }
        if self.flow == Flow::At(worker) {
            return self.pass(packet);
        }
        if let (DESTINATION, Some(hold)) = (worker, &mut self.hold) {
            hold.push_back(packet);
            return Ok(());
        }
        let owner = self.owner[worker];
        if owner != worker && handed == Handed::No {
            self.inboxes[owner].push_back(packet);
            return Ok(());
        }
        if self.flow != Flow::IsNew {
            return Err(format!("{packet:?} came to worker {worker}, the flow is {:?}", self.flow));
        }
        self.flow = Flow::At(worker);
        self.pass(packet)
    }

    fn pass(&mut self, (stream, number): Packet) -> Result<(), Wrong> {
        self.passed[stream] += 1;
        if self.passed[stream] == number {
            Ok(())
        } else {
            Err(format!("packet {number} of stream {stream} overtook another"))
        }
    }

    /// A worker looks into its ring.
    fn poll(&mut self, worker: usize, without: Without) -> Result<(), Wrong> {
        match (self.rings[worker].pop_front(), &mut self.hold) {
            (Some(packet), Some(hold)) if worker == DESTINATION && self.holds_hashes => {
                hold.push_back(packet);
                Ok(())
            }
            (Some(packet), _) => self.come(worker, packet, Handed::No),
            (None, _) => {
                // By the time that it waits at least, nothing is inside of the NIC that came before the rewriting.
                let settled = self.inside.iter().all(|(queue, _)| *queue != worker);
                if settled || without == Without::Settle {
                    self.drain = Drain::IsEmpty;
                }
                Ok(())
            }
        }
    }

    fn take(&mut self, worker: usize) -> Result<(), Wrong> {
        let Some(packet) = self.inboxes[worker].pop_front() else { return Ok(()) };
        if worker == SOURCE {
            self.before_export = self.before_export.map(|n| n.saturating_sub(1));
        }
        self.come(worker, packet, Handed::Yes)
    }

    /// The control side gives the next order, when all are carried out.
    fn order(&mut self, without: Without) {
        self.stage = match self.stage {
            Stage::Begin if without == Without::Hold => Stage::Drain,
            Stage::Begin => Stage::Hold,
            Stage::Hold if without == Without::Drain => Stage::See,
            Stage::Hold => Stage::Drain,
            Stage::Drain if self.drain != Drain::IsEmpty => Stage::Drain,
            Stage::Drain => Stage::Open,
            Stage::Open => Stage::See,
            Stage::See => Stage::Export,
            Stage::Export if !self.lets_go => Stage::Export,
            Stage::Export if self.flow == Flow::InParcel => Stage::Import,
            Stage::Import => Stage::Export,
            Stage::Export => Stage::Release,
            Stage::Release | Stage::Done => Stage::Done,
        };
        let rewritten = if without == Without::HoldFirst { Stage::Hold } else { Stage::Drain };
        // Without this stage the table is rewritten all the same.
        let left_out = (without, self.stage) == (Without::Drain, Stage::See);
        if self.stage == rewritten || left_out {
            self.table = DESTINATION;
        }
        match self.stage {
            Stage::Drain => self.desks[SOURCE] = Some(Order::Drain),
            Stage::Open => self.desks[DESTINATION] = Some(Order::Open),
            Stage::Hold => {
                self.desks[DESTINATION] = Some(Order::Hold);
                if without != Without::Keep {
                    self.desks[SOURCE] = Some(Order::Keep);
                }
            }
            Stage::See => {
                for (worker, desk) in self.desks.iter_mut().enumerate() {
                    if worker != DESTINATION && without != Without::See {
                        *desk = Some(Order::See);
                    }
                }
            }
            Stage::Export => self.desks[SOURCE] = Some(Order::Export),
            Stage::Import => self.desks[DESTINATION] = Some(Order::Import),
            Stage::Release => self.desks[DESTINATION] = Some(Order::Release),
            Stage::Begin | Stage::Done => {}
        }
    }

    fn carry_out(&mut self, worker: usize, without: Without) -> Result<(), Wrong> {
        // What was written before the order was given is seen by who takes it up.
        if self.is_given() && !(worker == SOURCE && self.keeps) {
            self.owner[worker] = DESTINATION;
        }
        match self.desks[worker].take() {
            Some(Order::Hold) => {
                self.hold = Some(VecDeque::new());
                self.holds_hashes = without != Without::Hashes;
            }
            Some(Order::Open) => {
                self.holds_hashes = false;
                let handed = self.inboxes[DESTINATION].len();
                for _ in 0..if without == Without::OpenInbox { 0 } else { handed } {
                    self.take(DESTINATION)?;
                }
                let waiting = self.hold.as_mut().map(std::mem::take).unwrap_or_default();
                for packet in waiting {
                    self.come(DESTINATION, packet, Handed::No)?;
                }
            }
            Some(Order::Keep) => self.keeps = true,
            Some(Order::Drain) if self.drain == Drain::No => self.drain = Drain::Looks,
            Some(Order::Export) => {
                let waiting = self.inboxes[SOURCE].len();
                let left = if without == Without::Inbox { 0 } else { waiting };
                let left = *self.before_export.get_or_insert(left);
                self.lets_go = left == 0;
                if self.lets_go {
                    (self.keeps, self.owner[SOURCE]) = (false, DESTINATION);
                }
                if self.lets_go && self.flow == Flow::At(SOURCE) {
                    self.flow = Flow::InParcel;
                }
            }
            Some(Order::Import) => {
                self.flow = Flow::At(DESTINATION);
                if without == Without::Order {
                    return Ok(());
                }
                let waiting = self.hold.as_mut().map(std::mem::take).unwrap_or_default();
                for packet in waiting {
                    self.come(DESTINATION, packet, Handed::Yes)?;
                }
            }
            Some(Order::Release) => {
                for packet in self.hold.take().unwrap_or_default() {
                    self.come(DESTINATION, packet, Handed::Yes)?;
                }
            }
            Some(Order::See | Order::Drain) | None => {}
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    Yes,
    No,
}

/// Goes through all that can happen; how many states there are, or what goes wrong in one.
fn explore(packets: &Packets, without: Without) -> Result<usize, Wrong> {
    let mut known = HashSet::new();
    let foreign = if packets[FOREIGN] > 0 { 0..WORKERS } else { 0..1 };
    let firsts = |foreign| [Flow::At(SOURCE), Flow::IsNew].map(|flow| State::first(flow, foreign));
    let mut open: Vec<State> = foreign.flat_map(firsts).collect();
    while let Some(state) = open.pop() {
        if known.contains(&state) {
            continue;
        }
        let next = state.next(packets, without);
        if next.is_empty() && state.passed != *packets {
            return Err(format!("it ends with {:?} that passed", state.passed));
        }
        known.insert(state);
        for step in next {
            open.push(step?);
        }
    }
    Ok(known.len())
}

#[test]
fn in_whatever_order_things_happen_nothing_is_lost_or_overtaken() {
    for packets in [WITHOUT_TABLE, WITH_TABLE, WITH_ANOTHER] {
        let states =
            explore(&packets, Without::Nothing).unwrap_or_else(|why| panic!("{packets:?}: {why}"));
        println!("{packets:?}: {states} states");
        assert!(states > 10_000, "it looks at many orders: {states}");
    }
}

#[test]
fn each_step_of_the_protocol_is_needed() {
    for without in [Without::Hold, Without::Keep, Without::See, Without::Inbox, Without::Order] {
        let wrong = explore(&WITHOUT_TABLE, without).expect_err("something goes wrong");
        println!("{without:?}: {wrong}");
    }
    // Where a NIC's table is rewritten.
    for without in [Without::HoldFirst, Without::Drain, Without::Settle] {
        let wrong = explore(&WITH_TABLE, without).expect_err("something goes wrong");
        println!("{without:?}: {wrong}");
        assert!(explore(&WITHOUT_TABLE, without).is_ok(), "{without:?}: it is the table's");
    }
    // Where another flow shares its entry.
    for without in [Without::Hashes, Without::OpenInbox] {
        let wrong = explore(&WITH_ANOTHER, without).expect_err("something goes wrong");
        println!("{without:?}: {wrong}");
        assert!(explore(&WITH_TABLE, without).is_ok(), "{without:?}: it is the other flow's");
    }
}
