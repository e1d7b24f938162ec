//! Checks the tree against the tables of keys, everything in one pass, stopping at nothing.
//!
//! After it, reading is quiet: a [`super::section::Section`] gives a value or none, and none of a
//! key that the file has means that its mistake is in the report already.
use super::key::{FunctionType, Key, Names, Need, Shape, TYPE_KEY, Table};
use super::node::{Content, Node};
use super::report::{Report, did_you_mean, nearest, quoted};
use super::source::{Span, Spanned};

/// A place of the file that names a port, function or chain.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) of: Names,
    pub(crate) name: Spanned<String>,
}

/// What a value is called in messages, and where it hangs.
#[derive(Clone, Copy)]
struct Label<'l> {
    /// "`mtu`", "port `lan`".
    text: &'l str,
    at: Hangs,
}

#[derive(Clone, Copy)]
enum Hangs {
    /// Under a key of a table, which stands there.
    Key(Span),
    /// Under a name of the user's, which stands there.
    Name(Span),
    /// In a list.
    List,
}

impl Label<'_> {
    /// Where to report something that is missing in `node`: at its name, if it has one.
    fn missing_at(&self, node: &Node) -> Span {
        match self.at {
            Hangs::Key(at) | Hangs::Name(at) => at,
            Hangs::List => Span { end: node.span.start + 1, ..node.span },
        }
    }
}

/// Checks shapes and collects the references to names.
#[derive(Debug)]
pub(crate) struct Checker<'r> {
    report: &'r mut Report,
    functions: &'r [FunctionType],
    references: Vec<Reference>,
}

impl<'r> Checker<'r> {
    pub(crate) fn new(report: &'r mut Report, functions: &'r [FunctionType]) -> Self {
        Self { report, functions, references: Vec::new() }
    }

    /// Checks the mapping of a whole file; returns the references in it.
    pub(crate) fn file(mut self, root: &Node, table: &'static Table) -> Vec<Reference> {
        let label = Label { text: table.what, at: Hangs::Name(Span::START) };
        self.record(root, table.keys().collect(), label);
        self.references
    }

    fn value(&mut self, node: &Node, shape: &'static Shape, label: Label<'_>) {
        if matches!(node.content, Content::Broken) {
            return;
        }
        match *shape {
            Shape::Any => {}
            Shape::List(of) => match &node.content {
                Content::Null => {}
                Content::List(list) => self.elements(list, of, label),
                _ => self.mismatch(node, shape, label),
            },
            Shape::OneOrMany(of) => match &node.content {
                Content::List(list) if list.is_empty() => {
                    self.report
                        .error(node.span, format!("{} is an empty list", label.text))
                        .hint("give at least one, or leave the key out");
                }
                Content::List(list) => self.elements(list, of, label),
                _ => self.value(node, of, label),
            },
            Shape::Record(table) => {
                // What the user named is called by its name, else by what it is.
                let named = matches!(label.at, Hangs::Name(_));
                let text = if named { label.text } else { table.what };
                self.record(node, table.keys().collect(), Label { text, ..label });
            }
            Shape::RecordOr { short, table } => match &node.content {
                Content::Scalar(_) => {
                    // `check_keys` holds every table to having its `short` key.
                    if let Some(key) = table.keys().find(|key| key.name == short) {
                        self.value(
                            node,
                            &key.shape,
                            Label { text: &format!("`{short}`"), ..label },
                        );
                    }
                }
                _ => self.record(node, table.keys().collect(), label),
            },
            Shape::Function => self.function(node, label),
            Shape::Map { of, key, value } => match &node.content {
                Content::Null => {}
                Content::Map(map) => {
                    for (name, node) in map {
                        self.scalar(&name.value, name.span, key, "");
                        let text = format!("{of} {}", quoted(&name.value));
                        self.value(node, value, Label { text: &text, at: Hangs::Name(name.span) });
                    }
                }
                _ => self.mismatch(node, shape, label),
            },
            _ => match &node.content {
                Content::Scalar(scalar) => self.scalar(&scalar.text, node.span, shape, label.text),
                Content::Null => {
                    self.report
                        .error(label.missing_at(node), format!("{} has no value", label.text))
                        .hint(format!("it takes {}", shape.describe()));
                }
                _ => self.mismatch(node, shape, label),
            },
        }
    }

