//! Loopback addresses of one's own, so that parallel tests use fixed ports without colliding.
//!
//! *Invariant:* no port is guessed free; a block belongs to whoever holds its lock socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};
use rand::RngExt as _;

/// The port whose listener on a block's last address is the block's lock.
const LOCK_PORT: u16 = 1717;

/// A claimed block `127.a.b.0/24`: held while this lives, released by the kernel even when the process is killed.
#[derive(Debug)]
pub struct Block {
    a: u8,
    b: u8,
    _lock: TcpListener,
}

impl Block {
    /// Claims a block nobody else holds. `127.0` to `127.63` are left to people and other programs.
    ///
    /// # Errors
    /// If no block can be locked.
    pub fn claim() -> Result<Self> {
        let mut random = rand::rng();
        for _ in 0..1000 {
            let (a, b) = (random.random_range(64..=250), random.random_range(1..=254));
            if let Ok(lock) = TcpListener::bind((Ipv4Addr::new(127, a, b, 254), LOCK_PORT)) {
                return Ok(Self { a, b, _lock: lock });
            }
        }
        bail!("no free block of addresses in 127.64.0.0/10 and above")
    }

    /// Address `n` of the block, `1..=250`.
    pub fn ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.a, self.b, n))
    }

    /// Address `n` of the block with a port.
    pub fn at(&self, n: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(n), port)
    }
}
