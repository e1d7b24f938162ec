//! A `threshold.config`: what an operator says about the alerts of rules that others wrote.
//!
//! ```text
//!   threshold   gen_id 1, sig_id 10, type limit, track by_src, count 1, seconds 60
//!   rate_filter gen_id 1, sig_id 11, track by_src, count 10, seconds 60, new_action drop, timeout 300
//!   suppress    gen_id 1, sig_id 12, track by_either, ip [10.0.0.0/8,$DNS_SERVERS]
//! ```
//!
//! Number 0 is all of a group, group 0 all rules. A limit of one rule takes the place of the rule's own; one of many is for the
//! rules that have none so far. A line that is wrong is told with its place, and the others count.
//!
//! Source: Suricata's user guide, "Global-Thresholds", and its 8.0 where that is silent.

use std::collections::HashMap;
use std::sync::Arc;

use super::address::Addresses;
use super::mistake::{Read, broken};
use super::number::number;
use super::options::Value;
use super::rate::{self, RateFilter, SuppressedEnd, Suppression, Threshold};
use super::rule::Rule;
use super::variables::Variables;
use super::{NotLoaded, Rules, Source, lines};

/// The lines of a `threshold.config`.
#[derive(Clone, Debug, Default)]
pub struct AlertLimits {
    file: Arc<str>,
    lines: Vec<Limit>,
    /// Lines that are wrong.
    pub broken: Vec<NotLoaded>,
    /// Lines without a rule that they could be about.
    pub unused: Vec<NotLoaded>,
}

/// What is not told of the rules of many numbers.
#[derive(Clone, Debug)]
pub struct GroupSuppression {
    /// The group; 0: all.
    pub gid: u32,
    /// Whose matches.
    pub suppression: Suppression,
}

#[derive(Clone, Debug)]
struct Limit {
    line: u32,
    gid: u32,
    sid: u32,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Threshold(Threshold),
    RateFilter(RateFilter),
    /// `None`: nothing is told.
    Suppress(Option<Suppression>),
}

impl AlertLimits {
    /// Reads a file; `variables` are those that its addresses may name.
    pub fn read(source: &Source<'_>, variables: &Variables) -> Self {
        let file: Arc<str> = Arc::from(source.name);
        let mut this = Self { file: Arc::clone(&file), ..Self::default() };
        for line in lines::rules(source.text) {
            match limit(&line.text, line.number(), variables) {
                Ok(limit) => this.lines.push(limit),
                Err(mistake) => {
                    let (line, column) = line.place(mistake.at);
                    let file = Arc::clone(&file);
                    this.broken.push(NotLoaded {
                        file,
                        line,
                        column,
                        sid: None,
                        why: mistake.text,
                    });
                }
            }
        }
        this
    }

    /// How many lines are right.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether no line is right.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Has rules limited, line after line.
    pub fn apply(&mut self, rules: &mut Rules) {
        let all = rules.rules.iter().enumerate();
        let places: HashMap<(u32, u32), usize> =
            all.map(|(place, rule)| ((rule.gid, rule.sid), place)).collect();
        for Limit { line, gid, sid, what } in &self.lines {
            let outcome = if *sid == 0 {
                apply_to_many(what, *gid, rules);
                Ok(())
            } else {
                let rule = places.get(&(*gid, *sid)).and_then(|place| rules.rules.get_mut(*place));
                match rule {
                    Some(rule) => apply_to_one(what, rule),
                    None => Err(format!("there is no rule {gid}:{sid}")),
                }
            };
            if let Err(why) = outcome {
                let file = Arc::clone(&self.file);
                self.unused.push(NotLoaded { file, line: *line, column: 1, sid: None, why });
            }
        }
    }
}

fn apply_to_one(what: &What, rule: &mut Rule) -> Result<(), String> {
    match what {
        What::Suppress(None) => rule.noalert = true,
        What::Suppress(Some(suppression)) => rule.suppressed.push(suppression.clone()),
        What::Threshold(threshold) => {
            rule.threshold = Some(*threshold);
            (rule.detection_filter, rule.rate_filter) = (None, None);
        }
        What::RateFilter(_) if is_limited(rule) => {
            return Err(format!("the rule {}:{} has a limit already", rule.gid, rule.sid));
        }
        What::RateFilter(filter) => rule.rate_filter = Some(*filter),
    }
    Ok(())
}

