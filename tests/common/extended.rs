//! A client of the extended frames, through the crate's own wire formats.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::BytesMut;
use clique::wire::{
    extended::{
        Command, Delivery, FromClient, FromNode, Height, Receipt, Register, Registered, Resume, Send, State, Unsettled,
    },
    frames,
};

use super::socket::Socket;

pub struct Extended {
    pub socket: Socket,
    pub registered: Registered,
    next_reference: u64,
    /// What is left of a run of receipts.
    receipts: VecDeque<Receipt>,
    /// What has come and was not asked for yet.
    inbox: Vec<FromNode>,
}

impl Extended {
    /// Connected and registered, with a key made from the name.
    pub fn named(address: SocketAddr, name: &str) -> Self {
        Self::register(address, name, None)
    }

    /// Connected again: goes on from these heights, and from what was sent.
    pub fn resumed(address: SocketAddr, name: &str, heights: Vec<Height>, sent: Vec<Height>) -> Self {
        Self::register(address, name, Some(Resume { heights, sent, ..Resume::default() }))
    }

    /// Connected again after this: goes on from these heights, and still wants to hear of these messages.
    pub fn awaiting(address: SocketAddr, name: &str, heights: Vec<Height>, receipts: &[Receipt]) -> Self {
        let awaited = receipts.iter().map(|receipt| Unsettled { reference: receipt.reference, id: receipt.id });
        let unsettled = awaited.collect();
        Self::register(address, name, Some(Resume { heights, unsettled, ..Resume::default() }))
    }

    fn register(address: SocketAddr, name: &str, resume: Option<Resume>) -> Self {
        let session_key = format!("{name:-<32}").into_bytes();
        Self::ask(address, Register { name: name.to_owned(), session_key, resume, ..Register::default() })
            .unwrap_or_else(|refused| panic!("{name} is not given: {refused:?}"))
    }

    /// Connected and registered, or why not.
    pub fn ask(address: SocketAddr, register: Register) -> Result<Self, Box<FromNode>> {
        let mut socket = Socket::connect(address);
        send(&mut socket, &FromClient::Register(register));
        let mut client = Self {
            socket,
            registered: Registered::default(),
            next_reference: 1,
            receipts: VecDeque::new(),
            inbox: Vec::new(),
        };
        match client.next() {
            FromNode::Registered(registered) => client.registered = registered,
            other => return Err(Box::new(other)),
        }
        Ok(client)
    }

    /// A slash command, without its slash.
    pub fn command(&mut self, line: &str) {
        send(&mut self.socket, &FromClient::Command(Command { line: line.to_owned() }));
    }

    /// Sends a message; gives its reference.
    pub fn send(&mut self, to: &str, text: impl AsRef<[u8]>) -> u64 {
        self.send_traced(to, text, "")
    }

    pub fn send_traced(&mut self, to: &str, text: impl AsRef<[u8]>, traceparent: &str) -> u64 {
        let reference = self.next_reference;
        self.next_reference += 1;
        let (to, text, traceparent) = (to.to_owned(), text.as_ref().to_vec(), traceparent.to_owned());
        send(&mut self.socket, &FromClient::Send(Send { reference, to, text, traceparent }));
        reference
    }

    /// The next frame as it comes; of a run of receipts each by itself.
    pub fn next(&mut self) -> FromNode {
        if let Some(receipt) = self.receipts.pop_front() {
            return FromNode::Receipt(receipt);
        }
        match self.next_frame() {
            FromNode::ReceiptRun(receipts) => {
                self.receipts.extend(receipts.each());
                self.next()
            }
            frame => frame,
        }
    }

    fn next_frame(&mut self) -> FromNode {
        let mut buffer = BytesMut::from(&self.socket.take(frames::HEADER_BYTES)[..]);
        let body = usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
        buffer.extend_from_slice(&self.socket.take(body));
        let frame = frames::decode(&mut buffer).expect("the header makes sense").expect("the frame is whole");
        FromNode::read(&frame).expect("the body can be read").expect("it is an extended frame")
    }

    /// The first frame that is what is asked for; others are kept for later.
    pub fn wait_for<T>(&mut self, mut wanted: impl FnMut(&FromNode) -> Option<T>) -> T {
        if let Some((at, found)) = self.inbox.iter().enumerate().find_map(|(at, frame)| Some((at, wanted(frame)?))) {
            self.inbox.remove(at);
            return found;
        }
        loop {
            let next = self.next();
            match wanted(&next) {
                Some(found) => return found,
                None => self.inbox.push(next),
            }
        }
    }

    pub fn delivery(&mut self) -> Delivery {
        self.wait_for(|frame| match frame {
            FromNode::Delivery(delivery) => Some(delivery.clone()),
            _ => None,
        })
    }

    /// The first news of a message in which it has come to this state.
    pub fn receipt(&mut self, reference: u64, state: State) -> Receipt {
        self.wait_for(|frame| match frame {
            FromNode::Receipt(receipt) if receipt.reference == reference && receipt.state() == state => {
                Some(receipt.clone())
            }
            _ => None,
        })
    }

    pub fn notice_of(&mut self, part: &str) -> String {
        self.wait_for(|frame| match frame {
            FromNode::Notice(notice) if notice.text.contains(part) => Some(notice.text.clone()),
            _ => None,
        })
    }
}

fn send(socket: &mut Socket, frame: &FromClient) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    socket.send(&bytes);
}
