//! What happens to ports while they carry packets: links that come and go, VFs that their host resets, devices that are
//! pulled out. Seen by the control side ten times a second, told in the log, and mended where a new start mends it.

use std::time::{Duration, Instant};

use nfv_core::control::twin::{Carrier, Change};
use nfv_core::dpdk::{OpenPort, PortError, Restarted};
use nfv_core::nf::PortIndex;
use tokio::sync::mpsc::UnboundedSender;

/// The lives of all ports.
#[allow(missing_debug_implementations, reason = "functions have none")]
pub struct Lives<'p> {
    ports: &'p [OpenPort],
    lives: Vec<Life>,
    changes: UnboundedSender<(PortIndex, Change)>,
    /// What is to be done to a port that has started again: what the driver has forgotten is put back.
    renew: Renew<'p>,
}

/// Does to a port that has started again what is to be done.
type Renew<'p> = Box<dyn Fn(PortIndex, &OpenPort) + 'p>;

/// One port's.
#[derive(Clone, Copy, Debug)]
struct Life {
    up: bool,
    removed: bool,
    /// Why it is to be started again, and when.
    restart: Option<(&'static str, Instant)>,
    /// Not before this.
    rests_until: Option<Instant>,
    hearing: Hearing,
}

/// Whether a VF receives. One whose PF was down has a link and receives nothing, and the first start after that may come
/// before the PF serves it.
#[derive(Clone, Copy, Debug)]
struct Hearing {
    /// What it had received and sent when it was last seen to receive.
    received: u64,
    sent: u64,
    /// When that was, or when it began to be listened for.
    at: Instant,
    /// Starts after which it has received nothing; none, while nothing is amiss.
    deaf_starts: u32,
    /// It has received something since it started.
    heard: bool,
    /// The next look at it.
    next_look: Instant,
}

impl<'p> Lives<'p> {
    /// Of ports that have just started. `changes`: what twins are told.
    pub fn new(
        ports: &'p [OpenPort],
        changes: UnboundedSender<(PortIndex, Change)>,
        renew: impl Fn(PortIndex, &OpenPort) + 'p,
    ) -> Self {
        let now = Instant::now();
        let hearing = Hearing::begin((0, 0), 0, now);
        let born = Life { up: true, removed: false, restart: None, rests_until: None, hearing };
        let renew = Box::new(renew);
        let mut lives = Self { ports, lives: vec![born; ports.len()], changes, renew };
        lives.look(now);
        lives
    }

    /// The ports.
    pub fn ports(&self) -> &'p [OpenPort] {
        self.ports
    }

    /// Sees what has happened, and mends what can be mended.
    pub fn look(&mut self, now: Instant) {
        let all = self.ports.iter().zip(self.lives.iter_mut());
        for (index, (port, life)) in (0..=u8::MAX).map(PortIndex).zip(all) {
            if life.removed {
                continue;
            }
            let events = port.take_events();
            if events.removed {
                life.remove(port);
                let _ = self.changes.send((index, Change::Carrier(Carrier::Absent)));
                continue;
            }
            if events.reset {
                life.wants_restart("its host has reset it", now);
            }
            if let Some(change) = life.look_at_link(port, now) {
                // Without a twin nobody listens.
                let _ = self.changes.send((index, Change::Carrier(change)));
            }
            if port.is_vf() && life.up {
                life.listen(port, now);
            }
            if let Some(why) = life.due(now) {
                let mac = port.mac();
                match port.restart() {
                    Ok(restarted) => {
                        tell(port, why, &restarted, now);
                        let starts = life.hearing.deaf_starts + 1;
                        life.hearing = Hearing::begin(port.traffic(), starts, Instant::now());
                        (self.renew)(index, port);
                        if port.mac() != mac {
                            let _ = self.changes.send((index, Change::Mac(port.mac())));
                        }
                    }
                    Err(error) => life.failed(why, &error, now),
                }
            }
        }
    }

    /// The ports that are gone.
    pub fn removed(&self) -> Vec<&'p str> {
        let all = self.ports.iter().zip(&self.lives);
        all.filter(|(_, life)| life.removed).map(|(port, _)| port.name.as_str()).collect()
    }
}

impl Life {
    /// The device is gone; the other ports go on.
    fn remove(&mut self, port: &OpenPort) {
        (self.removed, self.up) = (true, false);
        tracing::error!(
            "port {}: {} was removed from the machine; the other ports go on",
            port.name,
            port.device
        );
        if let Err(why) = port.give_up() {
            tracing::error!("{why}");
        }
    }