/// Of a group, or of all: `gid` 0.
fn apply_to_many(what: &What, gid: u32, rules: &mut Rules) {
    let all = rules.rules.iter_mut().filter(|rule| gid == 0 || rule.gid == gid);
    match what {
        What::Suppress(None) => all.for_each(|rule| rule.noalert = true),
        What::Suppress(Some(suppression)) => {
            let suppression = suppression.clone();
            rules.suppressed.push(GroupSuppression { gid, suppression });
        }
        What::Threshold(threshold) => {
            all.filter(|rule| !is_limited(rule)).for_each(|rule| rule.threshold = Some(*threshold))
        }
        What::RateFilter(filter) => {
            all.filter(|rule| !is_limited(rule)).for_each(|rule| rule.rate_filter = Some(*filter))
        }
    }
}

fn is_limited(rule: &Rule) -> bool {
    rule.threshold.is_some() || rule.detection_filter.is_some() || rule.rate_filter.is_some()
}

/// `COMMAND gen_id N, sig_id N[, ...]`
fn limit(text: &[u8], line: u32, variables: &Variables) -> Read<Limit> {
    let whole = Value { bytes: text, at: 0 }.text()?;
    let start = whole.len() - whole.trim_ascii_start().len();
    let (command, after) = word(whole, start);
    let (gid, after) = numbered(whole, after, "gen_id")?;
    let Some(',') = whole.get(after..).and_then(|rest| rest.chars().next()) else {
        return broken(after, "`, sig_id N` is missing");
    };
    let (sid, after) = numbered(whole, after + 1, "sig_id")?;
    if gid == 0 && sid != 0 {
        return broken(start, "one rule has a `gen_id` that is not 0: 1, if it says nothing else");
    }
    let rest = whole.get(after..).unwrap_or_default();
    let indent = rest.len() - rest.trim_ascii_start().len();
    let more = rest.trim_ascii();
    let value = match more.strip_prefix(',') {
        Some(more) => Some(Value { bytes: more.as_bytes(), at: after + indent + 1 }),
        None if more.is_empty() => None,
        None => return broken(after + indent, "a `,` is missing"),
    };
    let required = || value.map_or_else(|| broken(after, "what the limit is, is missing"), Ok);
    let what = match command {
        "threshold" | "event_filter" => What::Threshold(rate::threshold(required()?)?),
        "rate_filter" => What::RateFilter(rate::rate_filter(required()?)?),
        "suppress" => What::Suppress(match value {
            Some(value) => Some(suppression(value, variables)?),
            None => None,
        }),
        other => {
            return broken(
                start,
                format!("`{other}` is none of threshold, event_filter, rate_filter, suppress"),
            );
        }
    };
    Ok(Limit { line, gid, sid, what })
}

/// `track by_src|by_dst|by_either, ip ADDRESSES`
fn suppression(value: Value<'_>, variables: &Variables) -> Read<Suppression> {
    let text = value.text()?;
    let (first, rest) = text.split_once(',').unwrap_or((text, ""));
    let (key, track) = first.trim_ascii().split_once(char::is_whitespace).unwrap_or_default();
    let end = match (key, track.trim_ascii()) {
        ("track", "by_src") => SuppressedEnd::Src,
        ("track", "by_dst") => SuppressedEnd::Dst,
        ("track", "by_either") => SuppressedEnd::Either,
        _ => return broken(value.at, "a suppression is `track by_src|by_dst|by_either, ip LIST`"),
    };
    let at = value.at + text.len() - rest.trim_ascii_start().len();
    let Some(list) = rest.trim_ascii().strip_prefix("ip").filter(|list| !list.is_empty()) else {
        return broken(at, "`ip LIST` is missing");
    };
    let at = at + 2 + (list.len() - list.trim_ascii_start().len());
    let addresses = Addresses::read(list.trim_ascii(), at, variables)?;
    Ok(Suppression { end, addresses: Arc::new(addresses) })
}

