//! A TCP connection to something on loopback that a test can cut, mute and restore.
//!
//! *Invariant:* what passes is never changed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Becomes mute as soon as a request holds these bytes, and lets it through.
    MuteOn(&'static [u8]),
    /// What the server says is thrown away.
    Mute,
    /// Connections are closed, and new ones are closed at once.
    Cut,
}

/// What is to be done, and how often connections were closed.
#[derive(Clone, Copy, Debug)]
struct Control {
    mode: Mode,
    cuts: u64,
}

/// A relay that forwards TCP to a port on loopback.
pub struct Connection {
    address: SocketAddr,
    control: watch::Sender<Control>,
    _accepting: AbortOnDropHandle<()>,
}

impl Connection {
    /// A relay to this port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = watch::Sender::new(Control {
            mode: Mode::Open,
            cuts: 0,
        });
        let relayed = control.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Control { mode, cuts } = *relayed.borrow();
                if mode != Mode::Cut {
                    tokio::spawn(relay(client, port, relayed.clone(), cuts));
                }
            }
        });
        Self {
            address,
            control,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Where to connect.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes every connection and lets none through.
    pub fn cut(&self) {
        self.control.send_modify(|control| {
            *control = Control {
                mode: Mode::Cut,
                cuts: control.cuts + 1,
            }
        });
    }

    /// Once a request holds these bytes, it is let through and every answer from then on is thrown away.
    pub fn mute_on(&self, request: &'static [u8]) {
        self.control
            .send_modify(|control| control.mode = Mode::MuteOn(request));
    }

    /// Whether answers are thrown away now.
    pub fn is_mute(&self) -> bool {
        self.control.borrow().mode == Mode::Mute
    }

    /// Lets new connections through.
    pub fn restore(&self) {
        self.control
            .send_modify(|control| control.mode = Mode::Open);
    }
}

/// Passes on what both sides say, until one of them ends or connections are cut once more than `cuts`.
async fn relay(client: TcpStream, port: u16, control: watch::Sender<Control>, cuts: u64) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let mut controls = control.subscribe();
    tokio::select! {
        () = requests(client_read, server_write, &control, cuts) => {}
        () = answers(server_read, client_write, &control, cuts) => {}
        _ = controls.wait_for(|control| control.cuts != cuts) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    control: &watch::Sender<Control>,
    cuts: u64,
) {
    let mut buffer = vec![0; 16 * 1024];
    // What was read before, as far as a pattern may have begun in it.
    let mut tail = Vec::new();
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let mut closed = false;
        control.send_if_modified(|control| {
            closed = control.cuts != cuts;
            let Mode::MuteOn(pattern) = control.mode else {
                return false;
            };
            tail.extend_from_slice(&buffer[..n]);
            let found = !closed && tail.windows(pattern.len()).any(|window| window == pattern);
            tail.drain(..tail.len().saturating_sub(pattern.len()));
            if found {
                control.mode = Mode::Mute;
            }
            found
        });
        // It may have been restored before this task heard of the cut: that is for new connections.
        if closed || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    control: &watch::Sender<Control>,
    cuts: u64,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let now = *control.borrow();
        if now.cuts != cuts {
            return;
        }
        if now.mode != Mode::Mute && to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
