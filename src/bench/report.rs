//! What came of a run: as a table for people, as JSON for programs.

use std::fmt;

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::{
    process::{Processes, Usage},
    settings::Settings,
    speech::Speech,
    stage::Verdict,
    verify::Faults,
};

/// Points of a curve of percentiles per halving of the rest.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Everything measured. Names say the unit.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub workload: &'static str,
    pub target: &'static str,
    pub dialect: &'static str,
    pub nodes: Vec<String>,
    pub senders: usize,
    pub recipients: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    pub sent: u64,
    pub delivered: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
    /// From the first message to the arrival of the last, or of the last acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_mib_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// By how much the generator sent later than was due: part of the latency, and not the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_lateness: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Registrations>,
    pub resources: Resources,
    pub verified: Verified,
    pub notes: Vec<String>,
    pub series: Series,
}

/// What the verification found.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Verified {
    /// Everything arrived once, in order, whole, and nowhere else.
    pub ok: bool,
    #[serde(flatten)]
    pub faults: Faults,
    /// Messages of people who have nothing to do with the run; no fault.
    pub foreign: u64,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub samples: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub max_us: f64,
}

/// Memory of silent clients.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Idle {
    pub clients: usize,
    pub resident_bytes_before: u64,
    pub resident_bytes_after: u64,
    pub bytes_per_client: u64,
    /// Processor time of the nodes while nothing happens.
    pub cpu_ms_per_s_while_idle: f64,
}

/// How fast clients were registered.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Registrations {
    pub clients: usize,
    pub concurrency: usize,
    pub elapsed_s: f64,
    pub clients_per_s: f64,
    pub registered_in: Latency,
}

/// What the nodes' processes and the generator used.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Resources {
    /// The nodes' processes; empty where they were neither given nor found.
    pub pids: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Per message delivered, or per client registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_each: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cpu_s: Option<f64>,
}

/// The points of the plot.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    pub x: &'static str,
    pub y: &'static str,
    /// The x values are percentiles, which are drawn so that the last ones have room.
    #[serde(skip)]
    pub is_percentile: bool,
    pub points: Vec<(f64, f64)>,
}

impl Report {
    /// A report with the part that all workloads have; `clients` are senders and recipients.
    #[must_use]
    pub fn new(settings: &Settings, clients: (usize, usize), verdict: &Verdict) -> Self {
        let (target, dialect) = match (settings.speech, settings.sender_speech) {
            (_, Speech::JetStream) => ("nats", "jetstream"),
            (Speech::Frames, Speech::Extended) => ("clique", "frames, senders extended"),
            (Speech::Frames, _) => ("clique", "frames"),
            (Speech::Extended, _) => ("clique", "extended"),
            (Speech::Nats | Speech::JetStream, _) => ("nats", "core"),
        };
        Self {
            workload: settings.workload.name(),
            target,
            dialect,
            nodes: settings.nodes.clone(),
            senders: clients.0,
            recipients: clients.1,
            size_bytes: None,
            window_bytes: None,
            rate_per_s: None,
            in_flight: None,
            sent: verdict.sent,
            delivered: verdict.delivered,
            acknowledged: None,
            elapsed_s: None,
            delivered_per_s: None,
            acknowledged_per_s: None,
            delivered_mib_per_s: None,
            latency: None,
            generator_lateness: None,
            idle: None,
            connect: None,
            resources: Resources::default(),
            verified: Verified { ok: verdict.faults.is_clean(), faults: verdict.faults, foreign: verdict.foreign },
            notes: Vec::new(),
            series: Series { x: "", y: "", is_percentile: false, points: Vec::new() },
        }
    }

    /// Says how long the messages took, and so how many went through.
    pub fn set_elapsed(&mut self, elapsed_ns: u64) {
        let elapsed_s = elapsed_ns as f64 / 1e9;
        if elapsed_s <= 0.0 {
            return;
        }
        let per_s = self.delivered as f64 / elapsed_s;
        self.elapsed_s = Some(elapsed_s);
        self.delivered_per_s = Some(per_s);
        self.acknowledged_per_s = self.acknowledged.map(|count| count as f64 / elapsed_s);
        self.delivered_mib_per_s = self.size_bytes.map(|size| per_s * size as f64 / f64::from(1 << 20));
    }

