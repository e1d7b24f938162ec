//! The counters as OpenMetrics text.

use std::collections::HashSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::requests::Control;
use crate::account::Counter;

/// What the text is, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a run: each counter by worker, and what is a state rather than a count.
///
/// # Errors
/// Writing text to memory failed, which it does not.
pub fn text(control: &Control) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Run(control.clone())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Run(Control);

impl Collector for Run {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(control) = self;
        let running = control.workers.now();
        let ledger = &running.plan.ledger;
        let workers = running.by_worker();
        let mut told = HashSet::new();
        for counter in ledger.counters() {
            if !told.insert(counter.metric) {
                continue;
            }
            let name = format!("nfv_{}", counter.metric);
            let mut family = encoder.encode_descriptor(
                &name,
                counter.help_of_metric(),
                None,
                MetricType::Counter,
            )?;
            for (worker, totals) in workers.iter().enumerate() {
                let same = totals.iter(ledger).filter(|(c, _)| c.metric == counter.metric);
                for (one, value) in same {
                    encode_counter(&mut family, one, worker, value)?;
                }
            }
        }
        let gauge = |encoder: &mut DescriptorEncoder<'_>,
                     name,
                     help,
                     unit: Option<&Unit>,
                     values: Vec<(Vec<(&str, String)>, f64)>| {
            let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            for (labels, value) in values {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
            Ok::<(), fmt::Error>(())
        };
        let by_port = |f: &dyn Fn(&crate::dpdk::OpenPort) -> f64| {
            control.ports.iter().map(|p| (vec![("port", p.name.clone())], f(p))).collect::<Vec<_>>()
        };
        gauge(
            &mut encoder,
            "nfv_port_link_up",
            "whether the port has a link",
            None,
            by_port(&|p| f64::from(u8::from(p.link().up))),
        )?;
        gauge(
            &mut encoder,
            "nfv_pool_free_mbufs",
            "mbufs that the port\'s pool has left",
            None,
            by_port(&|p| f64::from(p.pool.size().saturating_sub(p.pool.in_use()))),
        )?;
        let dropped = control.rules.dropped();
        let mut family = encoder.encode_descriptor(
            "nfv_nic_dropped_packets",
            "packets that the NIC dropped by rules, and that were not received",
            None,
            MetricType::Counter,
        )?;
        for (port, packets) in dropped {
            let labels = vec![("port", port)];
            let value = prometheus_client::metrics::counter::ConstCounter::new(packets);
            value.encode(family.encode_family(&labels)?)?;
        }
        let workers = running.workers() as f64;
        gauge(&mut encoder, "nfv_workers", "workers", None, vec![(Vec::new(), workers)])?;
        let uptime = control.start.elapsed().as_secs_f64();
        gauge(
            &mut encoder,
            "nfv_uptime",
            "time since the workers started",
            Some(&Unit::Seconds),
            vec![(Vec::new(), uptime)],
        )
    }
}

fn encode_counter(
    family: &mut MetricEncoder<'_>,
    counter: &Counter,
    worker: usize,
    value: u64,
) -> fmt::Result {
    let mut labels = counter.labels.clone();
    labels.push(("worker", worker.to_string()));
    let value = prometheus_client::metrics::counter::ConstCounter::new(value);
    value.encode(family.encode_family(&labels)?)
}
