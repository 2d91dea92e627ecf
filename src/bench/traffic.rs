//! Messages under way: `direct`, `spread` and `broadcast` by a window, `latency` by a schedule.

use std::{sync::atomic::Ordering, thread, time::Duration};

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    BenchError,
    flow::Awaits,
    jetstream::Stream,
    layout::Layout,
    process::{Processes, own_usage},
    progress::Progress,
    report::{Latency, Report, Resources, Series},
    schedule::Schedule,
    sender::{Sender, Until},
    settings::{Limit, Pace, Settings, Traffic},
    stage::{CONCURRENCY, Stage},
};

/// How often progress is looked at, and a point of the plot taken.
const TICK: Duration = Duration::from_millis(100);
/// Lead of the first message of a schedule, so that no sender starts late.
const SCHEDULE_LEAD_NS: u64 = 20_000_000;

/// What was seen while the messages were under way.
struct Watched {
    /// Seconds since the start, and messages delivered by then.
    delivered: Vec<(f64, u64)>,
    has_given_up: bool,
}

pub async fn measure(settings: &Settings, traffic: &Traffic) -> Result<Report, BenchError> {
    let layout = Layout::new(traffic.shape, settings.nodes.len());
    let clients = (layout.senders.len(), layout.recipients.len());
    let mut stage = Stage::new(settings, layout, traffic.size_bytes, traffic.awaits);
    let stream = match (settings.stream_replicas, settings.nodes.first()) {
        (Some(replicas), Some(address)) => {
            Some(Stream::create(address, &stage.run.prefix, &stage.addressees(), replicas).await?)
        }
        _ => None,
    };
    let is_paced = matches!(traffic.pace, Pace::Rate { .. });
    stage.seat_recipients(CONCURRENCY, is_paced, |_| {}).await?;
    let senders = stage.seat_senders().await?;
    let processes = Processes::of(&settings.pids, &settings.nodes);
    let before = (processes.usage(), own_usage());

    let mut start_ns = stage.run.clock.now_ns();
    if is_paced {
        start_ns += SCHEDULE_LEAD_NS;
    }
    let pacers = start(senders, traffic, start_ns, &stage)?;
    let watched = watch(&stage, settings, traffic, start_ns).await;
    let lateness = join(pacers).await;
    let after = (processes.usage(), own_usage());

    let run = stage.run.clone();
    let mut verdict = stage.close().await;
    if let Some(mut stream) = stream {
        let kept = stream.messages().await?;
        stream.delete().await?;
        // Probes are kept too, so only what is missing even with them is noticed here.
        verdict.faults.loss += verdict.acknowledged.saturating_sub(kept);
    }
    let mut report = Report::new(settings, clients, &verdict);
    report.size_bytes = Some(traffic.size_bytes);
    if let Pace::Window { bytes } = traffic.pace {
        report.window_bytes = Some(bytes);
    }
    if let Pace::InFlight { messages } = traffic.pace {
        report.in_flight = Some(messages);
    }
    if let Pace::Rate { per_s, .. } = traffic.pace {
        report.rate_per_s = Some(per_s);
    }
    report.acknowledged = (traffic.awaits != Awaits::Delivery).then_some(verdict.acknowledged);
    report.set_elapsed(verdict.last_ns.saturating_sub(start_ns));
    report.latency = verdict.latencies.as_ref().filter(|latencies| !latencies.is_empty()).map(Latency::of);
    report.generator_lateness = lateness.as_ref().map(Latency::of);
    report.resources = Resources::between(&processes, before, after, verdict.delivered);
    report.series = match &verdict.latencies {
        Some(latencies) => Series::percentiles(latencies),
        None => Series::rates(&watched.delivered),
    };
    report.notes = run.notes.take();
    if watched.has_given_up {
        report.notes.push(format!("nothing arrived for {:?}; what was missing then is lost", settings.drain));
    }
    Ok(report)
}

/// The share of each sender in what all are to send.
fn share(total: u64, senders: usize, number: u16) -> u64 {
    let senders = senders.max(1) as u64;
    total / senders + u64::from(u64::from(number) < total % senders)
}

type Pacer = thread::JoinHandle<Option<Histogram<u64>>>;