    /// For programs, in one line.
    ///
    /// # Errors
    /// None, for numbers that JSON can say.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("nodes", format!("{} ({} {})", self.nodes.len(), self.target, self.dialect)),
            ("senders → recipients", format!("{} → {}", self.senders, self.recipients)),
        ];
        let bytes = |count: usize| HumanBytes(count as u64).to_string();
        rows.extend(self.size_bytes.map(|size| ("message", bytes(size))));
        rows.extend(self.window_bytes.map(|window| ("window", bytes(window))));
        rows.extend(self.rate_per_s.map(|rate| ("rate", format!("{}/s", HumanCount(rate)))));
        rows.extend(self.in_flight.map(|count| ("in flight", format!("{count} not acknowledged, per sender"))));
        let over = self.elapsed_s.map(|elapsed| format!(" in {elapsed:.2} s")).unwrap_or_default();
        rows.push(("sent", HumanCount(self.sent).to_string()));
        rows.push(("delivered", format!("{}{over}", HumanCount(self.delivered))));
        if let (Some(rate), Some(mib)) = (self.delivered_per_s, self.delivered_mib_per_s) {
            rows.push(("throughput", format!("{}/s, {mib:.1} MiB/s", HumanCount(rate as u64))));
        }
        if let (Some(count), Some(rate)) = (self.acknowledged, self.acknowledged_per_s) {
            rows.push(("acknowledged", format!("{}, {}/s", HumanCount(count), HumanCount(rate as u64))));
        }
        if let Some(idle) = &self.idle {
            let memory = (HumanBytes(idle.resident_bytes_before), HumanBytes(idle.resident_bytes_after));
            rows.push(("memory", format!("{} → {}", memory.0, memory.1)));
            rows.push(("per idle client", format!("{} bytes", HumanCount(idle.bytes_per_client))));
            rows.push(("processor while idle", format!("{:.1} ms per s", idle.cpu_ms_per_s_while_idle)));
        }
        if let Some(connect) = &self.connect {
            let rate = HumanCount(connect.clients_per_s as u64);
            rows.push(("registered", format!("{} in {:.2} s", connect.clients, connect.elapsed_s)));
            rows.push(("rate", format!("{rate}/s, {} at a time", connect.concurrency)));
            rows.push(("registered in", connect.registered_in.to_string()));
        }
        rows.extend(self.latency.map(|latency| ("latency", latency.to_string())));
        rows.extend(self.generator_lateness.map(|late| ("of it the generator's", late.to_string())));
        rows.extend(self.resources.to_string().lines().map(|line| ("processor", line.to_owned())));
        rows.push(("verified", self.verified.to_string()));
        rows.extend(self.notes.iter().map(|note| ("note", note.clone())));
        rows
    }
}

