//! What can be moved, and where.
//!
//! *Invariant:* every port that is opened is in [`Flags::uses`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::shop;
use crate::envoy::Version;
use crate::mesh::Variant;

/// The whole stack in the foreground: etcd, cert-issuer, config-api, xds-pusher, Envoys and a demo shop. Ctrl-C stops it all.
#[derive(Parser, Clone, Debug)]
#[command(name = "weft-up", version)]
pub struct Flags {
    /// Where the state and the logs are; `make clean` removes the default
    #[arg(long, value_name = "DIR", default_value_os_t = super::default_state())]
    pub state: PathBuf,
    /// etcd's client port; its peer port is the next one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2379")]
    pub etcd: SocketAddr,
    /// The policy API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub api: SocketAddr,
    /// xDS over gRPC
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18000")]
    pub xds: SocketAddr,
    /// Health and metrics of the pusher
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18001")]
    pub xds_admin: SocketAddr,
    /// Identities over SDS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18010")]
    pub issuer: SocketAddr,
    /// Health, metrics and trust bundle of the issuer
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18011")]
    pub issuer_admin: SocketAddr,
    /// The ingress gateway
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub gateway: SocketAddr,
    /// The first of the Envoys' admin ports on 127.0.0.1, one after another
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    pub admin_ports: u16,
    /// The first of the demo services' ports, one after another
    #[arg(long, value_name = "PORT", default_value_t = 9080)]
    pub service_ports: u16,
    /// The demo workloads' addresses are in this network: 127.0.N.0/24
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub network: u8,
    /// No identities: no cert-issuer, and xDS in plaintext on loopback for clients of your own
    #[arg(long)]
    pub insecure_plaintext_xds: bool,
    /// Which Envoy
    #[arg(long, value_enum, default_value = "1.40.0")]
    pub envoy: Version,
    /// How the Envoys ask for their configuration
    #[arg(long, value_enum, default_value = "delta")]
    pub variant: Variant,
}

/// An address that must be free, what it is for, and the flag that moves it.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) address: SocketAddr,
    pub(super) what: String,
    pub(super) flag: &'static str,
}

impl Flags {
    pub(super) fn uses(&self) -> Vec<Use> {
        let a_use = |address, what: &str, flag| Use {
            address,
            what: what.to_owned(),
            flag,
        };
        let next = |a: SocketAddr| SocketAddr::new(a.ip(), a.port() + 1);
        let mut uses = vec![
            a_use(self.etcd, "etcd", "--etcd ADDR"),
            a_use(next(self.etcd), "etcd's peers", "--etcd ADDR"),
            a_use(self.api, "config-api", "--api ADDR"),
            a_use(self.xds, "xds-pusher", "--xds ADDR"),
            a_use(
                self.xds_admin,
                "xds-pusher's health and metrics",
                "--xds-admin ADDR",
            ),
            a_use(self.gateway, "the ingress gateway", "--gateway ADDR"),
        ];
        if !self.insecure_plaintext_xds {
            uses.push(a_use(self.issuer, "cert-issuer", "--issuer ADDR"));
            uses.push(a_use(
                self.issuer_admin,
                "cert-issuer's health, metrics and bundle",
                "--issuer-admin ADDR",
            ));
        }
        for workload in shop::workloads(self) {
            let name = workload.name;
            uses.push(a_use(
                workload.admin,
                &format!("{name}'s Envoy admin"),
                "--admin-ports PORT",
            ));
            if workload.backend().is_some() {
                uses.push(a_use(
                    workload.application(),
                    &format!("the service {name}"),
                    "--service-ports PORT",
                ));
                uses.push(a_use(
                    workload.inbound(),
                    &format!("{name}'s Envoy"),
                    "--service-ports PORT",
                ));
                uses.push(a_use(
                    workload.http_proxy(),
                    &format!("{name}'s HTTP proxy port"),
                    "--network N",
                ));
            }
        }
        uses
    }

    pub(super) fn admin(&self, number: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.admin_ports + number)
    }
}

impl ValueEnum for Version {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.number()))
    }
}

impl ValueEnum for Variant {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}
