//! `nfv schema`: the JSON Schema of the chain file, and the pages of its network functions.

use nfv_core::chain::compile::function_types;
use nfv_core::chain::report::nearest;
use nfv_core::chain::schema::json_schema;

use crate::cli::SchemaArgs;
use crate::failure::{Failure, Outcome};
use crate::say::say;

/// Prints the schema, or a page.
pub fn print(args: &SchemaArgs) -> Outcome {
    let Some(name) = &args.doc else {
        let schema = json_schema(&function_types(nfs::KINDS));
        say(&(serde_json::to_string_pretty(&schema)? + "\n"));
        return Ok(());
    };
    let Some(kind) = nfs::KINDS.iter().find(|kind| kind.name == name) else {
        let known = nfs::KINDS.iter().map(|kind| kind.name);
        let hint = match nearest(name, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("types: {}", known.collect::<Vec<_>>().join(" ")),
        };
        return Err(Failure::User(format!("nfv: there is no type of function `{name}`; {hint}")));
    };
    say(&kind.page());
    Ok(())
}
