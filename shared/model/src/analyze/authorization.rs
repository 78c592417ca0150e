//! Security policies: selectors that select nobody, providers that do not exist, keys that may not be fetched.
//!
//! *Invariant:* what is warned about here is closed, never open: it denies until it is put right.

use super::Analysis;
use crate::spec::{
    AuthorizationAction, AuthorizationPolicy, PolicySelector, RequestAuthentication, is_local,
    jwks_host_and_port,
};
use crate::validate::Path;

impl Analysis<'_, '_> {
    pub(super) fn authorization_policy(&mut self, spec: &AuthorizationPolicy, path: &Path) {
        self.selected(spec.selector.as_ref(), path);
        let provider = spec.provider.as_ref().map(|it| it.name.as_str());
        let Some(name) = provider.filter(|_| spec.action == AuthorizationAction::Custom) else {
            return;
        };
        let config = self.view.mesh_config();
        let known =
            config.is_some_and(|it| it.extension_providers.iter().any(|it| it.name == name));
        if !known {
            let text = "is none of MeshConfig's extensionProviders; what the policy matches is denied until it is";
            self.warn(&path.at("provider.name"), text);
        }
    }

    pub(super) fn request_authentication(&mut self, spec: &RequestAuthentication, path: &Path) {
        self.selected(spec.selector.as_ref(), path);
        let allowed = self
            .view
            .mesh_config()
            .is_some_and(|it| it.allow_local_jwks_uri);
        for (path, rule) in path.each("jwtRules", &spec.jwt_rules) {
            let host = rule.jwks_uri.as_deref().and_then(jwks_host_and_port);
            if host.is_some_and(|(host, ..)| is_local(host)) && !allowed {
                let text = "is a loopback or link-local address, so no keys are fetched and every token of this issuer is refused; MeshConfig's allowLocalJwksUri allows it";
                self.warn(&path.at("jwksUri"), text);
            }
        }
    }

    /// The selector of a security policy: in the root namespace it is for the workloads of all.
    fn selected(&mut self, selector: Option<&PolicySelector>, path: &Path) {
        let labels = selector
            .map(|it| &it.match_labels)
            .filter(|it| !it.is_empty());
        let namespace = self.resource.key().namespace;
        if let Some(labels) = labels
            && namespace != *self.mesh.root_namespace()
            && !self.view.selects_some(&namespace, labels)
        {
            let text = format!(
                "selects no workload of the namespace {:?}",
                self.namespace()
            );
            self.warn(&path.at("selector"), text);
        }
    }
}
