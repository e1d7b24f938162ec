//! Sets of numbers as their inclusive ranges: addresses and ports of a rule.

/// A set of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intervals<T> {
    /// Sorted, apart by at least one number, first and last inclusive.
    ranges: Box<[(T, T)]>,
}

/// A number with neighbours.
pub trait Bound: Copy + Ord {
    /// The least.
    const FIRST: Self;
    /// The greatest.
    const LAST: Self;
    /// The next greater.
    fn after(self) -> Option<Self>;
    /// The next less.
    fn before(self) -> Option<Self>;
}

macro_rules! bound {
    ($($number:ty),*) => {$(
        impl Bound for $number {
            const FIRST: Self = <$number>::MIN;
            const LAST: Self = <$number>::MAX;
            fn after(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )*};
}
bound!(u16, u32, u128);

impl<T: Bound> Intervals<T> {
    /// Those of these ranges, first and last inclusive, in any order.
    pub fn new(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if end.after().is_none_or(|next| first <= next) => {
                    *end = (*end).max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged.into() }
    }

    /// All numbers.
    pub fn all() -> Self {
        Self { ranges: Box::new([(T::FIRST, T::LAST)]) }
    }

    /// No number.
    pub fn none() -> Self {
        Self { ranges: Box::default() }
    }

    /// The ranges: sorted, apart, first and last inclusive.
    pub fn ranges(&self) -> &[(T, T)] {
        &self.ranges
    }

    /// Whether every number is in it.
    pub fn is_all(&self) -> bool {
        matches!(*self.ranges, [(first, last)] if first == T::FIRST && last == T::LAST)
    }

    /// Whether no number is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `number` is in it.
    ///
    /// # Cost
    /// O(log n) comparisons of n ranges.
    pub fn contains(&self, number: T) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        self.ranges.get(..after).and_then(<[_]>::last).is_some_and(|(_, last)| number <= *last)
    }

    /// What of it is not in `other`. O(n + m).
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.ranges.iter().peekable();
        for &(first, last) in &self.ranges {
            let mut from = Some(first);
            while let Some(&&(hole_first, hole_last)) = holes.peek() {
                let Some(start) = from else { break };
                if hole_first > last {
                    break;
                }
                if hole_last >= start {
                    if let Some(end) = hole_first.before().filter(|end| *end >= start) {
                        left.push((start, end));
                    }
                    from = hole_last.after().filter(|next| *next <= last);
                }
                if hole_last > last {
                    break;
                }
                holes.next();
            }
            if let Some(start) = from.filter(|start| *start <= last) {
                left.push((start, last));
            }
        }
        Self { ranges: left.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let set = Intervals::new(vec![(5_u16, 7), (1, 2), (3, 3), (6, 9), (65_535, 65_535)]);
        assert_eq!(set.ranges(), [(1, 3), (5, 9), (65_535, 65_535)]);
    }

    proptest! {
        #[test]
        fn a_difference_has_what_is_in_the_one_and_not_in_the_other(
            a in prop::collection::vec((0_u16..40, 0_u16..10), 0..6),
            b in prop::collection::vec((0_u16..40, 0_u16..10), 0..6),
        ) {
            let set = |v: &[(u16, u16)]| Intervals::new(v.iter().map(|(f, n)| (*f, f + n)).collect());
            let (a, b) = (set(&a), set(&b));
            let difference = a.minus(&b);
            for number in 0..60 {
                prop_assert_eq!(
                    difference.contains(number),
                    a.contains(number) && !b.contains(number),
                );
            }
            let full = Intervals::all().minus(&a);
            prop_assert_eq!(full.contains(u16::MAX), !a.contains(u16::MAX));
            prop_assert_eq!(Intervals::all().minus(&full), a);
        }
    }
}
