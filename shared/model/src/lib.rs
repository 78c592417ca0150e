//! What people declare: Istio's resource types as read from JSON or YAML, their validation, and their meaning.
//!
//! Input is JSON values from the REST API or etcd; output is typed resources ([`Resource`]) and errors that name a field.
//! *Invariant:* nothing here does I/O, awaits, reads a clock or knows Envoy.

mod analyze;
mod authority;
pub mod authz;
mod bundle;
mod certificate;
mod check;
mod credential;
pub mod delegation;
mod documents;
mod identity;
mod key;
mod kind;
pub mod mesh;
pub mod mtls;
mod object;
mod pem;
mod schema;
mod shape;
pub mod spec;
mod unsupported;
mod validate;

pub use analyze::{Reference, Target, Warning, analyze, references};
pub use authority::{AuthorityOutcome, AuthorityRequest, AuthorityStep};
pub use bundle::{FederatedBundle, TrustBundle};
pub use check::{Checked, FieldError, Options, Reason, Treat, check};
pub use credential::{CREDENTIAL_BYTES, Credential, CredentialRecord};
pub use documents::{DocumentError, documents, json, yaml};
pub use identity::{Identity, SpiffeId, SpiffeIdError, TrustDomain};
pub use key::Key;
pub use kind::Kind;
pub use object::{Metadata, Object, Revision};
pub use schema::schema;
pub use shape::{near, read, shape};
pub use spec::{DecodeError, Resource, Spec};
pub use validate::re2::{PROGRAM_SIZE as REGEX_PROGRAM_SIZE, RUNTIME_KEY as REGEX_RUNTIME_KEY};
