//! A network function as the chain file wants it, with all that the engine does for it besides.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use super::{Decider, FlowNf, Heritage, Named, Nf, PacketNf, Shard, SynCookies, Tracking};

/// A network function, built from its section.
pub struct Built {
    /// What works.
    pub nf: Nf,
    /// Its rules as an operator sees them, `line: text`; each gets a counter.
    pub rules: Vec<String>,
    /// Values that an operator reads or sets while it runs.
    pub handles: Vec<Handle>,
    /// What is to be done when no worker uses it any more, if anything.
    pub finish: Option<Finish>,
    /// Of a flow NF, how closely it wants connections followed; [`Tracking::None`]: it decides each packet.
    pub tracking: Tracking,
    /// Whether it may decide once a flow beside an NF that keeps flows: it looks at nothing that differs between packets.
    pub folds: bool,
    /// What it decides by headers alone, if anything.
    pub decides: Option<Decider>,
    /// Whether it knows hosts by their addresses: it then stands between the same two zones in all its chains.
    pub binds_addresses: bool,
    /// Whether it has SYNs answered with cookies while too many connections are half open.
    pub syn_cookies: Option<SynCookies>,
    /// Whether the answers of some of its flows go another way: connections of such flows cannot begin with cookies.
    pub is_one_way: bool,
    /// Raised when it changes its mind: all flows are then decided again.
    pub generation: Option<Arc<AtomicU32>>,
    /// What the one that replaces it at a reload takes over, if anything.
    pub heritage: Option<Heritage>,
    /// Of a packet NF that lets flows go, the counter of the packets that pass it by; it is asked of them no more.
    pub lets_go: Option<usize>,
    /// What it does beside the workers during a run, if anything.
    pub task: Mutex<Option<Task>>,
    /// What `nfv check` tells of it, a line each.
    pub notes: Vec<String>,
    /// Whether the files are as they were that it was built from, if it was built from any: a reload builds it anew if not.
    pub is_current: Option<IsCurrent>,
    /// Opens its logs again, which may have been moved: at SIGHUP.
    pub reopen: Option<Reopen>,
}

/// What an NF does beside the workers, on the control thread: health checks, writing a log. It ends with the NF; it must
/// not block.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends what an NF does beside the workers; the error is a sentence of what was lost.
pub type Finish = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Whether files are as they were.
pub type IsCurrent = Box<dyn Fn() -> bool + Send + Sync>;

/// Opens logs again, on the control thread.
pub type Reopen = Box<dyn Fn() + Send + Sync>;

impl Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built").field("nf", &self.nf).finish_non_exhaustive()
    }
}

impl Built {
    /// A flow NF, without rules and handles.
    pub fn flow(nf: impl FlowNf) -> Self {
        Self::new(Nf::Flow(Box::new(nf)))
    }

    /// A packet NF, of which `make` makes each worker's instance; without rules and handles.
    pub fn packet<T: PacketNf>(make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self::packet_of(move |_| make())
    }

    /// As [`Built::packet`], where an instance has to know which worker of how many it is of.
    pub fn packet_of<T: PacketNf>(make: impl Fn(Shard) -> T + Send + Sync + 'static) -> Self {
        Self::new(Nf::Packet(Box::new(move |worker| Box::new(make(worker)))))
    }

    fn new(nf: Nf) -> Self {
        Self {
            nf,
            rules: Vec::new(),
            handles: Vec::new(),
            finish: None,
            tracking: Tracking::None,
            folds: false,
            decides: None,
            binds_addresses: false,
            syn_cookies: None,
            is_one_way: false,
            generation: None,
            heritage: None,
            lets_go: None,
            task: Mutex::new(None),
            notes: Vec::new(),
            is_current: None,
            reopen: None,
        }
    }

    /// With flows kept, and followed so closely.
    pub fn with_tracking(self, tracking: Tracking) -> Self {
        Self { tracking, ..self }
    }

    /// Decides once a flow beside an NF that keeps flows.
    pub fn folding(self) -> Self {
        Self { folds: true, ..self }
    }

    /// Knows hosts by their addresses, of one zone on each of its sides.
    pub fn binding_addresses(self) -> Self {
        Self { binds_addresses: true, ..self }
    }

    /// With cookies for SYNs while too many connections are half open.
    pub fn with_syn_cookies(self, cookies: SynCookies) -> Self {
        Self { syn_cookies: Some(cookies), ..self }
    }

    /// Has answers of some flows go another way.
    pub fn one_way(self) -> Self {
        Self { is_one_way: true, ..self }
    }

    /// With a number that is raised when all flows are to be decided again.
    pub fn with_generation(self, generation: Arc<AtomicU32>) -> Self {
        Self { generation: Some(generation), ..self }
    }

    /// With this for the one that replaces it at a reload.
    pub fn with_heritage(self, heritage: Heritage) -> Self {
        Self { heritage: Some(heritage), ..self }
    }

    /// With this to be done beside the workers during a run.
    pub fn with_task(self, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { task: Mutex::new(Some(Box::pin(task))), ..self }
    }

    /// Lets flows go: `counter` counts the packets that pass it by. Where its chain keeps flows, and no other function of the
    /// chain does so, it is shown no more of them but what begins or ends a connection.
    pub fn letting_go(self, counter: usize) -> Self {
        Self { lets_go: Some(counter), ..self }
    }

    /// With these lines for `nfv check`.
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// With this to tell whether the files are as they were that it was built from.
    pub fn from_files(self, is_current: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_current: Some(Box::new(is_current)), ..self }
    }

    /// With logs that are opened again at SIGHUP.
    pub fn with_reopen(self, reopen: impl Fn() + Send + Sync + 'static) -> Self {
        Self { reopen: Some(Box::new(reopen)), ..self }
    }

    /// With these rules.
    pub fn with_rules(self, rules: Vec<String>) -> Self {
        Self { rules, ..self }
    }

    /// With these handles.
    pub fn with_handles(self, handles: Vec<Handle>) -> Self {
        Self { handles, ..self }
    }

    /// With this to be done at the end.
    pub fn with_finish(self, finish: Finish) -> Self {
        Self { finish: Some(finish), ..self }
    }
}

/// A value of an NF that an operator reads or sets while it runs (`nfv ctl get NF.NAME`), as Click's handlers.
///
/// Both functions run on the control thread, over atomics that the NF reads while it works: no worker takes a lock.
pub struct Handle {
    /// Its name, and what it means.
    pub named: Named,
    /// The value, as text.
    pub read: Box<dyn Fn() -> String + Send + Sync>,
    /// Sets the value; the error says what would be valid. `None`: read only.
    pub write: Option<Write>,
}

/// Sets a handle's value from text; the error says what would be valid.
pub type Write = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

impl Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("named", &self.named).finish_non_exhaustive()
    }
}
