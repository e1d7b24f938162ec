//! Finds the installed DPDK by pkg-config, binds what `wrapper.h` names, compiles the shim.

use std::path::PathBuf;
use std::{env, process};

const OLDEST: &str = "22.11";

fn main() {
    println!("cargo:rerun-if-changed=wrapper.h");
    println!("cargo:rerun-if-changed=shim.c");
    println!("cargo:rerun-if-changed=flow.c");
    println!("cargo:rerun-if-changed=flow.h");
    println!("cargo:rerun-if-changed=flow_queue.c");
    println!("cargo:rerun-if-changed=fake_flow.c");
    println!("cargo:rerun-if-changed=fake_flow.h");
    let dpdk = match pkg_config::Config::new().atleast_version(OLDEST).probe("libdpdk") {
        Ok(dpdk) => dpdk,
        Err(why) => {
            let detail = why.to_string();
            let first = detail.lines().find(|l| !l.trim().is_empty()).unwrap_or("").trim();
            println!(
                "cargo::error=nfv needs DPDK {OLDEST} or later with its headers: install them with \
                 `apt install libdpdk-dev` (Fedora: `dnf install dpdk-devel`), or point PKG_CONFIG_PATH at \
                 your own build of DPDK. pkg-config says: {first}"
            );
            process::exit(1);
        }
    };
    // pkg-config's crate keeps -I and -L but not `-include rte_config.h -march=...`, which DPDK's headers rely on.
    let cflags = pkg_config_words("--cflags-only-other");
    let includes = dpdk.include_paths.iter().map(|p| format!("-I{}", p.display()));
    // A driver for tests, in no other build.
    let fake = env::var_os("CARGO_FEATURE_FAKE_FLOW").map(|_| "-DNFV_FAKE_FLOW".to_owned());
    let arguments: Vec<String> = includes.chain(cflags).chain(fake.clone()).collect();

    let mut shim = cc::Build::new();
    shim.files(["shim.c", "flow.c", "flow_queue.c"]);
    if fake.is_some() {
        shim.file("fake_flow.c");
    }
    shim.warnings(true).opt_level(3);
    for argument in &arguments {
        shim.flag(argument);
    }
    shim.flag("-Wno-unused-parameter");
    shim.compile("nfv_shim");
    // A port made of rings is had by a call of its driver's, which pkg-config leaves to EAL to load.
    println!("cargo:rustc-link-lib=rte_net_ring");

    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&arguments)
        .allowlist_function("nfv_.*")
        .allowlist_function("rte_eal_(init|cleanup|mp_remote_launch|remote_launch|wait_lcore|has_hugepages)")
        .allowlist_function("rte_(get_next_lcore|get_main_lcore|lcore_count|lcore_to_socket_id|lcore_to_cpu_id|socket_id|strerror)")
        .allowlist_function("rte_log_(set_global_level|register_type_and_pick_level)")
        .allowlist_function("rte_thread_(register|unregister)")
        .allowlist_function("rte_pktmbuf_(pool_create|free_bulk|copy)")
        .allowlist_function("rte_mempool_(free|avail_count|in_use_count)")
        .allowlist_function("rte_dev_(probe|remove)")
        .allowlist_function("rte_eth_(find_next|dev_(info_get|configure|start|stop|close|reset|adjust_nb_rx_tx_desc|set_mtu|get_mtu|socket_id|get_name_by_port|get_port_by_name|count_avail|callback_register|callback_unregister|rss_hash_update|rss_hash_conf_get|rss_reta_update|rss_reta_query|default_mac_addr_set|is_removed))")
        .allowlist_function("rte_eth_(rx|tx)_queue_setup")
        .allowlist_function("rte_eth_dev_rx_intr_(enable|disable|ctl_q|ctl_q_get_fd)")
        .allowlist_function("rte_epoll_(ctl|wait)")
        .allowlist_function("rte_eth_(promiscuous|allmulticast)_(enable|disable|get)")
        .allowlist_function("rte_eth_(stats_get|stats_reset|macaddr_get)")
        .allowlist_function("rte_eth_xstats_(get|get_names)")
        .allowlist_function("rte_acl_(create|free|reset|add_rules|build|classify)")
        .allowlist_function("rte_fib6?_free")
        .allowlist_function("rte_(ring_create|eth_from_rings)")
        .allowlist_type("rte_acl_(config|param|field_def|field|rule_data)")
        .allowlist_type("rte_eth_(dev_info|conf|stats|xstat|xstat_name|rss_conf|rss_reta_entry64|event_type)")
        .allowlist_type("rte_ether_addr|rte_epoll_event")
        .allowlist_var("NFV_.*")
        .allowlist_var("RTE_(MAX_LCORE|MAX_ETHPORTS|ETH_NAME_MAX_LEN|PKTMBUF_HEADROOM|ACL_MAX_CATEGORIES|ETH_RETA_GROUP_SIZE|ETH_DEV_NO_OWNER|INTR_EVENT_ADD|INTR_EVENT_DEL|MBUF_DEFAULT_BUF_SIZE|ACL_FIELD_TYPE_.*|ACL_MIN_PRIORITY|ACL_MAX_PRIORITY)")
        .opaque_type("rte_mempool|rte_mbuf|rte_flow|rte_ring|rte_acl_ctx|rte_fib|rte_fib6|rte_device")
        .prepend_enum_name(false)
        .derive_default(true)
        .layout_tests(false)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .wrap_unsafe_ops(true)
        .generate();
    let bindings = match bindings {
        Ok(bindings) => bindings,
        Err(why) => {
            println!(
                "cargo::error=bindgen could not read DPDK's headers (is `libclang-dev` installed?): {why}"
            );
            process::exit(1);
        }
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR is writable");
}

fn pkg_config_words(flag: &str) -> Vec<String> {
    let output = process::Command::new("pkg-config").args([flag, "libdpdk"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
