//! Which flow a packet is of, where the order never repeats: written into each packet as it is received.

use nfv_core::dpdk::{BURST_MAX, Packets};

use super::template::Template;

/// Writes flows into packets of a template.
#[derive(Debug)]
pub struct Writer {
    template: Template,
    order: Order,
}

impl Writer {
    /// `order`: that of one worker.
    pub fn new(template: Template, order: Order) -> Self {
        Self { template, order }
    }

    /// Makes each packet one of the flow that is next.
    ///
    /// # Cost
    /// 8 ns a packet, the same with ten thousand flows and with ten million: it reads no memory but the packet.
    #[inline]
    pub fn write(&mut self, packets: &mut Packets) {
        let mut flows = [0; BURST_MAX];
        let step = self.order.next(packets.len(), &mut flows);
        for (packet, flow) in packets.iter_mut().zip(flows) {
            self.template.write(packet.data_mut(), flow, step);
        }
    }
}

/// In what order flows have their packets.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// All in an order that looks random, then all in another one.
    Random(Shuffle),
    /// None twice: every `by`th number.
    New {
        /// The next one.
        next: u64,
        /// The number of workers, each of which takes its own.
        by: u64,
    },
}

/// Numbers of flows in one pseudo-random order after another, without a table: a table would take the cache from the
/// chains. A counter goes through all numbers of so many bits, is mixed so that each comes out once, and what is no
/// flow's number is left out.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    first: u64,
    flows: u32,
    bits: u32,
    counter: u32,
    pass: u32,
}

impl Order {
    /// All of `flows` flows from number `first` on.
    pub fn random(first: u64, flows: u32) -> Self {
        let bits = flows.next_power_of_two().trailing_zeros().max(2);
        Self::Random(Shuffle { first, flows, bits, counter: 0, pass: 0 })
    }

    /// The next `count` flows, and how many packets each had before.
    #[inline]
    fn next(&mut self, count: usize, flows: &mut [u64; BURST_MAX]) -> u64 {
        match self {
            Self::Random(shuffle) => shuffle.next(count, flows),
            Self::New { next, by } => {
                for flow in flows.iter_mut().take(count) {
                    *flow = *next;
                    *next += *by;
                }
                0
            }
        }
    }
}

impl Shuffle {
    #[inline]
    fn next(&mut self, count: usize, flows: &mut [u64; BURST_MAX]) -> u64 {
        let mut found = 0;
        while found < count {
            let number = mixed(self.counter, self.pass, self.bits);
            if let Some(place) = flows.get_mut(found) {
                *place = self.first + u64::from(number);
            }
            // Left out without a branch, which would be mispredicted every third time.
            found += usize::from(number < self.flows);
            self.counter += 1;
            if self.counter >> self.bits != 0 {
                (self.counter, self.pass) = (0, self.pass.wrapping_add(1));
            }
        }
        u64::from(self.pass)
    }
}

/// A permutation of the numbers of so many bits, another one for each pass: each step can be undone.
#[inline(always)]
fn mixed(counter: u32, pass: u32, bits: u32) -> u32 {
    let mask = u32::MAX >> (32 - bits);
    let half = bits / 2;
    let mut x = (counter ^ pass.wrapping_mul(0x9e37_79b9)) & mask;
    x = x.wrapping_mul(0x85eb_ca6b) & mask;
    x ^= x >> half;
    x = x.wrapping_mul(0xc2b2_ae35) & mask;
    x ^= x >> half;
    x = x.wrapping_mul(0x27d4_eb2f) & mask;
    x ^ (x >> half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(order: &mut Order, count: usize) -> Vec<u64> {
        let mut all = Vec::new();
        while all.len() < count {
            let mut flows = [0; BURST_MAX];
            let n = (count - all.len()).min(BURST_MAX);
            order.next(n, &mut flows);
            all.extend_from_slice(&flows[..n]);
        }
        all
    }

    #[test]
    fn each_flow_has_one_packet_in_a_pass_and_the_next_pass_has_another_order() {
        for flows in [1, 2, 3, 1000, 70_000, 1 << 17] {
            let mut order = Order::random(500, flows);
            let passes = [0, 1].map(|_| take(&mut order, flows as usize));
            for pass in &passes {
                let mut sorted = pass.clone();
                sorted.sort_unstable();
                assert!(sorted.iter().copied().eq(500..500 + u64::from(flows)), "{flows}");
            }
            assert!(flows < 10 || passes[0] != passes[1], "{flows}");
        }
    }

    #[test]
    fn the_order_has_no_run_that_a_prefetcher_could_follow() {
        let order = take(&mut Order::random(0, 1_000_000), 1_000_000);
        let gap = |w: &[u64]| w[1].wrapping_sub(w[0]) as i64;
        let gaps: Vec<i64> = order.windows(2).map(gap).collect();
        let again = gaps.windows(2).filter(|w| w[0] == w[1]).count();
        let near = gaps.iter().filter(|g| g.abs() < 64).count();
        assert!(again < 2000 && near < 2000, "{again} equal steps, {near} short ones");
    }

    #[test]
    fn new_flows_never_come_twice_and_no_two_workers_have_the_same() {
        let mut all = Vec::new();
        for worker in 0..3 {
            all.extend(take(&mut Order::New { next: worker, by: 3 }, 10_000));
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..30_000));
    }
}
