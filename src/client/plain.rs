//! A script, or a person behind a pipe: plain lines or JSON in and out.

use std::{
    io::{self, Read as _},
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    io::{AsyncWriteExt as _, Stdout},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use super::{
    Exit, Format, NodeChoice, Settings, complain, conclude,
    events::{Event, accepted_at, no_answer},
    fate::Fates,
    identity::Identity,
    input::{Input, help, is_for_many},
    json::to_json,
    made_up_name,
    nodes::{Nodes, nearest},
    render::{refusal, time},
    session::{End, Handle, OnRefusal, Order, Session},
    spans::Traced,
};
use crate::wire::{
    extended::{Delivery, Receipt, State, Why},
    lines::{self, LineError, LineReader, printable},
};

/// How long the answers to what was sent are waited for, once the input has ended.
const LAST_ANSWERS_MS: u64 = 5_000;
/// Events that are written as one piece.
const MAX_EVENTS_AT_ONCE: usize = 256;
/// Longest time from leaving to the end of the process.
const LEAVING_MS: u64 = 3_000;

/// Reads lines until the input ends, or until killed if it is to stay.
pub async fn run(settings: Settings, traced: Traced) -> Exit {
    let address = match &settings.node {
        Some(choice) => choice.address(&settings.nodes),
        None => NodeChoice::Index(nearest(&settings.nodes).await.map_or(0, |found| found.0)).address(&settings.nodes),
    };
    let address = match address {
        Ok(address) => address,
        Err(error) => {
            complain(&error.to_string());
            return Exit::Settings;
        }
    };
    let (name, on_refusal) = match settings.name.clone() {
        Some(name) => (name, OnRefusal::End),
        None => (made_up_name(), OnRefusal::MakeUp),
    };
    let nodes = Nodes::new(settings.nodes.clone(), address);
    let identity = Identity::new(name, settings.passphrase.clone(), settings.history.unwrap_or(0));
    let (session, mut handle) = Session::new(nodes, identity, on_refusal, traced);
    let session = tokio::spawn(session.run());
    let mut plain = Plain::new(settings);
    plain.pass(&mut handle).await;
    handle.leave.cancel();
    let farewell = async {
        while let Some(event) = handle.events.recv().await {
            plain.show(&[event]).await;
        }
        session.await.unwrap_or(End::Left)
    };
    let limit = Duration::from_millis(LEAVING_MS);
    let end = timeout(limit, farewell).await.unwrap_or(End::Left);
    plain.exit(end)
}

/// What came of the input, once it has ended.
struct Fed {
    messages: u64,
    /// Lines that could not be understood.
    errors: u64,
    /// It ended with `/quit`.
    has_quit: bool,
}

struct Plain {
    settings: Settings,
    fates: Fates,
    /// Messages that the session has taken.
    taken: u64,
    /// Messages that found no node.
    unsent: u64,
    is_registered: bool,
    has_errors: bool,
    out: Stdout,
    is_output_gone: bool,
}

impl Plain {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            fates: Fates::default(),
            taken: 0,
            unsent: 0,
            is_registered: false,
            has_errors: false,
            out: tokio::io::stdout(),
            is_output_gone: false,
        }
    }

    /// Passes lines in and events out until there is nothing more to do.
    async fn pass(&mut self, handle: &mut Handle) {
        let (answers, mut own_answers) = mpsc::channel(64);
        let mut feeding = AbortOnDrop(tokio::spawn(feed(self.settings.format, handle.orders.clone(), answers)));
        let mut terminate = signal(SignalKind::terminate()).ok();
        let mut fed: Option<Fed> = None;
        // When the last answers are not waited for any longer.
        let mut deadline: Option<Instant> = None;
        let mut events = Vec::new();
        while !self.is_output_gone && !self.is_done(fed.as_ref()) {
            if fed.is_some() && self.is_registered && !self.settings.stay && deadline.is_none() {
                deadline = Some(Instant::now() + Duration::from_millis(LAST_ANSWERS_MS));
            }
            tokio::select! {
                count = handle.events.recv_many(&mut events, MAX_EVENTS_AT_ONCE) => {
                    self.show(&events).await;
                    events.clear();
                    if count == 0 {
                        return;
                    }
                }
                Some(event) = own_answers.recv() => self.show(&[event]).await,
                result = &mut feeding.0, if fed.is_none() => {
                    let result = result.unwrap_or(Fed { messages: 0, errors: 1, has_quit: true });
                    self.has_errors |= result.errors > 0;
                    fed = Some(result);
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => return,
                _ = tokio::signal::ctrl_c() => return,
                () = terminated(&mut terminate) => return,
            }
        }
        // What it says about its last lines may still be on its way here.
        while let Ok(event) = own_answers.try_recv() {
            self.show(&[event]).await;
        }
    }

    /// Whether everything that was read has been sent and answered.
    fn is_done(&self, fed: Option<&Fed>) -> bool {
        fed.is_some_and(|fed| {
            (fed.has_quit || !self.settings.stay)
                && self.is_registered
                && self.taken == fed.messages
                && self.fates.unanswered() == 0
        })
    }

    /// Writes events, as one piece.
    async fn show(&mut self, events: &[Event]) {
        let mut piece = String::new();
        for event in events {
            self.note(event);
            let line = match self.settings.format {
                Format::Json => Some(to_json(event, Timestamp::now(), self.settings.trace_url.as_deref())),
                Format::Text => text_line(event, Timestamp::now()),
            };
            if let Some(line) = line {
                piece.push_str(&line);
                piece.push('\n');
            }
        }
        if piece.is_empty() {
            return;
        }
        let written = async {
            self.out.write_all(piece.as_bytes()).await?;
            self.out.flush().await
        };
        // Whoever read the output is gone, so there is nobody to go on for.
        self.is_output_gone |= written.await.is_err();
    }

    /// Keeps the books.
    fn note(&mut self, event: &Event) {
        let now = Instant::now();
        match event {
            Event::Registered { .. } => self.is_registered = true,
            Event::Sent { reference, to, text } => {
                self.taken += 1;
                self.fates.sent(*reference, to, text, now);
            }
            Event::Receipt(receipt) => drop(self.fates.receipt(receipt, now)),
            Event::NotAnswered { reference, written } => {
                self.unsent += u64::from(!written);
                self.fates.not_answered(*reference, *written, now);
            }
            _ => {}
        }
    }

    fn exit(&self, end: End) -> Exit {
        if self.unsent > 0 {
            complain(&format!("{} of your messages: {}", self.unsent, no_answer(false)));
        }
        let has_failures = self.has_errors || self.fates.has_failures() || self.fates.unanswered() > 0;
        match conclude(end) {
            Exit::Fine if has_failures => Exit::NotDelivered,
            exit => exit,
        }
    }
}

