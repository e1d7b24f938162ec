//! A mapping of the chain file as its reader sees it: keys by name, values as types.
//!
//! The file was checked against the tables of keys before, so reading is quiet: every getter gives
//! the value, the table's default, or nothing. Nothing for a key that the file *has* means that
//! its mistake is in the report already; [`Section::has`] tells the two apart.
//!
//! ```text
//! let rate = section.value::<Rate>("rate")?;
//! let sources = section.values::<Prefix>("src");
//! for rule in section.sections("rules") { ... }
//! ```
use super::key::{FunctionType, Key, Need, Shape, TYPE_KEY, Table};
use super::node::{Content, Node};
use super::report::quoted;
use super::source::{Span, Spanned};
use super::value::Scalar;

/// A mapping that was checked against a table of keys.
///
/// # Panics
/// A getter given a key that the table does not list panics, with the key's name: a mistake of the
/// reader's author that the first test shows, and nothing that a chain file can cause.
#[derive(Clone, Debug)]
pub struct Section<'n> {
    title: String,
    name: &'n str,
    owner: Span,
    entries: Vec<Entry<'n>>,
    keys: Vec<&'static Key>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<'n> {
    name: &'n str,
    at: Span,
    node: &'n Node,
}

impl<'n> Section<'n> {
    /// The root of a file.
    pub(crate) fn root(node: &'n Node, table: &'static Table) -> Self {
        Self::new(node, table.keys().collect(), table.what.to_owned(), "", Span::START)
    }

    /// A function, with the keys of its type.
    pub(crate) fn function(name: &'n Spanned<String>, node: &'n Node, kind: &FunctionType) -> Self {
        let keys = [&TYPE_KEY].into_iter().chain(kind.keys).collect();
        Self::new(node, keys, format!("function {}", quoted(&name.value)), &name.value, name.span)
    }

    fn new(
        node: &'n Node,
        keys: Vec<&'static Key>,
        title: String,
        name: &'n str,
        owner: Span,
    ) -> Self {
        let entries = match &node.content {
            Content::Map(map) => map
                .iter()
                .map(|(name, node)| Entry { name: &name.value, at: name.span, node })
                .collect(),
            _ => Vec::new(),
        };
        Self { title, name, owner, entries, keys }
    }

