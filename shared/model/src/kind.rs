//! The kinds of resource and where each lives in the API: group, versions, names.

use std::fmt;

/// A kind of resource that Weft knows by name, whether or not it is built yet (see [`Kind::supported`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(
    missing_docs,
    reason = "the variants are Istio's kinds, named as there"
)]
pub enum Kind {
    ServiceEntry,
    WorkloadEntry,
    WorkloadGroup,
    VirtualService,
    DestinationRule,
    Gateway,
    Sidecar,
    ProxyConfig,
    EnvoyFilter,
    PeerAuthentication,
    AuthorizationPolicy,
    RequestAuthentication,
    Telemetry,
    WasmPlugin,
    MeshConfig,
    TlsSecret,
    RuntimeLayer,
}

/// The constant facts about one kind.
struct Facts {
    name: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    group: &'static str,
    versions: &'static [&'static str],
    supported: bool,
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const WEFT: &str = "weft.mesh";
const V1: &[&str] = &["v1", "v1beta1", "v1alpha3"];

impl Kind {
    /// Every kind, in the order they are listed to people.
    pub const ALL: [Self; 17] = [
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::WorkloadGroup,
        Self::VirtualService,
        Self::DestinationRule,
        Self::Gateway,
        Self::Sidecar,
        Self::ProxyConfig,
        Self::EnvoyFilter,
        Self::PeerAuthentication,
        Self::AuthorizationPolicy,
        Self::RequestAuthentication,
        Self::Telemetry,
        Self::WasmPlugin,
        Self::MeshConfig,
        Self::TlsSecret,
        Self::RuntimeLayer,
    ];

    const fn facts(self) -> Facts {
        const fn facts(
            name: &'static str,
            plural: &'static str,
            short: &'static [&'static str],
            group: &'static str,
            versions: &'static [&'static str],
            supported: bool,
        ) -> Facts {
            Facts {
                name,
                plural,
                short,
                group,
                versions,
                supported,
            }
        }
        match self {
            Self::ServiceEntry => facts(
                "ServiceEntry",
                "serviceentries",
                &["se"],
                NETWORKING,
                V1,
                true,
            ),
            Self::WorkloadEntry => facts(
                "WorkloadEntry",
                "workloadentries",
                &["we"],
                NETWORKING,
                V1,
                true,
            ),
            Self::WorkloadGroup => facts(
                "WorkloadGroup",
                "workloadgroups",
                &["wg"],
                NETWORKING,
                V1,
                true,
            ),
            Self::VirtualService => facts(
                "VirtualService",
                "virtualservices",
                &["vs"],
                NETWORKING,
                V1,
                true,
            ),
            Self::DestinationRule => facts(
                "DestinationRule",
                "destinationrules",
                &["dr"],
                NETWORKING,
                V1,
                true,
            ),
            Self::Gateway => facts("Gateway", "gateways", &["gw"], NETWORKING, V1, true),
            Self::Sidecar => facts("Sidecar", "sidecars", &[], NETWORKING, V1, true),
            Self::ProxyConfig => facts(
                "ProxyConfig",
                "proxyconfigs",
                &[],
                NETWORKING,
                &["v1", "v1beta1"],
                false,
            ),
            Self::EnvoyFilter => facts(
                "EnvoyFilter",
                "envoyfilters",
                &[],
                NETWORKING,
                &["v1alpha3"],
                false,
            ),
            Self::PeerAuthentication => facts(
                "PeerAuthentication",
                "peerauthentications",
                &["pa"],
                SECURITY,
                &["v1", "v1beta1"],
                true,
            ),
            Self::AuthorizationPolicy => facts(
                "AuthorizationPolicy",
                "authorizationpolicies",
                &["ap"],
                SECURITY,
                &["v1", "v1beta1"],
                true,
            ),
            Self::RequestAuthentication => facts(
                "RequestAuthentication",
                "requestauthentications",
                &["ra"],
                SECURITY,
                &["v1", "v1beta1"],
                true,
            ),
            Self::Telemetry => facts(
                "Telemetry",
                "telemetries",
                &["telemetry"],
                "telemetry.istio.io",
                &["v1", "v1alpha1"],
                false,
            ),
            Self::WasmPlugin => facts(
                "WasmPlugin",
                "wasmplugins",
                &[],
                "extensions.istio.io",
                &["v1alpha1"],
                false,
            ),
            Self::MeshConfig => facts("MeshConfig", "meshconfigs", &["mc"], WEFT, &["v1"], true),
            Self::TlsSecret => facts("TlsSecret", "tlssecrets", &["ts"], WEFT, &["v1"], true),
            Self::RuntimeLayer => facts(
                "RuntimeLayer",
                "runtimelayers",
                &["rl"],
                WEFT,
                &["v1"],
                true,
            ),
        }
    }

    /// The kind as written in `kind:`, such as `VirtualService`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name in URLs, such as `virtualservices`.
    pub const fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// The singular in lower case, such as `virtualservice`.
    pub fn singular(self) -> String {
        self.name().to_ascii_lowercase()
    }

    /// Short names for the command line, such as `vs`.
    pub const fn short_names(self) -> &'static [&'static str] {
        self.facts().short
    }

    /// The API group, such as `networking.istio.io`.
    pub const fn group(self) -> &'static str {
        self.facts().group
    }

    /// Every served version, the preferred one (which is also the stored one) first.
    pub const fn versions(self) -> &'static [&'static str] {
        self.facts().versions
    }

    /// Whether resources of this kind take effect; the others are refused with "not supported yet".
    pub const fn supported(self) -> bool {
        self.facts().supported
    }

    /// Whether its values may be secret, so that no error quotes one.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::TlsSecret)
    }

    /// `group/version` of the stored version, such as `networking.istio.io/v1`.
    pub fn api_version(self) -> String {
        format!("{}/{}", self.group(), self.versions()[0])
    }

    /// The kind of this group, version and `kind:` name, if there is one.
    pub fn from_gvk(group: &str, version: &str, name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|k| k.group() == group && k.versions().contains(&version) && k.name() == name)
    }

    /// The kind of this group, version and plural, as in a URL.
    pub fn from_gvr(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|k| k.group() == group && k.versions().contains(&version) && k.plural() == plural)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
