//! What every subcommand that carries packets needs: EAL started, ports opened, queues for the workers.

use anyhow::anyhow;
use nfv_core::chain::port::{Mode, PortSpec};
use nfv_core::chain::spec::{ChainFile, Idle};
use nfv_core::dpdk::{
    Eal, EalError, Interrupts, Lcore, OpenPort, Packets, PortError, PortRequest, QueueSeed,
    RxQueue, TxQueue,
};
use nfv_core::nf::PortIndex;
use nfv_core::worker::{Bell, Io};

use crate::doctor::{Ask, Color, Finding, HugeChoice, Machine, Severity, preflight, print};
use crate::eal_args::unknown_options;
use crate::emulated::{self, Emulated};
use crate::failure::Failure;

/// Looks at the machine, says what is wrong with it, and starts EAL. Returns the workers' lcores too, at least one.
pub fn start_eal(options: &[String], file: &ChainFile) -> Result<(Eal, Vec<Lcore>), Failure> {
    let checked = preflight(&Machine::here(), &Ask::new(options, &file.ports));
    let told: Vec<Finding> =
        checked.findings.into_iter().filter(|f| f.severity >= Severity::Warning).collect();
    if !told.is_empty() {
        print(&told, &mut std::io::stderr(), Color::Plain)?;
    }
    if checked.fatal {
        let why = "this machine is not ready for the run; see above";
        let problems = told.iter().filter(|f| f.severity == Severity::Problem);
        return Err(match problems.clone().all(|f| f.is_mistake) {
            true => Failure::User(format!("nfv: {why}")),
            false => anyhow!(why).into(),
        });
    }
    let eal = Eal::start(&with_defaults(options, &checked.huge)).map_err(|why| match &why {
        EalError::Init { user: true, .. } => Failure::User(format!("nfv: {why}{}", hint(options))),
        _ => Failure::Machine(why.into()),
    })?;
    let lcores = eal.worker_lcores();
    if lcores.is_empty() {
        let why = "nfv: no lcore is left for a worker: the first one is the control side's. \
                   Name two or more, `-l 0,1`; on a machine with one CPU, `--lcores '(0-1)@0'`";
        return Err(Failure::User(why.to_owned()));
    }
    Ok((eal, lcores))
}

/// Which options EAL may have meant.
fn hint(options: &[String]) -> String {
    let line = |(option, near): (String, Option<&str>)| match near {
        Some(near) => format!("\n  `{option}` is no option of EAL; did you mean `{near}`?"),
        None => format!("\n  `{option}` is no option of EAL; nfv's own options come behind `--`"),
    };
    unknown_options(options).into_iter().map(line).collect()
}

/// What EAL needs and the user did not say.
fn with_defaults(options: &[String], huge: &HugeChoice) -> Vec<String> {
    let has = |names: &[&str]| {
        options.iter().any(|o| names.iter().any(|n| o == n || o.starts_with(&format!("{n}="))))
    };
    let mut all = options.to_vec();
    let mut add = |words: &[&str]| all.extend(words.iter().map(|w| (*w).to_owned()));
    if !has(&["--file-prefix", "--in-memory", "--no-shconf"]) {
        add(&["--file-prefix", &format!("nfv-{}", std::process::id())]);
    }
    match huge {
        HugeChoice::NoHuge { why } => {
            tracing::warn!("without huge pages: {why}");
            add(if has(&["--no-huge"]) { &[] } else { &["--no-huge"] });
            if !has(&["-m"]) {
                add(&["-m", "1024"]);
            }
        }
        // The files in hugetlbfs are of no use to others, and none may stay there.
        _ if !has(&["--huge-unlink", "--in-memory"]) => add(&["--huge-unlink=always"]),
        _ => {}
    }
    all
}

/// The ports of a chain file, open.
#[derive(Debug)]
pub struct Opened {
    /// As the control side has them, in the file's order.
    pub ports: Vec<OpenPort>,
    /// Their queues, by worker.
    pub queues: Vec<Vec<QueueSeed>>,
    /// Those that are emulated NICs.
    pub emulated: Vec<Emulated>,
}

