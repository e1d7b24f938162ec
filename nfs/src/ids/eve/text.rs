//! Several texts in one piece of memory.

/// Up to 32 texts, some of them absent, in one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts<const N: usize> {
    all: Box<[u8]>,
    /// Where each ends; it starts where the one before ends.
    ends: [u32; N],
    present: u32,
}

impl<const N: usize> Texts<N> {
    /// Copies them; each no longer than `most`.
    pub(super) fn gather(parts: [Option<&[u8]>; N], most: usize) -> Self {
        const { assert!(N <= 32, "`present` has a bit for each") };
        let cut = |part: Option<&'_ [u8]>| part.map(|part| part.len().min(most));
        let mut all = Vec::with_capacity(parts.iter().filter_map(|part| cut(*part)).sum());
        let mut ends = [0; N];
        let mut present = 0;
        for (index, (part, end)) in parts.into_iter().zip(&mut ends).enumerate() {
            if let Some(part) = part {
                present |= 1 << index;
                all.extend_from_slice(part.get(..most).unwrap_or(part));
            }
            *end = u32::try_from(all.len()).unwrap_or(u32::MAX);
        }
        Self { all: all.into(), ends, present }
    }

    /// One of them.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        if index >= N || self.present & 1 << index == 0 {
            return None;
        }
        let start =
            index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        let end = self.ends.get(index).copied()?;
        self.all.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// The memory that they hold, without their own size.
    pub(super) fn bytes(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were_and_those_not_there_do_not() {
        let texts = Texts::gather([Some(b"one".as_slice()), None, Some(b""), Some(b"four")], 100);
        assert_eq!(texts.get(0), Some(&b"one"[..]));
        assert_eq!(texts.get(1), None);
        assert_eq!(texts.get(2), Some(&b""[..]));
        assert_eq!(texts.get(3), Some(&b"four"[..]));
        assert_eq!(texts.get(4), None);
    }

    #[test]
    fn a_text_is_no_longer_than_allowed() {
        let texts = Texts::gather([Some(b"abcdef".as_slice()), Some(b"ghi")], 4);
        assert_eq!((texts.get(0), texts.get(1)), (Some(&b"abcd"[..]), Some(&b"ghi"[..])));
    }
}
