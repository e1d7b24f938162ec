//! Ranges of addresses in order, behind an index of their first bits.

/// An address as a number.
pub trait Number: Ord + Copy {
    /// Its first 16 bits.
    fn head(self) -> usize;
}

impl Number for u32 {
    fn head(self) -> usize {
        (self >> 16) as usize
    }
}

impl Number for u128 {
    fn head(self) -> usize {
        (self >> 112) as usize
    }
}

/// Ranges in order, none of which meets another.
#[derive(Debug)]
pub struct Ranges<T> {
    firsts: Box<[T]>,
    /// Both ends are in a range.
    lasts: Box<[T]>,
    /// By the first 16 bits of an address, how many ranges begin before all that have them; empty: there are no ranges.
    heads: Box<[u32]>,
}

impl<T: Number> Ranges<T> {
    /// Of ranges in any order.
    pub fn of(mut all: Vec<(T, T)>) -> Self {
        all.sort_unstable();
        let (mut firsts, mut lasts) = (Vec::new(), Vec::<T>::new());
        for (first, last) in all {
            match lasts.last_mut().filter(|before| first <= **before) {
                Some(before) => *before = last.max(*before),
                None => {
                    firsts.push(first);
                    lasts.push(last);
                }
            }
        }
        let mut heads = Vec::new();
        if !firsts.is_empty() {
            let mut before = 0;
            for head in 0..=HEADS {
                while firsts.get(before).is_some_and(|first: &T| first.head() < head) {
                    before += 1;
                }
                heads.push(u32::try_from(before).unwrap_or(u32::MAX));
            }
        }
        Self { firsts: firsts.into(), lasts: lasts.into(), heads: heads.into() }
    }

    /// Whether an address is in any.
    pub fn has(&self, one: T) -> bool {
        let at = |head: usize| self.heads.get(head).map(|n| *n as usize);
        let (Some(from), Some(to)) = (at(one.head()), at(one.head() + 1)) else { return false };
        let near = self.firsts.get(from..to).unwrap_or_default();
        // The last that begins at or before it, which may begin before all that have its first bits.
        let behind = from + near.partition_point(|first| *first <= one);
        behind.checked_sub(1).and_then(|at| self.lasts.get(at)).is_some_and(|last| one <= *last)
    }
}

const HEADS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_have_what_any_of_them_has(
            all in prop::collection::vec((0u32..400, 0u32..40), 0..30),
            shift in prop::sample::select(vec![0u32, 12, 20]),
            one in 0u32..450,
        ) {
            let all: Vec<_> = all.into_iter().map(|(f, n)| (f << shift, (f + n) << shift)).collect();
            let one = one << shift;
            let any = all.iter().any(|(first, last)| (*first..=*last).contains(&one));
            prop_assert_eq!(Ranges::of(all).has(one), any);
        }
    }
}
