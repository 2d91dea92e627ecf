//! Messages lost when the link between two nodes is cut for a while.

use std::{fmt::Write as _, time::Duration};

use tokio::time::sleep;

use super::{
    Plan, SuiteError,
    cluster::{Cluster, System},
    figures::{Samples, Summary, readable},
    folder::Folder,
    say,
    work::{Work, greet},
};

/// Messages per second from one side to the other.
const RATE_PER_S: u64 = 1_000;
/// From the beginning of a run, in which clients register, to the cut.
const BEFORE_CUT: Duration = Duration::from_secs(2);
/// How long messages go on after it.
const AFTER_CUT: Duration = Duration::from_secs(3);

/// Measures and describes.
///
/// # Errors
/// If something could not be started.
pub async fn run(plan: &Plan, cuts: &[Duration], folder: &Folder) -> Result<String, SuiteError> {
    let mut text = String::new();
    let has_nats = plan.nats_server.is_some();
    let systems: Vec<System> = if has_nats { vec![System::Clique, System::Nats] } else { vec![System::Clique] };
    let columns = systems.iter().map(|system| format!("{}: lost | twice or out of order", system.name()));
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n| cut for | {} |\n|---{}|",
        columns.collect::<Vec<_>>().join(" | "),
        "|---|---".repeat(systems.len())
    );
    for cut in cuts {
        let mut cells = Vec::new();
        for system in &systems {
            let (mut lost, mut others): (Samples, Samples) = (Vec::new(), Vec::new());
            for repetition in 0..plan.repetitions {
                let faults = once(*system, *cut, plan, folder).await?;
                say(&format!("cut for {cut:?}, {}, repetition {}: {} lost", system.name(), repetition + 1, faults.0));
                lost.push(Some(faults.0 as f64));
                others.push(Some(faults.1 as f64));
            }
            cells.extend([lost, others].iter().map(|samples| {
                Summary::of_samples(samples).map_or("–".to_owned(), |summary| summary.text(readable))
            }));
        }
        let _ = writeln!(text, "| {} ms | {} |", cut.as_millis(), cells.join(" | "));
    }
    Ok(text)
}

/// What was lost, and what came twice or out of order.
async fn once(system: System, cut: Duration, plan: &Plan, folder: &Folder) -> Result<(u64, u64), SuiteError> {
    let plan = &Plan { nodes: 2, ..plan.clone() };
    let cluster = Cluster::start_with_proxies(system, plan.nodes, plan, folder).await?;
    greet(&cluster, plan).await?;
    let work = Work::rate(RATE_PER_S, BEFORE_CUT + cut + AFTER_CUT);
    let cutting = async {
        sleep(BEFORE_CUT).await;
        cluster.cut(0, 1);
        sleep(cut).await;
        cluster.heal(0, 1);
    };
    let (report, ()) = tokio::join!(work.run(&cluster, plan), cutting);
    let faults = report?.verified.faults;
    Ok((faults.loss, faults.duplicates + faults.disorder))
}
