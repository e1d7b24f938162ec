//! Where packets of a port enter: the chains that take them, and the classes that these and their rules make.

use std::sync::OnceLock;

use crate::chain::compile::{Choice, Compiler, Entry, Program, ProgramId, Step};
use crate::chain::matching::Match;
use crate::chain::piece::Piece;
use crate::chain::port::Mode;
use crate::chain::source::Span;
use crate::dispatch::{
    Classes, Classifier, Lane, Line, Port, Shadow, Synthesis, Takes, is_at, shadows, warn,
};
use crate::nf::{PortIndex, Purpose};

impl Compiler<'_> {
    /// By port, where its packets enter, and their classes.
    pub(super) fn entries(
        &mut self,
        programs: &[Program],
        pieces: &[Piece],
    ) -> (Vec<Entry>, Classes) {
        let epoch = self.before.map_or(0, |plan| plan.classes.epoch);
        let mut synthesis = Synthesis::new(self.functions, (programs, pieces), self.around, epoch);
        let (mut entries, mut classes) = (Vec::new(), Classes { ports: Vec::new(), epoch });
        let mut hidden = Vec::new();
        for port in (0..self.around.ports.len()).filter_map(|p| u8::try_from(p).ok()) {
            let (entry, ways, kind) = self.entry(usize::from(port), programs);
            let port = PortIndex(port);
            if self.around.purpose == Purpose::Check {
                self.look_for_shadows(port, &ways, &mut hidden);
            }
            let all = Match::default();
            let before = ways.iter().position(|way| way.one == all).map_or(ways.len(), |at| at + 1);
            let lane = |way: &'_ Way| (way.one.clone(), way.id);
            let reached: Vec<(Match, ProgramId)> = ways.iter().take(before).map(lane).collect();
            let lanes: Vec<Lane<'_>> =
                reached.iter().map(|(one, program)| Lane { one, program: *program }).collect();
            classes.ports.push(synthesis.port(port, &lanes, kind));
            entries.push(entry);
        }
        self.warn_of_hidden(&hidden);
        // Tags that mean the same as before stay: NICs need no other rules.
        if self.before.is_some_and(|plan| plan.classes != classes) {
            classes.change_epoch();
        }
        (entries, classes)
    }

    /// Where packets of one port enter: its chains in the file's order, and of those that end here the way back.
    fn entry(&mut self, port: usize, programs: &[Program]) -> (Entry, Vec<Way>, Port) {
        let name = self.around.ports.get(port).map_or("", String::as_str);
        let keeps_flows = |id: ProgramId| {
            let steps = programs.get(usize::from(id.0)).map_or(&[][..], |p| &p.steps);
            steps.iter().any(|s| matches!(s, Step::Piece(_)))
        };
        let mut ways: Vec<Way> = Vec::new();
        let mut span = None::<Span>;
        for (i, chain) in self.file.chains.iter().enumerate() {
            let forward = chain.from.iter().any(|p| p.value == name);
            let back = !chain.oneway
                && !chain.from.is_empty()
                && chain.to.as_ref().is_some_and(|p| p.value == name);
            for (takes, swap, id) in [(forward, false, 2 * i), (back, true, 2 * i + 1)] {
                let Ok(id) = u16::try_from(id).map(ProgramId) else { continue };
                if !takes {
                    continue;
                }
                span = span.or(Some(chain.name.span));
                let all = [Match::default()];
                let matches = if chain.matches.is_empty() { &all[..] } else { &chain.matches };
                for (number, one) in matches.iter().enumerate() {
                    let one = if swap { mirrored(one) } else { one.clone() };
                    let only_answers = swap && keeps_flows(id);
                    ways.push(Way { one, id, only_answers, chain: i, number });
                }
            }
        }
        let keeps = ways.iter().any(|w| keeps_flows(w.id));
        let all = self.choice(&ways, span);
        let first = keeps.then(|| {
            ways.retain(|w| !w.only_answers);
            self.choice(&ways, span)
        });
        let routed = self.file.ports.get(port).is_some_and(|p| p.mode == Mode::Routed);
        let kind = if keeps || routed { Port::Guarded } else { Port::Plain };
        (
            Entry { all, first, tags: None, check: OnceLock::new(), measured: OnceLock::new() },
            ways,
            kind,
        )
    }

    fn choice(&mut self, ways: &[Way], span: Option<Span>) -> Choice {
        let Some(first) = ways.first() else { return Choice::Closed };
        if first.one == Match::default() {
            return Choice::All(first.id);
        }
        let list: Vec<Match> = ways.iter().map(|w| w.one.clone()).collect();
        match Classifier::build(&list, self.around) {
            Ok(classifier) => {
                Choice::Matched { classifier, programs: ways.iter().map(|w| w.id).collect() }
            }
            Err(why) => {
                if let Some(span) = span {
                    self.report.error(span, why.to_string());
                }
                Choice::Closed
            }
        }
    }
}