    /// The name that the user gave it: `edge`. Empty for a record in a list.
    pub fn name(&self) -> &'n str {
        self.name
    }

    /// What to call it in a message: "function `edge`", "a firewall rule".
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Where it stands: its name, or the mapping itself where it has none.
    pub fn span(&self) -> Span {
        self.owner
    }

    /// Whether the file has this key, with a sound value or not.
    pub fn has(&self, key: &str) -> bool {
        self.lookup(key).1.is_some()
    }

    /// Where the value of a key stands; the section itself when the file has no such key.
    pub fn span_of(&self, key: &str) -> Span {
        self.lookup(key).1.map_or(self.owner, |entry| entry.node.span)
    }

    /// Where a key itself stands; the section when the file has no such key.
    pub fn span_of_key(&self, key: &str) -> Span {
        self.lookup(key).1.map_or(self.owner, |entry| entry.at)
    }

    /// The value of a key with one value, as the type that stands for its shape: [`u64`] for an
    /// integer, [`bool`] for a flag, [`String`] for a text, a name or a choice, `IpNet` for an
    /// interface, else the type of the same name.
    pub fn value<T: Scalar>(&self, key: &str) -> Option<T> {
        let (key, entry) = self.lookup(key);
        match (entry, key.need) {
            (Some(entry), _) => read(entry.node, &key.shape).map(|value| value.value),
            (None, Need::Default(text)) => T::parse(text).ok(),
            (None, _) => None,
        }
    }

    /// The value of a key of one or many values, or of a list; none when the file has no such key.
    pub fn values<T: Scalar>(&self, key: &str) -> Vec<Spanned<T>> {
        let (key, entry) = self.lookup(key);
        let Some(entry) = entry else {
            let default = match key.need {
                Need::Default(text) => T::parse(text).ok(),
                _ => None,
            };
            return default.map(|value| Spanned::new(value, self.owner)).into_iter().collect();
        };
        let of = element(&key.shape);
        nodes(entry.node).iter().filter_map(|node| read(node, of)).collect()
    }

    /// The text of a key, or the name that it refers to.
    pub fn text(&self, key: &str) -> Option<String> {
        self.value(key)
    }

    /// The whole number of a key, within the bounds of the table.
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.value(key)
    }

    /// The flag of a key.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)
    }

    /// The word chosen for a key, as it stands in the table.
    pub fn choice(&self, key: &str) -> Option<&'static str> {
        let Shape::Choice(words) = self.lookup(key).0.shape else { return None };
        let chosen = self.text(key)?;
        words.iter().copied().find(|word| *word == chosen)
    }

    /// The records of a key: of a list, of one or many, or of a mapping with names.
    pub fn sections(&self, key: &str) -> Vec<Section<'n>> {
        let (key, entry) = self.lookup(key);
        let Some(entry) = entry else { return Vec::new() };
        match (element(&key.shape), &entry.node.content) {
            (Shape::Map { of, value, .. }, Content::Map(map)) => map
                .iter()
                .filter_map(|(name, node)| {
                    let title = format!("{of} {}", quoted(&name.value));
                    Self::of(node, value, title, &name.value, name.span)
                })
                .collect(),
            (shape, _) => nodes(entry.node)
                .iter()
                .filter_map(|node| {
                    let Shape::Record(table) = shape else { return None };
                    Self::of(node, shape, table.what.to_owned(), "", node.span)
                })
                .collect(),
        }
    }

    /// The record of a key that has one.
    pub fn record(&self, key: &str) -> Option<Section<'n>> {
        let (key, entry) = self.lookup(key);
        let entry = entry?;
        let (Shape::Record(table) | Shape::RecordOr { table, .. }) = key.shape else { return None };
        Self::of(entry.node, &key.shape, table.what.to_owned(), "", entry.at)
    }

    /// The entries of a mapping of scalars.
    pub fn pairs<K: Scalar, V: Scalar>(&self, key: &str) -> Vec<(Spanned<K>, Spanned<V>)> {
        let (key, entry) = self.lookup(key);
        let Some(Content::Map(map)) = entry.map(|entry| &entry.node.content) else {
            return Vec::new();
        };
        let Shape::Map { key, value, .. } = key.shape else { return Vec::new() };
        map.iter()
            .filter_map(|(name, node)| {
                key.judge(&name.value).ok()?;
                let name = Spanned::new(K::parse(&name.value).ok()?, name.span);
                Some((name, read(node, value)?))
            })
            .collect()
    }

    /// The entries of a mapping of lists, or of one or many.
    pub fn lists<V: Scalar>(&self, key: &str) -> Vec<(Spanned<String>, Vec<Spanned<V>>)> {
        let (key, entry) = self.lookup(key);
        let Some(Content::Map(map)) = entry.map(|entry| &entry.node.content) else {
            return Vec::new();
        };
        let Shape::Map { value, .. } = key.shape else { return Vec::new() };
        let values = |node| nodes(node).iter().filter_map(|n| read(n, element(value))).collect();
        map.iter().map(|(name, node)| (name.clone(), values(node))).collect()
    }

    /// The value of a key as it stands, for [`Shape::Any`].
    pub fn node(&self, key: &str) -> Option<&'n Node> {
        self.lookup(key).1.map(|entry| entry.node)
    }

    /// `node` as a record of `shape`; nothing where the check found another thing.
    fn of(
        node: &'n Node,
        shape: &'static Shape,
        title: String,
        name: &'n str,
        owner: Span,
    ) -> Option<Section<'n>> {
        match (shape, &node.content) {
            (
                Shape::Record(table) | Shape::RecordOr { table, .. },
                Content::Map(_) | Content::Null,
            ) => Some(Self::new(node, table.keys().collect(), title, name, owner)),
            (Shape::RecordOr { short, table }, Content::Scalar(_)) => {
                let entries = vec![Entry { name: short, at: node.span, node }];
                let keys = table.keys().collect();
                Some(Self { title, name, owner, entries, keys })
            }
            _ => None,
        }
    }

    fn lookup(&self, key: &str) -> (&'static Key, Option<&Entry<'n>>) {
        let Some(listed) = self.keys.iter().find(|listed| listed.name == key) else {
            panic!("the table of {} lists no key `{key}`", self.title);
        };
        (listed, self.entries.iter().find(|entry| entry.name == key))
    }
}

/// The shape of one element.
fn element(shape: &'static Shape) -> &'static Shape {
    match shape {
        Shape::List(of) | Shape::OneOrMany(of) => of,
        shape => shape,
    }
}

/// The elements of a list; what is no list is its own only element.
fn nodes(node: &Node) -> &[Node] {
    match &node.content {
        Content::List(list) => list,
        Content::Null | Content::Broken => &[],
        Content::Scalar(_) | Content::Map(_) => std::slice::from_ref(node),
    }
}

/// A scalar that is sound for `shape`, as a `T`.
fn read<T: Scalar>(node: &Node, shape: &Shape) -> Option<Spanned<T>> {
    let Content::Scalar(scalar) = &node.content else { return None };
    shape.judge(&scalar.text).ok()?;
    T::parse(&scalar.text).ok().map(|value| Spanned::new(value, node.span))
}
