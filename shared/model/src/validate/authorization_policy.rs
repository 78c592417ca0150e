//! Rules of `AuthorizationPolicy`.

use super::{Findings, Path, names};
use crate::authz::template;
use crate::authz::terms::Attribute;
use crate::spec::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Condition, Operation,
    PolicySelector, Source,
};

pub(super) fn validate(spec: &AuthorizationPolicy, path: &Path, findings: &mut Findings) {
    selector(spec.selector.as_ref(), path, findings);
    let custom = spec.action == AuthorizationAction::Custom;
    let provider = spec
        .provider
        .as_ref()
        .map(|provider| provider.name.as_str());
    let at = path.at("provider");
    if custom {
        let named = provider.is_some_and(|name| !name.is_empty());
        findings.ensure(
            named,
            &at.at("name"),
            "must name one of MeshConfig's extensionProviders, because the action is CUSTOM",
        );
        findings.ensure(
            !spec.rules.is_empty(),
            &path.at("rules"),
            "must have a rule, because the action is CUSTOM; an empty one, {}, matches everything",
        );
    } else {
        findings.ensure(provider.is_none(), &at, "is for the action CUSTOM only");
    }
    if spec.action == AuthorizationAction::Deny && spec.rules.is_empty() {
        let text = "is empty, so the policy denies nothing; an empty rule, {}, denies everything";
        findings.warn(&path.at("rules"), text);
    }
    for (path, item) in path.each("rules", &spec.rules) {
        rule(item, custom, &path, findings);
    }
}

/// The selector of a security policy.
pub(super) fn selector(selector: Option<&PolicySelector>, path: &Path, findings: &mut Findings) {
    if let Some(selector) = selector {
        names::labels(
            &selector.match_labels,
            &path.at("selector.matchLabels"),
            findings,
        );
    }
}

fn rule(rule: &AuthorizationRule, custom: bool, path: &Path, findings: &mut Findings) {
    let empty = "must not be empty; leave it out to match everything";
    let lists = [
        ("from", rule.from.as_ref().is_some_and(Vec::is_empty)),
        ("to", rule.to.as_ref().is_some_and(Vec::is_empty)),
        ("when", rule.when.as_ref().is_some_and(Vec::is_empty)),
    ];
    for (field, is_empty) in lists {
        findings.ensure(!is_empty, &path.at(field), empty);
    }
    for (path, from) in path.each("from", rule.from.as_deref().unwrap_or_default()) {
        let path = path.at("source");
        findings.ensure(from.source != Source::default(), &path, empty);
        source(&from.source, custom, &path, findings);
    }
    for (path, to) in path.each("to", rule.to.as_deref().unwrap_or_default()) {
        let path = path.at("operation");
        findings.ensure(to.operation != Operation::default(), &path, empty);
        operation(&to.operation, &path, findings);
    }
    for (path, item) in path.each("when", rule.when.as_deref().unwrap_or_default()) {
        condition(item, custom, &path, findings);
    }
}

/// What is asked before tokens are looked at.
const BEFORE_TOKENS: &str =
    "is not known to a CUSTOM policy, which is applied before tokens are verified";

fn source(source: &Source, custom: bool, path: &Path, findings: &mut Findings) {
    let lists = [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ];
    for (field, values) in lists {
        for (path, value) in path.each(field, values) {
            findings.rule(&path, not_empty(value));
            if field.ends_with("Blocks") {
                findings.rule(&path, names::subnet(value));
            } else if field.ends_with("erviceAccounts") {
                findings.rule(&path, account(value));
            }
        }
        let of_token = field.ends_with("equestPrincipals");
        findings.ensure(
            values.is_empty() || !custom || !of_token,
            &path.at(field),
            BEFORE_TOKENS,
        );
    }
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = !source.principals.is_empty()
        || !source.not_principals.is_empty()
        || !source.namespaces.is_empty()
        || !source.not_namespaces.is_empty();
    findings.ensure(
        !(accounts && others),
        &path.at("serviceAccounts"),
        "cannot stand beside principals or namespaces",
    );
}

fn operation(operation: &Operation, path: &Path, findings: &mut Findings) {
    let lists = [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("ports", &operation.ports),
        ("notPorts", &operation.not_ports),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ];
    for (field, values) in lists {
        for (path, value) in path.each(field, values) {
            findings.rule(&path, not_empty(value));
            match field {
                "ports" | "notPorts" => findings.rule(&path, port(value)),
                "paths" | "notPaths" => findings.rule(&path, template::check(value)),
                _ => {}
            }
        }
    }
}

fn condition(condition: &Condition, custom: bool, path: &Path, findings: &mut Findings) {
    let at = path.at("key");
    findings.ensure(
        !condition.values.is_empty() || !condition.not_values.is_empty(),
        path,
        "must have values or notValues",
    );
    let Some(attribute) = Attribute::of_key(&condition.key) else {
        // Known, and refused as not supported yet.
        let known = condition.key.starts_with("experimental.envoy.filters.");
        findings.ensure(known, &at, "must be request.headers[name], request.auth.claims[name], request.auth.principal, request.auth.audiences, request.auth.presenter, source.ip, remote.ip, source.namespace, source.principal, source.serviceAccount, destination.ip, destination.port or connection.sni");
        return;
    };
    let of_token = matches!(
        attribute,
        Attribute::RequestPrincipal
            | Attribute::RequestAudiences
            | Attribute::RequestPresenter
            | Attribute::RequestClaim(_)
    );
    findings.ensure(!(custom && of_token), &at, BEFORE_TOKENS);
    if let Attribute::RequestHeader(name) = attribute {
        findings.rule(&at, names::header(name));
    }
    for (field, values) in [
        ("values", &condition.values),
        ("notValues", &condition.not_values),
    ] {
        for (path, value) in path.each(field, values) {
            findings.rule(&path, not_empty(value));
            match attribute {
                Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
                    findings.rule(&path, names::subnet(value));
                }
                Attribute::DestinationPort => findings.rule(&path, port(value)),
                Attribute::SourceServiceAccount => findings.rule(&path, account(value)),
                _ => {}
            }
        }
    }
}

fn not_empty(value: &str) -> Result<(), String> {
    if value.is_empty() {
        Err("must not be empty; * stands for anything".into())
    } else {
        Ok(())
    }
}

fn port(value: &str) -> Result<(), String> {
    match value.parse::<u16>() {
        Ok(number) => names::port(number),
        Err(_) => Err("must be a port from 1 to 65535, in quotes".into()),
    }
}

fn account(value: &str) -> Result<(), String> {
    let (namespace, name) = value.split_once('/').unwrap_or(("default", value));
    if names::dns_label(namespace).is_ok() && names::host(name).is_ok() {
        Ok(())
    } else {
        Err(
            "must be a service account, namespace/name or name; wildcards are for principals"
                .into(),
        )
    }
}
