//! A person: one task, with one connection at a time, that reads, speaks, knocks, loses its node and comes back.

use std::{io, time::Duration};

use clique::wire::{
    Dialect,
    extended::{Registration, State},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use turmoil::net::{
    TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{
    dice::Dice,
    hearing::{self, Ear, Heard, Memory},
    model::{ConnectionId, MessageId, PersonId, reference_of, text_of},
    nodes::{CHAT_PORT, host},
    stage::{Stage, note},
    world::now_ms,
};

/// What is done to or by a person.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    Say {
        to: Option<PersonId>,
        padding: usize,
    },
    /// The connection is dropped, and another one made at this node.
    Move(u16),
    Goodbye,
    /// Nothing is read for a while.
    Pause {
        lasting_ms: u64,
    },
    /// Reads on, and comes back sooner.
    Calm,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection is knocked at this often, and left when nothing has come for so long.
const KNOCK_EVERY: Duration = Duration::from_millis(500);
const SILENCE: Duration = Duration::from_millis(2_500);
const READ_BYTES: usize = 4_096;

pub struct Person {
    pub id: PersonId,
    pub name: String,
    pub dialect: Dialect,
    /// Where they connect next.
    pub node: u16,
    pub nodes: u16,
    pub memory: Memory,
    pub stage: Stage,
    pub orders: mpsc::UnboundedReceiver<Order>,
    pub dice: Dice,
    pub is_calm: bool,
}

/// Why a connection is over.
#[derive(Debug)]
enum End {
    Lost,
    Silence,
    NodeStops,
    Moved(u16),
    /// The run is over.
    Over,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// One connection.
struct Line {
    id: ConnectionId,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    ear: Ear,
    out: Vec<u8>,
    is_registered: bool,
    /// The name was refused: it may be free later.
    must_ask_again: bool,
    heard_at: Instant,
    paused_until: Instant,
}

impl Person {
    pub async fn live(mut self) {
        loop {
            let end = self.visit().await;
            note!(self.stage, now_ms(), "{} leaves node {}: {end:?}", self.name, self.node);
            match end {
                End::Over => return,
                // Who cannot resume stays with the node that they know: on the other side of a cut they would be somebody
                // else, with another name in the end.
                _ if self.dialect == Dialect::Lines => {}
                End::Moved(node) => self.node = node,
                End::Lost | End::Silence | End::NodeStops => {
                    self.node = u16::try_from(self.dice.below(self.nodes.into())).unwrap();
                }
            }
            let most_ms = if self.is_calm { 100 } else { 600 };
            sleep(Duration::from_millis(self.dice.between(5, most_ms))).await;
        }
    }

    async fn visit(&mut self) -> End {
        let connecting = TcpStream::connect((host(self.node), CHAT_PORT));
        let stream = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return error.into(),
            Err(_) => return End::Silence,
        };
        let id = self.stage.model().connected(self.id, self.node, self.dialect);
        note!(self.stage, now_ms(), "{} is connected to node {} ({id})", self.name, self.node);
        let (reader, writer) = stream.into_split();
        let mut line = Line {
            id,
            reader,
            writer,
            ear: Ear::new(self.dialect),
            out: Vec::new(),
            is_registered: false,
            must_ask_again: false,
            heard_at: Instant::now(),
            paused_until: Instant::now(),
        };
        hearing::ask_for_name(&mut line.out, self.dialect, &self.name, &self.memory);
        let end = self.talk(&mut line).await;
        self.stage.model().closed(id);
        end
    }

    async fn talk(&mut self, line: &mut Line) -> End {
        let mut buffer = [0; READ_BYTES];
        let mut knock_at = Instant::now() + KNOCK_EVERY;
        loop {
            let is_paused = line.paused_until > Instant::now();
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    let Some(order) = order else { return End::Over };
                    if let Some(end) = self.act(line, order) {
                        return end;
                    }
                }
                written = line.writer.write(&line.out), if !line.out.is_empty() => match written {
                    Ok(count) => drop(line.out.drain(..count)),
                    Err(error) => return error.into(),
                },
                read = line.reader.read(&mut buffer), if !is_paused => match read {
                    Ok(0) => return End::Lost,
                    Ok(count) => {
                        line.heard_at = Instant::now();
                        for heard in line.ear.take(&buffer[..count]) {
                            if let Some(end) = self.take_in(line, heard) {
                                return end;
                            }
                        }
                    }
                    Err(error) => return error.into(),
                },
                () = sleep_until(knock_at) => {
                    knock_at += KNOCK_EVERY;
                    if is_paused {
                        continue;
                    }
                    if line.heard_at.max(line.paused_until).elapsed() > SILENCE {
                        return End::Silence;
                    }
                    if std::mem::take(&mut line.must_ask_again) {
                        hearing::ask_for_name(&mut line.out, self.dialect, &self.name, &self.memory);
                    } else if line.is_registered {
                        hearing::knock(&mut line.out, self.dialect);
                    }
                }
            }
        }
    }

    fn act(&mut self, line: &mut Line, order: Order) -> Option<End> {
        match order {
            Order::Say { to, padding } => {
                if line.is_registered {
                    self.say(line, to, padding);
                }
            }
            Order::Move(node) => return Some(End::Moved(node)),
            Order::Goodbye => {
                self.stage.model().people[self.id].goodbyes_ms.push(now_ms());
                hearing::say_goodbye(&mut line.out, self.dialect);
            }
            Order::Pause { lasting_ms } => {
                note!(self.stage, now_ms(), "{} does not read for {lasting_ms} ms", self.name);
                line.paused_until = Instant::now() + Duration::from_millis(lasting_ms);
            }
            Order::Calm => {
                self.is_calm = true;
                line.paused_until = Instant::now();
            }
        }
        None
    }

    fn say(&mut self, line: &mut Line, to: Option<PersonId>, padding: usize) {
        let mut model = self.stage.model();
        let message: MessageId = model.says(line.id, to, now_ms());
        let to = to.map_or("*", |to| &model.people[to].name);
        note!(self.stage, now_ms(), "{} says m{message} to {to}", self.name);
        hearing::say(&mut line.out, self.dialect, reference_of(message), to, &text_of(message, padding));
    }

    fn take_in(&mut self, line: &mut Line, heard: Heard) -> Option<End> {
        let mut model = self.stage.model();
        let now_ms = now_ms();
        match heard {
            Heard::Registered { resumed, heights, registration } => {
                let what = registration.map(|Registration { time, node }| format!("{time:x}.{node}"));
                note!(
                    self.stage,
                    now_ms,
                    "{} has a name on node {} (resumed: {resumed}, {what:?})",
                    self.name,
                    self.node
                );
                model.registered(line.id, resumed, registration, now_ms);
                self.memory.registered(resumed, heights, registration);
                line.is_registered = true;
            }
            Heard::NameRefused => {
                note!(self.stage, now_ms, "the name of {} is refused", self.name);
                line.must_ask_again = true;
            }
            Heard::Message { place, from, to, text } => {
                note!(self.stage, now_ms, "{} hears {}from {from} to {to:?}", self.name, text.trim_end_matches('x'));
                model.hears(line.id, &from, to.as_deref(), &text);
                self.memory.received(place);
            }
            Heard::Receipt(receipt) => {
                let (message, state, holding) = (receipt.reference - 1, receipt.state(), receipt.nodes_holding);
                note!(self.stage, now_ms, "{} reads that m{message} is {state:?} (on {holding})", self.name);
                model.receipt(line.id, &receipt, now_ms);
                if matches!(state, State::Accepted | State::Kept) {
                    self.memory.acknowledged(&receipt);
                }
            }
            Heard::Refused => {
                note!(self.stage, now_ms, "{} is told that a message was not sent", self.name);
                model.talks[line.id].refusals += 1;
            }
            Heard::Renamed(name) => {
                let life = &mut model.people[self.id];
                // A node that did not know them yet has given them the name anew, while the one that they had left still
                // had them: then they are two, until that one notices.
                if self.dialect == Dialect::Extended && !life.is_one_stay() {
                    life.is_renamed = true;
                } else {
                    model.violation(format!("{} was renamed to {name}, but nobody else has that name", self.name));
                }
            }
            Heard::Stopping => return Some(End::NodeStops),
            Heard::Sign => {}
        }
        None
    }
}
