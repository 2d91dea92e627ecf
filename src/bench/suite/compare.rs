//! The table against the goals: the same work in turn by a clique and by NATS, several times.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Plan, SuiteError,
    charts::{self, Bar},
    cluster::{Cluster, System},
    document::{Sections, plot_name},
    figures::{Samples, Summary, readable},
    folder::Folder,
    machine, say,
    work::{Figure, RATE_PER_S, RECIPIENTS, SENDERS, Work, greet},
};
use crate::bench::Shape;

/// What a ratio is to be.
#[derive(Debug, Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Not a ratio: what ours is to be itself.
    OursAtMost(f64),
    /// Only shown.
    None,
}

impl Goal {
    /// How far it is reached, by the medians: 1 and more is there.
    fn share(self, ours: Option<f64>, ratio: Option<f64>) -> Option<f64> {
        match self {
            Self::AtLeast(goal) => Some(ratio? / goal),
            Self::AtMost(goal) => Some(goal / ratio?.max(1e-9)),
            Self::OursAtMost(goal) => Some(goal / ours?.max(1e-9)),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!("≥ {goal} ×"),
            Self::AtMost(goal) => format!("≤ {goal} ×"),
            Self::OursAtMost(goal) => format!("≤ {}", readable(goal)),
            Self::None => "–".to_owned(),
        }
    }
}

