//! Classification of packets by rules: DPDK's rte_acl, a trie of all rules at once, a burst a call.
//!
//! Chosen over a list (its cost grows with the rules) and tuple-space search (grows with the kinds of masks). DPDK
//! Programmer's Guide, "Packet Classification and Access Control".

use std::ffi::CString;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys::{rte_acl_config, rte_acl_ctx, rte_acl_field, rte_acl_field_def, rte_acl_rule_data};

use super::mbuf::BURST_MAX;
use super::{errno_text, last_errno};

/// What is looked up for an IPv4 packet. All in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Key4 {
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Keeps the rest aligned; not looked at.
    pub pad: [u8; 3],
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Ports; of an ICMP message type and 0.
    pub ports: [[u8; 2]; 2],
    /// TCP flags, receiving port, VLAN id.
    pub edge: Edge,
}

/// What is looked up for an IPv6 packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Key6 {
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Keeps the rest aligned; not looked at.
    pub pad: [u8; 3],
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Ports; of an ICMP message type and 0.
    pub ports: [[u8; 2]; 2],
    /// TCP flags, receiving port, VLAN id.
    pub edge: Edge,
}

/// The fields of a key that no address family owns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Edge {
    /// TCP flags.
    pub flags: u8,
    /// Number of the receiving port.
    pub in_port: u8,
    /// VLAN id, 0xffff without a tag.
    pub vlan: [u8; 2],
}

/// A rule for one family: value and mask of single bytes, address and prefix length, inclusive ranges.
#[derive(Clone, Copy, Debug)]
pub struct Rule<const BYTES: usize> {
    /// Protocol: value, mask.
    pub protocol: (u8, u8),
    /// Source: address, prefix length.
    pub src: ([u8; BYTES], u8),
    /// Destination: address, prefix length.
    pub dst: ([u8; BYTES], u8),
    /// Source ports.
    pub sport: (u16, u16),
    /// Destination ports.
    pub dport: (u16, u16),
    /// TCP flags: value, mask.
    pub flags: (u8, u8),
    /// Receiving port: value, mask.
    pub in_port: (u8, u8),
    /// VLAN ids.
    pub vlan: (u16, u16),
    /// What a match gives; not 0.
    pub result: u32,
}

/// A rule for IPv4.
pub type Rule4 = Rule<4>;
/// A rule for IPv6.
pub type Rule6 = Rule<16>;

/// Why there is no classifier.
#[derive(Debug, thiserror::Error)]
#[error("{call} of {rules} rules: {why}")]
pub struct AclError {
    call: &'static str,
    rules: usize,
    why: String,
}

/// A key that a classifier takes, with its layout.
pub trait Key: sealed::Sealed + Copy {
    /// Bytes of an address.
    const ADDRESS: usize;
    /// Where its addresses, ports and edge are.
    const OFFSETS: [usize; 4];
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Key4 {}
    impl Sealed for super::Key6 {}
}

impl Key for Key4 {
    const ADDRESS: usize = 4;
    const OFFSETS: [usize; 4] = [
        offset_of!(Self, src),
        offset_of!(Self, dst),
        offset_of!(Self, ports),
        offset_of!(Self, edge),
    ];
}

impl Key for Key6 {
    const ADDRESS: usize = 16;
    const OFFSETS: [usize; 4] = [
        offset_of!(Self, src),
        offset_of!(Self, dst),
        offset_of!(Self, ports),
        offset_of!(Self, edge),
    ];
}

/// A built classifier for keys `K`. Read only, so any number of threads may look up at once.
#[derive(Debug)]
pub struct Acl<K> {
    context: NonNull<rte_acl_ctx>,
    keys: PhantomData<fn(K)>,
}

// SAFETY: a built context is only read by lookups, and freed once, by any thread.
unsafe impl<K> Send for Acl<K> {}
// SAFETY: as above.
unsafe impl<K> Sync for Acl<K> {}

impl<K> Drop for Acl<K> {
    fn drop(&mut self) {
        // SAFETY: made by `rte_acl_create`, freed only here.
        unsafe { dpdk_sys::rte_acl_free(self.context.as_ptr()) }
    }
}

/// Fields of the larger layout: protocol, twice four words of address, two ports, flags, port, VLAN.
const FIELDS_MAX: usize = 14;

/// DPDK's rule, with as many fields as the layout has; the rest is not read.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawRule {
    data: rte_acl_rule_data,
    fields: [rte_acl_field; FIELDS_MAX],
}

