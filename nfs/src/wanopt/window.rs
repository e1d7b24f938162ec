//! Which messages came, by their counts: what is recorded and sent again later is known, whoever has changed the order.
//!
//! A ring of bits for the newest counts; what is older than all of those counts as having come. Blocks are emptied as a
//! whole when the newest count enters them, so that nothing is ever shifted.
//!
//! Source: RFC 6479

/// The counts that came; all memory is taken when it is made.
#[derive(Debug)]
pub struct Window {
    /// The highest that came; the first is 1.
    highest: u64,
    blocks: Box<[u64]>,
}

impl Window {
    /// None came.
    pub fn new() -> Self {
        Self { highest: 0, blocks: vec![0; BLOCKS].into() }
    }

    /// The highest that came.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether it has not come, as far as that is known.
    #[inline]
    pub fn is_new(&self, count: u64) -> bool {
        let is_known = self.highest.saturating_sub(count) < WINDOW && count > 0;
        let is_set = || self.blocks.get(block(count)).is_none_or(|b| b >> (count % 64) & 1 == 1);
        count > self.highest || is_known && !is_set()
    }

    /// It came. To be called for what is new.
    #[inline]
    pub fn note(&mut self, count: u64) {
        let (last, own) = (self.highest / 64, count / 64);
        for ahead in (last + 1..=own).take(BLOCKS) {
            if let Some(block) = self.blocks.get_mut(block(ahead * 64)) {
                *block = 0;
            }
        }
        self.highest = self.highest.max(count);
        if let Some(block) = self.blocks.get_mut(block(count)) {
            *block |= 1 << (count % 64);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.highest = 0;
        self.blocks.fill(0);
    }
}

fn block(count: u64) -> usize {
    (count / 64) as usize % BLOCKS
}

/// Counts below the highest that are told apart: as many messages as an encoder may be asked for again.
pub const WINDOW: u64 = 1 << 14;
/// One more than they need: the newest is being filled.
const BLOCKS: usize = WINDOW as usize / 64 + 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_out_of_order_is_new_once_within_the_window_and_never_before_it() {
        let mut window = Window::new();
        assert!(window.is_new(5) && !window.is_new(0));
        window.note(WINDOW + 100);
        assert!(!window.is_new(100), "it may have come");
        assert!(window.is_new(101));
        window.note(101);
        assert!(!window.is_new(101));
        window.note(u64::MAX);
        assert!(!window.is_new(WINDOW + 101) && window.is_new(u64::MAX - 1));
    }

    proptest! {
        #[test]
        fn each_count_is_new_once(
            steps in prop::collection::vec((0u64..40_000, any::<bool>()), 1..2000), start in 1u64..1 << 40,
        ) {
            let mut window = Window::new();
            let mut came = std::collections::BTreeSet::new();
            let mut newest = start;
            for (step, is_ahead) in steps {
                let ahead = newest + step % [3, 70, 700, 40_000][step as usize % 4];
                let count = if is_ahead { ahead } else { newest.saturating_sub(step) };
                let highest = came.last().copied().unwrap_or(0);
                let is_new = count > 0 && !came.contains(&count) && highest < count + WINDOW;
                prop_assert_eq!(window.is_new(count), is_new, "{} of {}", count, highest);
                if is_new {
                    window.note(count);
                    came.insert(count);
                    newest = newest.max(count);
                }
                prop_assert_eq!(window.highest(), came.last().copied().unwrap_or(0));
            }
        }
    }
}
