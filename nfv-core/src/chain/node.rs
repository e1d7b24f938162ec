//! The chain file as a tree in which every value knows where it stands.
//!
//! Scalars keep the text that the user wrote: what `0000:03:02.0`, `10.0` or `no` means is for the
//! key that reads it to say, not for YAML to guess.
//!
//! The tree is built from the parser's events rather than by serde: a deserializer stops at its
//! first error, and we want a duplicate key reported *beside* the nine other mistakes; and serde's
//! data model has no place for the style of a scalar or the extent of a mapping.
//!
//! Nothing grows without bound: depth, nodes and text have limits, and an alias counts as often as
//! it is used.
use std::collections::HashMap;
use std::iter::Peekable;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError};

use super::environment::{Environment, substitute};
use super::report::{Report, quoted};
use super::source::{SOURCE_MAX, Source, Span, Spanned, clamp};

/// Deepest nesting of lists and mappings.
pub const DEPTH_MAX: usize = 64;
/// Most scalars, lists and mappings, each use of an alias counted.
pub const NODES_MAX: usize = 2 << 20;
/// Most bytes of text in scalars, each use of an alias and of a variable counted.
pub const TEXT_MAX: usize = 2 * SOURCE_MAX;

/// A value of the chain file and where it stands.
///
/// The span of a list or mapping in braces covers all of it; of one in lines, its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it stands; for the use of an alias, where the anchored value stands.
    pub span: Span,
    /// What it is.
    pub content: Content,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// One value, as text, with variables replaced.
    Scalar(Scalar),
    /// `[a, b]` or lines that start with `-`.
    List(Vec<Node>),
    /// `{a: b}` or lines of `a: b`, in the file's order, no key twice.
    Map(Vec<(Spanned<String>, Node)>),
    /// Something whose mistake is in the report already: readers pass it over in silence.
    Broken,
}

/// The text of a scalar and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// The text, without quotes, escapes and references to variables.
    pub text: String,
    /// How it was written.
    pub style: Style,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// In quotes, or as a block of lines.
    Quoted,
}