    fn elements(&mut self, list: &[Node], of: &'static Shape, label: Label<'_>) {
        for node in list {
            self.value(node, of, Label { at: Hangs::List, ..label });
        }
    }

    fn scalar(&mut self, text: &str, at: Span, shape: &Shape, label: &str) {
        match shape.judge(text) {
            Ok(()) => {
                if let Shape::Name(of) = *shape
                    && of != Names::New
                {
                    self.references.push(Reference { of, name: Spanned::new(text.to_owned(), at) });
                }
            }
            Err(error) => {
                let colon = if label.is_empty() { "" } else { ": " };
                self.report.error(at, format!("{label}{colon}{}", error.message)).hint(error.hint);
            }
        }
    }

    fn record(&mut self, node: &Node, keys: Vec<&'static Key>, label: Label<'_>) {
        let names = || keys.iter().map(|key| key.name);
        let list = || format!("keys: {}", names().collect::<Vec<_>>().join(" "));
        let none = Vec::new();
        let map = match &node.content {
            Content::Map(map) => map,
            // `lan:` and nothing: the keys that it needs are reported as missing.
            Content::Null => &none,
            Content::Broken => return,
            Content::Scalar(_) | Content::List(_) => {
                let message = format!("{} must be a mapping, not {}", label.text, node.what());
                self.report.error(node.span, message).hint(list());
                return;
            }
        };
        let mut meant = Vec::new();
        for (name, value) in map {
            if let Some(key) = keys.iter().find(|key| key.name == name.value) {
                let text = format!("`{}`", key.name);
                self.value(value, &key.shape, Label { text: &text, at: Hangs::Key(name.span) });
                continue;
            }
            meant.extend(nearest(&name.value, names()));
            let message = format!("unknown key {} in {}", quoted(&name.value), label.text);
            self.report
                .error(name.span, message)
                .hint(did_you_mean(&name.value, names()))
                .hint(list());
        }
        for key in keys.iter().filter(|key| key.need == Need::Required) {
            // A required key that is only misspelt is one mistake, not two.
            if map.iter().any(|(name, _)| name.value == key.name) || meant.contains(&key.name) {
                continue;
            }
            self.report
                .error(label.missing_at(node), format!("{} has no `{}`", label.text, key.name))
                .hint(format!("`{}`: {}", key.name, key.help));
        }
    }

    /// A function's keys depend on its type; without a known type none can be judged.
    fn function(&mut self, node: &Node, label: Label<'_>) {
        let names = || self.functions.iter().map(|kind| kind.name);
        let types = || format!("types: {}", names().collect::<Vec<_>>().join(" "));
        let kind = match (&node.content, value_of(node, TYPE_KEY.name)) {
            (Content::Map(_) | Content::Null, None) => {
                let message = format!("{} has no `{}`", label.text, TYPE_KEY.name);
                self.report.error(label.missing_at(node), message).hint(types());
                return;
            }
            (_, None) => None,
            (_, Some(kind)) => Some(kind),
        };
        let mut keys = vec![&TYPE_KEY];
        if let Some(Node { span, content: Content::Scalar(kind) }) = kind {
            let Some(found) = self.functions.iter().find(|known| known.name == kind.text) else {
                let near = did_you_mean(&kind.text, names());
                let message = format!("there is no type of function {}", quoted(&kind.text));
                self.report.error(*span, message).hint(near).hint(types());
                return;
            };
            keys.extend(found.keys);
        } else if let Some(kind) = kind {
            self.value(kind, &TYPE_KEY.shape, Label { text: "`type`", ..label });
            return;
        }
        self.record(node, keys, label);
    }

    fn mismatch(&mut self, node: &Node, shape: &Shape, label: Label<'_>) {
        let message = format!("{} cannot be {}", label.text, node.what());
        self.report.error(node.span, message).hint(format!("it takes {}", shape.describe()));
    }
}

/// The value of a key of a mapping.
pub(crate) fn value_of<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Content::Map(map) = &node.content else { return None };
    map.iter().find(|(name, _)| name.value == key).map(|(_, value)| value)
}
