//! Rules that no packet meets, since those before them take all of theirs; and rules that change nothing.
//!
//! One region that is around another is found among any number ([`Cover`]). That several are so together is looked for
//! where the list is short, and where what is left of a region can be told in regions: what is not found is not said.

use super::cover::{Cover, together};
use super::region::Region;
use super::regions::{Seen, regions_of};
use crate::chain::matching::Match;
use crate::chain::report::Report;
use crate::chain::source::Span;
use crate::nf::{PortIndex, Surroundings};

/// A rule of a list of which the first that a packet meets decides.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it stands.
    pub at: Span,
    /// The packets that it is about.
    pub matches: Vec<Match>,
    /// A number for what it says: those of one number say the same.
    pub says: u32,
    /// Whether it takes all of these packets.
    pub takes: Takes,
}

/// Which of the packets of its matches a rule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// All.
    All,
    /// Those that meet more conditions: it hides nothing.
    Some,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shadow {
    /// No packet meets it: these before it take all of its packets.
    Hidden(Vec<usize>),
    /// A later one takes its packets too, and says the same.
    SaidAgain(usize),
}

/// Rules of a list that no packet meets, and those that change nothing, by their places; and how many could not be looked at.
///
/// Cost: about a microsecond a rule, at most some seconds.
pub fn shadows(lines: &[Line], around: Surroundings<'_>) -> (Vec<(usize, Shadow)>, usize) {
    let all: Vec<Vec<Place>> = lines.iter().map(|line| places(line, around)).collect();
    let few = all.iter().map(Vec::len).sum::<usize>() <= TOGETHER_MAX;
    let mut cover = Cover::with_work(WORK_MAX);
    let mut found = Vec::new();
    for (number, (line, own)) in lines.iter().zip(&all).enumerate() {
        let mut by: Vec<usize> = Vec::new();
        let hidden = !own.is_empty()
            && own.iter().all(|(at, region)| {
                if let Some(one) = cover.around(*at, region) {
                    by.push(one);
                    return true;
                }
                // Frames that are not IP are in no region, so not even all regions take them.
                if !few || is_any(region) {
                    return false;
                }
                let earlier = lines.iter().zip(&all).enumerate().take(number);
                let earlier = earlier.filter(|(_, (line, _))| line.takes == Takes::All);
                let regions = earlier.flat_map(|(n, (_, own))| own.iter().map(move |p| (n, p)));
                let here = regions.filter(|(_, (port, _))| port.is_none() || port == at);
                let some = together(region, here.map(|(n, (_, region))| (n, region)));
                by.extend(some.iter().flatten());
                some.is_some()
            });
        if cover.is_spent() {
            return (found, lines.len() - number);
        }
        if hidden {
            by.sort_unstable();
            by.dedup();
            found.push((number, Shadow::Hidden(by)));
        } else if line.takes == Takes::All {
            found.extend(said_again(lines, &all, number).map(|n| (number, Shadow::SaidAgain(n))));
            for (at, region) in own {
                cover.add(*at, region, number);
            }
        }
    }
    (found, 0)
}

/// Warns of all shadows of a list. `noun`: what a line of it is called.
pub fn warn_of_shadows(lines: &[Line], noun: &str, around: Surroundings<'_>, report: &mut Report) {
    let (found, left) = shadows(lines, around);
    for (number, shadow) in found {
        warn(lines, number, &shadow, noun, report);
    }
    if let Some(line) = lines.len().checked_sub(left).and_then(|n| lines.get(n)) {
        let message = format!("from here on it was not looked whether a {noun} is ever met");
        report
            .warning(line.at, message)
            .hint(format!("that would take long: {left} {noun}s are left"));
    }
}

/// Warns of a shadow.
pub fn warn(lines: &[Line], number: usize, shadow: &Shadow, noun: &str, report: &mut Report) {
    let Some(line) = lines.get(number) else { return };
    let by = match shadow {
        Shadow::Hidden(by) => by,
        Shadow::SaidAgain(later) => {
            let Some(later) = lines.get(*later) else { return };
            let place = report.place(later.at);
            let message =
                format!("this {noun} is redundant: a later one says the same of its packets");
            let hint = format!("the one in {place}; of use only to be counted by itself");
            report.warning(line.at, message).hint(hint);
            return;
        }
    };
    let earlier = || by.iter().filter_map(|n| lines.get(*n));
    let shown: Vec<String> = earlier().take(SHOWN_MAX).map(|one| report.place(one.at)).collect();
    let same = earlier().all(|one| one.says == line.says);
    let who = match by.as_slice() {
        [_] => format!("the one in {} takes", shown.concat()),
        _ => {
            let more = by.len().saturating_sub(SHOWN_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("those in {}{more} together take", shown.join(", "))
        }
    };
    let (message, hint) = if same {
        ("is redundant: no packet meets it, and what takes them says the same", "remove it")
    } else {
        ("is shadowed: no packet meets it", "move it before, or remove it")
    };
    report
        .warning(line.at, format!("this {noun} {message}"))
        .hint(format!("{who} all of its packets: {hint}"));
}

/// A rule soon after this one that takes its packets too and says the same of them, with none between them that says
/// another thing of any.
fn said_again(lines: &[Line], all: &[Vec<Place>], number: usize) -> Option<usize> {
    let (line, own) = (lines.get(number)?, all.get(number)?);
    let later = lines.iter().zip(all).enumerate().skip(number + 1).take(AHEAD_MAX);
    for (n, (one, places)) in later {
        let same_port =
            |a: &Option<PortIndex>, b: &Option<PortIndex>| a.is_none() || b.is_none() || a == b;
        let takes = |(at, region): &Place| {
            places.iter().any(|(port, r)| (port.is_none() || port == at) && r.covers(region))
        };
        if one.says == line.says
            && one.takes == Takes::All
            && !own.is_empty()
            && own.iter().all(takes)
        {
            return Some(n);
        }
        let meets = |(at, region): &Place| {
            places.iter().any(|(port, r)| same_port(port, at) && r.meet(region).is_some())
        };
        if one.says != line.says && own.iter().any(meets) {
            return None;
        }
    }
    None
}

/// A region, and the port that its packets come in by.
type Place = (Option<PortIndex>, Region);

/// None, of a rule that multiplies to too many.
fn places(line: &Line, around: Surroundings<'_>) -> Vec<Place> {
    let of = |one: &Match| {
        let port = one.in_port.as_ref().and_then(|name| around.port(&name.value));
        let regions = regions_of(one, Seen::AsIs).unwrap_or_default();
        regions.into_iter().map(move |region| (port, region))
    };
    line.matches.iter().flat_map(of).collect()
}

/// Whether frames that are not IP meet it too.
fn is_any(region: &Region) -> bool {
    Region { vlan: None, ..region.clone() } == Region::ALL
}

/// About a second's.
const WORK_MAX: u64 = 20_000_000;
/// Regions of a list in which several together are looked for: a fraction of a second.
const TOGETHER_MAX: usize = 1_000;
/// Places that a warning names.
const SHOWN_MAX: usize = 3;
/// How far a rule is compared with those behind it.
const AHEAD_MAX: usize = 16;
