//! Machines of one's own around a router that can drop what they send each other.
//!
//! Every machine is a namespace with one address; the router is a namespace with a wire to each. Whoever runs in the router
//! reaches all of them, always. The addresses are loopback's, for which services serve without identities; here they cross wires.
//! *Invariant:* what is cut is dropped without a word, as by a broken switch: nobody is told, no connection is closed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;

use super::Namespace;

/// Machines that know each other by the addresses of [`Network::at`].
pub struct Network {
    router: Namespace,
    machines: Vec<Namespace>,
}

impl Network {
    /// So many machines, numbered from 0, which all reach each other.
    ///
    /// # Errors
    /// If this machine does not let us make namespaces and wires, or forward packets in them.
    pub fn make(machines: u8) -> Result<Self> {
        let router = node()?;
        router.command("sysctl".as_ref(), "-q -w net.ipv4.ip_forward=1")?;
        let made = (0..machines).map(|n| {
            let (machine, wire) = (node()?, format!("wire{n}"));
            router.wire_as(
                (&wire, &format!("{}/24 scope global", gateway(n))),
                &machine,
                &format!("{}/24 scope global", ip(n)),
            )?;
            machine.ip(&format!("route add default via {}", gateway(n)))?;
            Ok(machine)
        });
        let machines = made.collect::<Result<_>>()?;
        Ok(Self { router, machines })
    }

    /// A port of a machine.
    pub fn at(n: u8, port: u16) -> SocketAddr {
        SocketAddr::from((ip(n), port))
    }

    /// A port of the router, which all machines reach.
    pub fn router(port: u16) -> SocketAddr {
        SocketAddr::from((gateway(0), port))
    }

    /// A machine, to start programs on it.
    pub fn machine(&self, n: u8) -> &Namespace {
        &self.machines[usize::from(n)]
    }

    /// Drops what two machines send each other.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn cut(&self, one: u8, other: u8) -> Result<()> {
        self.rule("add", one, other)
    }

    /// Undoes [`Network::cut`].
    ///
    /// # Errors
    /// If `ip` fails, as it does for what is not cut.
    pub fn heal(&self, one: u8, other: u8) -> Result<()> {
        self.rule("del", one, other)
    }

    fn rule(&self, verb: &str, one: u8, other: u8) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            let rule = format!("rule {verb} from {} to {} blackhole", ip(from), ip(to));
            self.router.ip(&rule)?;
        }
        Ok(())
    }

    /// Runs a task in the router, where every machine is reached.
    ///
    /// # Panics
    /// If the task does.
    pub async fn run<F>(self, task: impl FnOnce(Arc<Self>) -> F + Send + 'static) -> F::Output
    where
        F: Future<Output: Send + 'static> + 'static,
    {
        let network = Arc::new(self);
        let inside = network.clone();
        network.router.run(move || task(inside)).await
    }
}

/// A namespace in which loopback's addresses are as any other's, but for 127.0.0.1.
fn node() -> Result<Namespace> {
    let node = Namespace::make()?;
    node.command(
        "sysctl".as_ref(),
        "-q -w net.ipv4.conf.all.route_localnet=1",
    )?;
    node.ip("address del 127.0.0.1/8 dev lo")?;
    node.ip("address add 127.0.0.1/32 dev lo")?;
    Ok(node)
}

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 78, n, 2)
}

fn gateway(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 78, n, 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::skip::skip;
    use crate::wait;

    /// What is said on a connection that is open throughout: nothing while it is cut, everything afterwards.
    #[tokio::test]
    async fn what_is_cut_is_silent_and_not_closed() {
        let network = match Network::make(3) {
            Ok(network) => network,
            Err(error) => {
                skip(format!("no network namespaces of one's own: {error:#}"));
                return;
            }
        };
        let at = Network::at(0, 7000);
        let bind = async move || TcpListener::bind(at).await.unwrap().into_std().unwrap();
        let listener = network.machine(0).run(bind).await;
        let listener = TcpListener::from_std(listener).unwrap();
        let dial = async move || TcpStream::connect(at).await.unwrap().into_std().unwrap();
        let (near, far) = tokio::join!(network.machine(1).run(dial), listener.accept());
        let (mut near, mut far) = (TcpStream::from_std(near).unwrap(), far.unwrap().0);

        network.cut(0, 1).unwrap();
        near.write_all(b"x").await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(500), far.read_u8()).await;
        assert!(heard.is_err(), "{heard:?}");
        // Others are not concerned.
        let other = network.machine(2).run(dial);
        tokio::time::timeout(wait::PATIENCE, other).await.unwrap();

        network.heal(0, 1).unwrap();
        let heard = tokio::time::timeout(wait::PATIENCE, far.read_u8()).await;
        assert_eq!(heard.unwrap().unwrap(), b'x');
    }
}
