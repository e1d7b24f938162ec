//! The variables of rules' headers: `$HOME_NET` and its like.
//!
//! Each is read once, into ranges; a list that names it copies ranges, not text, so that variables of variables of
//! variables cost no more than the ranges that come out.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser};

use super::address::{AddressList, PortList};
use super::mistake::{Mistake, Read, unsupported};

/// What `$NAME` stands for in the headers of rules.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    addresses: HashMap<String, Arc<AddressList>>,
    ports: HashMap<String, Arc<PortList>>,
}

/// A variable that cannot be read: rules that name it are broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable `{name}` is `{value}`: {why}")]
pub struct BadVariable {
    /// Its name, without `$`.
    pub name: String,
    /// Its value as given.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

/// The groups of a `suricata.yaml`, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// `vars: address-groups:`
    pub addresses: Vec<(String, String)>,
    /// `vars: port-groups:`
    pub ports: Vec<(String, String)>,
}

/// A file that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: this is no YAML: {why}")]
pub struct NoYaml {
    /// From 1.
    pub line: usize,
    /// In the parser's words.
    pub why: String,
}

impl Variables {
    /// Reads variables from pairs of name and value, in which one may name others, whatever their order. Of two of a name
    /// the later counts.
    pub fn new(
        addresses: &[(String, String)],
        ports: &[(String, String)],
    ) -> (Self, Vec<BadVariable>) {
        let mut wrong = Vec::new();
        let addresses = resolve(addresses, &mut wrong, |t, at, of| AddressList::read(t, at, of));
        let ports = resolve(ports, &mut wrong, |t, at, of| PortList::read(t, at, of));
        (Self { addresses, ports }, wrong)
    }

    pub(super) fn address(&self, name: &str) -> Option<&Arc<AddressList>> {
        self.addresses.get(name)
    }

    pub(super) fn port(&self, name: &str) -> Option<&Arc<PortList>> {
        self.ports.get(name)
    }
}

impl Groups {
    /// Reads the `vars` section of a `suricata.yaml`; the rest of the file is not looked at.
    ///
    /// A group may be a text, as Suricata has it, or a list. No recursion: the parser tells events, and where one is in
    /// the file is a stack of keys.
    ///
    /// # Errors
    /// The file is no YAML up to the end of that section.
    pub fn of_suricata_yaml(text: &str) -> Result<Self, NoYaml> {
        let mut options = granit_parser::options! {
            emit_unresolved_aliases: true,
            flow_nesting_limit: NESTING_MAX,
            block_nesting_limit: NESTING_MAX,
        };
        options.set_emit_comments(false);
        let mut groups = Self::default();
        let mut path: Vec<Level> = Vec::new();
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, _) = event
                .map_err(|error| NoYaml { line: error.marker().line(), why: error.to_string() })?;
            match event {
                Event::MappingStart(..) => path.push(Level::Map(None)),
                Event::SequenceStart(..) => path.push(Level::List(Vec::new())),
                Event::MappingEnd => {
                    path.pop();
                    ended(&mut path);
                }
                Event::SequenceEnd => {
                    if let Some(Level::List(items)) = path.pop() {
                        groups.add(&path, &format!("[{}]", items.join(",")));
                    }
                    ended(&mut path);
                }
                Event::Scalar(text, ..) => match path.last_mut() {
                    Some(Level::Map(key @ None)) => *key = Some(text.into_owned()),
                    Some(Level::List(items)) => items.push(text.into_owned()),
                    _ => {
                        groups.add(&path, &text);
                        ended(&mut path);
                    }
                },
                Event::Alias(_) | Event::UnresolvedAlias(_) => ended(&mut path),
                _ => {}
            }
        }
        Ok(groups)
    }

    fn add(&mut self, path: &[Level], value: &str) {
        let [Level::Map(Some(vars)), Level::Map(Some(groups)), Level::Map(Some(name))] = path
        else {
            return;
        };
        let pair = (name.clone(), value.to_owned());
        match (vars.as_str(), groups.as_str()) {
            ("vars", "address-groups") => self.addresses.push(pair),
            ("vars", "port-groups") => self.ports.push(pair),
            _ => {}
        }
    }
}

