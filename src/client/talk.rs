//! A session while it is connected.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    connection::{Connection, ConnectionError},
    events::Event,
    session::{End, Session, Stop},
    spans::Answer,
};
use crate::wire::{
    extended::{FromNode, State},
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
            tokio::select! {
                frame = connection.next() => match frame {
                    Ok(frame) => {
                        last_heard = Instant::now();
                        match self.hear(&frame).await {
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
                if is_last || !matches!(self.hear(&frame).await, Ok(()) | Err(ConnectionError::Stopping)) {
                    break;
                }
            }
        };
        // A node that does not answer keeps nobody.
        let _ = timeout(Duration::from_millis(GOODBYE_MS), farewell).await;
    }

    /// Takes a frame from the node. Frames of unknown types are from a later version, and left alone.
    async fn hear(&mut self, frame: &Frame) -> Result<(), ConnectionError> {
        let Some(said) = FromNode::read(frame)? else { return Ok(()) };
        match said {
            FromNode::Delivery(delivery) => {
                if self.identity.receive(delivery.id.as_ref()) {
                    self.tell(Event::Message(Box::new(delivery))).await;
                }
            }
            FromNode::Receipt(receipt) => {
                if self.unanswered.remove(&receipt.reference) {
                    let is_refused = receipt.state() == State::Refused;
                    self.traced.end(receipt.reference, if is_refused { Answer::Refused } else { Answer::Taken });
                }
                self.identity.acknowledge(receipt.id.as_ref());
                self.tell(Event::Receipt(Box::new(receipt))).await;
            }
            FromNode::Notice(notice) => self.tell(Event::Notice(notice.text)).await,
            FromNode::PeopleChanged(change) => self.tell(Event::People(change)).await,
            FromNode::NodesChanged(change) => {
                for node in &change.nodes {
                    self.nodes.learn(&node.chat_address);
                }
                self.tell(Event::Nodes(change)).await;
            }
            FromNode::Renamed(renamed) => {
                self.identity.set_name(renamed.name.clone());
                self.tell(Event::Renamed { name: renamed.name, reason: renamed.reason }).await;
            }
            FromNode::Stopping(_) => return Err(ConnectionError::Stopping),
            // Only in answer to a registration, which is over.
            FromNode::Registered(_)
            | FromNode::RegisterRefused(_)
            | FromNode::RoomsChanged(_)
            | FromNode::Claimed(_) => {}
        }
        Ok(())
    }
}
