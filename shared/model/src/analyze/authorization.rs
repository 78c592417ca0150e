//! Security policies: selectors that select nobody, providers that do not exist, keys that may not be fetched.
//!
//! *Invariant:* what is warned about here is closed, never open: it denies until it is put right.

use super::Analysis;
use crate::spec::{
    AuthorizationAction, AuthorizationPolicy, PolicySelector, RequestAuthentication, Resolution,
    is_local, jwks_host_and_port,
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
        for (path, rule) in path.each("jwtRules", &spec.jwt_rules) {
            let Some((host, ..)) = rule.jwks_uri.as_deref().and_then(jwks_host_and_port) else {
                continue;
            };
            if let Some(reason) = self.unfetched(host) {
                let text = format!(
                    "{reason}, so no keys are fetched and every token of this issuer is refused"
                );
                self.warn(&path.at("jwksUri"), text);
            }
        }
    }

    /// Why no keys are fetched from a host.
    fn unfetched(&mut self, host: &str) -> Option<&'static str> {
        let config = self.view.mesh_config();
        if config.is_some_and(|it| it.allows_keys_of(host)) {
            return None;
        }
        if is_local(host) {
            return Some(
                "is a loopback or link-local address, and MeshConfig's allowLocalJwksUri is not set",
            );
        }
        let namespace = self.resource.key().namespace;
        let host = host.to_ascii_lowercase();
        let service = self.view.service(&namespace, &host);
        let addressed = service.is_some_and(|it| it.spec.resolution == Resolution::Static)
            || host.parse::<std::net::IpAddr>().is_ok();
        (!addressed).then_some(
            "is a name that DNS may lead anywhere, and none of MeshConfig's allowedJwksHosts",
        )
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
