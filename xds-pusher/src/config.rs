//! The flags of a pusher.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use mtls::IdentityFlags;

/// The flags of a pusher.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Where Envoys and config-api reach this replica (gRPC, and REST for polling Envoys)
    #[arg(long, env = "WEFT_XDS_LISTEN", default_value = "127.0.0.1:18000")]
    pub listen: SocketAddr,
    /// Health and metrics over HTTP
    #[arg(long, env = "WEFT_XDS_ADMIN_LISTEN", default_value = "127.0.0.1:18001")]
    pub admin_listen: SocketAddr,
    /// The address others use for --listen, if it differs
    #[arg(long, env = "WEFT_XDS_ADVERTISE")]
    pub advertise: Option<String>,
    /// Serve xDS without TLS and believe every node id. Only on loopback, only for development
    #[arg(long, env = "WEFT_INSECURE_PLAINTEXT_XDS")]
    pub insecure_plaintext_xds: bool,
    /// Who this service is.
    #[command(flatten)]
    pub identity: IdentityFlags,
    /// The unique name of this replica; a random one if absent
    #[arg(long, env = "WEFT_INSTANCE")]
    pub instance: Option<String>,
    /// The namespace whose policies hold for the whole mesh
    #[arg(long, env = "WEFT_ROOT_NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// The domain that completes short host names
    #[arg(long, env = "WEFT_DOMAIN", default_value = "svc.cluster.local")]
    pub domain: String,
    /// How long a membership survives a replica that is gone, in seconds
    #[arg(long, env = "WEFT_MEMBER_TTL", default_value = "5", value_parser = seconds)]
    pub member_ttl: Duration,
    /// How many new streams are brought up to date at a time; the others wait for their turn
    #[arg(long, env = "WEFT_ADMIT_AT_ONCE", default_value = "64", value_parser = clap::value_parser!(u16).range(1..))]
    pub admit_at_once: u16,
    /// How many new streams may wait before those that another replica can take are told to try again
    #[arg(long, env = "WEFT_ADMISSION_QUEUE", default_value = "1000", value_parser = clap::value_parser!(u16).range(1..))]
    pub admission_queue: u16,
    /// Over how many seconds streams are spread that move to another replica when replicas come or go
    #[arg(long, env = "WEFT_REBALANCE_PERIOD", default_value = "10", value_parser = seconds)]
    pub rebalance_period: Duration,
    /// Over how many seconds the ends of streams are spread when this replica is told to stop
    #[arg(long, env = "WEFT_DRAIN_PERIOD", default_value = "5", value_parser = seconds)]
    pub drain_period: Duration,
    /// Remove clusters at once instead of after the routes that used them. Loses requests: it exists to show in a test that
    /// late removal is what keeps them
    #[arg(long, hide = true)]
    pub unsafe_remove_early: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("expected whole seconds from 1 to 3600".to_owned()),
    }
}

impl Config {
    /// Checks what a single flag cannot: identities or plaintext, and plaintext only on loopback.
    ///
    /// # Errors
    /// A sentence that names the flag to change.
    pub fn check(&self) -> Result<(), String> {
        if !self.insecure_plaintext_xds {
            return match self.identity.credential() {
                Ok(_) => Ok(()),
                Err(error) => Err(format!(
                    "{error}; for development on one machine, --insecure-plaintext-xds needs none"
                )),
            };
        }
        if self.identity.credential_file.is_some() {
            return Err(
                "--credential-file and --insecure-plaintext-xds exclude each other; drop one"
                    .into(),
            );
        }
        if !self.listen.ip().is_loopback() {
            return Err(format!(
                "--listen {} is not a loopback address, and --insecure-plaintext-xds allows no other; \
                 use 127.0.0.1:{}",
                self.listen,
                self.listen.port()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn plaintext_needs_the_flag_and_loopback_and_identities_a_credential() {
        let check = |args: &[&str]| {
            Flags::try_parse_from([&["xds-pusher"], args].concat())
                .unwrap()
                .config
                .check()
        };
        for (flags, named) in [
            (&[][..], "--credential-file is missing"),
            (
                &["--credential-file", "/nowhere"],
                "/nowhere cannot be read",
            ),
            (
                &["--insecure-plaintext-xds", "--credential-file", "/nowhere"],
                "exclude each other",
            ),
        ] {
            let error = check(flags).unwrap_err();
            assert!(error.contains(named), "{flags:?}: {error}");
            assert!(error.contains("--insecure-plaintext-xds"), "{error}");
        }
        assert!(check(&["--insecure-plaintext-xds"]).is_ok());
        let error = check(&["--insecure-plaintext-xds", "--listen", "0.0.0.0:18000"]).unwrap_err();
        assert!(
            error.contains("0.0.0.0:18000") && error.contains("127.0.0.1:18000"),
            "{error}"
        );
    }
}