/// An event as a line for people; the details are for JSON. What is about the connection goes to standard error.
fn text_line(event: &Event, now: Timestamp) -> Option<String> {
    match event {
        Event::Message(message) => Some(message_line(message, now)),
        Event::Notice(text) => Some(format!("* {}", printable(text.as_bytes()))),
        Event::Renamed { reason, .. } => Some(format!("* {}", printable(reason.as_bytes()))),
        Event::Receipt(receipt) => receipt_line(receipt),
        Event::NotAnswered { written: true, reference } => Some(format!("* message {reference}: {}", no_answer(true))),
        Event::Unreachable { address, reason } => {
            complain(&format!("{address} cannot be reached ({reason}); trying on"));
            None
        }
        Event::Lost { reason } => {
            complain(&format!("the connection is lost ({reason}); looking for another node"));
            None
        }
        Event::Registered { address, registered } => {
            let name = printable(registered.name.as_bytes());
            complain(&format!("{name} on node {} ({address})", registered.node));
            None
        }
        Event::NameRefused { name, reason, why: Why::TooManyGuesses, retry_after_ms } => {
            complain(&refusal(name, reason, Why::TooManyGuesses, *retry_after_ms));
            None
        }
        // What was never sent is counted at the end: there can be thousands. A refused name is what it ends with.
        Event::NotAnswered { .. }
        | Event::NameRefused { .. }
        | Event::Sent { .. }
        | Event::People(_)
        | Event::Rooms(_)
        | Event::Claimed { .. }
        | Event::Nodes(_) => None,
    }
}

