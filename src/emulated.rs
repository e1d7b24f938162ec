//! Ports of a chain file that are emulated NICs: made of rings, with a wire that a thread of the run moves frames on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use nfv_core::chain::port::PortSpec;
use nfv_core::control::nic_rules::PortNic;
use nfv_core::dpdk::{Eal, Mempool, OpenPort, PortRequest, QueueSeed, RingPort};
use nfv_core::nf::PortIndex;
use nfv_core::offload::{
    AnyNic, EmulatedDevice, EmulatedNic, Nic, NicSide, PortRules, Profile, SharedNic, Wire,
};

use crate::dataplane::from_port_error;
use crate::failure::{Failure, Outcome};

/// An emulated NIC that is not driven yet.
#[derive(Debug)]
pub struct Emulated {
    /// Whose it is.
    pub port: PortIndex,
    /// As the control side has it.
    pub nic: EmulatedNic,
    /// What drives it.
    pub side: NicSide,
    /// Its wire, where it has one.
    pub wire: Option<(OpenPort, QueueSeed)>,
}

/// Which device is emulated; `None`: it is another one. Its text was checked when the chain file was read.
pub fn emulated(spec: &PortSpec) -> Option<EmulatedDevice> {
    EmulatedDevice::read(&spec.device.value)?.ok()
}

/// Opens an emulated NIC as `request` has it, and makes the request one for the port that workers see.
pub fn open(
    eal: &Eal,
    (port, device): (PortIndex, &EmulatedDevice),
    request: &mut PortRequest,
) -> Result<Emulated, Failure> {
    let takes = profile(&device.profile, request.queues).ok_or_else(|| {
        Failure::User(format!("nfv: port {}: no NIC `{}`", request.name, device.profile))
    })?;
    let room = request.descriptors.0.unwrap_or(RING_USUAL).max(64).next_power_of_two();
    let wire = device
        .wire
        .as_ref()
        .map(|wire| open_wire(eal, wire, u32::from(room), request))
        .transpose()?;
    let name = format!("nfv{}", port.0);
    let (name, rings) = RingPort::create(eal, &name, request.queues, u32::from(room))?;
    request.device = name;
    let (nic, side) = EmulatedNic::new(takes, request.queues, rings, device.lie);
    Ok(Emulated { port, nic, side, wire })
}

/// What the workers' side of it says of itself, which is what the NIC would say.
pub fn dress(port: &mut OpenPort, emulated: &Emulated) {
    port.driver = format!("emulated {}", emulated.nic.driver());
    // The NIC spreads, not the rings.
    port.shortfalls.clear();
    if let Some((wire, _)) = &emulated.wire {
        port.device = wire.device.clone();
        port.set_mac(wire.mac());
        port.mtu = wire.mtu;
        port.shortfalls = wire.shortfalls.clone();
    }
}

fn open_wire(
    eal: &Eal,
    device: &str,
    room: u32,
    request: &PortRequest,
) -> Result<(OpenPort, QueueSeed), Failure> {
    // Rings that are full must not take all: the wire goes on receiving, and what is lost is counted.
    let held = u32::from(request.queues) * (2 * room + 1024) + 8192;
    let request = PortRequest {
        name: format!("{} wire", request.name),
        device: device.to_owned(),
        queues: 1,
        wakes: false,
        descriptors: (None, None),
        mempool_size: Some(request.mempool_size.unwrap_or(held.next_power_of_two() - 1)),
        ..request.clone()
    };
    let (port, seeds) = OpenPort::open(eal, &request).map_err(from_port_error)?;
    let seed = seeds.into_iter().next().context("a port has a queue")?;
    Ok((port, seed))
}

/// The NIC of a name, with so many queues in use.
fn profile(name: &str, queues: u16) -> Option<Box<dyn Nic>> {
    match name {
        EmulatedDevice::ANY => Some(Box::new(AnyNic::new(queues))),
        name => Profile::named(name, queues).map(|nic| Box::new(nic) as Box<dyn Nic>),
    }
}

/// The NICs of all ports, for those who give them rules and those who write their tables.
pub fn shared_nics(ports: &[OpenPort], emulated: &[Emulated]) -> Vec<SharedNic> {
    let nic = |(index, port)| match emulated.iter().find(|nic| nic.port == index) {
        Some(own) => SharedNic::of(own.nic.clone()),
        None => SharedNic::of(PortRules::of(port)),
    };
    (0..=u8::MAX).map(PortIndex).zip(ports).map(nic).collect()
}

/// Those whose rules are ours to give.
pub fn nics(nics: &[SharedNic], specs: &[PortSpec], emulated: &[Emulated]) -> Vec<PortNic> {
    let all = (0..=u8::MAX).map(PortIndex).zip(nics.iter().zip(specs));
    let takes = all.filter(|(_, (_, spec))| spec.offload);
    let of = |(port, (nic, spec)): (PortIndex, (&SharedNic, &PortSpec))| PortNic {
        port,
        name: spec.name.value.clone(),
        nic: Box::new(nic.clone()),
        emulated: emulated.iter().find(|own| own.port == port).map(|own| own.nic.clone()),
    };
    takes.map(of).collect()
}

/// The threads that move frames between wires and rings. They inherit the CPUs of the caller: no worker's.
#[derive(Debug)]
pub struct Wires {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// The wires' pools.
    pub pools: Vec<(String, Mempool)>,
    ports: Vec<OpenPort>,
}

impl Wires {
    /// Starts a thread for each.
    pub fn start(all: Vec<Emulated>) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut wires =
            Self { threads: Vec::new(), stop: stop.clone(), pools: Vec::new(), ports: Vec::new() };
        for Emulated { port, side, wire, .. } in all {
            let Some((wire, queue)) = wire else { continue };
            let stop = stop.clone();
            let name = format!("nic-{}", port.0);
            let body = move || Wire::new(side, queue).run(&stop);
            let thread = std::thread::Builder::new().name(name).spawn(body);
            wires.threads.push(thread.context("starting the thread of a wire")?);
            wires.pools.push((wire.name.clone(), wire.pool));
            wires.ports.push(wire);
        }
        Ok(wires)
    }

    /// Ends them, when the workers have ended: what these have sent goes out.
    pub fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("the thread of a wire panicked"))?;
        }
        drop(self.ports);
        Ok(())
    }
}

/// Packets that a queue holds, where nothing is said.
const RING_USUAL: u16 = 1024;
