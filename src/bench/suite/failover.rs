//! Time without acknowledgements when the node of a sender dies.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    io::AsyncWriteExt as _,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Plan, SuiteError,
    cluster::{Cluster, System},
    cuts,
    document::Sections,
    figures::{Samples, Summary, readable},
    folder::Folder,
    machine, say,
    work::{SIZE_BYTES, greet},
};
use crate::bench::{
    BenchError,
    connection::Connection,
    jetstream::Stream,
    payload::Stamp,
    speech::{Event, Speech},
};

/// A message every so often.
const PAUSE: Duration = Duration::from_millis(10);
/// How long all is well first, and again afterwards.
const CALM: Duration = Duration::from_secs(1);
/// Without an acknowledgement for so long there will be none.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long what was acknowledged may take to arrive after everything is back.
const ARRIVAL: Duration = Duration::from_secs(15);
const REPLICAS: u16 = 3;

/// What came of one kill.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// From the signal to the next acknowledgement; `None` if there was none.
    gap: Option<Duration>,
    acknowledged: u64,
    /// Acknowledged, and not received or kept in the end.
    missing: u64,
}

/// Measures both kinds of failure.
///
/// # Errors
/// If something could not be started.
pub async fn run(plan: &Plan, cut_times: &[Duration], folder: &Folder) -> Result<Sections, SuiteError> {
    let about = machine::describe(plan, folder, "deploy/bench/failover")?;
    let mut text = format!(
        "{about}\n| | to the next acknowledgement, ms | acknowledged | of those missing in the end | goal |\n|---|---|---|---|---|\n"
    );
    for (system, goal) in [(System::CliqueKept, "≤ 1 000 ms"), (System::JetStream, "–")] {
        if !system.is_clique() && plan.nats_server.is_none() {
            continue;
        }
        let (mut gaps, mut acknowledged, mut missing): (Samples, u64, u64) = (Vec::new(), 0, 0);
        for repetition in 0..plan.repetitions {
            let cluster = Cluster::start(system, plan.nodes, plan, folder).await?;
            let outcome = if system.is_clique() { ours(cluster, plan).await? } else { theirs(cluster, plan).await? };
            say(&format!("kill, {}, repetition {}: {outcome:?}", system.name(), repetition + 1));
            gaps.push(outcome.gap.map(|gap| gap.as_secs_f64() * 1e3));
            acknowledged += outcome.acknowledged;
            missing += outcome.missing;
        }
        let shown = Summary::of_samples(&gaps).map_or("never".to_owned(), |summary| summary.text(readable));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {shown} | {acknowledged} | {missing} | {goal} |", system.name());
    }
    let mut sections = Sections::default();
    sections.texts.insert("failover", text);
    sections.texts.insert("cuts", about + &cuts::run(plan, cut_times, folder).await?);
    Ok(sections)
}

/// A `clique client`: what it says of its messages, and what it hears.
struct Client {
    process: Child,
    input: ChildStdin,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    is_registered: bool,
    /// Numbers of messages by their references.
    sent: BTreeMap<u64, u64>,
    /// Numbers of messages that were acknowledged, and when first.
    acknowledged: BTreeMap<u64, Instant>,
    /// Numbers of messages that were received.
    received: BTreeMap<u64, u64>,
}

/// What a client writes, as far as anything here looks at it.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Sent {
        reference: u64,
        text: String,
    },
    Receipt {
        reference: u64,
        state: String,
    },
    Message {
        text: String,
    },
    Connection {
        state: String,
    },
    #[serde(other)]
    Other,
}