/// `bob to *: hello`; what was said before has its time, `bob to * [12:03]: hello`, as has what a cut held up.
fn message_line(message: &Delivery, now: Timestamp) -> String {
    let mut line = Vec::new();
    let mut from = printable(message.from.as_bytes()).into_owned();
    if is_for_many(&message.to) || message.history {
        from = format!("{from} to {}", printable(message.to.as_bytes()));
    }
    if message.history || message.from_split {
        let time = time(accepted_at(message), now, &TimeZone::system());
        from = format!("{from} [{time}{}]", if message.from_split { ", from the split" } else { "" });
    }
    lines::encode_message(&mut line, &from, None, &message.text);
    String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()
}

/// Only what went wrong: scripts that want more read JSON.
fn receipt_line(receipt: &Receipt) -> Option<String> {
    matches!(receipt.state(), State::Refused | State::Undelivered)
        .then(|| format!("* {}", printable(receipt.reason.as_bytes())))
}

/// Understands the input line by line and passes it on, as fast as the session takes it.
async fn feed(format: Format, orders: mpsc::Sender<Order>, answers: mpsc::Sender<Event>) -> Fed {
    let mut fed = Fed { messages: 0, errors: 0, has_quit: false };
    let mut input = read_input();
    while let Some(line) = input.recv().await {
        let understood = line.map_err(|error| error.to_string()).and_then(|line| {
            let input = if format == Format::Json { Input::parse_json(&line) } else { Input::parse(&line) };
            input.map_err(|error| error.to_string())
        });
        let order = match understood {
            Ok(Input::Message { to, text }) => Order::Send { to, text },
            Ok(Input::Command(command)) => Order::Command(command),
            Ok(Input::Claim(Some(passphrase))) => Order::Claim(passphrase),
            Ok(Input::Claim(None)) => {
                fed.errors += 1;
                answer(&answers, "say the passphrase too: /claim PASSPHRASE".to_owned()).await;
                continue;
            }
            Ok(Input::Quit) => {
                fed.has_quit = true;
                break;
            }
            Ok(Input::Nothing) => continue,
            Ok(Input::Help) => {
                for line in help() {
                    answer(&answers, line).await;
                }
                continue;
            }
            Err(error) => {
                fed.errors += 1;
                answer(&answers, error).await;
                continue;
            }
        };
        fed.messages += u64::from(matches!(order, Order::Send { .. }));
        if orders.send(order).await.is_err() {
            break;
        }
    }
    fed
}

async fn answer(answers: &mpsc::Sender<Event>, text: String) {
    // Nobody listens any more only when the client ends.
    let _ = answers.send(Event::Notice(text)).await;
}

/// Lines of standard input, read by a thread of its own: a read cannot be interrupted, and must not keep the process.
fn read_input() -> mpsc::Receiver<Result<String, LineError>> {
    let (lines, received) = mpsc::channel(64);
    let reading = thread::Builder::new().name("input".to_owned()).spawn(move || {
        let (mut reader, mut buffer) = (LineReader::default(), BytesMut::new());
        let mut piece = vec![0; 16 * 1024];
        loop {
            let count = match io::stdin().lock().read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            buffer.extend_from_slice(&piece[..count]);
            if count == 0 && !buffer.is_empty() {
                // The last line may lack its end.
                buffer.extend_from_slice(b"\n");
            }
            while let Some(line) = reader.next(&mut buffer) {
                let line = line.map(|line| String::from_utf8_lossy(&line).into_owned());
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
            if count == 0 {
                return;
            }
        }
    });
    if let Err(error) = reading {
        complain(&format!("standard input cannot be read: {error}"));
    }
    received
}

async fn terminated(terminate: &mut Option<Signal>) {
    match terminate {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
