//! A client of the original protocol, byte by byte, with nothing of the crate in it.

use std::net::SocketAddr;

use super::socket::Socket;

pub const REGISTERED: (u8, u8) = (2, 0);
pub const MESSAGE: (u8, u8) = (3, 0);
pub const NODES_ANSWER: (u8, u8) = (5, 1);
pub const ECHO_ANSWER: (u8, u8) = (6, 1);
pub const GOODBYE_ANSWER: (u8, u8) = (7, 1);
pub const REFUSED: (u8, u8) = (30, 0);

/// `type: i8, subtype: i8, length: i16, sublen: i16`, big-endian, and the body.
pub fn frame(kind: u8, subkind: u8, sublen: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, subkind];
    bytes.extend(i16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(i16::try_from(sublen).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A request for a name.
pub fn register(name: &str) -> Vec<u8> {
    frame(2, 1, 0, name.as_bytes())
}

/// A message on its way to the node.
pub fn message(to: &str, text: impl AsRef<[u8]>) -> Vec<u8> {
    frame(3, 0, to.len(), &[to.as_bytes(), b" ", text.as_ref()].concat())
}

pub fn echo() -> Vec<u8> {
    frame(6, 0, 0, b"")
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: (u8, u8),
    pub sublen: usize,
    pub body: Vec<u8>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub from: String,
    pub to: String,
    pub text: Vec<u8>,
}

impl Said {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("the text is UTF-8")
    }
}

pub struct Frames {
    pub socket: Socket,
}

impl Frames {
    pub fn connect(address: SocketAddr) -> Self {
        Self { socket: Socket::connect(address) }
    }

    /// Connected and registered.
    pub fn named(address: SocketAddr, name: &str) -> Self {
        let mut client = Self::connect(address);
        assert_eq!(client.register(name), REGISTERED, "{name} is given");
        client
    }

    /// Asks for a name; gives the kind of the answer.
    pub fn register(&mut self, name: &str) -> (u8, u8) {
        self.socket.send(&register(name));
        let answer = self.next();
        assert_eq!((answer.sublen, &answer.body[..]), (0, &b""[..]), "the answer {:?} has no body", answer.kind);
        answer.kind
    }

    pub fn send(&mut self, to: &str, text: impl AsRef<[u8]>) {
        self.socket.send(&message(to, text));
    }

    pub fn next(&mut self) -> Frame {
        let header = self.socket.take(6);
        let number = |at: usize| usize::try_from(i16::from_be_bytes([header[at], header[at + 1]])).unwrap();
        let (length, sublen) = (number(2), number(4));
        let kind = (header[0], header[1]);
        assert!(length == 0 || kind == MESSAGE || kind == NODES_ANSWER, "{kind:?} has a body of {length} bytes");
        assert!(sublen <= length);
        Frame { kind, sublen, body: self.socket.take(length) }
    }

    /// The next frame, which is a message.
    #[track_caller]
    pub fn hear(&mut self) -> Said {
        let next = self.next();
        assert_eq!(next.kind, MESSAGE, "a message is due");
        said(&next)
    }

    /// The next message from a person; what the service says is passed over.
    #[track_caller]
    pub fn hear_person(&mut self) -> Said {
        loop {
            let said = self.hear();
            if said.from != "clique" {
                return said;
            }
        }
    }

    /// The next frame, which is a message from the service.
    #[track_caller]
    pub fn notice(&mut self) -> String {
        let said = self.hear();
        assert_eq!(said.from, "clique", "the service speaks: {said:?}");
        said.text().to_owned()
    }

    /// Messages from the service until one says this.
    #[track_caller]
    pub fn notice_of(&mut self, part: &str) -> String {
        loop {
            let said = self.hear();
            if said.from == "clique" && said.text().contains(part) {
                return said.text().to_owned();
            }
        }
    }

    /// Messages from the service until each of these has been said, in any order. Gives those that said them.
    #[track_caller]
    pub fn notices_of<const N: usize>(&mut self, parts: [&str; N]) -> [String; N] {
        let mut said: [Option<String>; N] = [const { None }; N];
        while said.iter().any(Option::is_none) {
            let notice = self.notice_of("");
            let of = parts.iter().position(|part| notice.contains(part));
            if let Some(of) = of {
                said[of] = Some(notice);
            }
        }
        said.map(Option::unwrap)
    }

    /// What came before the node answered this: everything that was sent before is dealt with.
    pub fn sync(&mut self) -> Vec<Said> {
        self.socket.send(&echo());
        let mut before = Vec::new();
        loop {
            let next = self.next();
            if next.kind == ECHO_ANSWER {
                return before;
            }
            before.push(said(&next));
        }
    }

    /// Nothing is on its way to this client.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        assert_eq!(self.sync(), [], "nothing is sent");
    }

    /// The other live nodes' chat ports, as written.
    pub fn nodes(&mut self) -> String {
        self.socket.send(&frame(5, 0, 0, b""));
        let answer = self.next();
        assert_eq!(answer.kind, NODES_ANSWER);
        String::from_utf8(answer.body).unwrap()
    }
}

fn said(frame: &Frame) -> Said {
    let (first, rest) = frame.body.split_at(frame.sublen);
    let zero = first.iter().position(|byte| *byte == 0).expect("SENDER 0x00 RECEIVER");
    assert_eq!(rest.first(), Some(&b' '), "a space between the first part and the text: {frame:?}");
    let name = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said { from: name(&first[..zero]), to: name(&first[zero + 1..]), text: rest[1..].to_vec() }
}
