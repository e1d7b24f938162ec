//! How many matches become alerts, and what too many are answered with.

use std::net::IpAddr;
use std::sync::Arc;

use super::address::Addresses;
use super::mistake::{Read, broken};
use super::number::number;
use super::options::Value;
use super::rule::{Action, RejectTo};

/// How many alerts a rule gives in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// In which way.
    pub kind: ThresholdKind,
    /// Whose matches are counted together.
    pub track: Track,
    /// How many; at least one.
    pub count: u32,
    /// In so many seconds; 0 of [`ThresholdKind::Backoff`].
    pub seconds: u32,
}

/// In which way a threshold holds alerts back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdKind {
    /// The first `count` alert.
    Limit,
    /// Each `count`th alerts.
    Threshold,
    /// The `count`th alerts, and no later one in the time.
    Both,
    /// The `count`th alerts, then the one so many times as far, and so on.
    Backoff {
        /// At least 2.
        multiplier: u32,
    },
}

/// Whose matches are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Track {
    /// Those of a source's address.
    Src,
    /// Those of a destination's address.
    Dst,
    /// Those of a pair of addresses.
    Both,
    /// Those of the rule.
    Rule,
    /// Those of a flow.
    Flow,
}

/// From how many matches on a rule alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetectionFilter {
    /// Whose matches are counted together.
    pub track: Track,
    /// Those behind so many alert.
    pub count: u32,
    /// That come in so many seconds.
    pub seconds: u32,
    /// Of matches with the same one only the first counts.
    pub unique_on: Option<UniqueOn>,
}

/// What is to differ between matches that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueOn {
    /// The source's port.
    SrcPort,
    /// The destination's port.
    DstPort,
}

/// What becomes of matches while there are too many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateFilter {
    /// Whose matches are counted together.
    pub track: Track,
    /// Those behind so many get the new action.
    pub count: u32,
    /// That come in so many seconds.
    pub seconds: u32,
    /// What they do instead of what the rule says; `None`: what the rule says.
    pub action: Option<Action>,
    /// For so many seconds from the first of them on.
    pub timeout: u32,
}

/// Whose matches are not told; what the rule does is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// Which end has to have one of the addresses.
    pub end: SuppressedEnd,
    /// The addresses.
    pub addresses: Arc<Addresses>,
}

/// Which end of a packet a suppression asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressedEnd {
    /// Its source.
    Src,
    /// Its destination.
    Dst,
    /// One of the two.
    Either,
}

impl Suppression {
    /// Whether it is about a packet from `src` to `dst`.
    pub fn is_of(&self, src: IpAddr, dst: IpAddr) -> bool {
        let has = |address| self.addresses.contains(address);
        match self.end {
            SuppressedEnd::Src => has(src),
            SuppressedEnd::Dst => has(dst),
            SuppressedEnd::Either => has(src) || has(dst),
        }
    }
}

/// `type limit|threshold|both|backoff, track by_..., count N, seconds N`, in any order.
pub(super) fn threshold(value: Value<'_>) -> Read<Threshold> {
    let given = Given::read(value)?;
    let kind = match (given.kind, given.multiplier) {
        (Some(Word::Limit), None) => ThresholdKind::Limit,
        (Some(Word::Threshold), None) => ThresholdKind::Threshold,
        (Some(Word::Both), None) => ThresholdKind::Both,
        (Some(Word::Backoff), Some(multiplier)) if multiplier > 1 => {
            ThresholdKind::Backoff { multiplier }
        }
        (Some(Word::Backoff), _) => {
            return broken(value.at, "a backoff has a `multiplier` above 1");
        }
        (Some(_), Some(_)) => return broken(value.at, "only a backoff has a `multiplier`"),
        (None, _) => {
            return broken(value.at, "threshold needs `type limit|threshold|both|backoff`");
        }
    };
    let backs_off = matches!(kind, ThresholdKind::Backoff { .. });
    let (Some(track), Some(count)) = (given.track, given.count) else {
        return broken(value.at, "threshold needs `track` and `count`");
    };
    let seconds = match given.seconds {
        Some(seconds) if !backs_off => seconds,
        None if backs_off => 0,
        Some(_) => return broken(value.at, "a backoff has no `seconds`"),
        None => return broken(value.at, "threshold needs `seconds`"),
    };
    if given.unique_on.is_some() {
        return broken(value.at, "only detection_filter knows `unique_on`");
    }
    given.has_no_action(value)?;
    if count == 0 || (seconds == 0 && !backs_off) {
        return broken(value.at, "`count` and `seconds` are at least 1");
    }
    Ok(Threshold { kind, track, count, seconds })
}

/// `track by_..., count N, seconds N[, unique_on src_port|dst_port]`, in any order.
pub(super) fn detection_filter(value: Value<'_>) -> Read<DetectionFilter> {
    let given = Given::read(value)?;
    if given.kind.is_some() || given.multiplier.is_some() {
        return broken(value.at, "detection_filter has no `type`");
    }
    given.has_no_action(value)?;
    let (Some(track), Some(count), Some(seconds)) = (given.track, given.count, given.seconds)
    else {
        return broken(value.at, "detection_filter needs `track`, `count` and `seconds`");
    };
    if count == 0 || seconds == 0 {
        return broken(value.at, "`count` and `seconds` are at least 1");
    }
    Ok(DetectionFilter { track, count, seconds, unique_on: given.unique_on })
}

