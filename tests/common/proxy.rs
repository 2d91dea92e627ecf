//! A stretch of network that can be cut, held up and healed, between a node and whoever dials it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::ports::local;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Connections are reset, and new ones too.
    Cut,
    /// Connections stay open, and nothing comes through: what a cable that was pulled looks like.
    Held,
    Ended,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<(State, Vec<TcpStream>)>,
    changed: Condvar,
}

/// See the module's head. Its threads end with it.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(local(0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::new((State::Open, Vec::new())), changed: Condvar::new() });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let shared = accepting.clone();
                if shared.state.lock().unwrap().0 == State::Ended {
                    return;
                }
                thread::spawn(move || shared.connect(&stream, target));
            }
        });
        Self { address, shared }
    }

    pub fn cut(&self) {
        self.shared.become_(State::Cut);
    }

    pub fn hold(&self) {
        self.shared.become_(State::Held);
    }

    pub fn heal(&self) {
        self.shared.become_(State::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.become_(State::Ended);
        // So that the accepting thread sees it.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn become_(&self, state: State) {
        let mut current = self.state.lock().unwrap();
        current.0 = state;
        if matches!(state, State::Cut | State::Ended) {
            for stream in current.1.drain(..) {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    /// Waits while things are held up. False if the connection is to end.
    fn may_pass(&self) -> bool {
        let state = self.changed.wait_while(self.state.lock().unwrap(), |state| state.0 == State::Held).unwrap();
        state.0 == State::Open
    }

    fn connect(self: &Arc<Self>, near: &TcpStream, target: SocketAddr) {
        if !self.may_pass() {
            return;
        }
        let Ok(far) = TcpStream::connect(target) else { return };
        for stream in [near, &far] {
            stream.set_nodelay(true).unwrap();
        }
        {
            let mut state = self.state.lock().unwrap();
            if matches!(state.0, State::Cut | State::Ended) {
                return;
            }
            state.1.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
        }
        let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        let shared = self.clone();
        let back = thread::spawn(move || shared.copy(&back_from, &back_to));
        self.copy(near, &far);
        back.join().unwrap();
    }

    fn copy(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count) = from.read(&mut piece) {
            if count == 0 || !self.may_pass() || to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Read);
        let _ = to.shutdown(Shutdown::Write);
    }
}