/// A table.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        write!(out, "{}", self.workload)?;
        for (name, value) in rows {
            write!(out, "\n  {name:<width$}  {value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults;
        let verdict = if self.ok { "yes" } else { "VIOLATED" };
        write!(out, "{verdict}: {} lost, {} twice, {} out of order", faults.loss, faults.duplicates, faults.disorder)?;
        for (count, what) in [
            (faults.unacknowledged, "not acknowledged"),
            (faults.corrupt, "corrupt"),
            (faults.misrouted, "to the wrong client"),
            (self.foreign, "of others"),
        ] {
            if count > 0 {
                write!(out, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl Latency {
    /// Of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            samples: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: us(histogram.max()),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |us: f64| match us {
            us if us < 1e3 => format!("{us:.0} µs"),
            us if us < 1e6 => format!("{:.2} ms", us / 1e3),
            us => format!("{:.2} s", us / 1e6),
        };
        let values = [self.p50_us, self.p99_us, self.p99_9_us, self.max_us].map(time);
        write!(out, "p50 {}, p99 {}, p99.9 {}, max {}", values[0], values[1], values[2], values[3])
    }
}

impl Resources {
    /// What was used between two times, by the nodes and by the generator, for `count` messages or clients.
    #[must_use]
    pub fn between(
        processes: &Processes,
        before: (Option<Usage>, Option<Usage>),
        after: (Option<Usage>, Option<Usage>),
        count: u64,
    ) -> Self {
        let cpu_us = |before: Option<Usage>, after: Option<Usage>| Some(after?.cpu_us.saturating_sub(before?.cpu_us));
        let nodes_us = cpu_us(before.0, after.0);
        let seconds = |us: u64| us as f64 / 1e6;
        Self {
            pids: processes.pids.clone(),
            resident_bytes: after.0.map(|usage| usage.resident_bytes),
            cpu_s: nodes_us.map(seconds),
            cpu_us_each: nodes_us.filter(|_| count > 0).map(|us| us as f64 / count as f64),
            generator_cpu_s: cpu_us(before.1, after.1).map(seconds),
        }
    }
}

/// One line about the nodes and one about the generator, as far as they are known.
impl fmt::Display for Resources {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cpu_s) = self.cpu_s {
            let each = self.cpu_us_each.map(|us| format!(", {us:.2} µs each")).unwrap_or_default();
            writeln!(out, "{} node processes: {cpu_s:.2} s{each}", self.pids.len())?;
        }
        self.generator_cpu_s.map_or(Ok(()), |cpu_s| writeln!(out, "generator: {cpu_s:.2} s"))
    }
}

impl Series {
    /// Rates between points of (seconds, delivered by then).
    #[must_use]
    pub fn rates(delivered: &[(f64, u64)]) -> Self {
        let rate = |pair: &[(f64, u64)]| {
            let (from, to) = (pair.first()?, pair.last()?);
            (to.0 > from.0).then(|| (to.0, to.1.saturating_sub(from.1) as f64 / (to.0 - from.0)))
        };
        Self {
            x: "seconds",
            y: "messages/s",
            is_percentile: false,
            points: delivered.windows(2).filter_map(rate).collect(),
        }
    }

    /// Latencies in µs by percentile.
    #[must_use]
    pub fn percentiles(latencies: &Histogram<u64>) -> Self {
        let steps = latencies.iter_quantiles(TICKS_PER_HALF_DISTANCE);
        let points = steps.map(|step| (step.quantile_iterated_to() * 100.0, step.value_iterated_to() as f64 / 1e3));
        // The last one stands for no message of its own and has no place on an axis of nines.
        let points = points.take_while(|(percentile, _)| *percentile < 100.0).collect();
        Self { x: "percentile", y: "µs", is_percentile: true, points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences() {
        let series = Series::rates(&[(0.0, 0), (0.5, 100), (0.5, 100), (1.0, 400)]);
        assert_eq!(series.points, [(0.5, 200.0), (1.0, 600.0)]);
        assert!(Series::rates(&[(0.0, 0)]).points.is_empty());
    }

    #[test]
    fn latencies_are_told_in_units_that_fit() {
        let mut histogram = super::super::inbox::histogram().unwrap();
        for ms in 1..=1_000_u64 {
            histogram.saturating_record(ms * 1_000_000);
        }
        let latency = Latency::of(&histogram);
        assert!((latency.p50_us - 500_000.0).abs() < 1_000.0, "{latency:?}");
        assert!(latency.to_string().starts_with("p50 500."), "{latency}");
        assert!(latency.to_string().ends_with("max 1.00 s"), "{latency}");
        let series = Series::percentiles(&histogram);
        assert!(series.points.iter().all(|(percentile, _)| *percentile < 100.0));
        assert!(series.points.len() > 20);
    }

    #[test]
    fn faults_are_said_loudly() {
        let faults = Faults { loss: 2, corrupt: 1, ..Faults::default() };
        let verified = Verified { ok: false, faults, foreign: 0 };
        assert_eq!(verified.to_string(), "VIOLATED: 2 lost, 0 twice, 0 out of order, 1 corrupt");
    }

    #[test]
    fn use_is_the_difference() {
        let usage = |cpu_us| Some(Usage { resident_bytes: 5, cpu_us });
        let processes = Processes { pids: vec![1, 2] };
        let resources = Resources::between(&processes, (usage(1_000), None), (usage(3_000), None), 1_000);
        assert_eq!((resources.cpu_us_each, resources.generator_cpu_s), (Some(2.0), None));
        assert_eq!(resources.to_string(), "2 node processes: 0.00 s, 2.00 µs each\n");
    }
}