/// `track by_..., count N, seconds N, new_action alert|drop|pass|reject, timeout N`, in any order.
pub(super) fn rate_filter(value: Value<'_>) -> Read<RateFilter> {
    let given = Given::read(value)?;
    if given.kind.is_some() || given.multiplier.is_some() || given.unique_on.is_some() {
        return broken(value.at, "rate_filter knows no `type`, `multiplier` or `unique_on`");
    }
    let (Some(track), Some(count), Some(seconds)) = (given.track, given.count, given.seconds)
    else {
        return broken(value.at, "rate_filter needs `track`, `count` and `seconds`");
    };
    let (Some(action), Some(timeout)) = (given.new_action, given.timeout) else {
        return broken(value.at, "rate_filter needs `new_action` and `timeout`");
    };
    if count == 0 {
        return broken(value.at, "`count` is at least 1");
    }
    Ok(RateFilter { track, count, seconds, action, timeout })
}

#[derive(Default)]
struct Given {
    kind: Option<Word>,
    track: Option<Track>,
    count: Option<u32>,
    seconds: Option<u32>,
    multiplier: Option<u32>,
    unique_on: Option<UniqueOn>,
    /// `Some(None)`: one that Suricata reads, and does nothing with.
    new_action: Option<Option<Action>>,
    timeout: Option<u32>,
}

#[derive(Clone, Copy)]
enum Word {
    Limit,
    Threshold,
    Both,
    Backoff,
}

impl Given {
    fn read(value: Value<'_>) -> Read<Self> {
        let mut given = Self::default();
        for (part, at) in value.parts()? {
            let (key, word) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            let word = word.trim_ascii();
            let again = match key {
                "type" => given.kind.replace(kind(word, at)?).is_some(),
                "track" => given.track.replace(track(word, at)?).is_some(),
                "count" => given.count.replace(number(word, at)?).is_some(),
                "seconds" => given.seconds.replace(number(word, at)?).is_some(),
                "multiplier" => given.multiplier.replace(number(word, at)?).is_some(),
                "unique_on" => given.unique_on.replace(unique_on(word, at)?).is_some(),
                "new_action" => given.new_action.replace(new_action(word, at)?).is_some(),
                "timeout" => given.timeout.replace(number(word, at)?).is_some(),
                _ => return broken(at, format!("`{part}` is none of type, track, count, seconds")),
            };
            if again {
                return broken(at, format!("`{key}` is there twice"));
            }
        }
        Ok(given)
    }

    /// Rules have no rate filters.
    fn has_no_action(&self, value: Value<'_>) -> Read<()> {
        if self.new_action.is_some() || self.timeout.is_some() {
            return broken(value.at, "only rate_filter knows `new_action` and `timeout`");
        }
        Ok(())
    }
}

fn new_action(word: &str, at: usize) -> Read<Option<Action>> {
    Ok(match word {
        "alert" => Some(Action::Alert),
        "drop" => Some(Action::Drop),
        "pass" => Some(Action::Pass),
        "reject" => Some(Action::Reject(RejectTo::Src)),
        "log" | "sdrop" => None,
        _ => return broken(at, format!("`{word}` is none of alert, drop, pass, reject")),
    })
}

fn kind(word: &str, at: usize) -> Read<Word> {
    Ok(match word {
        "limit" => Word::Limit,
        "threshold" => Word::Threshold,
        "both" => Word::Both,
        "backoff" => Word::Backoff,
        _ => return broken(at, format!("`{word}` is none of limit, threshold, both, backoff")),
    })
}

fn track(word: &str, at: usize) -> Read<Track> {
    Ok(match word {
        "by_src" => Track::Src,
        "by_dst" => Track::Dst,
        "by_both" => Track::Both,
        "by_rule" => Track::Rule,
        "by_flow" => Track::Flow,
        _ => {
            return broken(
                at,
                format!("`{word}` is none of by_src, by_dst, by_both, by_rule, by_flow"),
            );
        }
    })
}

fn unique_on(word: &str, at: usize) -> Read<UniqueOn> {
    Ok(match word {
        "src_port" => UniqueOn::SrcPort,
        "dst_port" => UniqueOn::DstPort,
        _ => return broken(at, format!("`{word}` is neither src_port nor dst_port")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value<'_> {
        Value { bytes: text.as_bytes(), at: 0 }
    }

    #[test]
    fn a_threshold_is_read_in_any_order() {
        assert_eq!(
            threshold(value("count 5, type both,track by_rule , seconds 300")),
            Ok(Threshold { kind: ThresholdKind::Both, track: Track::Rule, count: 5, seconds: 300 }),
        );
        assert_eq!(
            threshold(value("type backoff, track by_flow, count 1, multiplier 10")).map(|t| t.kind),
            Ok(ThresholdKind::Backoff { multiplier: 10 }),
        );
        assert_eq!(
            detection_filter(value("track by_src, count 3, seconds 60, unique_on src_port")),
            Ok(DetectionFilter {
                track: Track::Src,
                count: 3,
                seconds: 60,
                unique_on: Some(UniqueOn::SrcPort)
            }),
        );
    }

    #[test]
    fn what_a_threshold_lacks_or_has_twice_is_told() {
        for text in [
            "type limit, track by_src, count 1",
            "track by_src, count 1, seconds 1",
            "type limit, track by_src, count 0, seconds 1",
            "type limit, track by_src, count 1, count 2, seconds 1",
            "type limit, track by_me, count 1, seconds 1",
            "type backoff, track by_src, count 1",
            "type limit, track by_src, count 1, seconds 1, unique_on src_port",
            "",
        ] {
            assert!(threshold(value(text)).is_err(), "{text}");
        }
        assert!(detection_filter(value("type limit, track by_src, count 1, seconds 1")).is_err());
    }
}