/// The word that begins at a place, and where it ends.
fn word(text: &str, at: usize) -> (&str, usize) {
    let rest = text.get(at..).unwrap_or_default();
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    (rest.get(..end).unwrap_or_default(), at + end)
}

/// `NAME N`, and where what is behind it begins.
fn numbered(text: &str, at: usize, name: &str) -> Read<(u32, usize)> {
    let skip = |at: usize| {
        let rest = text.get(at..).unwrap_or_default();
        at + rest.len() - rest.trim_ascii_start().len()
    };
    let start = skip(at);
    if !text.get(start..).is_some_and(|rest| rest.starts_with(name)) {
        return broken(start, format!("`{name} N` is missing"));
    }
    let place = skip(start + name.len());
    let (digits, end) = word(text, place);
    Ok((number(digits, place)?, skip(end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::rules::{Action, RejectTo, ThresholdKind, Track};

    fn variables() -> Variables {
        let pairs = [("HOME_NET".to_owned(), "10.0.0.0/8".to_owned())];
        Variables::new(&pairs, &[]).0
    }

    fn read(text: &str) -> AlertLimits {
        AlertLimits::read(&Source { name: "threshold.config", text: text.as_bytes() }, &variables())
    }

    fn rules() -> Rules {
        let text = "alert udp any any -> any any (sid:1;)\n\
            alert udp any any -> any any (threshold:type limit,track by_src,count 1,seconds 1; sid:2;)\n\
            alert udp any any -> any any (detection_filter:track by_src,count 1,seconds 1; sid:3;)\n\
            alert udp any any -> any any (gid:7; sid:1;)\n";
        crate::ids::rules::tests::read(text)
    }

    /// What rules come to under a file, by their places.
    fn under(text: &str) -> (AlertLimits, Rules) {
        let (mut limits, mut rules) = (read(text), rules());
        assert_eq!(limits.broken, []);
        limits.apply(&mut rules);
        (limits, rules)
    }

    #[test]
    fn each_kind_of_line_is_read_and_lines_go_on() {
        let (limits, rules) = under(
            "# comment\n\nevent_filter gen_id 1, sig_id 1, \\\n  type both, track by_rule, \\\n  count 3, seconds 5\n\
             rate_filter gen_id 7, sig_id 1, track by_both, count 10, seconds 60, new_action reject, timeout 30\n\
             suppress gen_id 1, sig_id 2\n\
             suppress gen_id 1, sig_id 3, track by_either, ip [1.1.1.0/24,$HOME_NET]\n",
        );
        assert_eq!((limits.len(), limits.unused.len()), (4, 0));
        let [one, two, three, other] = &rules.rules[..] else { panic!() };
        let kind = ThresholdKind::Both;
        let expected = Threshold { kind, track: Track::Rule, count: 3, seconds: 5 };
        assert_eq!(one.threshold, Some(expected));
        assert!(two.noalert && two.threshold.is_some() && !one.noalert);
        let [suppression] = &three.suppressed[..] else { panic!() };
        let is_of = |a: [u8; 4], b: [u8; 4]| suppression.is_of(a.into(), b.into());
        assert!(
            is_of([1, 1, 1, 9], [2; 4]) && is_of([2; 4], [10, 0, 0, 1]) && !is_of([2; 4], [3; 4])
        );
        let action = Some(Action::Reject(RejectTo::Src));
        let expected =
            RateFilter { track: Track::Both, count: 10, seconds: 60, action, timeout: 30 };
        assert_eq!(other.rate_filter, Some(expected));
    }

    #[test]
    fn a_limit_of_a_rule_replaces_its_own_and_one_of_many_does_not() {
        let threshold = "type limit, track by_dst, count 9, seconds 9";
        let dst = |rule: &Rule| rule.threshold.is_some_and(|t| t.track == Track::Dst);
        let filtered = |rule: &Rule| rule.detection_filter.is_some();
        let (_, rules) = under(&format!(
            "threshold gen_id 1, sig_id 2, {threshold}\nthreshold gen_id 1, sig_id 3, {threshold}"
        ));
        assert_eq!(rules.rules.iter().map(dst).collect::<Vec<_>>(), [false, true, true, false]);
        assert!(!rules.rules.iter().any(filtered));
        let (_, rules) = under(&format!("threshold gen_id 0, sig_id 0, {threshold}"));
        assert_eq!(rules.rules.iter().map(dst).collect::<Vec<_>>(), [true, false, false, true]);
        let (_, rules) = under(&format!("threshold gen_id 1, sig_id 0, {threshold}"));
        assert_eq!(rules.rules.iter().map(dst).collect::<Vec<_>>(), [true, false, false, false]);
        // What came first stays, unless the rule is named.
        let rate = "track by_src, count 1, seconds 1, new_action drop, timeout 1";
        let (limits, rules) = under(&format!(
            "rate_filter gen_id 1, sig_id 1, {rate}\nthreshold gen_id 0, sig_id 0, {threshold}\n\
             rate_filter gen_id 7, sig_id 1, {rate}"
        ));
        assert!(rules.rules[0].rate_filter.is_some() && !dst(&rules.rules[0]));
        assert!(dst(&rules.rules[3]) && rules.rules[3].rate_filter.is_none());
        assert_eq!(
            limits.unused[0].to_string(),
            "threshold.config:3:1: the rule 7:1 has a limit already"
        );
    }

    #[test]
    fn what_is_suppressed_of_all_is_kept_once() {
        let (_, rules) = under(
            "suppress gen_id 0, sig_id 0, track by_src, ip 1.1.1.1\n\
             suppress gen_id 7, sig_id 0\nsuppress gen_id 1, sig_id 9",
        );
        assert_eq!((rules.suppressed.len(), rules.suppressed[0].gid), (1, 0));
        let noalert: Vec<bool> = rules.rules.iter().map(|rule| rule.noalert).collect();
        assert_eq!(noalert, [false, false, false, true]);
    }

    #[test]
    fn a_wrong_line_is_told_with_its_place_and_the_others_count() {
        let limits = read(
            "suppress gen_id 1, sig_id 1\nsuppres gen_id 1, sig_id 1\n\
             threshold gen_id 1, sig_id 1, type limit, track by_me, count 1, seconds 1\n\
             suppress gen_id 1, \\\n sig_id 1, track by_src, ip 1.1.1.300\nsuppress gen_id 0, sig_id 4\n",
        );
        assert_eq!(limits.len(), 1);
        let told: Vec<String> = limits.broken.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "threshold.config:2:1: `suppres` is none of threshold, event_filter, rate_filter, suppress",
                "threshold.config:3:42: `by_me` is none of by_src, by_dst, by_both, by_rule, by_flow",
                "threshold.config:5:29: `1.1.1.300` is no address",
                "threshold.config:6:1: one rule has a `gen_id` that is not 0: 1, if it says nothing else",
            ],
        );
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        let rate = "rate_filter gen_id 1, sig_id 1, track by_src, count 1, seconds 1";
        for text in [
            "suppress",
            "suppress gen_id 1",
            "suppress gen_id 1 sig_id 1",
            "suppress gen_id x, sig_id 1",
            "suppress gen_id 1, sig_id 1 more",
            "suppress gen_id 1, sig_id 1, track by_src",
            "suppress gen_id 1, sig_id 1, track by_rule, ip 1.1.1.1",
            "suppress gen_id 1, sig_id 1, track by_src, ip $NO",
            "suppress gen_id 1, sig_id 1, track by_src, ip",
            "threshold gen_id 1, sig_id 1",
            "threshold gen_id 1, sig_id 1, type limit, track by_src, count 1",
            "threshold gen_id 1, sig_id 1, type limit, track by_src, count 0, seconds 1",
            "threshold gen_id 1, sig_id 1, type limit, track by_src, count 1, seconds 1, timeout 1",
            rate,
            &format!("{rate}, new_action drop"),
            &format!("{rate}, new_action burn, timeout 1"),
            &format!("{rate}, new_action drop, timeout 99999999999"),
        ] {
            assert_eq!(read(text).broken.len(), 1, "{text}");
        }
        assert_eq!(read(&format!("{rate}, new_action sdrop, timeout 0")).len(), 1);
    }
}