impl<K: Key> Acl<K> {
    /// Builds from rules of which the first that matches wins.
    ///
    /// Cost: seconds for 100,000 rules; never on a worker.
    /// # Errors
    /// No memory, or more rules than priorities (2^29).
    pub fn build<const BYTES: usize>(rules: &[Rule<BYTES>]) -> Result<Self, AclError> {
        const { assert!(BYTES == K::ADDRESS, "the rules are of the keys' family") };
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = CString::new(format!("nfv_acl_{}", NEXT.fetch_add(1, Ordering::Relaxed)))
            .expect("made of letters and digits");
        let defs = layout::<K>();
        let size = std::mem::size_of::<rte_acl_rule_data>()
            + defs.len() * std::mem::size_of::<rte_acl_field>();
        let fail = |call, why| AclError { call, rules: rules.len(), why };
        let count = u32::try_from(rules.len()).unwrap_or(u32::MAX).max(1);
        let param = dpdk_sys::rte_acl_param {
            name: name.as_ptr(),
            socket_id: -1,
            rule_size: size as u32,
            max_rule_num: count,
        };
        // SAFETY: the parameters are valid for the call, which copies the name.
        let context = unsafe { dpdk_sys::rte_acl_create(&param) };
        let context = NonNull::new(context)
            .ok_or_else(|| fail("rte_acl_create", errno_text(last_errno())))?;
        let this = Self { context, keys: PhantomData };

        for (index, rule) in rules.iter().enumerate() {
            let raw = raw_rule(rule, index, defs.len());
            // SAFETY: `raw` is one rule of at least `rule_size` initialised bytes, which the call copies.
            let failed = unsafe {
                dpdk_sys::rte_acl_add_rules(context.as_ptr(), (&raw const raw).cast(), 1)
            };
            if failed != 0 {
                return Err(fail("rte_acl_add_rules", errno_text(failed)));
            }
        }
        let mut config = rte_acl_config {
            num_categories: 1,
            num_fields: defs.len() as u32,
            ..rte_acl_config::default()
        };
        for (to, from) in config.defs.iter_mut().zip(&defs) {
            *to = *from;
        }
        // SAFETY: the context has all its rules; the configuration is read during the call.
        let failed = unsafe { dpdk_sys::rte_acl_build(context.as_ptr(), &config) };
        if failed != 0 {
            return Err(fail("rte_acl_build", errno_text(failed)));
        }
        Ok(this)
    }

    /// Looks up a burst: `results[i]` becomes the `result` of the first rule that matches `keys[i]`, 0 without one.
    ///
    /// Cost: 20 to 60 clocks a key, in parallel over the burst; nearly the same for 10 and for 10,000 rules.
    #[inline]
    pub fn classify(&self, keys: &[K], results: &mut [u32]) {
        let mut pointers = [std::ptr::null::<u8>(); BURST_MAX];
        for (keys, results) in keys.chunks(BURST_MAX).zip(results.chunks_mut(BURST_MAX)) {
            let n = keys.len().min(results.len());
            for (pointer, key) in pointers.iter_mut().zip(keys) {
                *pointer = std::ptr::from_ref(key).cast();
            }
            // SAFETY: `n` pointers to keys of the layout that the context was built for, and room for `n` results.
            unsafe {
                dpdk_sys::rte_acl_classify(
                    self.context.as_ptr(),
                    pointers.as_mut_ptr(),
                    results.as_mut_ptr(),
                    n as u32,
                    1,
                )
            };
        }
    }
}

/// The field definitions: a byte first, then groups of four bytes, as rte_acl wants them.
fn layout<K: Key>() -> Vec<rte_acl_field_def> {
    let [src, dst, ports, edge] = K::OFFSETS;
    let mut defs: Vec<rte_acl_field_def> = Vec::with_capacity(FIELDS_MAX);
    let mut put = |kind: u32, size: u8, input: u8, offset: usize| {
        let field_index = defs.len() as u8;
        defs.push(rte_acl_field_def {
            type_: kind as u8,
            size,
            field_index,
            input_index: input,
            offset: offset as u32,
        });
    };
    let words = (K::ADDRESS / 4) as u8;
    put(dpdk_sys::RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0);
    for word in 0..words {
        put(dpdk_sys::RTE_ACL_FIELD_TYPE_MASK, 4, 1 + word, src + usize::from(word) * 4);
    }
    for word in 0..words {
        put(dpdk_sys::RTE_ACL_FIELD_TYPE_MASK, 4, 1 + words + word, dst + usize::from(word) * 4);
    }
    let input = 1 + 2 * words;
    put(dpdk_sys::RTE_ACL_FIELD_TYPE_RANGE, 2, input, ports);
    put(dpdk_sys::RTE_ACL_FIELD_TYPE_RANGE, 2, input, ports + 2);
    put(dpdk_sys::RTE_ACL_FIELD_TYPE_BITMASK, 1, input + 1, edge);
    put(dpdk_sys::RTE_ACL_FIELD_TYPE_BITMASK, 1, input + 1, edge + 1);
    put(dpdk_sys::RTE_ACL_FIELD_TYPE_RANGE, 2, input + 1, edge + 2);
    defs
}

fn raw_rule<const BYTES: usize>(rule: &Rule<BYTES>, index: usize, fields: usize) -> RawRule {
    let byte = |(value, mask): (u8, u8)| (u64::from(value), u64::from(mask));
    let range = |(low, high): (u16, u16)| (u64::from(low), u64::from(high));
    let mut values = [(0u64, 0u64); FIELDS_MAX];
    let words = |(address, length): &([u8; BYTES], u8)| {
        let mut left = *length;
        address
            .chunks_exact(4)
            .map(|w| {
                let here = left.min(32);
                left -= here;
                let word = w.iter().fold(0u64, |sum, b| (sum << 8) | u64::from(*b));
                (word, u64::from(here))
            })
            .collect::<Vec<_>>()
    };
    let all = std::iter::once(byte(rule.protocol))
        .chain(words(&rule.src))
        .chain(words(&rule.dst))
        .chain([range(rule.sport), range(rule.dport)])
        .chain([byte(rule.flags), byte(rule.in_port), range(rule.vlan)]);
    for (slot, value) in values.iter_mut().zip(all) {
        *slot = value;
    }
    let priority = i32::try_from(dpdk_sys::RTE_ACL_MAX_PRIORITY as usize - index).unwrap_or(1);
    let mut raw = RawRule {
        data: rte_acl_rule_data { category_mask: 1, priority, userdata: rule.result },
        fields: [rte_acl_field::default(); FIELDS_MAX],
    };
    for (field, (value, mask)) in raw.fields.iter_mut().zip(values).take(fields) {
        field.value.u64_ = value;
        field.mask_range.u64_ = mask;
    }
    raw
}
