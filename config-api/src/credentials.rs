//! What workloads prove their identity with to the certificate issuer: made here, stored as a hash, and taken back.
//!
//! *Invariant:* a credential leaves this process once, in the bootstrap it was made for; only its hash is kept.

mod orphans;

use http::StatusCode;
use jiff::Timestamp;
use model::spec::WorkloadEntry;
use model::{Credential, CredentialRecord, Identity, Object, Revision};
use serde_json::{Value, json};
use store::{Area, Author, Deed, Expect, VaultError, VaultOp};
use zeroize::Zeroizing;

use crate::app::App;
use crate::http::status::{Cause, Result, Status};
pub(crate) use orphans::revoke_orphans;

/// The service name under which certificate issuers register.
pub(crate) const ISSUER: &str = "cert-issuer";

/// Where the issuer leaves the roots for everybody, in PEM.
const BUNDLE: &str = "bundle.pem";

/// How many characters of a hash name a credential.
const ID: usize = 16;

/// How many credentials a workload may have: some for proxies that are being replaced, and no heap of forgotten ones.
const MOST: usize = 16;

/// How many credentials are revoked in one transaction.
const AT_ONCE: usize = 50;

/// The roots of the mesh, in PEM.
///
/// # Errors
/// 503 while there is no certificate authority.
pub(crate) async fn bundle(app: &App) -> Result<String> {
    let entry = app.vault.read(Area::Ca, BUNDLE).await?;
    let entry = entry.ok_or_else(|| {
        Status::unavailable(
            "there is no certificate authority yet, so nobody could verify this workload; start a cert-issuer on the same \
             etcd, which makes one (pushers without TLS take bootstraps of --insecure-plaintext-xds)",
        )
    })?;
    String::from_utf8(entry.value.to_vec())
        .map_err(|_| Status::internal(format!("ca/{BUNDLE} is not text; restore it")))
}

/// Who a workload is.
///
/// # Errors
/// 422 if its names cannot be parts of a SPIFFE ID.
pub(crate) fn identity(app: &App, workload: &Object) -> Result<Identity> {
    let metadata = &workload.metadata;
    let refused = |field: &str, message: String| {
        let cause = Cause {
            reason: "FieldValueInvalid",
            message,
            field: field.into(),
        };
        Status::invalid(workload.kind, &metadata.name, vec![cause])
    };
    let spec: WorkloadEntry = serde_json::from_value(workload.spec.clone())
        .map_err(|error| refused("spec", error.to_string()))?;
    let identity = Identity::new(
        &app.config.identity.trust_domain,
        &metadata.namespace,
        spec.account(),
    );
    identity.map_err(|error| refused("spec.serviceAccount", error.to_string()))
}

/// A new credential and what is to be stored of it.
pub(crate) fn make(identity: Identity, workload: &Object) -> (Credential, CredentialRecord) {
    let credential = Credential::new(&Zeroizing::new(rand::random()));
    let record = CredentialRecord {
        identity,
        workload: workload.metadata.name.clone(),
        workload_uid: Some(workload.metadata.uid.clone()),
        created: Timestamp::now(),
    };
    (credential, record)
}

/// What the change record of a write to a credential says. `before`: the revision it was made at, if it is revoked.
fn deed(path: &str, namespace: &str, workload: &str, before: Option<Revision>) -> Deed {
    Deed {
        kind: "Credential".into(),
        namespace: namespace.into(),
        name: format!("{workload}/{}", path.get(..ID).unwrap_or(path)),
        before,
        after: before.is_none(),
    }
}

/// Makes a credential valid; the record of who did is in the same transaction.
pub(crate) async fn store(
    app: &App,
    credential: &Credential,
    record: &CredentialRecord,
    author: Author,
) -> Result<()> {
    let namespace = record.identity.namespace();
    let made = deed(&credential.hash(), namespace, &record.workload, None);
    let put = VaultOp::Put {
        path: credential.hash(),
        value: record.to_bytes(),
        expect: Expect::Absent,
    };
    (app.vault)
        .write_recorded(Area::Tokens, vec![put], None, author, vec![made])
        .await?;
    Ok(())
}

/// Refuses another credential for a workload that has as many as one may have.
///
/// # Errors
/// 409, with the way out.
pub(crate) async fn room(app: &App, namespace: &str, workload: &str) -> Result<()> {
    let held = of(app, namespace, workload).await?.len();
    if held < MOST {
        return Ok(());
    }
    Err(Status::new(
        StatusCode::CONFLICT,
        "Conflict",
        format!(
            "{namespace}/{workload} has {held} credentials, and a workload may have {MOST}; revoke those that are not used any \
             more: `meshctl credentials list {workload} -n {namespace}`, `meshctl credentials revoke {workload} ID -n {namespace}`, or DELETE \
             /v1/namespaces/{namespace}/workloads/{workload}/credentials/ID"
        ),
    ))
}

/// A stored credential.
pub(crate) struct Held {
    path: String,
    revision: Revision,
    record: CredentialRecord,
}

impl Held {
    /// Names it in the API.
    pub(crate) fn id(&self) -> &str {
        self.path.get(..ID).unwrap_or(&self.path)
    }

    /// What may be shown of it.
    pub(crate) fn to_json(&self) -> Value {
        let record = &self.record;
        json!({"id": self.id(), "identity": record.identity.to_string(), "created": record.created.to_string()})
    }
}

/// The credentials of a workload, oldest first.
pub(crate) async fn of(app: &App, namespace: &str, workload: &str) -> Result<Vec<Held>> {
    let stored = app.vault.read_all(Area::Tokens).await?;
    let mut held: Vec<Held> = stored
        .iter()
        .filter_map(|(path, entry)| {
            let record = CredentialRecord::from_bytes(&entry.value).ok()?;
            let its = record.identity.namespace() == namespace && record.workload == workload;
            its.then(|| Held {
                path: path.to_string(),
                revision: entry.revision,
                record,
            })
        })
        .collect();
    held.sort_by_key(|one| one.record.created);
    Ok(held)
}

/// Revokes credentials; the record of who did is in the same transaction. What somebody else revoked meanwhile is revoked.
pub(crate) async fn revoke(app: &App, held: &[Held], author: &Author) -> Result<()> {
    let write = |some: &[Held]| {
        let delete = |one: &Held| VaultOp::Delete {
            path: one.path.clone(),
            expect: one.revision,
        };
        let deed = |one: &Held| {
            let (namespace, workload) = (one.record.identity.namespace(), &one.record.workload);
            deed(&one.path, namespace, workload, Some(one.revision))
        };
        let (ops, deeds) = (
            some.iter().map(delete).collect(),
            some.iter().map(deed).collect(),
        );
        (app.vault).write_recorded(Area::Tokens, ops, None, author.clone(), deeds)
    };
    for some in held.chunks(AT_ONCE) {
        match write(some).await {
            Ok(_) => continue,
            Err(VaultError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        for one in some.chunks(1) {
            match write(one).await {
                // Nobody writes a credential a second time.
                Ok(_) | Err(VaultError::Conflict { actual: None, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

impl From<VaultError> for Status {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            VaultError::Conflict { .. } | VaultError::Deposed { .. } | VaultError::Path { .. } => {
                Self::internal(error.to_string())
            }
        }
    }
}