/// A match, and the program that it leads to.
struct Way {
    one: Match,
    id: ProgramId,
    /// It takes packets of flows that are known, and no others.
    only_answers: bool,
    /// Its chain's place, and its own in the chain.
    chain: usize,
    number: usize,
}

impl Way {
    fn is_back(&self) -> bool {
        self.id.0 % 2 == 1
    }
}

/// A match of a chain that is never met at a port.
struct HiddenWay {
    chain: usize,
    number: usize,
    lines: Vec<Line>,
    line: usize,
    shadow: Shadow,
}

impl Compiler<'_> {
    /// The matches of a port's chains that no packet meets there.
    fn look_for_shadows(&self, port: PortIndex, ways: &[Way], hidden: &mut Vec<HiddenWay>) {
        let here: Vec<&Way> = ways.iter().filter(|w| is_at(&w.one, port, self.around)).collect();
        let lines = here.iter().map(|way| Line {
            at: self.span_of(way),
            matches: vec![Match { in_port: None, ..way.one.clone() }],
            says: u32::from(way.id.0),
            takes: Takes::All,
        });
        let lines: Vec<Line> = lines.collect();
        let (found, _) = shadows(&lines, self.around);
        for (line, shadow) in found {
            let Some(way) = here.get(line).filter(|way| !way.is_back()) else { continue };
            // The warning names these lines, and no others.
            let named: Vec<usize> = match &shadow {
                Shadow::Hidden(by) => by.clone(),
                Shadow::SaidAgain(by) => vec![*by],
            };
            let own = std::iter::once(line).chain(named.iter().copied());
            let lines: Vec<Line> = own.filter_map(|n| lines.get(n).cloned()).collect();
            let shadow = match shadow {
                Shadow::Hidden(by) => Shadow::Hidden((1..=by.len()).collect()),
                Shadow::SaidAgain(_) => Shadow::SaidAgain(1),
            };
            let (chain, number) = (way.chain, way.number);
            hidden.push(HiddenWay { chain, number, lines, line: 0, shadow });
        }
    }

    /// Warns of matches that are met at none of their ports.
    fn warn_of_hidden(&mut self, hidden: &[HiddenWay]) {
        for (i, way) in hidden.iter().enumerate() {
            let same = |w: &&HiddenWay| (w.chain, w.number) == (way.chain, way.number);
            let chain = self.file.chains.get(way.chain);
            let ports = chain.map_or(0, |c| match c.matches.get(way.number) {
                Some(Match { in_port: Some(_), .. }) => 1,
                _ => c.from.len(),
            });
            let is_first = hidden.iter().position(|w| same(&w)) == Some(i);
            if is_first && hidden.iter().filter(same).count() == ports {
                warn(&way.lines, way.line, &way.shadow, "match", self.report);
            }
        }
    }

    fn span_of(&self, way: &Way) -> Span {
        let chain = self.file.chains.get(way.chain);
        let span = chain.and_then(|c| c.match_spans.get(way.number).copied());
        span.or(chain.map(|c| c.name.span)).unwrap_or_default()
    }
}

/// The match of the answers.
fn mirrored(one: &Match) -> Match {
    let mut m = one.clone();
    std::mem::swap(&mut m.src, &mut m.dst);
    std::mem::swap(&mut m.sport, &mut m.dport);
    m.in_port = None;
    m
}