/// What was measured: by whom, which work, and which of its figures.
type Key = (System, &'static str, Figure);

/// One row of the table.
struct Row {
    title: &'static str,
    ours: (System, &'static str),
    theirs: (System, &'static str),
    figure: Figure,
    goal: Goal,
}

const fn row(
    title: &'static str,
    ours: (System, &'static str),
    theirs: (System, &'static str),
    figure: Figure,
    goal: Goal,
) -> Row {
    Row { title, ours, theirs, figure, goal }
}

use Figure::{AcknowledgedPerS, BytesPerClient, CpuUsEach, DeliveredPerS, LatencyP50Us, LatencyP99Us};
use Goal::{AtLeast, AtMost, OursAtMost};
use System::{Clique, CliqueKept, JetStream, JetStreamAlways, Nats};

/// The goals of the project.
const ROWS: [Row; 16] = [
    row("direct", (Clique, "direct"), (Nats, "direct"), DeliveredPerS, AtLeast(2.0)),
    row("spread, 8 senders", (Clique, "spread"), (Nats, "spread"), DeliveredPerS, AtLeast(2.5)),
    row("broadcast to 100", (Clique, "broadcast"), (Nats, "broadcast"), DeliveredPerS, AtLeast(4.0)),
    row("latency at 10,000/s, p50", (Clique, "latency"), (Nats, "latency"), LatencyP50Us, AtMost(0.8)),
    row("latency at 10,000/s, p99", (Clique, "latency"), (Nats, "latency"), LatencyP99Us, AtMost(1.0)),
    row("processor at 10,000/s", (Clique, "latency"), (Nats, "latency"), CpuUsEach, AtMost(0.7)),
    row("memory per idle client", (Clique, "idle"), (Nats, "idle"), BytesPerClient, AtMost(0.25)),
    row("… in bytes", (Clique, "idle"), (Nats, "idle"), BytesPerClient, OursAtMost(5_120.0)),
    row("… of the extended client", (Clique, "idle-extended"), (Nats, "idle"), BytesPerClient, OursAtMost(10_240.0)),
    row("direct, kept and acknowledged", (CliqueKept, "direct"), (Nats, "direct-again"), DeliveredPerS, AtLeast(1.0)),
    row("spread, kept and acknowledged", (CliqueKept, "spread"), (Nats, "spread-again"), DeliveredPerS, AtLeast(1.0)),
    row(
        "broadcast, kept and acknowledged",
        (CliqueKept, "broadcast"),
        (Nats, "broadcast-again"),
        DeliveredPerS,
        AtLeast(2.0),
    ),
    row("durable, 64 in flight", (CliqueKept, "durable-64"), (JetStream, "durable-64"), AcknowledgedPerS, AtLeast(5.0)),
    row(
        "durable, 64 in flight",
        (CliqueKept, "durable-64"),
        (JetStreamAlways, "durable-64"),
        AcknowledgedPerS,
        AtLeast(50.0),
    ),
    row("durable, 1 in flight", (CliqueKept, "durable-1"), (JetStream, "durable-1"), AcknowledgedPerS, Goal::None),
    row(
        "durable, 1 in flight",
        (CliqueKept, "durable-1"),
        (JetStreamAlways, "durable-1"),
        AcknowledgedPerS,
        Goal::None,
    ),
];

const WORKLOADS: [(&str, &str, Shape); 3] = [
    ("direct", "direct-again", Shape::Direct),
    ("spread", "spread-again", Shape::Spread { senders: SENDERS }),
    ("broadcast", "broadcast-again", Shape::Broadcast { senders: 1, recipients: RECIPIENTS }),
];
const FIGURES: [Figure; 6] = [DeliveredPerS, AcknowledgedPerS, LatencyP50Us, LatencyP99Us, CpuUsEach, BytesPerClient];

/// Measures everything and says what came of it.
///
/// # Errors
/// If something could not be started.
pub async fn run(plan: &Plan, folder: &Folder) -> Result<Sections, SuiteError> {
    let mut comparison = Comparison { plan, folder, samples: BTreeMap::new(), remarks: Vec::new() };
    comparison.in_memory().await?;
    comparison.idle().await?;
    comparison.kept().await?;
    comparison.durable().await?;
    comparison.sections()
}

struct Comparison<'a> {
    plan: &'a Plan,
    folder: &'a Folder,
    samples: BTreeMap<Key, Samples>,
    remarks: Vec<String>,
}

impl Comparison<'_> {
    /// Those of the systems that take part, started. One that does not start is remarked on and left out.
    async fn start(&mut self, systems: &[System]) -> Result<Vec<Cluster>, SuiteError> {
        let mut clusters = Vec::new();
        for system in systems.iter().filter(|system| system.is_clique() || self.plan.nats_server.is_some()) {
            let started = match Cluster::start(*system, self.plan.nodes, self.plan, self.folder).await {
                Ok(cluster) => greet(&cluster, self.plan).await.map(|()| cluster),
                Err(error) => Err(error),
            };
            match started {
                Ok(cluster) => clusters.push(cluster),
                Err(error @ SuiteError::NotReady { .. }) if !system.is_clique() => {
                    self.remark(format!("{} is left out: {error}", system.name()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(clusters)
    }

    /// The same work by each of the clusters, one after the other; in the next repetition in the other order.
    async fn in_turn(&mut self, clusters: &[Cluster], repetition: usize, work: &[(System, &'static str, Work)]) {
        let mut order: Vec<_> = work.iter().collect();
        if repetition % 2 == 1 {
            order.reverse();
        }
        for (system, name, work) in order {
            if let Some(cluster) = clusters.iter().find(|cluster| cluster.system == *system) {
                self.measure(cluster, name, *work, repetition).await;
            }
        }
    }

    async fn measure(&mut self, cluster: &Cluster, name: &'static str, work: Work, repetition: usize) {
        let system = cluster.system;
        let place = format!("{name} by {}, repetition {}", system.name(), repetition + 1);
        let report = match work.run(cluster, self.plan).await {
            Ok(report) => Some(report),
            Err(error) => {
                self.remark(format!("{place}: {error}"));
                None
            }
        };
        if let Some(report) = report.as_ref().filter(|report| !report.verified.ok) {
            self.remark(format!("{place}: {}. {}", report.verified, report.notes.join("; ")));
        }
        let mut said = Vec::new();
        for figure in FIGURES {
            let value = report.as_ref().and_then(|report| figure.of(report));
            said.extend(value.map(|value| format!("{} {}", readable(value), figure.unit())));
            self.samples.entry((system, name, figure)).or_default().push(value);
        }
        say(&format!("{place}: {}", said.join(", ")));
    }

    fn remark(&mut self, remark: String) {
        say(&remark);
        self.remarks.push(remark);
    }

    async fn in_memory(&mut self) -> Result<(), SuiteError> {
        let clusters = self.start(&[Clique, Nats]).await?;
        for repetition in 0..self.plan.repetitions {
            for (name, _, shape) in WORKLOADS {
                let work = Work::flow(shape, self.plan.duration);
                self.in_turn(&clusters, repetition, &[(Clique, name, work), (Nats, name, work)]).await;
            }
            let work = Work::rate(RATE_PER_S, self.plan.duration);
            self.in_turn(&clusters, repetition, &[(Clique, "latency", work), (Nats, "latency", work)]).await;
        }
        Ok(())
    }

    /// Memory that was freed would hide what clients take: each measurement has processes of its own.
    async fn idle(&mut self) -> Result<(), SuiteError> {
        for repetition in 0..self.plan.repetitions {
            for (system, name, is_extended) in
                [(Clique, "idle", false), (Nats, "idle", false), (Clique, "idle-extended", true)]
            {
                if system == Nats && self.plan.nats_server.is_none() {
                    continue;
                }
                let cluster = Cluster::start(system, self.plan.nodes, self.plan, self.folder).await?;
                let work = Work::Idle { clients: self.plan.idle_clients, is_extended };
                self.measure(&cluster, name, work, repetition).await;
            }
        }
        Ok(())
    }

    async fn kept(&mut self) -> Result<(), SuiteError> {
        let clusters = self.start(&[CliqueKept, Nats]).await?;
        for repetition in 0..self.plan.repetitions {
            for (name, again, shape) in WORKLOADS {
                let work = Work::flow(shape, self.plan.duration);
                let turns = [(CliqueKept, name, work.acknowledged()), (Nats, again, work)];
                self.in_turn(&clusters, repetition, &turns).await;
            }
        }
        Ok(())
    }

    async fn durable(&mut self) -> Result<(), SuiteError> {
        let systems = [CliqueKept, JetStream, JetStreamAlways];
        let clusters = self.start(&systems).await?;
        for repetition in 0..self.plan.repetitions {
            for (name, in_flight) in [("durable-64", 64), ("durable-1", 1)] {
                let work = Work::durable(in_flight, self.plan.duration);
                self.in_turn(&clusters, repetition, &systems.map(|system| (system, name, work))).await;
            }
        }
        Ok(())
    }

    fn sections(&self) -> Result<Sections, SuiteError> {
        let command = "deploy/bench/compare";
        let mut text = machine::describe(self.plan, self.folder, command)?;
        text.push_str(
            "\n| | unit | ours | theirs | against | ratio | goal | reached |\n|---|---|---|---|---|---|---|---|\n",
        );
        let mut bars = Vec::new();
        for row in &ROWS {
            let samples = |(system, name): (System, &'static str)| {
                self.samples.get(&(system, name, row.figure)).map(Vec::as_slice).unwrap_or_default()
            };
            let (ours, theirs) = (samples(row.ours), samples(row.theirs));
            let ratio = Summary::ratio(ours, theirs);
            let median = |summary: Option<Summary>| summary.map(|summary| summary.median);
            let share = row.goal.share(median(Summary::of_samples(ours)), median(ratio));
            let shown = |summary: Option<Summary>| summary.map_or("–".to_owned(), |summary| summary.text(readable));
            let reached = share.map_or("–", |share| if share >= 1.0 { "yes" } else { "**no**" });
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {reached} |",
                row.title,
                row.figure.unit(),
                shown(Summary::of_samples(ours)),
                shown(Summary::of_samples(theirs)),
                row.theirs.0.name(),
                ratio.map_or("–".to_owned(), |ratio| format!("{} ×", shown(Some(ratio)))),
                row.goal.text(),
            );
            let name = format!("{} / {}", row.title, row.theirs.0.name());
            bars.extend(share.map(|share| Bar { name, share }));
        }
        let verdict =
            if self.remarks.is_empty() { "Every run was verified: nothing lost, twice or out of order." } else { "" };
        let _ = writeln!(text, "\n{verdict}");
        for remark in &self.remarks {
            let _ = writeln!(text, "- {remark}");
        }
        let mut sections = Sections::default();
        if !bars.is_empty() {
            let name = plot_name(&self.plan.out, "goals");
            let _ = writeln!(text, "\n![How far each goal is reached; right of the mark is better]({name})");
            let svg = charts::goals("How far each goal is reached (1 = the goal, right is better)", &bars)
                .map_err(|error| SuiteError::Draw { path: self.plan.out.with_file_name(name), error })?;
            sections.plots.insert("goals".to_owned(), svg);
        }
        sections.texts.insert("compare", text);
        Ok(sections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_reached_from_their_side() {
        assert_eq!(AtLeast(2.0).share(None, Some(3.0)), Some(1.5));
        assert_eq!(AtMost(0.5).share(None, Some(0.25)), Some(2.0));
        assert_eq!(OursAtMost(5_120.0).share(Some(2_560.0), None), Some(2.0));
        assert_eq!((Goal::None.share(Some(1.0), Some(1.0)), AtLeast(2.5).text()), (None, "≥ 2.5 ×".to_owned()));
    }
}
