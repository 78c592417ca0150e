//! A TCP echo: greets with its name, then returns what it reads.
//!
//! *Invariant:* it speaks first, as many databases do, so that a proxy which waits for the client's bytes is found out.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A running echo. Stops when dropped.
pub struct TcpEcho {
    address: SocketAddr,
    stop: CancellationToken,
}

impl TcpEcho {
    /// Binds an address and serves; every connection is first sent `name` and a line feed.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(address: SocketAddr, name: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let (name, stopped) = (name.to_owned(), stop.clone());
        tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(
                    stopped
                        .clone()
                        .run_until_cancelled_owned(echo(stream, name.clone())),
                );
            }
        }));
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends.
    pub async fn forever(self) {
        self.stop.cancelled().await;
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn echo(mut stream: TcpStream, name: String) {
    if stream
        .write_all(format!("{name}\n").as_bytes())
        .await
        .is_ok()
    {
        let (mut from, mut to) = stream.split();
        let _peer_gone = copy(&mut from, &mut to).await;
    }
}
