//! `cert-issuer credential`: what a service of the control plane proves itself with.
//!
//! *Invariant:* a file that holds a credential the store knows is left alone, so the command can be run at every start.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use model::{CREDENTIAL_BYTES, Credential, CredentialRecord, Identity, TrustDomain};
use ring::rand::{SecureRandom as _, SystemRandom};
use store::{Area, Author, Deed, Expect, Vault, VaultOp};
use zeroize::Zeroizing;

/// The flags of the command.
#[derive(Args, Debug)]
pub struct CredentialFlags {
    /// The service: xds-pusher, config-api, or another service account of the namespace
    pub service_account: String,
    /// Where the credential is kept; only its owner may read the file
    #[arg(long)]
    pub file: PathBuf,
    /// The namespace of the service account
    #[arg(long, env = "WEFT_SYSTEM_NAMESPACE", default_value = "weft-system")]
    pub namespace: String,
    /// The trust domain
    #[arg(long, env = "WEFT_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
}

/// Makes a credential, unless the file holds one that is known.
///
/// # Errors
/// The file cannot be read or written, it holds another identity's credential, or the store does not answer.
pub async fn make(flags: &CredentialFlags, vault: &impl Vault) -> anyhow::Result<()> {
    use anyhow::{Context as _, anyhow, bail};
    let path = flags.file.display();
    let account = &flags.service_account;
    let identity = Identity::new(&flags.trust_domain, &flags.namespace, account)?;
    match fs::read_to_string(&flags.file).map(Zeroizing::new) {
        Ok(text) => {
            let present = Credential::parse(text.trim())
                .ok_or_else(|| anyhow!("{path} exists and holds no credential; name another"))?;
            if let Some(entry) = vault.read(Area::Tokens, &present.hash()).await? {
                let record = CredentialRecord::from_bytes(&entry.value)?;
                if record.identity != identity {
                    bail!(
                        "{path} holds a credential of {}; name another",
                        record.identity
                    );
                }
                tracing::info!(%path, %identity, "the credential is known; it stays");
                return Ok(());
            }
            fs::remove_file(&flags.file).with_context(|| format!("removing the old {path}"))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {path}")),
    }
    let mut random = Zeroizing::new([0; CREDENTIAL_BYTES]);
    let filled = SystemRandom::new().fill(random.as_mut());
    filled.map_err(|_| anyhow!("the system gives no random bytes"))?;
    let credential = Credential::new(&random);
    let record = CredentialRecord {
        identity: identity.clone(),
        workload: account.clone(),
        workload_uid: None,
        created: Timestamp::now(),
    };
    // The file first: a record without its credential would be nobody's.
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600);
    let mut file = (file.open(&flags.file)).with_context(|| format!("creating {path}"))?;
    writeln!(file, "{}", credential.expose()).with_context(|| format!("writing {path}"))?;
    file.sync_all().with_context(|| format!("writing {path}"))?;
    let put = VaultOp::Put {
        path: credential.hash(),
        value: record.to_bytes(),
        expect: Expect::Absent,
    };
    let made = Deed {
        kind: "Credential".into(),
        namespace: flags.namespace.clone(),
        name: format!("{account}/{}", &credential.hash()[..16]),
        before: None,
        after: true,
    };
    let author = Author {
        who: "cert-issuer".into(),
        verb: format!("cert-issuer credential {account}"),
        ..Author::default()
    };
    vault
        .write_recorded(Area::Tokens, vec![put], None, author, vec![made])
        .await?;
    tracing::info!(%path, %identity, "made a credential");
    Ok(())
}
