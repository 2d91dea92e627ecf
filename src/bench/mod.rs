//! The load generator: measures a running clique, or a NATS server with the same program, and verifies what it measures.
//!
//! The ways of a run: `layout` says who is where, `stage` connects everybody and proves that they reach each other,
//! `sender` sends by a window or by a `schedule`, each recipient's `inbox` judges every message, and `report` says
//! what came of it. One thread does all of it unless told otherwise, so that the generator takes as little as it can from
//! the machine that it shares with the nodes.

mod connection;
mod fleet;
mod flow;
mod inbox;
mod jetstream;
mod layout;
mod payload;
mod plot;
mod process;
mod progress;
mod report;
mod schedule;
mod sender;
mod settings;
mod speech;
mod stage;
pub mod suite;
mod traffic;
mod verify;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use self::{
    connection::HearError,
    flow::Awaits,
    payload::{MAX_BYTES, PROBE as MAX_SENDERS, STAMP_BYTES as MIN_BYTES},
    plot::PlotError,
    report::Report,
    settings::{Fleet, Limit, Pace, Settings, Shape, Traffic, Workload},
    speech::{Speech, SpeechError},
    verify::Faults,
};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(
        "{address} cannot be reached: {error}; is it running? (clique up starts five nodes at the default addresses)"
    )]
    Connect { address: String, error: io::Error },
    #[error("the connection to {address} was lost while registering: {error}")]
    Lost { address: String, error: HearError },
    #[error("{address} has not registered a client within {seconds} s; does another service listen there?")]
    Silent { address: String, seconds: u64 },
    #[error("{address} refuses the client {name}: {reason}")]
    Refused { address: String, name: String, reason: String },
    #[error(
        "{missing} recipients were not reached within {seconds} s; are the nodes of --nodes joined to each other? {notes}"
    )]
    Unreached { missing: usize, seconds: u64, notes: String },
    #[error("JetStream has not made, or does not show, the stream that is to keep the messages: {reason}")]
    NoStream { reason: String },
    #[error("a sender's connection failed before the run: {0}")]
    Failed(io::Error),
    #[error("no process listens at the addresses of --nodes on this machine; give the nodes' processes with --pid")]
    NoProcess,
    #[error("a node's process has ended during the run; see its own output")]
    ProcessGone,
    #[error("the generator cannot start: {0}")]
    Runtime(io::Error),
    #[error("latencies cannot be counted: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("the generator has failed; this is a mistake in it: {0}")]
    Stopped(#[from] tokio::task::JoinError),
    #[error("the plot {path} cannot be written: {error}")]
    Plot { path: PathBuf, error: PlotError },
}

/// Runs the workload to its end.
///
/// # Errors
/// If the nodes cannot be reached or used.
pub async fn run(settings: Settings) -> Result<Report, BenchError> {
    // A runtime of its own, so that the generator has the threads it was given and no others.
    tokio::task::spawn_blocking(move || {
        let mut builder = match settings.threads {
            0 | 1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime =
            builder.worker_threads(settings.threads.max(1)).enable_all().build().map_err(BenchError::Runtime)?;
        runtime.block_on(measure(&settings))
    })
    .await?
}

/// Draws a report as SVG into a file.
///
/// # Errors
/// If the run was too short for a curve, or the file cannot be written.
pub fn plot(path: &Path, report: &Report) -> Result<(), BenchError> {
    plot::write(path, report).map_err(|error| BenchError::Plot { path: path.to_owned(), error })
}

async fn measure(settings: &Settings) -> Result<Report, BenchError> {
    match &settings.workload {
        Workload::Traffic(traffic) => traffic::measure(settings, traffic).await,
        Workload::Idle(fleet) => fleet::idle(settings, fleet).await,
        Workload::Connect(fleet) => fleet::connect(settings, fleet).await,
    }
}
