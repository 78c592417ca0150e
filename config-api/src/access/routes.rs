//! Routes, each registered together with what it needs of a caller.
//!
//! *Invariant:* the only way to put a handler at a path is to say what it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;
use http::Method;

use super::Role;
use crate::app::App;

/// What a route needs of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: health.
    Nothing,
    /// A proven identity.
    Identity,
    /// A role in the namespace that the path names, or, where it names none, in every namespace.
    Role {
        /// For GET and HEAD.
        read: Role,
        /// For everything else.
        write: Role,
    },
    /// This role somewhere; the handler requires it in each namespace that the request touches, or leaves out the others.
    Somewhere(Role),
}

impl Needs {
    /// Viewer to read, editor to write.
    pub(crate) const USUAL: Self = Self::Role {
        read: Role::Viewer,
        write: Role::Editor,
    };

    /// The role of [`Needs::Role`] for a method.
    pub(crate) fn role(read: Role, write: Role, method: &Method) -> Role {
        if method.is_safe() { read } else { write }
    }
}

/// What each path needs.
pub(crate) type Table = BTreeMap<&'static str, Needs>;

/// Routes and their needs.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Arc<App>>,
    table: Table,
}

impl Routes {
    /// One more route.
    pub(crate) fn route(
        mut self,
        path: &'static str,
        needs: Needs,
        handlers: MethodRouter<Arc<App>>,
    ) -> Self {
        self.table.insert(path, needs);
        self.router = self.router.route(path, handlers);
        self
    }

    /// These and others.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.table.extend(other.table);
        self.router = self.router.merge(other.router);
        self
    }

    /// The router and the table.
    pub(crate) fn parts(self) -> (Router<Arc<App>>, Table) {
        (self.router, self.table)
    }
}

/// What the routes of the telemetry need.
pub(crate) const TELEMETRY: [(&str, Needs); 4] = [
    ("/livez", Needs::Nothing),
    ("/readyz", Needs::Nothing),
    ("/grpc.health.v1.Health/{*rest}", Needs::Nothing),
    ("/metrics", Needs::USUAL),
];

/// Every route of config-api, and what it needs.
pub fn routes() -> BTreeMap<&'static str, Needs> {
    let (_, mut table) = crate::server::routes().parts();
    table.extend(TELEMETRY);
    table
}
