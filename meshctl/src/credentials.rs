//! What meshctl proves itself with, and whom it trusts: read from flags, environment and files.
//!
//! *Invariant:* a token is never shown, and never sent over a network in the clear.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use reqwest::{Certificate, ClientBuilder, Identity, Url};

/// Flags about who calls and who answers.
#[derive(Args, Clone, Default)]
pub(crate) struct Flags {
    /// The token to call with; better in a file, where others cannot see it
    #[arg(
        long,
        global = true,
        env = "WEFT_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// A file with the token to call with
    #[arg(long, global = true, env = "WEFT_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// The authorities (PEM) that the server's certificate is checked by, instead of the system's
    #[arg(long, global = true, env = "WEFT_CERTIFICATE_AUTHORITY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// A client certificate (PEM) to call with; needs --client-key
    #[arg(long, global = true, env = "WEFT_CLIENT_CERTIFICATE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) client_certificate: Option<PathBuf>,
    /// The private key (PEM) of the client certificate
    #[arg(long, global = true, env = "WEFT_CLIENT_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) client_key: Option<PathBuf>,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flags").finish_non_exhaustive()
    }
}

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file that cannot be read.
    #[error("{flag} {}: {why}", path.display())]
    File {
        flag: &'static str,
        path: PathBuf,
        why: String,
    },
    /// Half of a pair.
    #[error("{0} needs {1} beside it")]
    Half(&'static str, &'static str),
    /// A token that can be no header.
    #[error(
        "the token is empty, or has characters that no token has; it is one line of printable ASCII"
    )]
    Token,
    /// A token that everybody could read.
    #[error(
        "a token must not be sent to {0} in the clear; use an https URL (--server or WEFT_SERVER), or leave the token out"
    )]
    Clear(String),
}

/// Credentials, ready to use.
#[derive(Default)]
pub(crate) struct Credentials {
    token: Option<String>,
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Credentials {
    /// Reads what the flags name; a token that is given itself goes before one in a file.
    ///
    /// # Errors
    /// If a file cannot be read or understood, or flags do not go together.
    pub(crate) fn read(flags: &Flags) -> Result<Self, Error> {
        let token = match (&flags.token, &flags.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => {
                Some(String::from_utf8(file("--token-file", path)?).map_err(|_| Error::Token)?)
            }
            (None, None) => None,
        };
        let token = token.map(|token| token.trim().to_owned());
        if let Some(token) = &token
            && (token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(Error::Token);
        }
        let mut authorities = Vec::new();
        if let Some(path) = &flags.certificate_authority {
            let flag = "--certificate-authority";
            let pem = file(flag, path)?;
            authorities = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(flag, path, &e))?;
            if authorities.is_empty() {
                return Err(wrong(flag, path, &"there is no PEM certificate in it"));
            }
        }
        let identity = match (&flags.client_certificate, &flags.client_key) {
            (Some(certificate), Some(key)) => {
                let mut pem = file("--client-certificate", certificate)?;
                pem.push(b'\n');
                pem.extend(file("--client-key", key)?);
                let flag = "--client-certificate";
                Some(Identity::from_pem(&pem).map_err(|e| wrong(flag, certificate, &e))?)
            }
            (Some(_), None) => return Err(Error::Half("--client-certificate", "--client-key")),
            (None, Some(_)) => return Err(Error::Half("--client-key", "--client-certificate")),
            (None, None) => None,
        };
        Ok(Self {
            token,
            authorities,
            identity,
        })
    }

    /// The token to send to this server.
    ///
    /// # Errors
    /// If it would cross a network in the clear.
    pub(crate) fn token_for(&self, server: &Url) -> Result<Option<&str>, Error> {
        let host = server.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let local = host == "localhost" || address.is_ok_and(|a| a.is_loopback());
        match &self.token {
            Some(_) if server.scheme() != "https" && !local => {
                Err(Error::Clear(server.to_string()))
            }
            token => Ok(token.as_deref()),
        }
    }

    /// A client that trusts and proves what these say.
    pub(crate) fn equip(&self, mut client: ClientBuilder) -> ClientBuilder {
        if !self.authorities.is_empty() {
            client = client.tls_certs_only(self.authorities.clone());
        }
        match &self.identity {
            Some(identity) => client.identity(identity.clone()),
            None => client,
        }
    }

    /// What is sent, in words.
    pub(crate) fn described(&self) -> &'static str {
        match (&self.token, &self.identity) {
            (Some(_), _) => "a token",
            (None, Some(_)) => "a client certificate",
            (None, None) => "no credentials",
        }
    }
}

fn file(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| wrong(flag, path, &error))
}

fn wrong(flag: &'static str, path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::File {
        flag,
        path: path.into(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests;
