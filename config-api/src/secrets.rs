//! Private keys of TlsSecrets on their way in: sealed for the certificate issuer before anything is compared, shown or
//! written.
//!
//! *Invariant:* what [`settle`] returns holds no private key, and nothing here can open what it seals.

use model::spec::{PrivateKeyPem, SealedPrivateKey};
use model::{Kind, Metadata, Object};
use seal::SealingKey;
use serde_json::Value;
use store::Area;

use crate::app::App;
use crate::http::status::{Cause, Result, Status};

/// Where `kubectl apply` keeps the manifest it applied, with everything in it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The end of names under which Envoys ask for authorities alone.
const AUTHORITIES: &str = "-cacert";

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Somebody asks for it.
    Asked,
    /// A change record: it was written once already.
    Record,
}

/// The object with its private key sealed. One whose key is the stored one's keeps what is stored.
pub(crate) async fn settle(
    app: &App,
    prior: Option<&Object>,
    mut object: Object,
    origin: Origin,
) -> Result<Object> {
    if object.kind != Kind::TlsSecret {
        return Ok(object);
    }
    let Some(spec) = object.spec.as_object_mut() else {
        return Ok(object);
    };
    let held = prior.and_then(|prior| prior.spec.get(SEALED));
    let Some(key) = spec.shift_remove("privateKey") else {
        let kept = spec.get(SEALED);
        if origin == Origin::Asked && kept.is_some() && kept != held {
            let rule = "is not what is stored for this resource: a sealed key is kept by writing it back as it is, and opens under no other name; give privateKey instead";
            return Err(invalid(&object, "spec.sealedPrivateKey", rule));
        }
        return Ok(object);
    };
    let Value::String(key) = key else {
        return Ok(object);
    };
    let key = PrivateKeyPem::from(key);
    let hash =
        (key.public_key_sha256()).map_err(|rule| invalid(&object, "spec.privateKey", &rule))?;
    let published = published(app).await?;
    let held = held.and_then(|held| serde_json::from_value::<SealedPrivateKey>(held.clone()).ok());
    let keeps = |held: &SealedPrivateKey| {
        held.public_key_sha256 == hash
            && (published.as_ref()).is_none_or(|published| published.name() == held.key)
    };
    let sealed = match (held.filter(keeps), published) {
        (Some(held), _) => held,
        (None, Some(published)) => published.seal(&object.key(), &hash, key.expose()),
        (None, None) => {
            return Err(Status::unavailable(
                "spec.privateKey: cannot be kept yet: the certificate issuer has made no key to seal it with; start cert-issuer on this store once",
            ));
        }
    };
    object.spec[SEALED] = serde_json::to_value(sealed).expect("strings always serialize");
    Ok(object)
}

const SEALED: &str = "sealedPrivateKey";

/// The issuer's sealing key, if it has made one.
async fn published(app: &App) -> Result<Option<SealingKey>> {
    let entry = app.vault.read(Area::Ca, seal::PUBLISHED).await?;
    let key = entry.map(|entry| SealingKey::from_bytes(&entry.value));
    key.transpose()
        .map_err(|error| Status::unavailable(error.to_string()))
}

/// Takes private keys out of what clients write into metadata of their own accord; what metadata may not be, as causes.
pub(crate) fn admit(metadata: &mut Metadata, spec: &Value) -> Vec<Cause> {
    if let Some(manifest) = metadata.annotations.remove(LAST_APPLIED)
        && let Some(manifest) = without_key(&manifest)
    {
        metadata.annotations.insert(LAST_APPLIED.into(), manifest);
    }
    let cause = |field: String, message: &str| Cause {
        reason: "FieldValueInvalid",
        message: message.to_owned(),
        field,
    };
    let exposed = metadata.annotations.iter();
    let exposed = exposed
        .filter(|(_, value)| shows_key(value))
        .map(|(name, _)| {
            let field = format!("metadata.annotations[{name}]");
            cause(
                field,
                "holds a private key, which everybody who reads it would see; remove it",
            )
        });
    let mut causes: Vec<Cause> = exposed.collect();
    if metadata.name.ends_with(AUTHORITIES) && spec.get("certificate").is_some() {
        let rule = "a name that ends in -cacert is for caCertificates alone, because Envoys ask for authorities under such names; choose another";
        causes.push(cause("metadata.name".into(), rule));
    }
    causes
}

fn shows_key(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
}

/// The manifest without the key, so that `kubectl apply` still knows which fields it set; nothing if it is none.
fn without_key(manifest: &str) -> Option<String> {
    let mut manifest: Value = serde_json::from_str(manifest).ok()?;
    manifest
        .get_mut("spec")?
        .as_object_mut()?
        .shift_remove("privateKey");
    Some(manifest.to_string()).filter(|text| !shows_key(text))
}

fn invalid(object: &Object, field: &str, rule: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: rule.to_owned(),
        field: field.to_owned(),
    };
    Status::invalid(object.kind, &object.metadata.name, vec![cause])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_kubectl_notes_down_loses_the_key_and_nothing_else() {
        let noted =
            json!({"spec": {"certificate": "c", "privateKey": "-----BEGIN PRIVATE KEY-----"}});
        let expected = json!({"spec": {"certificate": "c"}}).to_string();
        assert_eq!(without_key(&noted.to_string()), Some(expected));
        let elsewhere = json!({"spec": {"tls.key": "-----BEGIN PRIVATE KEY-----\n"}});
        for hopeless in [
            elsewhere.to_string(),
            "{".into(),
            "[]".into(),
            "{\"spec\":\"\"}".into(),
        ] {
            assert_eq!(without_key(&hopeless), None, "{hopeless}");
        }
    }
}