    /// What a twin is to be told of the link, where it has changed.
    fn look_at_link(&mut self, port: &OpenPort, now: Instant) -> Option<Carrier> {
        let link = port.link();
        if link.up == self.up {
            return None;
        }
        self.up = link.up;
        match (link.up, link.speed) {
            (true, Some(speed)) => tracing::info!("port {}: link up, {speed} Mbit/s", port.name),
            (true, None) => tracing::info!("port {}: link up", port.name),
            (false, _) => tracing::warn!("port {}: link down", port.name),
        }
        if link.up && port.is_vf() {
            // The PF was down, and has forgotten that the VF receives.
            self.wants_restart("its link was down", now);
        }
        Some(if link.up { Carrier::Present } else { Carrier::Absent })
    }

    fn listen(&mut self, port: &OpenPort, now: Instant) {
        if self.restart.is_some() || now < self.hearing.next_look {
            return;
        }
        if let Some(why) = self.hearing.listen(port.traffic(), now) {
            self.wants_restart(why, now);
        }
    }

    fn wants_restart(&mut self, why: &'static str, now: Instant) {
        let at = self.rests_until.map_or(now, |until| until.max(now));
        self.restart.get_or_insert((why, at));
    }

    /// Why it is to be started again now.
    fn due(&mut self, now: Instant) -> Option<&'static str> {
        let (why, _) = self.restart.filter(|(_, at)| *at <= now)?;
        self.restart = None;
        self.rests_until = Some(now + REST);
        Some(why)
    }

    fn failed(&mut self, why: &'static str, error: &PortError, now: Instant) {
        tracing::error!("{error}; it is tried again");
        self.restart = Some((why, now + REST));
    }
}

impl Hearing {
    fn begin((received, sent): (u64, u64), deaf_starts: u32, at: Instant) -> Self {
        let next_look = at + LOOK;
        Self { received, sent, at, deaf_starts, heard: false, next_look }
    }

    /// Why the port is to be started again, by what it has received and sent so far.
    fn listen(&mut self, (received, sent): (u64, u64), now: Instant) -> Option<&'static str> {
        self.next_look = now + LOOK;
        if received != self.received {
            (self.received, self.sent, self.at) = (received, sent, now);
            (self.deaf_starts, self.heard) = (0, true);
            return None;
        }
        let silent = now.saturating_duration_since(self.at);
        if (1..=DEAF_STARTS_MAX).contains(&self.deaf_starts) {
            let again = silent >= LOOK * (1 << self.deaf_starts);
            return again.then_some("it has received nothing since its last start");
        }
        // A port that only ever sends is as it should be.
        let amiss = self.heard && silent >= SILENCE && sent.saturating_sub(self.sent) >= SENT;
        if amiss {
            self.heard = false;
        }
        amiss.then_some("it sends, and receives nothing any more")
    }
}

fn tell(port: &OpenPort, why: &str, restarted: &Restarted, start: Instant) {
    let took = start.elapsed().as_millis();
    tracing::warn!("port {}: {why}: started again in {took} ms", port.name);
    for shortfall in &restarted.shortfalls {
        tracing::warn!("port {}: {shortfall}", port.name);
    }
}

/// Between two starts of a port: a host that resets a VF all the time gets no worker to stand still all the time.
const REST: Duration = Duration::from_secs(1);
/// Between two looks at what a VF has received: some drivers ask their host for it.
const LOOK: Duration = Duration::from_secs(1);
/// Tries of a VF that stays deaf: 2, 4, 8, 16 and 32 s apart. Then nobody talks to it, most likely.
const DEAF_STARTS_MAX: u32 = 5;
/// A VF that has sent so many packets for so long and received none, having received before, is taken for deaf.
const SILENCE: Duration = Duration::from_secs(5);
const SENT: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a port had received and sent at each second, and at which of them it was to be started.
    fn starts(first_start: u32, traffic: impl Fn(u64) -> (u64, u64)) -> Vec<u64> {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let mut hearing = Hearing::begin(traffic(0), first_start, begin);
        let mut starts = Vec::new();
        for second in 1..=100 {
            if hearing.listen(traffic(second), at(second)).is_some() {
                starts.push(second);
                hearing = Hearing::begin(traffic(second), hearing.deaf_starts + 1, at(second));
            }
        }
        starts
    }

    #[test]
    fn a_vf_that_stays_deaf_after_its_start_is_started_some_times_more_ever_later() {
        assert_eq!(starts(1, |_| (7, 9)), [2, 6, 14, 30, 62]);
        assert_eq!(starts(1, |second| (if second < 5 { 7 } else { second }, 9)), [2], "it hears");
        assert_eq!(starts(0, |_| (0, 0)), [] as [u64; 0], "nobody has talked to it yet");
    }

    #[test]
    fn a_vf_that_sends_and_hears_no_answer_any_more_is_started() {
        let stops_at_20 = |second: u64| (second.min(20), 10 * second);
        assert_eq!(starts(0, stops_at_20).first(), Some(&25));
        assert_eq!(starts(0, |second| (second.min(20), 0)), [] as [u64; 0], "all is quiet");
        assert_eq!(starts(0, |second| (0, 10 * second)), [] as [u64; 0], "it only ever sends");
    }
}
