//! The classes of a port as software sees them: what a NIC with all their rules would write into each packet.

use super::class::{PortClasses, Tag};
use super::classify::{Classifier, ClassifyError, Net, v4_net, v6_net};
use super::region::Region;
use super::regions::is_taggable;
use crate::chain::value::{IpFamily, Prefix};
use crate::dpdk::{Acl, BURST_MAX, Rule};
use crate::nf::PortIndex;
use crate::packet::Headers;

/// The classes of a port, compiled.
///
/// Cost: 20 to 60 clocks a packet, however many classes there are.
#[derive(Debug)]
pub struct Twin {
    classifier: Classifier,
    tags: Box<[Tag]>,
}

impl Twin {
    /// Compiles the classes of a port. Slow when they are many: never on a worker.
    ///
    /// # Errors
    /// There is no memory.
    pub fn build(port: &PortClasses) -> Result<Self, ClassifyError> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let regions =
            port.classes.iter().zip(1u32..).flat_map(|(class, result)| {
                class.regions.iter().map(move |region| (region, result))
            });
        for (region, result) in regions {
            v4.extend(rule(region, IpFamily::V4, result, v4_net));
            v6.extend(rule(region, IpFamily::V6, result, v6_net));
        }
        let v4 = if v4.is_empty() { None } else { Some(Acl::build::<4>(&v4)?) };
        let v6 = if v6.is_empty() { None } else { Some(Acl::build::<16>(&v6)?) };
        let tags = port.classes.iter().map(|class| class.tag).collect();
        Ok(Self { classifier: Classifier::of(v4, v6), tags })
    }

    /// The tag of each packet; `None`: it gets none.
    #[inline]
    pub fn tag(&self, headers: &[Headers], tags: &mut [Option<Tag>; BURST_MAX]) {
        let mut found = [0; BURST_MAX];
        self.classifier.look_up_headers(headers, PortIndex(0), false, &mut found);
        for ((h, tag), found) in headers.iter().zip(tags.iter_mut()).zip(found) {
            let class = (found as usize).checked_sub(1).and_then(|at| self.tags.get(at));
            *tag = class.copied().filter(|_| is_taggable(h));
        }
    }
}

/// A region's packets of one family.
fn rule<const BYTES: usize>(
    region: &Region,
    family: IpFamily,
    result: u32,
    net: fn(&Prefix) -> Option<Net<BYTES>>,
) -> Option<Rule<BYTES>> {
    if region.family.is_some_and(|f| f != family) {
        return None;
    }
    let any = ([0; BYTES], 0);
    let bits = |prefix: Option<Prefix>| prefix.as_ref().map_or(Some(any), net);
    Some(Rule {
        protocol: region.protocol.map_or((0, 0), |p| (p.number(), u8::MAX)),
        src: bits(region.src)?,
        dst: bits(region.dst)?,
        // Where a message's type stands.
        sport: region.icmp.map_or(region.sport, |kind| (u16::from(kind), u16::from(kind))),
        dport: region.dport,
        flags: (region.flags.0, region.flags.0 | region.flags.1),
        in_port: (0, 0),
        vlan: region.vlan.map_or((0, u16::MAX), |vlan| (vlan, vlan)),
        result,
    })
}
