//! A session while it is connected.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::{
    connection::{Connection, ConnectionError},
    events::Event,
    session::{End, Session, Stop},
    spans::Answer,
};
use crate::wire::{
    extended::{Command, FromClient, FromNode, Receipt, State},
    frames::{Frame, kind},
};

/// After this much silence the node is asked for an echo.
const ECHO_AFTER_MS: u64 = 2_000;
/// After this much silence the connection counts as dead, whatever TCP believes.
const DEAD_AFTER_MS: u64 = 6_000;
/// How long a goodbye may take.
const GOODBYE_MS: u64 = 1_500;

impl Session {
    /// Passes messages both ways until the connection is lost or the session is told to leave.
    pub(super) async fn talk(&mut self, mut connection: Connection) -> Stop {
        self.empty_outbox(&mut connection);
        let mut last_heard = Instant::now();
        let mut ticks = interval(Duration::from_millis(ECHO_AFTER_MS / 2));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leave = self.leave.clone();
        loop {
            let has_room = connection.has_room();
            let doubt_ends = self.unsettled.due();
            tokio::select! {
                frame = connection.next() => match frame {
                    Ok(frame) => {
                        last_heard = Instant::now();
                        match self.hear(&frame, &mut connection).await {
                            Ok(()) => {}
                            Err(ConnectionError::Stopping) => {
                                // What was written is still answered; what is ordered from now on goes to the next node.
                                self.hear_last(connection).await;
                                return Stop::Lost(ConnectionError::Stopping);
                            }
                            Err(error) => return Stop::Lost(error),
                        }
                    }
                    Err(error) => return Stop::Lost(error),
                },
                order = self.next_order(), if has_room => self.carry_out(order, &mut connection).await,
                _ = ticks.tick() => {
                    let silence = last_heard.elapsed();
                    if silence >= Duration::from_millis(DEAD_AFTER_MS) {
                        return Stop::Lost(ConnectionError::Silent);
                    }
                    if silence >= Duration::from_millis(ECHO_AFTER_MS) {
                        connection.send_empty(kind::ECHO);
                    }
                }
                () = sleep_until(doubt_ends.unwrap_or_else(Instant::now).into()), if doubt_ends.is_some() => {
                    for reference in self.unsettled.unknown(Instant::now()) {
                        self.lose(reference, true).await;
                    }
                }
                () = leave.cancelled() => {
                    self.say_goodbye(connection).await;
                    return Stop::End(End::Left);
                }
            }
        }
    }

    /// Sends what was ordered before the person left, then the goodbye.
    async fn say_goodbye(&mut self, mut connection: Connection) {
        while let Some(order) = self.waiting_order() {
            self.carry_out(order, &mut connection).await;
        }
        self.hear_last(connection).await;
    }

    /// Says goodbye and hears what comes before the answer.
    async fn hear_last(&mut self, mut connection: Connection) {
        connection.send_empty(kind::GOODBYE);
        let farewell = async {
            while let Ok(frame) = connection.next().await {
                let is_last = frame.kind == kind::GOODBYE_ANSWER;
                let heard = self.hear(&frame, &mut connection).await;
                if is_last || !matches!(heard, Ok(()) | Err(ConnectionError::Stopping)) {
                    break;
                }
            }
        };
        // A node that does not answer keeps nobody.
        let _ = timeout(Duration::from_millis(GOODBYE_MS), farewell).await;
    }

    /// Takes a frame from the node. Frames of unknown types are from a later version, and left alone.
    async fn hear(&mut self, frame: &Frame, connection: &mut Connection) -> Result<(), ConnectionError> {
        let Some(said) = FromNode::read(frame)? else { return Ok(()) };
        match said {
            FromNode::Delivery(delivery) => {
                if self.identity.receive(&delivery) {
                    self.tell(Event::Message(Box::new(delivery))).await;
                }
            }
            FromNode::Receipt(receipt) => self.take_receipt(receipt).await,
            FromNode::ReceiptRun(receipts) => {
                for receipt in receipts.each() {
                    self.take_receipt(receipt).await;
                }
            }
            FromNode::Notice(notice) => self.tell(Event::Notice(notice.text)).await,
            FromNode::PeopleChanged(change) => self.tell(Event::People(change)).await,
            FromNode::NodesChanged(change) => {
                for node in &change.nodes {
                    self.nodes.learn(&node.chat_address);
                }
                self.tell(Event::Nodes(change)).await;
            }
            FromNode::RoomsChanged(change) => {
                for room in self.identity.update_rooms(&change.rooms) {
                    connection.send(&FromClient::Command(Command { line: format!("join {room}") }));
                }
                self.tell(Event::Rooms(change)).await;
            }
            FromNode::Claimed(claimed) => {
                self.identity.take_claim();
                self.tell(Event::Claimed { name: claimed.name }).await;
            }
            FromNode::Renamed(renamed) => {
                self.identity.set_name(renamed.name.clone());
                self.tell(Event::Renamed { name: renamed.name, reason: renamed.reason }).await;
            }
            FromNode::Stopping(_) => return Err(ConnectionError::Stopping),
            // Only in answer to a registration, which is over.
            FromNode::Registered(_) | FromNode::RegisterRefused(_) => {}
        }
        Ok(())
    }

    async fn take_receipt(&mut self, receipt: Receipt) {
        if self.unsettled.receipt(&receipt) {
            let is_refused = receipt.state() == State::Refused;
            self.traced.end(receipt.reference, if is_refused { Answer::Refused } else { Answer::Taken });
        }
        self.identity.acknowledge(receipt.id.as_ref());
        self.tell(Event::Receipt(Box::new(receipt))).await;
    }
}
