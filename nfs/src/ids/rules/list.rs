//! Lists of addresses and of ports as they are written: `[10.0.0.0/8,![10.1.0.0/16,$SERVERS]]`.
//!
//! A list means what is named in it without `!`, or everything if there is no such, but what is named with `!`. Brackets
//! only carry their `!` to what they hold, and two `!` undo one another, as Suricata has it.

use super::mistake::{Read, broken};

/// Whether an item belongs to a list or is taken out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    With,
    Without,
}

impl Sign {
    /// The same, or the other one if `other` is `Without`.
    pub fn times(self, other: Self) -> Self {
        if self == other { Self::With } else { Self::Without }
    }
}

/// Tells `item` each item of a list, where it stands and whether it is taken out. No recursion: brackets are on a stack.
pub(super) fn items<'t>(
    text: &'t str,
    at: usize,
    mut item: impl FnMut(&'t str, usize, Sign) -> Read<()>,
) -> Read<()> {
    let mut around = vec![Sign::With];
    let mut sign = Sign::With;
    // Where an item begins; and whether one must come now, may, or may not.
    let mut expected = Expected::Item;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let here = at + text.len() - rest.len();
        let outer = around.last().copied().unwrap_or(Sign::With);
        match (first, expected) {
            (c, _) if c.is_ascii_whitespace() => {}
            ('!', Expected::Item) => sign = sign.times(Sign::Without),
            ('[', Expected::Item) => {
                around.push(outer.times(sign));
                sign = Sign::With;
            }
            (']', Expected::Separator) if around.len() > 1 => {
                around.pop();
            }
            (']', _) if around.len() == 1 => return broken(here, "a `]` without its `[`"),
            (',', Expected::Separator) => expected = Expected::Item,
            (',' | ']', Expected::Item) => return broken(here, "an empty item in a list"),
            (_, Expected::Separator) => return broken(here, "a `,` or `]` is missing in a list"),
            (_, Expected::Item) => {
                let end = rest.find([',', ']', '[']).unwrap_or(rest.len());
                let (word, _) = rest.split_at(end);
                item(word.trim_ascii(), here, outer.times(sign))?;
                (sign, expected) = (Sign::With, Expected::Separator);
                rest = rest.get(end..).unwrap_or_default();
                continue;
            }
        }
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    match (expected, around.len()) {
        (Expected::Separator, 1) => Ok(()),
        (Expected::Item, _) => broken(at, "a list without its last item"),
        (Expected::Separator, _) => broken(at, "a `[` without its `]`"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Item,
    Separator,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let mut found = String::new();
        items(text, 0, |word, _, sign| {
            found += if sign == Sign::With { " " } else { " !" };
            found += word;
            Ok(())
        })
        .map(|()| found.trim_ascii().to_owned())
        .map_err(|m| m.text)
    }

    #[test]
    fn brackets_carry_their_negation_inwards_and_two_undo_one_another() {
        assert_eq!(read("a").unwrap(), "a");
        assert_eq!(read("!a").unwrap(), "!a");
        assert_eq!(read("[a, !b,![c,!d,[e]]]").unwrap(), "a !b !c d !e");
        assert_eq!(read("![![a]]").unwrap(), "a");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in
            ["", "[", "[]", "[a", "a]", "[a,]", "[,a]", "a,", "[a][b]", "[a[b]]", "!", "[a]b"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_hundred_thousand_brackets_are_a_list_like_any_other() {
        let text = format!("{}a{}", "![".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&text).unwrap(), "a");
    }
}
