//! Clients that only connect: `idle` reads what they take, `connect` how fast they come. Afterwards a few messages to all
//! of them prove that each is really there.

use std::{sync::atomic::Ordering, time::Duration};

use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep};

use super::{
    BenchError,
    flow::Awaits,
    inbox::histogram,
    layout::Layout,
    payload::STAMP_BYTES,
    process::{Processes, own_usage},
    progress::Progress,
    report::{Idle, Latency, Registrations, Report, Resources, Series},
    sender::Until,
    settings::{Fleet, Settings, Shape},
    stage::Stage,
};

/// Messages that prove that the clients are there.
const PROOFS: u64 = 10;
/// Bytes of such messages under way; few, for they go to everyone.
const PROOF_WINDOW_BYTES: usize = 1_024;
/// Points of the plot.
const POINTS: usize = 100;
/// Processor time of a node that has done little yet, in microseconds.
const FRESH_CPU_US: u64 = 1_000_000;
/// How often it is looked whether the proofs have arrived.
const TICK: Duration = Duration::from_millis(20);

/// Memory per silent client.
pub async fn idle(settings: &Settings, fleet: &Fleet) -> Result<Report, BenchError> {
    let processes = Processes::of(&settings.pids, &settings.nodes);
    let before = processes.usage().ok_or(BenchError::NoProcess)?;
    let own_before = own_usage();
    let mut stage = stage(settings, fleet);
    let progress = Progress::new(fleet.clients as u64, "connecting");
    let every = fleet.clients.div_ceil(POINTS).max(1);
    let (mut connected, mut points) = (0_usize, vec![(0.0, mib(before.resident_bytes))]);
    let seated = stage.seat_recipients(fleet.concurrency, false, |_| {
        progress.step();
        connected += 1;
        if connected.is_multiple_of(every)
            && let Some(usage) = processes.usage()
        {
            points.push((connected as f64, mib(usage.resident_bytes)));
        }
    });
    seated.await?;
    drop(progress);
    let settled = processes.usage().ok_or(BenchError::ProcessGone)?;
    sleep(fleet.settle).await;
    let after = processes.usage().ok_or(BenchError::ProcessGone)?;
    points.push((connected as f64, mib(after.resident_bytes)));
    let resources = Resources::between(&processes, (Some(before), own_before), (Some(after), own_usage()), 0);
    let mut report = prove(stage, settings, fleet).await?;
    report.idle = Some(Idle {
        clients: fleet.clients,
        resident_bytes_before: before.resident_bytes,
        resident_bytes_after: after.resident_bytes,
        bytes_per_client: after.resident_bytes.saturating_sub(before.resident_bytes) / fleet.clients.max(1) as u64,
        cpu_ms_per_s_while_idle: (after.cpu_us.saturating_sub(settled.cpu_us)) as f64
            / 1e3
            / fleet.settle.as_secs_f64().max(0.001),
    });
    // What a node has freed it uses again, and clients that fit in there seem to cost nothing.
    if before.cpu_us > FRESH_CPU_US * processes.pids.len() as u64 {
        report.notes.push(
            "the nodes had worked before, so clients may use memory that was freed: the figure is a lower bound; \
             measure nodes that were just started"
                .to_owned(),
        );
    }
    report.resources = resources;
    report.series = Series { x: "clients", y: "MiB", is_percentile: false, points };
    Ok(report)
}

/// Registrations per second.
pub async fn connect(settings: &Settings, fleet: &Fleet) -> Result<Report, BenchError> {
    let processes = Processes::of(&settings.pids, &settings.nodes);
    let before = (processes.usage(), own_usage());
    let mut stage = stage(settings, fleet);
    let progress = Progress::new(fleet.clients as u64, "connecting");
    let mut times: Histogram<u64> = histogram()?;
    let every = fleet.clients.div_ceil(POINTS).max(1);
    let (mut connected, mut points) = (0_u32, vec![(0.0, 0.0)]);
    let begun = Instant::now();
    let seated = stage.seat_recipients(fleet.concurrency, false, |registered_in| {
        progress.step();
        times.saturating_record(u64::try_from(registered_in.as_nanos()).unwrap_or(u64::MAX));
        connected += 1;
        if (connected as usize).is_multiple_of(every) {
            points.push((begun.elapsed().as_secs_f64(), f64::from(connected)));
        }
    });
    seated.await?;
    let elapsed = begun.elapsed();
    let after = (processes.usage(), own_usage());
    drop(progress);
    let mut report = prove(stage, settings, fleet).await?;
    report.connect = Some(Registrations {
        clients: fleet.clients,
        concurrency: fleet.concurrency,
        elapsed_s: elapsed.as_secs_f64(),
        clients_per_s: fleet.clients as f64 / elapsed.as_secs_f64(),
        registered_in: Latency::of(&times),
    });
    report.resources = Resources::between(&processes, before, after, fleet.clients as u64);
    report.series = Series { x: "seconds", y: "clients", is_percentile: false, points };
    Ok(report)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn stage<'a>(settings: &'a Settings, fleet: &Fleet) -> Stage<'a> {
    let shape = Shape::Broadcast { senders: 1, recipients: fleet.clients };
    Stage::new(settings, Layout::new(shape, settings.nodes.len()), STAMP_BYTES, Awaits::Delivery)
}

/// Sends a few messages to everyone and verifies them.
async fn prove(mut stage: Stage<'_>, settings: &Settings, fleet: &Fleet) -> Result<Report, BenchError> {
    let until = Until { messages: PROOFS, time_ns: u64::MAX };
    for sender in stage.seat_senders().await? {
        let window = sender.window(PROOF_WINDOW_BYTES);
        tokio::spawn(sender.send_by_window(window, until));
    }
    let delivered = |stage: &Stage<'_>| stage.flows.iter().map(|flow| flow.delivered()).sum::<u64>();
    let (mut last, mut last_advance) = (0, Instant::now());
    while !stage.flows.iter().all(|flow| flow.has_arrived()) && last_advance.elapsed() <= settings.drain {
        sleep(TICK).await;
        let now = delivered(&stage);
        if now != last {
            (last, last_advance) = (now, Instant::now());
        }
    }
    stage.stop.cancel();
    // A client that was never heard of counts too, even if the sender gave up early.
    for flow in &stage.flows {
        flow.sent.store(PROOFS, Ordering::SeqCst);
    }
    let run = stage.run.clone();
    let verdict = stage.close().await;
    let mut report = Report::new(settings, (1, fleet.clients), &verdict);
    report.notes = run.notes.take();
    Ok(report)
}
