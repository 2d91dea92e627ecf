//! The command line: parse, configure, run; exit codes.

// Nothing that came from a socket, a disk or the environment may end the process.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use clique::{
    bench, client,
    config::{self, BenchArgs, BenchTask, ClientArgs, LogSettings, NodeArgs, StatusArgs},
    health,
    node::{
        Node, NodeSettings,
        store::{StoreError, verify::verify},
        world::RealWorld,
    },
    status,
    telemetry::{ServiceName, Spans, init_logs},
    up::Up,
};
use tokio::signal::unix::{SignalKind, signal};

/// Chat without a centre: equal nodes, one history, nothing lost when a link is cut.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node.
    Node(NodeArgs),
    /// Run a whole clique in this process, on loopback.
    Up {
        /// How many nodes.
        #[arg(long, value_name = "N", default_value_t = 5)]
        nodes: u16,
        #[command(flatten)]
        args: Box<NodeArgs>,
    },
    /// Talk: at a terminal, or with lines or JSON through pipes.
    Client(ClientArgs),
    /// Measure running nodes, and verify that nothing is lost, doubled or out of order.
    Bench(BenchArgs),
    /// Ask the node of these settings on this machine whether it is ready; exit code 0 if it is.
    Health(NodeArgs),
    /// Show what one node knows of all: who is up, who lacks what, whether their histories are equal.
    ///
    /// Exit code 0 if all is well, 1 if something is wrong (a node cannot be reached, lacks messages for long, is damaged
    /// or contradicts another), 2 if there is no answer.
    Status(Box<StatusArgs>),
    /// Check a data directory that no node is using; exit code 0 if it is sound, 1 if damaged, 2 if it cannot be looked at.
    Verify {
        /// The directory: what CLIQUE_DATA says for one node.
        #[arg(value_name = "DIR", env = "CLIQUE_DATA")]
        directory: PathBuf,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
}

/// Open files of a node that are not for clients: peers, probes, scrapers, and what the process itself needs.
const RESERVED_FILES: usize = 2_500;
/// Exit code for settings that cannot be used, and ports that cannot be had.
const BAD_SETTINGS: u8 = 2;
/// Exit code of `clique status` without an answer.
const NO_ANSWER: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Node(args) = &command {
        match config::threads(args, &config::environment()) {
            // Without a second thread nothing has to be handed over between threads, and waking a task costs less.
            Ok(1) => runtime = tokio::runtime::Builder::new_current_thread(),
            Ok(threads) => {
                runtime.worker_threads(threads);
            }
            Err(error) => return fail(BAD_SETTINGS, &error.into()),
        }
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &anyhow::Error::new(error).context("the runtime cannot be started")),
    };
    let code = runtime.block_on(async {
        match command {
            Command::Node(args) => run_node(&args).await,
            Command::Up { nodes, args } => run_up(&args, nodes).await,
            Command::Client(args) => return run_client(&args).await,
            Command::Bench(args) => return run_bench(&args).await,
            Command::Health(args) => check_health(&args).await,
            Command::Status(args) => return show_status(&args).await,
            Command::Verify { directory, json } => return run_verify(&directory, json),
        }
        .map_or_else(|(code, error)| fail(code, &error), |()| ExitCode::SUCCESS)
    });
    // A thread that waits for the terminal does not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// An error with the exit code that it deserves.
type Failure = (u8, anyhow::Error);

fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    eprintln!("clique: {error:#}");
    ExitCode::from(code)
}

fn bad_settings(error: impl Into<anyhow::Error>) -> Failure {
    (BAD_SETTINGS, error.into())
}

fn start_logs(log: &LogSettings) -> Result<(), Failure> {
    init_logs(log.format, &log.filter).map_err(bad_settings)
}

async fn run_node(args: &NodeArgs) -> Result<(), Failure> {
    let mut config = config::node(args, &config::environment()).map_err(bad_settings)?;
    start_logs(&config.log)?;
    fit_open_files(std::slice::from_mut(&mut config.node));
    let name = format!("clique-node-{}", config.node.index);
    let spans = Spans::new(&config.trace, ServiceName::Default(&name), &name).map_err(bad_settings)?;
    let mut stop = StopSignals::new()?;
    // A start can wait for room on the disk.
    let node = tokio::select! {
        node = Node::start(config.node, RealWorld, spans) => node.map_err(bad_settings)?,
        () = stop.received() => return Ok(()),
    };
    stop.received().await;
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = node.stop() => Ok(()),
        () = stop.received() => Err((1, anyhow::anyhow!("stopped at once by a second signal"))),
    }
}

async fn run_up(args: &NodeArgs, nodes: u16) -> Result<(), Failure> {
    let mut config = config::up(args, nodes, &config::environment()).map_err(bad_settings)?;
    start_logs(&config.log)?;
    fit_open_files(&mut config.nodes);
    let mut stop = StopSignals::new()?;
    let up = tokio::select! {
        up = Up::start(config) => up.map_err(bad_settings)?,
        () = stop.received() => return Ok(()),
    };
    println!("{}", up.table());
    stop.received().await;
    println!("stopping");
    tokio::select! {
        () = up.stop() => Ok(()),
        () = stop.received() => Err((1, anyhow::anyhow!("stopped at once by a second signal"))),
    }
}

