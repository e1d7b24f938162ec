//! The environment abstraction layer: started once a process, and the lcores that it pins.

use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{errno_text, last_errno, log};

/// A core of DPDK's, by its number in the EAL options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lcore(u32);

impl Lcore {
    /// Its number.
    pub fn index(self) -> u32 {
        self.0
    }

    /// The NUMA node that it is on.
    pub fn socket(self) -> u32 {
        // SAFETY: `self.0` came from EAL, so it is below RTE_MAX_LCORE.
        unsafe { dpdk_sys::rte_lcore_to_socket_id(self.0) }
    }
}

/// Why EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// EAL refused an option or lacks what it needs.
    #[error("EAL did not start: {why}{}", detail.iter().map(|l| format!("\n  {l}")).collect::<String>())]
    Init {
        /// errno's text.
        why: String,
        /// What EAL logged as errors.
        detail: Vec<String>,
        /// Whether the options were at fault, rather than the machine.
        user: bool,
    },
    /// It runs already.
    #[error("EAL runs already in this process; it starts once")]
    Twice,
    /// An argument with a NUL byte.
    #[error("an EAL option holds a NUL byte: {0:?}")]
    Nul(String),
    /// A worker did not start.
    #[error("lcore {lcore} did not take its worker: {why}")]
    Launch {
        /// The core.
        lcore: u32,
        /// errno's text.
        why: String,
    },
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// EAL, running. Lives until the process ends: mempools and packets stand on its memory.
#[derive(Debug)]
pub struct Eal {
    /// Its methods are for the thread that started it, EAL's main lcore.
    main_thread: PhantomData<*const ()>,
}

impl Eal {
    /// Starts EAL with its own options (without the program's name), on this thread as the main lcore.
    ///
    /// # Errors
    /// An option that EAL rejects (`user`), or what the machine lacks, with the lines that EAL logged.
    pub fn start(options: &[String]) -> Result<Self, EalError> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::Twice);
        }
        log::to_tracing();
        let words = std::iter::once("nfv").chain(options.iter().map(String::as_str));
        let owned = words
            .map(|w| CString::new(w).map_err(|_| EalError::Nul(w.to_owned())))
            .collect::<Result<Vec<_>, _>>()?;
        // EAL keeps pointers into its arguments, and may permute the array: both live for ever.
        let pointers: Vec<*mut c_char> = owned.into_iter().map(CString::into_raw).collect();
        let argv = Vec::leak(pointers);
        let argc = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
        // SAFETY: `argv` holds `argc` NUL-terminated strings that are never freed; this is the first and only call.
        let parsed = unsafe { dpdk_sys::nfv_eal_init(argc, argv.as_mut_ptr()) };
        if parsed < 0 {
            let errno = last_errno();
            // An option that it does not take, or a device that is not there.
            let user = errno == EINVAL || errno == ENODEV;
            return Err(EalError::Init {
                why: errno_text(errno),
                detail: log::take_errors(),
                user,
            });
        }
        log::started();
        Ok(Self { main_thread: PhantomData })
    }

    /// The main lcore: the control side's.
    pub fn main_lcore(&self) -> Lcore {
        // SAFETY: EAL runs (`self`), no argument.
        Lcore(unsafe { dpdk_sys::rte_get_main_lcore() })
    }

    /// The lcores that take a worker each: all but the main one.
    pub fn worker_lcores(&self) -> Vec<Lcore> {
        let mut found = Vec::new();
        let mut at = u32::MAX;
        loop {
            // SAFETY: takes any number and returns the next enabled one, RTE_MAX_LCORE after the last.
            at = unsafe { dpdk_sys::rte_get_next_lcore(at, 1, 0) };
            if at >= dpdk_sys::RTE_MAX_LCORE {
                return found;
            }
            found.push(Lcore(at));
        }
    }

    /// Whether memory is on huge pages.
    pub fn has_huge_pages(&self) -> bool {
        // SAFETY: EAL runs (`self`), no argument.
        unsafe { dpdk_sys::rte_eal_has_hugepages() != 0 }
    }

    /// Runs `work` on `lcore`'s own pinned thread.
    ///
    /// # Errors
    /// The lcore is busy with earlier work.
    pub fn launch<T, F>(&self, lcore: Lcore, work: F) -> Result<Running<T>, EalError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (tell, hear) = std::sync::mpsc::channel();
        let job: Box<Job> = Box::new(Box::new(move || {
            // The receiver is gone only when nobody waits for the result.
            let _ = tell.send(work());
        }));
        let argument = Box::into_raw(job).cast::<c_void>();
        // SAFETY: `run_job` takes back exactly the box that `argument` came from, once.
        let failed = unsafe { dpdk_sys::rte_eal_remote_launch(Some(run_job), argument, lcore.0) };
        if failed != 0 {
            // SAFETY: the launch failed, so nobody else has the box.
            drop(unsafe { Box::from_raw(argument.cast::<Job>()) });
            return Err(EalError::Launch { lcore: lcore.0, why: errno_text(failed) });
        }
        Ok(Running { lcore, result: hear })
    }
}

/// A thread that is no lcore's, made known to EAL: mempools keep packets at hand for it.
#[derive(Debug)]
pub struct EalThread(PhantomData<*const ()>);

impl EalThread {
    /// Makes this thread known until this is dropped; `None` when EAL has no number left for it, which only costs time.
    pub fn register() -> Option<Self> {
        // SAFETY: EAL runs wherever there are pools; the call fails for a thread that it knows.
        let failed = unsafe { dpdk_sys::rte_thread_register() };
        (failed == 0).then_some(Self(PhantomData))
    }
}

impl Drop for EalThread {
    fn drop(&mut self) {
        // SAFETY: this thread (`!Send`) was registered.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

/// Work on an lcore, and its result.
#[derive(Debug)]
pub struct Running<T> {
    lcore: Lcore,
    result: std::sync::mpsc::Receiver<T>,
}

impl<T> Running<T> {
    /// Waits for the work to end. `None`: it panicked, and the lcore is lost.
    pub fn wait(self) -> Option<T> {
        let result = self.result.recv().ok();
        // SAFETY: the lcore was launched by `Eal::launch`; waiting for one that is idle returns at once.
        unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore.0) };
        result
    }

    /// Whether the result is there.
    pub fn lcore(&self) -> Lcore {
        self.lcore
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs one job. A panic in it ends here: it must not unwind into C.
extern "C" fn run_job(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the box that `Eal::launch` gave up, and EAL calls once a launch.
    let job = unsafe { Box::from_raw(argument.cast::<Job>()) };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || (*job)())) {
        Ok(()) => 0,
        Err(_) => -1,
    }
}

const EINVAL: c_int = 22;
const ENODEV: c_int = 19;
