//! Settings of whole measurements: `clique bench compare`, `failover` and `growth`.

use std::{env, path::PathBuf, time::Duration};

use clap::Args;

use super::{ConfigError, range};
use crate::bench::{
    MAX_BYTES, MIN_BYTES,
    suite::{Kind, Plan, Steps},
};

/// Longest run of one workload, in seconds.
const MAX_DURATION_S: f64 = 3_600.0;
const QUICK_DURATION: Duration = Duration::from_millis(300);
const QUICK_CLIENTS: usize = 60;
/// Most clients of a measurement: each takes a port to connect from.
const MAX_CLIENTS: u64 = 25_000;

/// Flags of every whole measurement.
#[derive(Debug, Clone, Args)]
pub struct SuiteArgs {
    /// How many nodes, and how many servers to compare with.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub nodes: u64,
    /// How often everything is measured.
    #[arg(long, value_name = "N")]
    pub repetitions: Option<u64>,
    /// How long one workload sends, in seconds.
    #[arg(long, value_name = "S")]
    pub duration_s: Option<f64>,
    /// Short and once: shows that everything works, and measures nothing.
    #[arg(long)]
    pub quick: bool,
    /// The NATS server to compare with.
    #[arg(long, value_name = "PATH", default_value = "nats-server", overrides_with = "nats_server")]
    pub nats_server: PathBuf,
    /// Measures the clique only.
    #[arg(long)]
    pub without_nats: bool,
    /// Where a folder for the nodes' data is made, and removed at the end: on the disk that is to be measured.
    #[arg(long, value_name = "FOLDER", default_value_os_t = env::temp_dir(), overrides_with = "data")]
    pub data: PathBuf,
    /// The document that is written; what it holds of other measurements is kept. Plots are put beside it.
    #[arg(long, value_name = "FILE.md", default_value = "benchmarks.md", overrides_with = "out")]
    pub out: PathBuf,
}

/// Flags of `failover`.
#[derive(Debug, Clone, Args)]
pub struct FailoverArgs {
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// How long the link is cut, in milliseconds.
    #[arg(long, value_name = "MS,…", value_delimiter = ',', default_values_t = [50, 1_000, 3_000])]
    pub cut_ms: Vec<u64>,
}

/// Flags of `growth`: what is gone through, in each case in steps.
#[derive(Debug, Clone, Args)]
pub struct GrowthArgs {
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Numbers of nodes.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub steps_nodes: Option<Vec<u64>>,
    /// Numbers of clients that say nothing.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub steps_clients: Option<Vec<u64>>,
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',')]
    pub steps_size_bytes: Option<Vec<u64>>,
    /// Entries kept on disk, produced before each step: ten million take about 1.5 GB per node.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub steps_entries: Option<Vec<u64>>,
}

/// The plan of a whole measurement.
///
/// # Errors
/// The first thing that cannot be used, in a sentence.
pub(super) fn plan(args: &SuiteArgs, kind: Kind) -> Result<Plan, ConfigError> {
    let duration = match args.duration_s {
        Some(seconds) if seconds > 0.0 && seconds <= MAX_DURATION_S => Duration::from_secs_f64(seconds),
        Some(seconds) => return Err(ConfigError::Duration(seconds)),
        None if args.quick => QUICK_DURATION,
        None => Duration::from_secs(5),
    };
    Ok(Plan {
        kind,
        program: env::current_exe().map_err(ConfigError::Program)?,
        nodes: count(range("--nodes", args.nodes, 1, 32)?),
        repetitions: count(range("--repetitions", args.repetitions.unwrap_or(if args.quick { 1 } else { 5 }), 1, 100)?),
        duration,
        idle_clients: if args.quick { QUICK_CLIENTS } else { 10_000 },
        nats_server: (!args.without_nats).then(|| args.nats_server.clone()),
        data: args.data.clone(),
        out: args.out.clone(),
    })
}

/// What `failover` does.
pub(super) fn failover(args: &FailoverArgs) -> Result<Kind, ConfigError> {
    let cut = |ms: &u64| range("--cut-ms", *ms, 1, 600_000).map(Duration::from_millis);
    Ok(Kind::Failover { cuts: args.cut_ms.iter().map(cut).collect::<Result<_, _>>()? })
}

/// What `growth` does.
pub(super) fn growth(args: &GrowthArgs) -> Result<Kind, ConfigError> {
    let steps = |name, given: &Option<Vec<u64>>, quick: &[u64], usual: &[u64], (min, max)| {
        let steps = given.clone().unwrap_or_else(|| if args.suite.quick { quick } else { usual }.to_vec());
        steps.into_iter().map(|step| range(name, step, min, max)).collect::<Result<Vec<u64>, _>>()
    };
    let counts = |steps: Vec<u64>| steps.into_iter().map(count).collect();
    let sizes = (MIN_BYTES as u64, MAX_BYTES as u64);
    let largest = MAX_BYTES as u64;
    Ok(Kind::Growth(Steps {
        nodes: counts(steps("--steps-nodes", &args.steps_nodes, &[1, 2], &[1, 2, 3, 5, 7, 9], (1, 32))?),
        clients: counts(steps(
            "--steps-clients",
            &args.steps_clients,
            &[10, 50],
            &[10, 100, 1_000, 10_000],
            (1, MAX_CLIENTS),
        )?),
        sizes_bytes: counts(steps(
            "--steps-size-bytes",
            &args.steps_size_bytes,
            &[16, largest],
            &[16, 100, 1_024, 4_096, 16_384, largest],
            sizes,
        )?),
        entries: steps(
            "--steps-entries",
            &args.steps_entries,
            &[0, 1_000],
            &[0, 10_000, 100_000, 1_000_000, 10_000_000],
            (0, 1 << 30),
        )?,
    }))
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