fn start(senders: Vec<Sender>, traffic: &Traffic, start_ns: u64, stage: &Stage<'_>) -> Result<Vec<Pacer>, BenchError> {
    let count = senders.len();
    let mut pacers = Vec::new();
    for sender in senders {
        let number = sender.number;
        let until = match traffic.limit {
            Limit::Messages(total) => Until { messages: share(total, count, number), time_ns: u64::MAX },
            Limit::Time(time) => Until { messages: u64::MAX, time_ns: start_ns + ns(time) },
        };
        match traffic.pace {
            Pace::Window { bytes } => {
                let window = sender.window(bytes);
                tokio::spawn(sender.send_by_window(window, until));
            }
            Pace::InFlight { messages } => {
                tokio::spawn(sender.send_by_window(messages, until));
            }
            Pace::Rate { per_s, warmup } => {
                let schedule = Schedule::new(per_s, count as u64, number.into());
                let messages = match traffic.limit {
                    Limit::Messages(total) => share(total, count, number),
                    Limit::Time(time) => schedule.count(ns(warmup + time)),
                };
                stage.run.measure_from_ns.store(start_ns + ns(warmup), Ordering::SeqCst);
                pacers.push(sender.send_by_schedule(schedule, start_ns, messages)?);
            }
        }
    }
    Ok(pacers)
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
}

/// Waits until everything has arrived, or nothing has for so long that it never will.
async fn watch(stage: &Stage<'_>, settings: &Settings, traffic: &Traffic, start_ns: u64) -> Watched {
    let progress = match traffic.limit {
        Limit::Messages(total) => {
            let per_message =
                if stage.flows.len() > 1 { 1 } else { stage.flows.first().map_or(1, |flow| flow.lanes.len()) };
            Progress::new(total * per_message as u64, settings.workload.name())
        }
        Limit::Time(time) => {
            Progress::new(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), settings.workload.name())
        }
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut watched = Watched { delivered: Vec::new(), has_given_up: false };
    let (mut last, mut last_advance) = ((0, 0), Instant::now());
    loop {
        ticks.tick().await;
        let delivered: u64 = stage.flows.iter().map(|flow| flow.delivered()).sum();
        let elapsed_ns = stage.run.clock.now_ns().saturating_sub(start_ns);
        let is_over = stage.flows.iter().all(|flow| flow.has_arrived());
        if !is_over || watched.delivered.is_empty() {
            watched.delivered.push((elapsed_ns as f64 / 1e9, delivered));
        }
        let message = format!("{} delivered", HumanCount(delivered));
        match traffic.limit {
            Limit::Messages(_) => progress.set(delivered, message),
            Limit::Time(_) => progress.set(elapsed_ns / 1_000_000, message),
        }
        if is_over {
            return watched;
        }
        let acknowledged: u64 = stage.flows.iter().map(|flow| flow.receipts.received.load(Ordering::Relaxed)).sum();
        if (delivered, acknowledged) != last {
            (last, last_advance) = ((delivered, acknowledged), Instant::now());
        }
        // The first message of a slow schedule may be due only later.
        let is_waiting = stage.flows.iter().all(|flow| flow.is_settled());
        if is_waiting {
            last_advance = Instant::now();
        }
        if last_advance.elapsed() > settings.drain {
            watched.has_given_up = true;
            stage.stop.cancel();
            return watched;
        }
    }
}

/// By how much the pacing threads were late, together.
async fn join(pacers: Vec<Pacer>) -> Option<Histogram<u64>> {
    let mut all: Option<Histogram<u64>> = None;
    for pacer in pacers {
        // They are done, or told to stop: this takes a moment at most, but it is no wait for a runtime's thread.
        let joined = tokio::task::spawn_blocking(move || pacer.join()).await;
        let Ok(Ok(Some(lateness))) = joined else { continue };
        match &mut all {
            Some(all) => {
                // Both grow as they must.
                let _ = all.add(&lateness);
            }
            None => all = Some(lateness),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_make_up_the_whole(total in 0..10_000_u64, senders in 1..20_u16) {
            let sum: u64 = (0..senders).map(|number| share(total, senders.into(), number)).sum();
            prop_assert_eq!(sum, total);
        }
    }
}