/// Where in a YAML file the parser is: in the value of a key, or in a list.
enum Level {
    Map(Option<String>),
    List(Vec<String>),
}

/// A value is over: a key comes next.
fn ended(path: &mut [Level]) {
    if let Some(Level::Map(key)) = path.last_mut() {
        *key = None;
    }
}

/// What a list asks for another one by its name.
type Lookup<'l, L> = dyn Fn(&str, usize) -> Read<Arc<L>> + 'l;

/// Reads variables in rounds: in each, those of which all that they name is known. At most as many rounds as variables.
fn resolve<L>(
    pairs: &[(String, String)],
    wrong: &mut Vec<BadVariable>,
    read: impl Fn(&str, usize, &Lookup<'_, L>) -> Read<L>,
) -> HashMap<String, Arc<L>> {
    let mut known: HashMap<String, Arc<L>> = HashMap::new();
    let mut open: HashMap<&str, &str> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    loop {
        let before = known.len();
        let mut failed: Vec<(&str, Mistake)> = Vec::new();
        for (name, value) in std::mem::take(&mut open) {
            let lookup = |other: &str, at| match known.get(other) {
                Some(list) => Ok(Arc::clone(list)),
                None => unsupported(at, format!("`${other}` is unknown, or names itself")),
            };
            match read(value, 0, &lookup) {
                Ok(list) => _ = known.insert(name.to_owned(), Arc::new(list)),
                Err(mistake) => {
                    failed.push((name, mistake));
                    open.insert(name, value);
                }
            }
        }
        if known.len() == before {
            failed.sort_by_key(|(name, _)| *name);
            wrong.extend(failed.into_iter().map(|(name, mistake)| BadVariable {
                name: name.to_owned(),
                value: open.get(name).copied().unwrap_or_default().to_owned(),
                why: mistake.text,
            }));
            return known;
        }
    }
}

/// Deepest nesting of a `suricata.yaml`.
const NESTING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn variables_may_name_those_that_come_after_them() {
        let (variables, wrong) =
            Variables::new(&pairs(&[("A", "$B"), ("B", "[$C,!1.1.1.1]"), ("C", "any")]), &[]);
        assert_eq!(wrong, []);
        assert!(variables.address("A").is_some());
    }

    #[test]
    fn a_variable_that_names_itself_or_nothing_is_told_and_the_others_are_read() {
        let (variables, wrong) =
            Variables::new(&pairs(&[("A", "$B"), ("B", "$A"), ("C", "$NO"), ("D", "::1")]), &[]);
        let names: Vec<&str> = wrong.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C"]);
        assert!(variables.address("D").is_some());
    }

    #[test]
    fn variables_that_double_forty_times_are_read_at_once() {
        let mut list = vec![("V0".to_owned(), "1.1.1.1".to_owned())];
        list.extend((1..40).map(|n| (format!("V{n}"), format!("[$V{0},$V{0}]", n - 1))));
        assert_eq!(Variables::new(&list, &[]).1, []);
    }

    #[test]
    fn the_groups_of_a_suricata_yaml_are_found_among_the_rest() {
        let text = "%YAML 1.1\n---\n# comment\noutputs:\n  - eve-log:\n      vars: { address-groups: { NO: any } }\n\
            vars:\n  address-groups:\n    HOME_NET: \"[192.168.0.0/16,10.0.0.0/8]\"\n    EXTERNAL_NET: '!$HOME_NET'\n    \
            LIST: [1.1.1.1, 2.2.2.2]\n  port-groups:\n    HTTP_PORTS: \"80\"\n    SSH: 22\nafter: 1\n";
        let groups = Groups::of_suricata_yaml(text).unwrap();
        assert_eq!(
            groups.addresses,
            pairs(&[
                ("HOME_NET", "[192.168.0.0/16,10.0.0.0/8]"),
                ("EXTERNAL_NET", "!$HOME_NET"),
                ("LIST", "[1.1.1.1,2.2.2.2]"),
            ]),
        );
        assert_eq!(groups.ports, pairs(&[("HTTP_PORTS", "80"), ("SSH", "22")]));
        assert_eq!(Groups::of_suricata_yaml("a: [").unwrap_err().line, 1);
    }
}
