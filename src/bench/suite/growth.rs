//! What costs more as there is more of it: nodes, clients, bytes, history.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Plan, Steps, SuiteError,
    charts::{self, Line},
    cluster::{Cluster, System},
    document::{Sections, plot_name},
    figures::{Samples, Summary, readable},
    folder::Folder,
    machine, say,
    work::{Figure, RATE_PER_S, SENDERS, Work, greet},
};
use crate::bench::{Shape, Speech, connection::Connection, process::Processes};

/// Nodes that keep a long history: each keeps all of it.
const MAX_KEEPING_NODES: usize = 3;
/// Messages of a run on a history: few by its measure, for they become part of it.
const COUNTED: u64 = 20_000;
/// Clients that register at the same time.
const CONCURRENCY: usize = 64;

/// What was measured while one thing grew.
struct Sweep {
    /// The section's name, and that of its plots.
    name: &'static str,
    /// What grows.
    x: &'static str,
    samples: BTreeMap<(System, &'static str), BTreeMap<u64, Samples>>,
    remarks: BTreeSet<String>,
}

/// Measures all four.
///
/// # Errors
/// If something could not be started.
pub async fn run(plan: &Plan, steps: &Steps, folder: &Folder) -> Result<Sections, SuiteError> {
    let about = machine::describe(plan, folder, "deploy/bench/growth")?;
    let mut sections = Sections::default();
    for sweep in [
        nodes(plan, &steps.nodes, folder).await?,
        clients(plan, &steps.clients, folder).await?,
        sizes(plan, &steps.sizes_bytes, folder).await?,
        entries(plan, &steps.entries, folder).await?,
    ] {
        let text = sweep.describe(&about, plan, &mut sections);
        sections.texts.insert(sweep.name, text);
    }
    Ok(sections)
}

fn systems(plan: &Plan) -> impl Iterator<Item = System> {
    let has_nats = plan.nats_server.is_some();
    [System::Clique, System::Nats].into_iter().filter(move |system| system.is_clique() || has_nats)
}

fn spread(plan: &Plan) -> Work {
    Work::flow(Shape::Spread { senders: SENDERS }, plan.duration)
}

fn at_a_rate(plan: &Plan) -> Work {
    Work::rate(RATE_PER_S / 2, plan.duration)
}

async fn nodes(plan: &Plan, steps: &[usize], folder: &Folder) -> Result<Sweep, SuiteError> {
    let mut sweep = Sweep::new("growth-nodes", "nodes");
    for count in steps {
        let plan = Plan { nodes: *count, ..plan.clone() };
        for system in systems(&plan) {
            let cluster = Cluster::start(system, *count, &plan, folder).await?;
            greet(&cluster, &plan).await?;
            for _ in 0..plan.repetitions {
                sweep.measure(&cluster, &plan, *count as u64, spread(&plan), &[Figure::DeliveredPerS]).await;
                sweep.measure(&cluster, &plan, *count as u64, at_a_rate(&plan), &[Figure::CpuUsEach]).await;
            }
        }
    }
    Ok(sweep)
}

async fn clients(plan: &Plan, steps: &[usize], folder: &Folder) -> Result<Sweep, SuiteError> {
    let mut sweep = Sweep::new("growth-clients", "silent clients");
    for count in steps {
        for system in systems(plan) {
            let cluster = Cluster::start(system, plan.nodes, plan, folder).await?;
            let processes = Processes { pids: cluster.pids() };
            let before = processes.usage();
            let crowd = crowd(&cluster, *count).await?;
            let grown = before.zip(processes.usage());
            let bytes = grown.map(|(before, after)| {
                after.resident_bytes.saturating_sub(before.resident_bytes) as f64 / crowd.len().max(1) as f64
            });
            sweep.add(system, "bytes per client", *count as u64, bytes);
            greet(&cluster, plan).await?;
            for _ in 0..plan.repetitions {
                let figures = [Figure::CpuUsEach, Figure::LatencyP50Us];
                sweep.measure(&cluster, plan, *count as u64, at_a_rate(plan), &figures).await;
            }
        }
    }
    Ok(sweep)
}

/// Clients that register, over all nodes, and then say nothing.
async fn crowd(cluster: &Cluster, count: usize) -> Result<Vec<Connection>, SuiteError> {
    let speech = if cluster.system.is_clique() { Speech::Frames } else { Speech::Nats };
    let addresses = cluster.addresses();
    let seats = addresses.iter().cycle().take(count).cloned().enumerate();
    let open = |(seat, address): (usize, String)| async move {
        let name = format!("silent{seat}");
        Connection::open(speech, &address, name.clone(), Some(&name)).await
    };
    Ok(stream::iter(seats).map(open).buffer_unordered(CONCURRENCY).try_collect().await?)
}

async fn sizes(plan: &Plan, steps: &[usize], folder: &Folder) -> Result<Sweep, SuiteError> {
    let mut sweep = Sweep::new("growth-sizes", "bytes of a message");
    for system in systems(plan) {
        let cluster = Cluster::start(system, plan.nodes, plan, folder).await?;
        greet(&cluster, plan).await?;
        for size in steps {
            let figures = [Figure::DeliveredPerS, Figure::DeliveredMibPerS];
            for _ in 0..plan.repetitions {
                sweep.measure(&cluster, plan, *size as u64, spread(plan).sized(*size), &figures).await;
            }
        }
    }
    Ok(sweep)
}

/// A clique for each step, so that what the step itself adds does not count for the next.
async fn entries(plan: &Plan, steps: &[u64], folder: &Folder) -> Result<Sweep, SuiteError> {
    let mut sweep = Sweep::new("growth-entries", "entries kept before");
    let plan = &Plan { nodes: plan.nodes.min(MAX_KEEPING_NODES), ..plan.clone() };
    for kept in steps {
        let mut cluster = Cluster::new(System::CliqueKept, plan.nodes, plan, folder)?;
        cluster.set("CLIQUE_KEEP_MIB", 0);
        cluster.set("CLIQUE_KEEP_DAYS", 0);
        cluster.start_all().await?;
        if *kept > 0 {
            say(&format!("filling up to {kept} entries"));
            spread(plan).counted(*kept).run(&cluster, plan).await?;
        }
        for _ in 0..plan.repetitions {
            let flow = spread(plan).acknowledged().counted(COUNTED);
            sweep.measure(&cluster, plan, *kept, flow, &[Figure::AcknowledgedPerS]).await;
            sweep.measure(&cluster, plan, *kept, at_a_rate(plan), &[Figure::CpuUsEach]).await;
        }
        cluster.kill(0);
        let begun = Instant::now();
        cluster.start_one(0)?;
        cluster.wait_until_joined().await?;
        sweep.add(System::CliqueKept, "ms to start and join", *kept, Some(ms(begun.elapsed())));
    }
    Ok(sweep)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Sweep {
    fn new(name: &'static str, x: &'static str) -> Self {
        Self { name, x, samples: BTreeMap::new(), remarks: BTreeSet::new() }
    }

    fn add(&mut self, system: System, what: &'static str, at: u64, value: Option<f64>) {
        let shown = value.map_or("nothing".to_owned(), readable);
        say(&format!("{} {}, {}: {shown} {what}", at, self.x, system.name()));
        self.samples.entry((system, what)).or_default().entry(at).or_default().push(value);
    }

    async fn measure(&mut self, cluster: &Cluster, plan: &Plan, at: u64, work: Work, figures: &[Figure]) {
        let report = match work.run(cluster, plan).await {
            Ok(report) => {
                if !report.verified.ok {
                    self.remarks.insert(format!("{} with {at} {}: {}", cluster.system.name(), self.x, report.verified));
                }
                Some(report)
            }
            Err(error) => {
                self.remarks.insert(format!("{} with {at} {}: {error}", cluster.system.name(), self.x));
                None
            }
        };
        for figure in figures {
            let value = report.as_ref().and_then(|report| figure.of(report));
            self.add(cluster.system, figure.unit(), at, value);
        }
    }

    /// A table, and a plot for each unit.
    fn describe(&self, about: &str, plan: &Plan, sections: &mut Sections) -> String {
        let columns: Vec<_> = self.samples.keys().collect();
        let names: Vec<String> = columns.iter().map(|(system, what)| format!("{}: {what}", system.name())).collect();
        let mut text =
            format!("{about}\n| {} | {} |\n|---{}|\n", self.x, names.join(" | "), "|---".repeat(columns.len()));
        let steps: BTreeSet<u64> = self.samples.values().flat_map(BTreeMap::keys).copied().collect();
        for at in steps {
            let cells = columns.iter().map(|key| {
                let summary = self.samples.get(key).and_then(|steps| Summary::of_samples(steps.get(&at)?));
                summary.map_or("–".to_owned(), |summary| summary.text(readable))
            });
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} | {} |", readable(at as f64), cells.collect::<Vec<_>>().join(" | "));
        }
        for remark in &self.remarks {
            let _ = write!(text, "\n- {remark}");
        }
        let whats: BTreeSet<&str> = columns.iter().map(|(_, what)| *what).collect();
        for (number, what) in whats.into_iter().enumerate() {
            let name = format!("{}-{}", self.name.trim_start_matches("growth-"), number + 1);
            let title = format!("{what}, by {}", self.x);
            // A sweep of one step has no curve; its table says all.
            let Ok(svg) = charts::lines(&title, self.x, what, &self.lines(what)) else { continue };
            let _ = write!(text, "\n![{title}]({})", plot_name(&plan.out, &name));
            sections.plots.insert(name, svg);
        }
        text
    }

    fn lines(&self, what: &str) -> Vec<Line> {
        let of_what = self.samples.iter().filter(|((_, other), _)| *other == what);
        of_what
            .map(|((system, _), steps)| Line {
                name: system.name().to_owned(),
                // Nothing has no place on an axis of factors.
                points: steps
                    .iter()
                    .filter_map(|(at, samples)| Some(((*at).max(1) as f64, Summary::of_samples(samples)?.median)))
                    .collect(),
            })
            .collect()
    }
}