impl Client {
    fn start(cluster: &Cluster, plan: &Plan, node: usize, name: &str) -> Result<Self, SuiteError> {
        let failed = |error| SuiteError::Start { program: plan.program.clone(), error };
        let mut process = Command::new(&plan.program)
            .args(["client", "--format", "json", "--stay", "--name", name, "--node", &node.to_string()])
            .args(["--nodes", &cluster.addresses().join(",")])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let closed = || failed(std::io::ErrorKind::BrokenPipe.into());
        let (input, output) = process.stdin.take().zip(process.stdout.take()).ok_or_else(closed)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let told = seen.clone();
        // It ends with the client.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str(&line) {
                    told.lock().take(said);
                }
            }
        });
        Ok(Self { process, input, seen })
    }

    fn send(&mut self, to: &str, number: u64) {
        // A client that has ended shows in what it does not say any more.
        let _ = self.input.write_all(format!("{to} {number}\n").as_bytes());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Seen {
    fn take(&mut self, said: Said) {
        match said {
            Said::Sent { reference, text } => {
                self.sent.extend(text.parse().ok().map(|number| (reference, number)));
            }
            Said::Receipt { reference, state } => {
                let is_taken = ["accepted", "replicated", "delivered", "kept"].contains(&state.as_str());
                if let Some(number) = self.sent.get(&reference).filter(|_| is_taken) {
                    self.acknowledged.entry(*number).or_insert_with(Instant::now);
                }
            }
            Said::Message { text } => {
                if let Ok(number) = text.parse() {
                    *self.received.entry(number).or_default() += 1;
                }
            }
            Said::Connection { state } => self.is_registered |= state == "registered",
            Said::Other => {}
        }
    }
}

async fn ours(mut cluster: Cluster, plan: &Plan) -> Result<Outcome, SuiteError> {
    let reader = Client::start(&cluster, plan, plan.nodes.saturating_sub(1), "reader")?;
    let deadline = Instant::now() + PATIENCE;
    while !reader.seen.lock().is_registered && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
    let mut sender = Client::start(&cluster, plan, 0, "sender")?;
    let mut number = 0;
    let mut next = |sender: &mut Client| {
        sender.send("reader", number);
        number += 1;
        number
    };
    while sender.seen.lock().acknowledged.is_empty() && Instant::now() < deadline {
        next(&mut sender);
        sleep(PAUSE).await;
    }
    let calm = Instant::now() + CALM;
    while Instant::now() < calm {
        next(&mut sender);
        sleep(PAUSE).await;
    }
    let first_after = next(&mut sender);
    let killed = Instant::now();
    cluster.kill(0);
    let after = |seen: &Seen| seen.acknowledged.range(first_after..).map(|(_, at)| *at).min();
    let mut back = None;
    while back.is_none() && killed.elapsed() < PATIENCE {
        next(&mut sender);
        sleep(PAUSE).await;
        back = after(&sender.seen.lock());
    }
    cluster.start_one(0)?;
    cluster.wait_until_joined().await?;
    // Only the dead node may have had what it acknowledged last.
    let arrival = Instant::now() + ARRIVAL;
    let missing = || {
        let (sender, reader) = (sender.seen.lock(), reader.seen.lock());
        let acknowledged = sender.acknowledged.keys();
        (
            acknowledged.clone().count() as u64,
            acknowledged.filter(|number| !reader.received.contains_key(number)).count(),
        )
    };
    while missing().1 > 0 && Instant::now() < arrival {
        sleep(PAUSE).await;
    }
    let (acknowledged, missing) = missing();
    Ok(Outcome { gap: back.map(|back| back.duration_since(killed)), acknowledged, missing: missing as u64 })
}

async fn theirs(mut cluster: Cluster, plan: &Plan) -> Result<Outcome, SuiteError> {
    greet(&cluster, plan).await?;
    let addresses = cluster.addresses();
    let missing_leader = || BenchError::NoStream { reason: "it has no leader".to_owned() };
    let (name, subject) = ("failover", "failover.messages");
    let first = addresses.first().ok_or_else(missing_leader)?;
    let replicas = REPLICAS.min(u16::try_from(plan.nodes).unwrap_or(REPLICAS));
    let mut stream = Stream::create(first, name, &[subject.to_owned()], replicas).await?;
    let deadline = Instant::now() + PATIENCE;
    let leader = loop {
        let leader = stream.leader().await?.and_then(|leader| leader.strip_prefix('n')?.parse::<usize>().ok());
        match leader {
            Some(leader) => break leader,
            None if Instant::now() > deadline => return Err(missing_leader().into()),
            None => sleep(PAUSE).await,
        }
    };
    drop(stream);
    let elsewhere = addresses.get((leader + 1) % addresses.len()).ok_or_else(missing_leader)?;
    let (gap, acknowledged) = publish_over_a_kill(elsewhere, subject, || cluster.kill(leader)).await?;
    cluster.start_one(leader)?;
    cluster.wait_until_joined().await?;
    let mut stream = Stream::create(elsewhere, name, &[subject.to_owned()], replicas).await?;
    let kept = stream.messages().await?;
    Ok(Outcome { gap, acknowledged, missing: acknowledged.saturating_sub(kept) })
}

/// Publishes all the time, kills in the middle, and says how long nothing was acknowledged and how much was in all.
async fn publish_over_a_kill(
    address: &str,
    subject: &str,
    kill: impl FnOnce(),
) -> Result<(Option<Duration>, u64), BenchError> {
    let mut connection = Connection::open(Speech::JetStream, address, "publisher".to_owned(), None).await?;
    let template = Speech::JetStream.template("publisher", subject, SIZE_BYTES);
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begun, mut sequence, mut acknowledged) = (Instant::now(), 0, 0);
    let (mut kill, mut killed) = (Some(kill), None);
    let mut answered = Vec::new();
    while begun.elapsed() < PATIENCE {
        tokio::select! {
            _ = ticks.tick() => {
                if begun.elapsed() > CALM && let Some(kill) = kill.take() {
                    killed = Some((Instant::now(), sequence));
                    kill();
                }
                let mut bytes = Vec::new();
                template.append(&mut bytes, Stamp { sender: 0, sequence, time_ns: 0 });
                connection.mouth.write_all(&bytes).await.map_err(BenchError::Failed)?;
                sequence += 1;
            }
            heard = connection.ear.hear(|event| {
                if let Event::Receipt { first, count, refusal: None } = event {
                    answered.extend(first..first + count);
                }
            }) => heard.map_err(|error| BenchError::Lost { address: address.to_owned(), error })?,
        }
        acknowledged += answered.len() as u64;
        if let Some((killed, first_after)) = killed
            && answered.iter().any(|answered| *answered >= first_after)
        {
            return Ok((Some(killed.elapsed()), acknowledged));
        }
        answered.clear();
    }
    Ok((None, acknowledged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_writes_is_understood() {
        let mut seen = Seen::default();
        for line in [
            r#"{"event":"connection","state":"registered","node":1}"#,
            r#"{"event":"sent","reference":4,"to":"reader","text":"7","time":""}"#,
            r#"{"event":"receipt","reference":4,"state":"accepted","nodes_holding":1}"#,
            r#"{"event":"receipt","reference":5,"state":"accepted"}"#,
            r#"{"event":"message","id":null,"from":"sender","text":"7"}"#,
            r#"{"event":"presence","snapshot":true}"#,
        ] {
            seen.take(serde_json::from_str(line).unwrap());
        }
        assert!(seen.is_registered);
        assert_eq!(seen.acknowledged.keys().collect::<Vec<_>>(), [&7]);
        assert_eq!(seen.received, BTreeMap::from([(7, 1)]));
    }
}
