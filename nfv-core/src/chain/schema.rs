//! The JSON Schema of the chain file, for editors: completion, help, and marks while typing.
//!
//! Made from the same tables of keys that reading uses. It is a little more lenient than reading:
//! what needs arithmetic or other parts of the file (host bits, dangling names) only `nfv check`
//! can know.
use serde_json::{Map, Value, json};

use super::file_keys::FILE;
use super::key::{FunctionType, Key, Names, Need, Shape, TYPE_KEY};
use super::value::{
    DURATION_UNITS, ICMP_NAMES, NAME_PATTERN, PROTOCOL_NAMES, RATE_UNITS, SIZE_UNITS, Unit,
};

/// The schema of chain files with these types of functions, in JSON Schema draft 2020-12.
pub fn json_schema(functions: &[FunctionType]) -> Value {
    let mut definitions: Map<String, Value> =
        functions.iter().map(|kind| (definition(kind), function(kind))).collect();
    definitions.insert("function".into(), any_function(functions));
    let mut root = record(FILE.keys());
    root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".into(), json!("nfv chain file"));
    root.insert("$defs".into(), Value::Object(definitions));
    Value::Object(root)
}

fn definition(kind: &FunctionType) -> String {
    format!("function-{}", kind.name)
}

/// The keys of one type of function.
fn function(kind: &FunctionType) -> Value {
    Value::Object(record([&TYPE_KEY].into_iter().chain(kind.keys)))
}

/// A function, what [`Shape::Function`] refers to: its `type` picks the keys.
fn any_function(functions: &[FunctionType]) -> Value {
    // `if` and `then` rather than `oneOf`: an editor then names the wrong key, not "no match".
    let branches: Vec<_> = functions
        .iter()
        .map(|kind| {
            json!({
                "if": { "properties": { "type": { "const": kind.name } }, "required": ["type"] },
                "then": { "$ref": format!("#/$defs/{}", definition(kind)) },
            })
        })
        .collect();
    let names: Vec<_> = functions.iter().map(|kind| kind.name).collect();
    let mut function = json!({
        "type": "object",
        "properties": { "type": { "enum": names, "description": TYPE_KEY.help } },
        "required": ["type"],
    });
    // `allOf` may not be empty.
    if !branches.is_empty() {
        function["allOf"] = Value::Array(branches);
    }
    function
}

fn record<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in keys {
        let mut value = shape(&key.shape);
        if let Some(value) = value.as_object_mut() {
            value.insert("description".into(), json!(key.help));
            if let Need::Default(text) = key.need {
                value.insert("default".into(), default(&key.shape, text));
            }
        }
        if key.need == Need::Required {
            required.push(key.name);
        }
        properties.insert(key.name.into(), value);
    }
    let mut record = Map::new();
    record.insert("type".into(), json!("object"));
    record.insert("properties".into(), Value::Object(properties));
    record.insert("required".into(), json!(required));
    record.insert("additionalProperties".into(), json!(false));
    record
}

/// A default as an editor would insert it.
fn default(shape: &Shape, text: &str) -> Value {
    let number = || text.parse::<u64>().ok().map(Value::from);
    match shape {
        Shape::Flag => json!(text == "true"),
        Shape::Integer { .. } | Shape::Vlan => number().unwrap_or_else(|| json!(text)),
        _ => json!(text),
    }
}

