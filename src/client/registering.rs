//! How a session gets its name on a node: what is tried when the node refuses.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    connection::{Connection, ConnectionError},
    events::{Event, wrong_passphrase},
    made_up_name,
    session::{End, OnRefusal, Order, Session, Stop},
};
use crate::wire::extended::{RegisterRefused, Why};

/// How long a name that is taken is asked for again after a loss: the others may not have noticed yet that the former
/// connection is dead.
const NAME_PATIENCE_MS: u64 = 3_000;
const NAME_PAUSE_MS: u64 = 250;
/// So many wrong passphrases end the client.
const MAX_WRONG_PASSPHRASES: u32 = 3;
/// Longest wait after too many guesses: a script gives up sooner than a person.
const MAX_SCRIPT_WAIT_MS: u64 = 60_000;
const MAX_PERSON_WAIT_MS: u64 = 600_000;

/// What was tried on one node.
struct Tries {
    begin: Instant,
    varied: u32,
}

/// How to ask again.
enum Again {
    /// On the same connection.
    Here,
    /// On another: while somebody thought about it the node may have closed the first.
    Anew,
}

impl Session {
    /// Connects to one node and registers there.
    pub(super) async fn enter(&mut self, address: &str) -> Result<Connection, Stop> {
        let mut connection = self.open(address).await?;
        let mut tries = Tries { begin: Instant::now(), varied: 0 };
        loop {
            let asking = self.identity.register(self.unsettled.named());
            let answered = self.attend(asking.ask(&mut connection)).await.ok_or(Stop::End(End::Left))?;
            let refusal = match answered? {
                Ok(registered) => {
                    self.nodes.settle_at(address);
                    self.identity.registered(&registered);
                    self.unsettled.registered(Instant::now());
                    self.wrong_passphrases = 0;
                    self.tell(Event::Registered { address: address.to_owned(), registered: Box::new(registered) })
                        .await;
                    return Ok(connection);
                }
                Err(refusal) => refusal,
            };
            if let Again::Anew = self.answer(refusal, &mut tries).await? {
                connection = self.open(address).await?;
            }
        }
    }

    async fn open(&mut self, address: &str) -> Result<Connection, Stop> {
        let opened = self.attend(Connection::open(address)).await.ok_or(Stop::End(End::Left))?;
        Ok(opened?)
    }

    /// Does what can be done about a refusal.
    async fn answer(&mut self, refusal: RegisterRefused, tries: &mut Tries) -> Result<Again, Stop> {
        let why = match refusal.why() {
            Why::Unspecified if refusal.taken => Why::Taken,
            why => why,
        };
        match why {
            Why::Unspecified => Err(Stop::Lost(ConnectionError::Refused(refusal.reason))),
            Why::Stopping => Err(Stop::Lost(ConnectionError::Stopping)),
            Why::TooManyGuesses => self.wait_for_another_guess(refusal).await,
            Why::PassphraseWanted | Why::PassphraseWrong if self.identity.take_claim() => Ok(Again::Here),
            _ if self.identity.has_registered() => self.go_on_under_a_variant(why, tries).await,
            Why::PassphraseWanted | Why::PassphraseWrong => self.choose_passphrase(refusal, why).await,
            Why::Taken | Why::Illegal => self.choose_name(refusal, why).await,
        }
    }

    /// After a loss the name is somebody else's now, or seems to be for a moment.
    async fn go_on_under_a_variant(&mut self, why: Why, tries: &mut Tries) -> Result<Again, Stop> {
        let is_soon = tries.begin.elapsed() < Duration::from_millis(NAME_PATIENCE_MS);
        if why == Why::Taken && is_soon {
            let pause = Duration::from_millis(NAME_PAUSE_MS);
            self.attend(sleep(pause)).await.ok_or(Stop::End(End::Left))?;
        } else {
            tries.varied += 1;
            self.identity.vary_name(tries.varied);
        }
        Ok(Again::Here)
    }

    /// The first name was refused.
    async fn choose_name(&mut self, refusal: RegisterRefused, why: Why) -> Result<Again, Stop> {
        let reason = refusal.reason.clone();
        match self.on_refusal {
            OnRefusal::MakeUp => {
                self.identity.set_name(made_up_name());
                Ok(Again::Here)
            }
            OnRefusal::End => {
                self.tell_refusal(refusal, why).await;
                Err(Stop::End(End::NameRefused(reason)))
            }
            OnRefusal::Ask => {
                self.tell_refusal(refusal, why).await;
                self.wait_for_another_name().await
            }
        }
    }

    /// The name is claimed, and its passphrase is not known or wrong.
    async fn choose_passphrase(&mut self, refusal: RegisterRefused, why: Why) -> Result<Again, Stop> {
        let name = self.identity.name().to_owned();
        let end = match self.on_refusal {
            OnRefusal::MakeUp => {
                self.identity.set_name(made_up_name());
                return Ok(Again::Here);
            }
            OnRefusal::End if why == Why::PassphraseWanted => Some(format!(
                "the name {name} is claimed; give its passphrase with CLIQUE_PASSPHRASE or --passphrase-file"
            )),
            OnRefusal::End => Some(wrong_passphrase(&name)),
            OnRefusal::Ask => {
                self.wrong_passphrases += u32::from(why == Why::PassphraseWrong);
                let is_last = self.wrong_passphrases >= MAX_WRONG_PASSPHRASES;
                is_last.then(|| format!("none of {MAX_WRONG_PASSPHRASES} passphrases was that of {name}"))
            }
        };
        let Some(sentence) = end else {
            self.tell_refusal(refusal, why).await;
            return self.wait_for_another_name().await;
        };
        // A person would be asked again; to them the sentence is enough.
        if self.on_refusal == OnRefusal::End {
            self.tell_refusal(refusal, why).await;
        }
        Err(Stop::End(End::NameRefused(sentence)))
    }

    /// Waits until a person has thought of another name or of the passphrase.
    async fn wait_for_another_name(&mut self) -> Result<Again, Stop> {
        loop {
            let order = tokio::select! {
                () = self.leave.cancelled() => None,
                order = self.orders.recv() => order,
            };
            match order.ok_or(Stop::End(End::Left))? {
                Order::Name(name) => {
                    self.identity.set_name(name);
                    return Ok(Again::Anew);
                }
                Order::Passphrase(passphrase) => {
                    self.identity.set_passphrase(passphrase);
                    return Ok(Again::Anew);
                }
                order => self.take(order).await,
            }
        }
    }

    /// Too many passphrases were tried: this one was not even looked at.
    async fn wait_for_another_guess(&mut self, refusal: RegisterRefused) -> Result<Again, Stop> {
        let (reason, wait_ms) = (refusal.reason.clone(), refusal.retry_after_ms);
        if self.identity.has_registered() {
            return Err(Stop::Lost(ConnectionError::Refused(reason)));
        }
        self.tell_refusal(refusal, Why::TooManyGuesses).await;
        if self.on_refusal != OnRefusal::Ask && wait_ms > MAX_SCRIPT_WAIT_MS {
            return Err(Stop::End(End::NameRefused(reason)));
        }
        let wait = Duration::from_millis(wait_ms.min(MAX_PERSON_WAIT_MS));
        self.attend(sleep(wait)).await.ok_or(Stop::End(End::Left))?;
        Ok(Again::Anew)
    }

    async fn tell_refusal(&self, refusal: RegisterRefused, why: Why) {
        let name = self.identity.name().to_owned();
        let retry_after_ms = refusal.retry_after_ms;
        self.tell(Event::NameRefused { name, reason: refusal.reason, why, retry_after_ms }).await;
    }
}
