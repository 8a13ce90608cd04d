//! The process as the kernel sees it, under the names that every Prometheus client library uses.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(figures) = Figures::read() else { return Ok(()) };
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", figures.resident_bytes),
            ("process_open_fds", "Open files and sockets", figures.open_files),
            ("process_threads", "Threads", figures.threads),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value as f64);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let help = "Processor time spent, all threads together";
        let descriptor = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(figures.cpu_seconds).encode(descriptor)
    }
}

struct Figures {
    resident_bytes: u64,
    open_files: u64,
    threads: u64,
    cpu_seconds: f64,
}

impl Figures {
    /// `None` where there is no `/proc` of the expected shape.
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in brackets and may hold anything; the third follows the last one.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)?.checked_add(field(15)?)?;
        Some(Self {
            resident_bytes: field(24)?.checked_mul(rustix::param::page_size() as u64)?,
            open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            threads: field(20)?,
            cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_plausible() {
        let figures = Figures::read().expect("there is /proc");
        assert!(figures.resident_bytes > 1 << 20 && figures.resident_bytes < 1 << 40);
        assert!(figures.threads >= 1 && figures.open_files >= 3 && figures.cpu_seconds >= 0.0);
    }
}