fn shape(of: &Shape) -> Value {
    match of {
        // A text may look like a number to YAML: what counts is how it is written.
        Shape::Text => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Name(Names::New) => pattern(NAME_PATTERN),
        Shape::Name(_) => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Integer { min, max } => {
            or_variable(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Shape::Flag => or_variable(json!({ "type": "boolean" })),
        Shape::Address => pattern("^[0-9a-fA-F:.]+$"),
        Shape::Interface => pattern("^[0-9a-fA-F:.]+/[0-9]{1,3}$"),
        Shape::Addresses => pattern("^[0-9./ -]+$"),
        Shape::Prefix => pattern("^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"),
        Shape::L4Ports => any_of([
            json!({ "type": "integer", "minimum": 0, "maximum": 65_535 }),
            pattern("^[0-9]{1,5}( *- *[0-9]{1,5})?$"),
        ]),
        Shape::Protocol => {
            named_or_byte(PROTOCOL_NAMES.iter().map(|(name, _)| *name).chain(["any"]))
        }
        Shape::IcmpType => named_or_byte(ICMP_NAMES.iter().map(|(name, ..)| *name)),
        Shape::TcpFlags => pattern("^ *!? *[a-z]{3}( *, *!? *[a-z]{3})* *$"),
        Shape::Mac => pattern("^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"),
        Shape::Vlan => or_variable(json!({ "type": "integer", "minimum": 1, "maximum": 4094 })),
        Shape::Duration => quantity(DURATION_UNITS),
        Shape::Size => quantity(SIZE_UNITS),
        Shape::Rate => quantity(RATE_UNITS),
        Shape::Choice(words) => or_variable(json!({ "enum": words })),
        Shape::List(of) => json!({ "type": ["array", "null"], "items": shape(of) }),
        Shape::OneOrMany(of) => {
            let one = shape(of);
            any_of([one.clone(), json!({ "type": "array", "items": one, "minItems": 1 })])
        }
        Shape::Record(table) => Value::Object(record(table.keys())),
        Shape::RecordOr { short, table } => {
            let whole = Value::Object(record(table.keys()));
            let key = table.keys().find(|key| key.name == *short);
            any_of(key.map(|key| shape(&key.shape)).into_iter().chain([whole]))
        }
        Shape::Function => json!({ "$ref": "#/$defs/function" }),
        Shape::Map { key, value, .. } => {
            json!({
                "type": ["object", "null"],
                "propertyNames": shape(key),
                "additionalProperties": shape(value),
            })
        }
        Shape::Any => json!({}),
    }
}

fn any_of(options: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": options.into_iter().collect::<Vec<_>>() })
}

/// A text of this pattern, or one that holds a variable, whose value an editor does not know.
fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": format!("{pattern}|{VARIABLE}") })
}

/// A value that is no text: in its place a text may hold a variable.
fn or_variable(value: Value) -> Value {
    any_of([value, json!({ "type": "string", "pattern": VARIABLE })])
}

fn named_or_byte(names: impl Iterator<Item = &'static str>) -> Value {
    let names: Vec<_> = names.collect();
    any_of([
        or_variable(json!({ "enum": names })),
        json!({ "type": "integer", "minimum": 0, "maximum": 255 }),
    ])
}

fn quantity(units: &[Unit]) -> Value {
    let units: Vec<_> = units.iter().map(|unit| unit.name).collect();
    pattern(&format!("^[0-9]+(\\.[0-9]+)? *({})$", units.join("|")))
}

/// A reference to a variable of the environment.
const VARIABLE: &str = r"\$\{";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::node::{Content, Node, Style};
    use super::super::report::Report;
    use super::super::source::Source;
    use super::super::testing::{FUNCTIONS, GATEWAY};
    use super::*;

    /// What an editor's YAML library makes of a node.
    fn to_json(node: &Node) -> Value {
        match &node.content {
            Content::Null | Content::Broken => Value::Null,
            Content::Scalar(scalar) if scalar.style == Style::Plain => {
                match serde_json::from_str(&scalar.text) {
                    Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
                    _ => json!(scalar.text),
                }
            }
            Content::Scalar(scalar) => json!(scalar.text),
            Content::List(list) => list.iter().map(to_json).collect(),
            Content::Map(map) => {
                map.iter().map(|(name, value)| (name.value.clone(), to_json(value))).collect()
            }
        }
    }

    fn yaml(text: &str) -> Value {
        let source = Arc::new(Source::from_bytes("a", text.into()).unwrap());
        let mut report = Report::new(source.clone());
        let node = Node::read(&source, &|_| Some("${X}".into()), &mut report).unwrap();
        to_json(&node)
    }

    #[test]
    fn a_chain_file_that_reads_without_mistakes_is_valid_for_editors() {
        let validator = jsonschema::draft202012::new(&json_schema(FUNCTIONS)).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&yaml(GATEWAY))
            .map(|e| format!("{e} at {}", e.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }

    #[test]
    fn editors_mark_what_reading_would_refuse() {
        let validator = jsonschema::draft202012::new(&json_schema(FUNCTIONS)).unwrap();
        for wrong in [
            "ports: {a: x}",
            "ports: {a: x}\nchains: {}\nport: 1",
            "ports: {a: {mode: routed}}\nchains: {}",
            "ports: {a: {device: x, mode: route}}\nchains: {}",
            "ports: {a: {device: x, mtu: 9601}}\nchains: {}",
            "ports: {a: {device: x, link-timeout: 10}}\nchains: {}",
            "ports: {A: x}\nchains: {}",
            "ports: {a: x}\nfunctions: {f: {}}\nchains: {}",
            "ports: {a: x}\nfunctions: {f: {type: firewal}}\nchains: {}",
            "ports: {a: x}\nfunctions: {f: {type: firewall, rule: []}}\nchains: {}",
            "ports: {a: x}\nchains: {c: {from: []}}",
            "ports: {a: x}\nchains: {c: {from: a, match: {dport: 65536}}}",
            "ports: {a: x}\nchains: {c: {from: a, match: {protocol: tpc}}}",
        ] {
            assert!(!validator.is_valid(&yaml(wrong)), "{wrong}");
        }
    }

    #[test]
    fn the_schema_carries_help_and_defaults() {
        let schema = json_schema(FUNCTIONS);
        let timeout = schema
            .pointer("/properties/ports/additionalProperties/anyOf/1/properties/link-timeout");
        assert_eq!(timeout.unwrap()["default"], "10s");
        assert_eq!(timeout.unwrap()["description"], "how long a start waits for the link");
        assert_eq!(schema["$defs"]["function-firewall"]["required"], json!(["type"]));
    }
}