/// Opens the ports with one queue pair a worker, or as many workers as the least of them has queues for, and waits for
/// their links.
pub fn open_ports(
    eal: &Eal,
    specs: &[PortSpec],
    (workers, idle): (usize, Idle),
) -> Result<Opened, Failure> {
    let mut requests: Vec<PortRequest> = specs
        .iter()
        .map(|spec| request(spec, u16::try_from(workers).unwrap_or(u16::MAX), idle))
        .collect();
    for (i, spec) in specs.iter().enumerate() {
        let Some(request) = requests.get(i) else { continue };
        let limit = match emulated::emulated(spec) {
            Some(device) => device.queues,
            None => OpenPort::queue_limit(eal, request).map_err(from_port_error)?,
        };
        if limit < request.queues {
            tracing::warn!(
                "port {}: the device has {limit} queue pairs, {} workers ask for one each: {} workers stay idle",
                request.name,
                request.queues,
                request.queues - limit
            );
            requests.iter_mut().for_each(|r| r.queues = r.queues.min(limit));
        }
    }
    let mut opened = Opened { ports: Vec::new(), queues: Vec::new(), emulated: Vec::new() };
    for (index, (request, spec)) in (0..=u8::MAX).map(PortIndex).zip(requests.iter_mut().zip(specs))
    {
        let device = emulated::emulated(spec);
        let nic = device.map(|d| emulated::open(eal, (index, &d), request)).transpose()?;
        let (mut port, seeds) = OpenPort::open(eal, request).map_err(from_port_error)?;
        if let Some(nic) = &nic {
            emulated::dress(&mut port, nic);
        }
        opened.emulated.extend(nic);
        for shortfall in &port.shortfalls {
            tracing::warn!("port {}: {shortfall}", port.name);
        }
        opened.queues.resize_with(opened.queues.len().max(seeds.len()), Vec::new);
        for (worker, seed) in opened.queues.iter_mut().zip(seeds) {
            worker.push(seed);
        }
        opened.ports.push(port);
    }
    for (port, spec) in opened.ports.iter().zip(specs) {
        let link = port.wait_for_link(spec.link_timeout);
        let speed = link.speed.map(|s| format!(", {s} Mbit/s")).unwrap_or_default();
        let state = if link.up { "up" } else { "DOWN" };
        tracing::info!(
            "port {}: {} ({}), {} queues, MTU {}, link {state}{speed}",
            port.name,
            port.device,
            port.driver,
            port.queues,
            port.mtu
        );
        if port.is_vf() {
            tell_of_vf(port, spec);
        }
    }
    Ok(opened)
}

/// What a VF needs of its host that cannot be seen from here.
fn tell_of_vf(port: &OpenPort, spec: &PortSpec) {
    let name = &port.name;
    let has_ipv6 = spec.addresses.iter().any(|address| address.value.addr().is_ipv6());
    match spec.mode {
        Mode::Transparent => tracing::info!(
            "port {name}: a VF, and transparent: it sends frames of others, and receives frames for others, where its host has \
             said `ip link set PF vf N spoofchk off trust on`"
        ),
        Mode::Routed if has_ipv6 && spec.neighbours.is_empty() => tracing::info!(
            "port {name}: a VF with IPv6 addresses: its neighbours find it where its host lets it have multicast, \
             `ip link set PF vf N trust on`"
        ),
        Mode::Routed => {}
    }
}

/// A device that is not there is the user's mistake.
pub fn from_port_error(why: PortError) -> Failure {
    match why {
        PortError::Missing { ref device, .. } => {
            let reset = format!("/sys/bus/pci/devices/{}/reset", device.to_ascii_lowercase());
            // It is there, and its driver has failed: the log has its words.
            let stuck = std::path::Path::new(&reset).exists().then(|| {
                format!("\n  is it stuck since a run before was killed? a reset frees it: echo 1 > {reset}")
            });
            Failure::User(format!("nfv: {why}{}", stuck.unwrap_or_default()))
        }
        _ => Failure::Machine(why.into()),
    }
}

fn request(spec: &PortSpec, queues: u16, idle: Idle) -> PortRequest {
    PortRequest {
        name: spec.name.value.clone(),
        device: spec.device.value.clone(),
        queues,
        mtu: spec.mtu.as_ref().map(|m| m.value),
        mac: spec.mac.as_ref().map(|m| m.value.bytes()),
        promiscuous: spec.promiscuous,
        descriptors: (spec.rx_descriptors, spec.tx_descriptors),
        mempool_size: spec.mempool_size,
        link_timeout: spec.link_timeout,
        wakes: idle == Idle::Interrupt,
    }
}

/// One worker's queues, by port.
#[derive(Debug)]
pub struct Queues(Vec<(RxQueue, TxQueue)>);

impl Queues {
    /// Claims a worker's queues, on its thread.
    pub fn claim(seeds: Vec<QueueSeed>) -> Self {
        Self(seeds.into_iter().map(QueueSeed::claim).collect())
    }

    /// What wakes their worker, where all of them do.
    ///
    /// # Errors
    /// A driver has them, and refuses.
    pub fn interrupts(&self, bell: &Bell) -> Result<Option<Interrupts>, String> {
        if !self.0.iter().all(|(rx, _)| rx.wakes()) {
            return Ok(None);
        }
        let bell = bell.wire().map_err(|why| format!("eventfd: {why}"))?;
        Interrupts::of(self.0.iter().map(|(rx, _)| rx), bell).map(Some)
    }

    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Io for Queues {
    #[inline]
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        if let Some((rx, _)) = self.0.get_mut(port.index()) {
            rx.receive(packets);
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        if let Some((_, tx)) = self.0.get_mut(port.index()) {
            tx.transmit(packets);
        }
    }
}
