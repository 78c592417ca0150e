//! What a process started and listens on, as the kernel has it: to see that it leaves nothing behind.
//!
//! *Invariant:* nothing here believes what a process says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A process, by its id and when it started: ids are used again.
type Process = (u32, u64);

/// What there is to be left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The processes that a process started, they in turn, and so on: by name.
    pub(crate) processes: BTreeMap<Process, String>,
    /// The addresses they listen on.
    pub(crate) listens: BTreeSet<SocketAddr>,
}

impl Left {
    pub(crate) fn of(pid: u32) -> Self {
        let all = processes();
        let mut left = Self::default();
        let mut parents = BTreeSet::from([pid]);
        // Children may have smaller ids than their parents: until nobody joins.
        while let Some((process, (_, name))) = all.iter().find(|((id, started), (parent, _))| {
            parents.contains(parent) && !left.processes.contains_key(&(*id, *started))
        }) {
            parents.insert(process.0);
            left.processes.insert(*process, name.clone());
        }
        let sockets: BTreeSet<String> = parents.iter().flat_map(|pid| sockets(*pid)).collect();
        left.listens = listeners()
            .into_iter()
            .filter(|(_, inode)| sockets.contains(inode))
            .map(|(address, _)| address)
            .collect();
        left
    }

    /// Whether all processes have ended; otherwise those that live.
    pub(crate) fn alive(&self) -> Result<(), String> {
        let now = processes();
        let alive = self.processes.iter();
        let alive: Vec<_> = alive
            .filter(|(process, _)| now.contains_key(process))
            .collect();
        if alive.is_empty() {
            Ok(())
        } else {
            Err(format!("still running: {alive:?}"))
        }
    }

    /// Fails if a process lives or an address is taken.
    pub(crate) fn is_gone(&self) {
        let alive = self.alive();
        assert_eq!(alive, Ok(()));
        for address in &self.listens {
            TcpListener::bind(address)
                .unwrap_or_else(|error| panic!("{address} is still taken: {error}"));
        }
    }
}

/// Every process, with its parent and its name.
fn processes() -> BTreeMap<Process, (u32, String)> {
    let ids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter_map(|pid: u32| {
        // One that has just ended has no such file.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some((
            (pid, fields[19].parse().unwrap()),
            (fields[1].parse().unwrap(), name.to_owned()),
        ))
    })
    .collect()
}

/// The inodes of a process's sockets.
fn sockets(pid: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    open.filter_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        Some(
            target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .to_owned(),
        )
    })
    .collect()
}

/// The IPv4 addresses that anyone listens on, with the inode of the socket. Nothing here listens on IPv6.
fn listeners() -> Vec<(SocketAddr, String)> {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == LISTEN)
        .map(|row| {
            let (ip, port) = row[1].split_once(':').unwrap();
            let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).unwrap().to_ne_bytes());
            (
                (ip, u16::from_str_radix(port, 16).unwrap()).into(),
                row[9].to_owned(),
            )
        })
        .collect()
}
