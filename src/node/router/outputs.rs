//! The hub's outputs, in the real world.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::Input;
use crate::{
    chat::Passphrase,
    clique::{LinkId, Member},
    node::{
        hub::{ClientId, FromClient, Mark, Ports, ToStore, TraceStep},
        link_outbox::LinkOutbox,
        metrics::Metrics,
        outbox::{Batch, ClientOutbox},
        spans::NodeSpans,
        store::StoreHandle,
        vault::Vault,
    },
    wire::peer::PeerFrame,
};

/// See the module's head.
pub(super) struct Outputs {
    pub(super) clients: FxHashMap<ClientId, ClientOutput>,
    vault: Vault,
    /// Where the vault's answers go. They do not keep the router running.
    answers: mpsc::WeakSender<Input>,
    pub(super) links: FxHashMap<LinkId, LinkOutput>,
    /// To be woken at the end of the turn.
    touched_clients: Vec<ClientId>,
    touched_links: Vec<LinkId>,
    pub(super) metrics: Arc<Metrics>,
    spans: NodeSpans,
    /// `None` for a node without a disk.
    pub(super) store: Option<StoreHandle>,
    dial: mpsc::UnboundedSender<Member>,
}

/// The output of one client. What a turn has for it is gathered here, and handed over at the end of the turn.
pub(super) struct ClientOutput {
    pub(super) outbox: Arc<ClientOutbox>,
    /// Where the client comes from: guesses at passphrases are limited for each address.
    address: IpAddr,
    /// Only while there is something to flush.
    staged: Option<Box<Batch>>,
    is_closing: bool,
}

impl ClientOutput {
    pub(super) fn new(outbox: Arc<ClientOutbox>, address: IpAddr) -> Self {
        Self { outbox, address, staged: None, is_closing: false }
    }

    /// Notes that it is to be flushed.
    fn touch(&mut self, id: ClientId, touched: &mut Vec<ClientId>) -> &mut Batch {
        self.staged.get_or_insert_with(|| {
            touched.push(id);
            self.outbox.begin()
        })
    }

    fn room_bytes(&self) -> usize {
        self.outbox.room_bytes(self.staged.as_ref().map_or(0, |staged| staged.total_bytes))
    }

    pub(super) fn flush(&mut self) {
        if let Some(staged) = self.staged.take() {
            self.outbox.push(staged, self.is_closing);
        }
    }
}

/// The output of one link, and whether it is to be woken at the end of the turn.
pub(super) struct LinkOutput {
    outbox: Arc<LinkOutbox>,
    is_touched: bool,
}

impl LinkOutput {
    pub(super) fn new(outbox: Arc<LinkOutbox>) -> Self {
        Self { outbox, is_touched: false }
    }
}

impl Outputs {
    /// The vault's answers go to `answers`, members that should be dialled to `dial`.
    pub(super) fn new(
        answers: mpsc::WeakSender<Input>,
        metrics: Arc<Metrics>,
        spans: NodeSpans,
        dial: mpsc::UnboundedSender<Member>,
    ) -> Self {
        Self {
            clients: FxHashMap::default(),
            vault: Vault::default(),
            answers,
            links: FxHashMap::default(),
            touched_clients: Vec::new(),
            touched_links: Vec::new(),
            metrics,
            spans,
            store: None,
            dial,
        }
    }

    /// Passes on what the vault says, once it does.
    fn answer(&self, client: ClientId, answer: impl Future<Output = FromClient> + Send + 'static) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let answer = answer.await;
            if let Some(inputs) = answers.upgrade() {
                // An error means that the router has ended.
                let _ = inputs.send(Input::Client(client, answer)).await;
            }
        });
    }

    pub(super) fn flush(&mut self) {
        for client in self.touched_clients.drain(..) {
            if let Some(output) = self.clients.get_mut(&client) {
                output.flush();
            }
        }
        for link in self.touched_links.drain(..) {
            if let Some(output) = self.links.get_mut(&link) {
                output.is_touched = false;
                output.outbox.wake();
            }
        }
    }

    fn staged(&mut self, client: ClientId) -> Option<&mut Batch> {
        let touched = &mut self.touched_clients;
        self.clients.get_mut(&client).map(|output| output.touch(client, touched))
    }

    fn link(&mut self, link: LinkId) -> Option<&LinkOutbox> {
        let output = self.links.get_mut(&link)?;
        if !std::mem::replace(&mut output.is_touched, true) {
            self.touched_links.push(link);
        }
        Some(&output.outbox)
    }
}

impl Ports for Outputs {
    fn to_client(&mut self, client: ClientId, bytes: &[u8], marks: impl IntoIterator<Item = (usize, Mark)>) {
        if let Some(staged) = self.staged(client) {
            staged.push(bytes, marks);
        }
    }

    fn share_with_client(
        &mut self,
        client: ClientId,
        bytes: &Bytes,
        ends: &[usize],
        marks: impl IntoIterator<Item = Mark>,
    ) {
        if let Some(staged) = self.staged(client) {
            staged.share(bytes, ends, marks);
        }
    }

    fn client_room_bytes(&mut self, client: ClientId) -> usize {
        self.clients.get(&client).map_or(0, |output| output.room_bytes())
    }

    fn close_client(&mut self, client: ClientId) {
        let touched = &mut self.touched_clients;
        if let Some(output) = self.clients.get_mut(&client) {
            output.touch(client, touched);
            output.is_closing = true;
        }
    }

    fn to_link(&mut self, link: LinkId, frame: PeerFrame) {
        if let Some(outbox) = self.link(link) {
            outbox.push(frame);
        }
    }

    fn link_has_room(&mut self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|output| output.outbox.has_room())
    }

    fn close_link(&mut self, link: LinkId, reason: &str) {
        if let Some(outbox) = self.link(link) {
            outbox.close(reason);
        }
    }

    fn to_store(&mut self, order: ToStore) {
        if let Some(store) = &self.store {
            store.say(order);
        }
    }

    fn hash_passphrase(&mut self, client: ClientId, passphrase: Passphrase) {
        let vault = self.vault.clone();
        self.answer(client, async move { FromClient::Hashed(vault.hash(passphrase).await) });
    }

    fn check_passphrase(&mut self, client: ClientId, name_key: &str, passphrase: Passphrase, hash: &str) {
        let Some(address) = self.clients.get(&client).map(|output| output.address) else { return };
        let (vault, name_key, hash) = (self.vault.clone(), name_key.to_owned(), hash.to_owned());
        self.answer(client, async move { FromClient::Checked(vault.check(address, name_key, passphrase, hash).await) });
    }

    fn dial(&mut self, member: &Member) {
        // An error means that the dialler has ended: the node is stopping.
        let _ = self.dial.send(member.clone());
    }

    fn trace(&mut self, step: TraceStep) {
        self.spans.record(step);
    }
}
