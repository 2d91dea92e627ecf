//! A stretch of network between two processes that can be cut and healed.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Passes connections on to one address. Its tasks end with it.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether connections pass.
    is_open: watch::Sender<bool>,
    _end: DropGuard,
}

impl Proxy {
    /// Listens on a port of its own.
    ///
    /// # Errors
    /// If there is none.
    pub async fn open(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (is_open, state) = watch::channel(true);
        let end = CancellationToken::new();
        tokio::spawn(end.clone().run_until_cancelled_owned(accept(listener, target, state, end.clone())));
        Ok(Self { address, is_open, _end: end.drop_guard() })
    }

    /// Ends all connections, and every new one at once, until `heal`.
    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub fn heal(&self) {
        self.is_open.send_replace(true);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<bool>, end: CancellationToken) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let mut state = state.clone();
        if !*state.borrow_and_update() {
            continue;
        }
        tokio::spawn(end.clone().run_until_cancelled_owned(async move {
            tokio::select! {
                // A connection that ends is what it is for.
                _ = pass(near, target) => {}
                _ = state.wait_for(|is_open| !is_open) => {}
            }
        }));
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_cut_ends_and_what_is_healed_passes() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::open(listener.local_addr().unwrap()).await.unwrap();
        let mut near = TcpStream::connect(proxy.address).await.unwrap();
        near.write_all(b"x").await.unwrap();
        let mut far = listener.accept().await.unwrap().0;
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        proxy.cut();
        assert!(near.read_u8().await.is_err());
        assert!(TcpStream::connect(proxy.address).await.unwrap().read_u8().await.is_err());
        proxy.heal();
        let mut near = TcpStream::connect(proxy.address).await.unwrap();
        near.write_all(b"y").await.unwrap();
        assert_eq!(listener.accept().await.unwrap().0.read_u8().await.unwrap(), b'y');
    }
}