impl Node {
    /// Whether another says the same, wherever both stand.
    pub fn says_the_same(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Content::List(a), Content::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
            }
            (Content::Map(a), Content::Map(b)) => {
                let keys = |map: &[(Spanned<String>, Self)]| -> Vec<String> {
                    map.iter().map(|(key, _)| key.value.clone()).collect()
                };
                keys(a) == keys(b) && a.iter().zip(b).all(|((_, a), (_, b))| a.says_the_same(b))
            }
            (Content::Scalar(a), Content::Scalar(b)) => a == b,
            (a, b) => a == b,
        }
    }

    /// Reads the tree of a chain file, replacing `${VAR}` in its values.
    ///
    /// Returns `None` when the text is no YAML document or breaks a limit; then the error is in
    /// `report`. What else is wrong (a duplicate key, an unset variable) is reported and left out.
    pub fn read(
        source: &Source,
        environment: Environment<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let mut options = granit_parser::options! {
            emit_unresolved_aliases: true,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        options.set_emit_comments(false);
        let events = Parser::new_from_str_with_options(source.text(), options);
        let builder = Builder {
            source,
            environment,
            report,
            events: events.peekable(),
            anchors: HashMap::new(),
            nodes_left: NODES_MAX,
            text_left: TEXT_MAX,
        };
        builder.document()
    }

    /// What it is, for "expected ..., found ...".
    pub(crate) fn what(&self) -> &'static str {
        match self.content {
            Content::Null | Content::Broken => "nothing",
            Content::Scalar(_) => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    fn null(span: Span) -> Self {
        Self { span, content: Content::Null }
    }

    fn broken(span: Span) -> Self {
        Self { span, content: Content::Broken }
    }
}

/// Reading cannot go on; the reason is in the report.
struct Stop;

/// An anchored value, and what each use of it costs.
struct Anchored {
    node: Node,
    cost: Cost,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    text: usize,
    height: usize,
}

impl Cost {
    fn of(node: &Node) -> Self {
        let children = |list: &mut dyn Iterator<Item = &Node>, text: usize| {
            list.map(Self::of).fold(Self { nodes: 1, text, height: 1 }, |sum, child| Self {
                nodes: sum.nodes + child.nodes,
                text: sum.text + child.text,
                height: sum.height.max(child.height + 1),
            })
        };
        match &node.content {
            Content::Null | Content::Broken => Self { nodes: 1, text: 0, height: 0 },
            Content::Scalar(scalar) => Self { nodes: 1, text: scalar.text.len(), height: 0 },
            Content::List(list) => children(&mut list.iter(), 0),
            Content::Map(map) => {
                let keys = map.iter().map(|(key, _)| key.value.len()).sum();
                children(&mut map.iter().map(|(_, value)| value), keys)
            }
        }
    }
}

struct Builder<'r, 's> {
    source: &'s Source,
    environment: Environment<'r>,
    report: &'r mut Report,
    events: Peekable<Parser<'s, granit_parser::StrInput<'s>>>,
    /// `None` while the anchored value is still being read: it may not contain itself.
    anchors: HashMap<usize, Option<Anchored>>,
    nodes_left: usize,
    text_left: usize,
}

impl<'s> Builder<'_, 's> {
    fn document(mut self) -> Option<Node> {
        let mut root = None;
        loop {
            match self.next() {
                Ok((Event::StreamEnd, _)) => break,
                Ok((event, at)) if event.is_node() => {
                    if root.is_some() {
                        self.report
                            .error(at, "a second YAML document begins")
                            .hint("a chain file is one document: remove the `---` before it");
                        return None;
                    }
                    root = Some(self.node(event, at, 0).ok()?);
                }
                Ok(_) => {}
                Err(Stop) => return None,
            }
        }
        // A file of comments only has no node at all.
        Some(root.unwrap_or_else(|| Node::null(Span::START)))
    }

    fn next(&mut self) -> Result<(Event<'s>, Span), Stop> {
        match self.events.next() {
            Some(Ok((event, at))) => Ok((event, span(at.start, at.end))),
            Some(Err(error)) => Err(self.syntax_error(&error)),
            None => Ok((Event::StreamEnd, Span::START)),
        }
    }

    fn node(&mut self, event: Event<'s>, at: Span, depth: usize) -> Result<Node, Stop> {
        self.pay(Cost { nodes: 1, ..Cost::default() }, at)?;
        let anchor = event.anchor_id();
        if let Some(id) = anchor {
            self.anchors.insert(id, None);
        }
        if matches!(event, Event::SequenceStart(..) | Event::MappingStart(..)) && depth >= DEPTH_MAX
        {
            return Err(self.too_deep(at));
        }
        let node = match event {
            Event::Scalar(text, style, _, ref tag) => {
                let forced = self.tag(tag.as_deref(), at) == Some(Style::Quoted);
                self.scalar(&text, style, forced, at)?
            }
            Event::SequenceStart(_, _, ref tag) => {
                self.tag(tag.as_deref(), at);
                self.list(at, depth + 1)?
            }
            Event::MappingStart(_, _, ref tag) => {
                self.tag(tag.as_deref(), at);
                self.map(at, depth + 1)?
            }
            Event::Alias(id) => return self.alias(id, at, depth),
            Event::UnresolvedAlias(name) => {
                self.report
                    .error(at, format!("no anchor `&{name}` before this alias"))
                    .hint("an anchor is written `&name` before the value that it names");
                Node::broken(at)
            }
            // The parser sends one of the above wherever a value can stand.
            _ => Node::null(at),
        };
        if let Some(id) = anchor {
            let cost = Cost::of(&node);
            self.pay(cost, at)?;
            self.anchors.insert(id, Some(Anchored { node: node.clone(), cost }));
        }
        Ok(node)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        forced: bool,
        at: Span,
    ) -> Result<Node, Stop> {
        let plain = style == ScalarStyle::Plain && !forced;
        if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Ok(Node::null(at));
        }
        let raw = self.source.text().get(at.start as usize..at.end as usize).unwrap_or_default();
        let text = if text.contains('$') {
            match substitute(text, raw, at, self.environment, self.report) {
                Some(text) => text,
                None => return Ok(Node::broken(at)),
            }
        } else {
            text.to_owned()
        };
        self.pay(Cost { text: text.len(), ..Cost::default() }, at)?;
        let style = if plain { Style::Plain } else { Style::Quoted };
        Ok(Node { span: at, content: Content::Scalar(Scalar { text, style }) })
    }

    fn list(&mut self, at: Span, depth: usize) -> Result<Node, Stop> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => {
                    let span = self.whole(at, end);
                    return Ok(Node { span, content: Content::List(list) });
                }
                (event, at) => list.push(self.node(event, at, depth)?),
            }
        }
    }

    fn map(&mut self, at: Span, depth: usize) -> Result<Node, Stop> {
        let mut map: Vec<(Spanned<String>, Node)> = Vec::new();
        let mut places: HashMap<String, Span> = HashMap::new();
        loop {
            let (event, key_at) = self.next()?;
            if event == Event::MappingEnd {
                let span = self.whole(at, key_at);
                return Ok(Node { span, content: Content::Map(map) });
            }
            let key = self.key(event, key_at, depth)?;
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth)?;
            let Some(key) = key else { continue };
            if let Some(first) = places.get(&key.value) {
                let place = format!("it is also in line {}, column {}", first.line, first.column);
                let message = format!("the key {} stands here twice", quoted(&key.value));
                self.report.error(key.span, message).hint(place);
            } else {
                places.insert(key.value.clone(), key.span);
                map.push((key, value));
            }
        }
    }

    /// A key of a mapping, `None` if it is none; that is then in the report.
    fn key(
        &mut self,
        event: Event<'s>,
        at: Span,
        depth: usize,
    ) -> Result<Option<Spanned<String>>, Stop> {
        if let Event::Scalar(text, style, 0, None) = &event {
            if text == "<<" && *style == ScalarStyle::Plain {
                self.report
                    .error(at, "YAML 1.2 has no merge key `<<`")
                    .hint("write the keys out, or name a whole value with `&name` and use `*name`");
                return Ok(None);
            }
            if !(at.start == at.end || text.is_empty()) {
                self.pay(Cost { nodes: 1, text: text.len(), height: 0 }, at)?;
                return Ok(Some(Spanned::new(text.to_string(), at)));
            }
        }
        let found = self.node(event, at, depth)?;
        self.report
            .error(found.span, "a key must be a plain word")
            .hint("in lines, `key: value`; a value with braces in it needs quotes");
        Ok(None)
    }

    fn alias(&mut self, id: usize, at: Span, depth: usize) -> Result<Node, Stop> {
        let (node, cost) = match self.anchors.get(&id) {
            Some(Some(anchored)) => (anchored.node.clone(), anchored.cost),
            _ => {
                self.report.error(at, "an anchored value cannot contain itself");
                return Ok(Node::broken(at));
            }
        };
        if depth + cost.height > DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        self.pay(cost, at)?;
        Ok(node)
    }

    /// `!!str` makes a text of anything; other tags mean nothing here.
    fn tag(&mut self, tag: Option<&granit_parser::Tag>, at: Span) -> Option<Style> {
        let tag = tag?;
        if tag.is_yaml_core_schema_tag("str") {
            return Some(Style::Quoted);
        }
        self.report
            .error(at, format!("the tag {} means nothing in a chain file", quoted(&tag.original())))
            .hint("remove it");
        None
    }

    fn pay(&mut self, cost: Cost, at: Span) -> Result<(), Stop> {
        let nodes = self.nodes_left.checked_sub(cost.nodes);
        let text = self.text_left.checked_sub(cost.text);
        let Some((nodes, text)) = nodes.zip(text) else {
            self.report
                .error(at, "the file grows too large here")
                .hint("2 million values or 32 MiB of text, each use of an alias counted");
            return Err(Stop);
        };
        (self.nodes_left, self.text_left) = (nodes, text);
        Ok(())
    }

    fn too_deep(&mut self, at: Span) -> Stop {
        self.report.error(at, format!("nested deeper than {DEPTH_MAX} levels"));
        Stop
    }

    /// From the first character of a list or mapping to its end; to the end of the first line for
    /// one without brackets, whose end event stands at whatever comes next.
    fn whole(&self, at: Span, end: Span) -> Span {
        let bracketed = end.end > end.start;
        let (line, line_start) = self.source.line_around(at.start as usize);
        let line_end = clamp(line_start + line.trim_end().len());
        Span { end: if bracketed { end.end } else { line_end.max(at.start) }, ..at }
    }

    fn syntax_error(&mut self, error: &ScanError) -> Stop {
        let at = span(*error.marker(), *error.marker());
        let hint = match error.kind() {
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar => "indent with spaces",
            ErrorKind::RecursionLimitExceeded => {
                return self.too_deep(at);
            }
            _ if self.source.line_around(at.start as usize).0.contains("${") => {
                "inside { } and [ ], put a value with ${...} in quotes"
            }
            ErrorKind::MappingValueNotAllowed => {
                "a value with a colon and a blank in it needs quotes"
            }
            ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => {
                "is the closing quote missing?"
            }
            ErrorKind::UnclosedFlowCollection { .. }
            | ErrorKind::InvalidColonPlacement
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator => {
                "is a comma or a closing bracket missing before this?"
            }
            _ => "",
        };
        self.report.error(at, format!("not YAML: {}", error.info())).hint(hint);
        Stop
    }
}

/// The parser's places count columns from 0.
fn span(start: Marker, end: Marker) -> Span {
    let offset = |marker: Marker| clamp(marker.byte_offset().unwrap_or(marker.index()));
    Span {
        line: clamp(start.line()),
        column: clamp(start.col()).saturating_add(1),
        start: offset(start),
        end: offset(end),
    }
}

#[cfg(test)]
mod tests;
