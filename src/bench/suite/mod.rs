//! Whole measurements: cliques and NATS clusters started for the purpose, the same work done by both in turn, and the
//! figures written into a document. `compare` is the table against the goals, `failover` kills nodes and cuts links,
//! `growth` shows what costs more as there is more of it.
//!
//! Every process is a child of this one and ended with it; what they write goes into a folder that is removed.

mod charts;
mod cluster;
mod compare;
mod cuts;
mod document;
mod failover;
mod figures;
mod folder;
mod growth;
mod machine;
mod ports;
mod proxy;
mod work;

use std::{io, path::PathBuf, time::Duration};

use super::{BenchError, PlotError};

/// What is measured, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: Kind,
    /// The program of the nodes: this one.
    pub program: PathBuf,
    /// How many nodes, and how many servers to compare with.
    pub nodes: usize,
    pub repetitions: usize,
    /// How long one workload sends.
    pub duration: Duration,
    /// Clients of the idle rows.
    pub idle_clients: usize,
    /// The NATS server's program; `None` if nothing is to be compared.
    pub nats_server: Option<PathBuf>,
    /// Where the folder for data is made.
    pub data: PathBuf,
    /// The document; plots are put beside it.
    pub out: PathBuf,
}

/// Which measurement.
#[derive(Debug, Clone)]
pub enum Kind {
    Compare,
    Failover { cuts: Vec<Duration> },
    Growth(Steps),
}

/// How far things grow.
#[derive(Debug, Clone)]
pub struct Steps {
    pub nodes: Vec<usize>,
    pub clients: Vec<usize>,
    pub sizes_bytes: Vec<usize>,
    /// Entries that are kept before anything is measured.
    pub entries: Vec<u64>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    #[error("{program} cannot be started: {error}; install it, or name it with --nats-server PATH")]
    Start { program: PathBuf, error: io::Error },
    #[error("{what} has not come up within {seconds} s: {last}")]
    NotReady { what: String, seconds: u64, last: String },
    #[error("no free ports in a row were found from 20000 on")]
    NoPorts,
    #[error("the folder for data, or what is in it, cannot be used: {0}")]
    Folder(io::Error),
    #[error("{path} cannot be written: {error}")]
    Write { path: PathBuf, error: io::Error },
    #[error("{path} cannot be drawn: {error}")]
    Draw { path: PathBuf, error: PlotError },
    #[error("the settings of the NATS server are not taken: {0}")]
    NatsSettings(String),
    #[error("a proxy cannot be opened: {0}")]
    Proxy(io::Error),
    #[error(transparent)]
    Bench(#[from] BenchError),
}

/// Measures, and writes the document. Ends all that it started when it is dropped.
///
/// # Errors
/// If something could not be started, or not be measured at all.
pub async fn run(plan: &Plan) -> Result<(), SuiteError> {
    let folder = folder::Folder::new(&plan.data)?;
    let sections = match &plan.kind {
        Kind::Compare => compare::run(plan, &folder).await?,
        Kind::Failover { cuts } => failover::run(plan, cuts, &folder).await?,
        Kind::Growth(steps) => growth::run(plan, steps, &folder).await?,
    };
    document::write(&plan.out, &sections)?;
    println!("written: {}", plan.out.display());
    Ok(())
}

/// Says on standard error what was measured: runs are long.
fn say(what: &str) {
    eprintln!("{what}");
}
