//! Links the installed Vectorscan or Hyperscan, if there is one: `cfg(libhs)`.

/// Older ones may do, and were not tried.
const OLDEST: &str = "5.2";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(libhs)");
    // Without it a matcher in Rust serves: so its absence is no error.
    if pkg_config::Config::new().atleast_version(OLDEST).probe("libhs").is_ok() {
        println!("cargo::rustc-cfg=libhs");
    }
}