async fn run_client(args: &ClientArgs) -> ExitCode {
    let environment = config::environment();
    let settings = || -> anyhow::Result<_> {
        let settings = config::client(args, &environment)?;
        let instance = format!("{:08x}", rand::random::<u32>());
        let spans = Spans::new(&config::trace(&environment)?, ServiceName::Default("clique-client"), &instance)?;
        Ok((settings, spans))
    };
    match settings() {
        Ok((settings, spans)) => client::run(settings, spans).await.into(),
        Err(error) => fail(BAD_SETTINGS, &error),
    }
}

async fn run_bench(args: &BenchArgs) -> ExitCode {
    let task = match config::bench(args, &config::environment()) {
        Ok(task) => task,
        Err(error) => return fail(BAD_SETTINGS, &error.into()),
    };
    // As many connections as the system allows.
    fit_open_files(&mut []);
    let settings = match task {
        BenchTask::Run(settings) => *settings,
        BenchTask::Suite(plan) => return run_suite(&plan).await,
    };
    let (is_json, plot) = (settings.json, settings.plot.clone());
    let measured = async {
        let report = bench::run(settings).await?;
        let text = if is_json { report.to_json()? } else { report.to_string() };
        println!("{text}");
        // The result is out even if it cannot be drawn.
        plot.map_or(Ok(()), |path| bench::plot(&path, &report))?;
        anyhow::Ok(report.verified.ok)
    };
    match measured.await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(1, &error),
    }
}

fn run_verify(directory: &std::path::Path, is_json: bool) -> ExitCode {
    let report = match verify(directory) {
        Ok(report) => report,
        Err(error @ StoreError::Damaged { .. }) => return fail(1, &error.into()),
        Err(error) => return fail(BAD_SETTINGS, &error.into()),
    };
    match is_json.then(|| serde_json::to_string(&report)).transpose() {
        Ok(json) => println!("{}", json.unwrap_or_else(|| report.to_string())),
        Err(error) => return fail(BAD_SETTINGS, &error.into()),
    }
    if report.sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A whole measurement. What it started ends with it, also when it is interrupted.
async fn run_suite(plan: &bench::suite::Plan) -> ExitCode {
    let mut stop = match StopSignals::new() {
        Ok(stop) => stop,
        Err((code, error)) => return fail(code, &error),
    };
    let measured = tokio::select! {
        measured = bench::suite::run(plan) => measured.map_err(anyhow::Error::new),
        () = stop.received() => Err(anyhow::anyhow!("stopped by a signal; nothing is written")),
    };
    measured.map_or_else(|error| fail(1, &error), |()| ExitCode::SUCCESS)
}

async fn check_health(args: &NodeArgs) -> Result<(), Failure> {
    let address = config::health_target(args, &config::environment()).map_err(bad_settings)?;
    let text = health::check(&address).await.map_err(|error| (1, error.into()))?;
    println!("{text}");
    Ok(())
}

async fn show_status(args: &StatusArgs) -> ExitCode {
    let shown = async {
        let address = config::status_target(args, &config::environment())?;
        let overview = status::ask(&address).await?;
        let text = if args.json { serde_json::to_string_pretty(&overview)? } else { status::table(&overview) };
        anyhow::Ok((text, overview.alarms.is_empty()))
    };
    match shown.await {
        Ok((text, is_well)) => {
            // Whoever reads it may stop in the middle.
            let _ = writeln!(io::stdout(), "{text}");
            if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(NO_ANSWER, &error),
    }
}

/// One connection takes one open file. Where the system allows more than its default they are taken; where it allows
/// fewer than the settings say, clients get what is left, so that they cannot take those that peers need.
fn fit_open_files(nodes: &mut [NodeSettings]) {
    let files = match rlimit::increase_nofile_limit(rlimit::INFINITY) {
        Ok(files) => files,
        Err(error) => return tracing::warn!("the limit of open files cannot be raised: {error}"),
    };
    let share = usize::try_from(files).unwrap_or(usize::MAX) / nodes.len().max(1);
    let for_clients = share.saturating_sub(RESERVED_FILES).max(share / 2);
    for node in nodes.iter_mut().filter(|node| node.limits.max_connections > for_clients) {
        tracing::info!(
            node = node.index,
            "at most {for_clients} client connections are taken, because this process can have {files} files open"
        );
        node.limits.max_connections = for_clients;
    }
}

/// Ctrl-C and the signal of service managers.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> Result<Self, Failure> {
        let open =
            |kind| signal(kind).map_err(|error| (1, anyhow::Error::new(error).context("signals cannot be handled")));
        Ok(Self { interrupt: open(SignalKind::interrupt())?, terminate: open(SignalKind::terminate())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
