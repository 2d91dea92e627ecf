//! A person with `nc`.

use std::net::SocketAddr;

use super::socket::Socket;

pub struct Lines {
    pub socket: Socket,
}

impl Lines {
    pub fn connect(address: SocketAddr) -> Self {
        Self { socket: Socket::connect(address) }
    }

    /// Connected, named and welcomed.
    pub fn named(address: SocketAddr, name: &str) -> Self {
        let mut client = Self::connect(address);
        client.say(name);
        let welcome = client.line();
        assert!(welcome.starts_with(&format!("* welcome, {name}: you are on node ")), "{welcome}");
        client
    }

    pub fn say(&mut self, line: &str) {
        self.socket.send(format!("{line}\n").as_bytes());
    }

    /// The next line, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.next().expect("a line is due, and the connection is closed")
    }

    /// `None` once the connection is closed.
    pub fn next(&mut self) -> Option<String> {
        let mut line = self.socket.take_until(b'\n')?;
        line.pop();
        Some(String::from_utf8(line).expect("the node writes UTF-8"))
    }

    /// Lines until one has this in it.
    #[track_caller]
    pub fn line_with(&mut self, part: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// All lines up to the end of the connection.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
