//! `nfv schema`: the JSON Schema of the chain file.

use nfv_core::chain::compile::function_types;
use nfv_core::chain::schema::json_schema;

use crate::cli::Outcome;
use crate::say::say;

/// Prints the schema.
pub fn print() -> Outcome {
    say(&format!("{}\n", serde_json::to_string_pretty(&json_schema(&function_types(nfs::KINDS)))?));
    Ok(())
}
