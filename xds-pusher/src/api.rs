//! `weft.pusher.v1`: what config-api asks of a pusher.
//!
//! *Invariant:* answers are put together when asked for; nothing is kept for them.

mod preview;
mod rollout;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, UNIX_EPOCH};

use compile::Compiler;
use futures::StreamExt;
use futures::stream::BoxStream;
use model::{Key, Revision};
use pusher_api::v1::pusher_server::Pusher;
use pusher_api::v1::{
    ConfigResource, GetAffectedRequest, GetAffectedResponse, GetProxyConfigRequest,
    GetProxyConfigResponse, GetReplicaRequest, GetRolloutRequest, GetRolloutResponse,
    GetShardRequest, ListProxiesRequest, ListProxiesResponse, ListResourceStatusRequest,
    ListResourceStatusResponse, PreviewRequest, PreviewResponse, Proxy, Refusal, Replica,
    ResourceStatus, RolloutTurn, Shard, SyncState, TypeStatus,
};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status};
use xds::{ResourceType, StreamStatus};

use crate::admit::Admission;
use crate::mesh::{Command, Sides};
use crate::pass::Passing;
use crate::shards::Shards;
use crate::views::Views;

/// How many refusals of one resource are named.
const EXAMPLES: usize = 10;

/// The service.
pub(crate) struct Service {
    pub(crate) instance: String,
    pub(crate) streams: xds::Streams,
    pub(crate) revision: watch::Receiver<Revision>,
    pub(crate) watching: watch::Receiver<bool>,
    pub(crate) sides: watch::Receiver<Option<Sides>>,
    pub(crate) mesh: mpsc::Sender<Command>,
    pub(crate) shards: Shards,
    pub(crate) passing: Passing,
    pub(crate) admission: Admission,
    pub(crate) epoch: watch::Receiver<String>,
}

impl Service {
    fn replica(&self) -> Replica {
        // In the order in which a stream goes from one to the other, so that it is missed in neither.
        let arriving = self.admission.arriving();
        let unserved = arriving + self.streams.unserved();
        Replica {
            instance: self.instance.clone(),
            revision: self.revision.borrow().0,
            streams: u32::try_from(self.streams.len()).unwrap_or(u32::MAX),
            watching: *self.watching.borrow(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            passed_streams: u32::try_from(self.passing.len()).unwrap_or(u32::MAX),
            queued: u32::try_from(self.admission.waiting()).unwrap_or(u32::MAX),
            epoch: self.epoch.borrow().clone(),
            unserved: u32::try_from(unserved).unwrap_or(u32::MAX),
        }
    }

    /// Asks the owner of the model.
    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Compiler) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.ask_of(|views| question(views.full())).await
    }

    /// The same, of both views.
    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    async fn ask_of<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Views) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Ask(Box::new(move |views| {
            let _gone = reply.send(question(views));
        }));
        let closed = |_| Status::unavailable("the pusher is shutting down");
        self.mesh.send(command).await.map_err(|_| closed(()))?;
        answer.await.map_err(|_| closed(()))
    }
}

#[tonic::async_trait]
impl Pusher for Service {
    async fn list_proxies(
        &self,
        request: Request<ListProxiesRequest>,
    ) -> Result<Response<ListProxiesResponse>, Status> {
        let id = request.into_inner().id;
        let streams = if id.is_empty() {
            self.streams.list()
        } else {
            self.streams.of_node(&id)
        };
        let mut by_node: BTreeMap<String, Vec<StreamStatus>> = BTreeMap::new();
        for stream in streams {
            if let Some(node) = &stream.stream.node {
                by_node.entry(node.id.clone()).or_default().push(stream);
            }
        }
        let ids: Vec<String> = by_node.keys().cloned().collect();
        let known = self
            .ask(move |compiler| {
                ids.iter()
                    .map(|id| workload_known(compiler, id))
                    .collect::<Vec<_>>()
            })
            .await?;
        let proxies = by_node
            .into_iter()
            .zip(known)
            .map(|((id, streams), workload_known)| {
                proxy(id, &streams, workload_known, &self.streams)
            })
            .collect();
        Ok(Response::new(ListProxiesResponse {
            replica: Some(self.replica()),
            proxies,
        }))
    }

    async fn get_proxy_config(
        &self,
        request: Request<GetProxyConfigRequest>,
    ) -> Result<Response<GetProxyConfigResponse>, Status> {
        let GetProxyConfigRequest { id, r#type } = request.into_inner();
        let snapshot = self
            .streams
            .of_node(&id)
            .iter()
            .rev()
            .find_map(|s| self.streams.snapshot(s.stream.id));
        let Some(snapshot) = snapshot else {
            return Err(Status::not_found(format!(
                "no proxy {id:?} has a stream on {}",
                self.instance
            )));
        };
        let resources = ResourceType::ALL
            .into_iter()
            .filter(|ty| r#type.is_empty() || ty.short() == r#type)
            .flat_map(|ty| snapshot.iter(ty))
            .map(|resource| ConfigResource {
                r#type: resource.ty().short().to_owned(),
                name: resource.name().to_string(),
                version: resource.version().to_string(),
                json: resource.to_json().to_string(),
            })
            .collect();
        Ok(Response::new(GetProxyConfigResponse {
            revision: snapshot.revision(),
            resources,
        }))
    }

    async fn list_resource_status(
        &self,
        request: Request<ListResourceStatusRequest>,
    ) -> Result<Response<ListResourceStatusResponse>, Status> {
        let filter = request.into_inner();
        let refusals = refusals(&self.streams.list());
        let statuses = self
            .ask(move |compiler| statuses(compiler, &refusals))
            .await?;
        let wanted = |asked: &str, is: &str| asked.is_empty() || asked == is;
        let statuses = statuses
            .into_iter()
            .filter(|s| {
                wanted(&filter.kind, &s.kind)
                    && wanted(&filter.namespace, &s.namespace)
                    && wanted(&filter.name, &s.name)
            })
            .collect();
        Ok(Response::new(ListResourceStatusResponse {
            replica: Some(self.replica()),
            statuses,
        }))
    }

    async fn get_rollout(
        &self,
        request: Request<GetRolloutRequest>,
    ) -> Result<Response<GetRolloutResponse>, Status> {
        // The revision before the streams: what it says was published before they are looked at.
        let replica = self.replica();
        let sides = self.sides.borrow().clone();
        let streams = self.streams.list();
        let request = request.into_inner();
        let answer = rollout::answer(replica, &streams, sides.as_ref(), &request, Instant::now());
        Ok(Response::new(answer))
    }

    type WatchRolloutStream = BoxStream<'static, Result<RolloutTurn, Status>>;

    async fn watch_rollout(
        &self,
        request: Request<GetRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let turns = turns::Turns {
            streams: self.streams.clone(),
            revision: self.revision.clone(),
            sides: self.sides.clone(),
            request: request.into_inner(),
        };
        Ok(Response::new(turns.follow().boxed()))
    }

    async fn get_affected(
        &self,
        request: Request<GetAffectedRequest>,
    ) -> Result<Response<GetAffectedResponse>, Status> {
        let id = request.into_inner().rollout;
        let id = id
            .parse()
            .map_err(|_| Status::invalid_argument(format!("{id:?} is no id of a rollout")))?;
        // The revision before the question: what it says is part of the answer.
        let replica = self.replica();
        let affected = self.ask_of(move |views| views.affected(id)).await?;
        let proxies = rollout::affected(&affected, &self.streams.list());
        Ok(Response::new(GetAffectedResponse {
            replica: Some(replica),
            proxies,
        }))
    }

    async fn preview(
        &self,
        request: Request<PreviewRequest>,
    ) -> Result<Response<PreviewResponse>, Status> {
        let changes = preview::changes(request.get_ref()).map_err(Status::invalid_argument)?;
        let replica = self.replica();
        let compiler = self.ask(Compiler::clone).await?;
        let preview = tokio::task::spawn_blocking(move || preview::preview(&compiler, changes));
        let classes = preview
            .await
            .map_err(|error| Status::internal(format!("the preview failed: {error}")))?;
        Ok(Response::new(PreviewResponse {
            replica: Some(replica),
            classes,
        }))
    }

    async fn get_replica(
        &self,
        _: Request<GetReplicaRequest>,
    ) -> Result<Response<Replica>, Status> {
        Ok(Response::new(self.replica()))
    }

    async fn get_shard(&self, _: Request<GetShardRequest>) -> Result<Response<Shard>, Status> {
        let nodes = self.streams.nodes().into_iter();
        let nodes: BTreeSet<String> = nodes.map(|(_, node)| node.id.clone()).collect();
        let misplaced = |node: &&String| self.shards.elsewhere(node).is_some();
        Ok(Response::new(Shard {
            replica: Some(self.replica()),
            misplaced: nodes.iter().filter(misplaced).cloned().collect(),
            nodes: nodes.into_iter().collect(),
        }))
    }
}

/// Whether the workload of a node id is declared.
fn workload_known(compiler: &Compiler, id: &str) -> bool {
    let mut parts = id.split('~').skip(1);
    let (Some(namespace), Some(name)) = (parts.next(), parts.next()) else {
        return false;
    };
    compiler
        .mesh()
        .has(&Key::new(model::Kind::WorkloadEntry, namespace, name))
}

/// One proxy, from all of its streams.
fn proxy(
    id: String,
    streams: &[StreamStatus],
    workload_known: bool,
    registry: &xds::Streams,
) -> Proxy {
    let newest = &streams[streams.len() - 1];
    let snapshot = registry.snapshot(newest.stream.id);
    let mut types = BTreeMap::new();
    for stream in streams {
        for (ty, status) in &stream.types {
            let resources = match (&snapshot, status.wildcard) {
                (Some(snapshot), true) => snapshot.len(*ty),
                _ => status.names,
            };
            types.insert(*ty, type_status(*ty, status, resources));
        }
    }
    let opened = newest
        .stream
        .opened
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Proxy {
        id,
        envoy_version: newest
            .stream
            .node
            .as_deref()
            .map(version)
            .unwrap_or_default(),
        variant: newest.stream.variant.to_string(),
        connected_at_ms: i64::try_from(opened.as_millis()).unwrap_or_default(),
        peer: newest
            .stream
            .peer
            .address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        // A type that it has just asked for and that nothing was sent of says nothing of the others.
        acked_revision: (types.values().map(|status| status.acked_revision))
            .chain(streams.iter().map(|it| it.acked().unwrap_or_default()))
            .min()
            .unwrap_or_default(),
        types: types.into_values().collect(),
        workload_known,
    }
}

fn type_status(ty: ResourceType, status: &xds::TypeStatus, resources: usize) -> TypeStatus {
    // Good resources of a refused response are accepted later; what is refused stays so until it is corrected.
    let refusal = status.refused.values().next().map(|(_, error)| error);
    let error = refusal.or(status.nack.as_ref().map(|(_, error)| error));
    let state = match (error, status.sent, status.acked) {
        (Some(_), ..) => SyncState::Nack,
        (None, None, _) => SyncState::NotSent,
        (None, Some(sent), Some(acked)) if acked >= sent => SyncState::Synced,
        (None, Some(_), _) => SyncState::Stale,
    };
    TypeStatus {
        r#type: ty.short().to_owned(),
        state: state.into(),
        sent_revision: status.sent.unwrap_or_default(),
        acked_revision: status.acked.unwrap_or_default(),
        error: error.cloned().unwrap_or_default(),
        resources: u32::try_from(resources).unwrap_or(u32::MAX),
        refused: status.refused.keys().map(ToString::to_string).collect(),
    }
}

fn version(node: &xds::pb::envoy::config::core::v3::Node) -> String {
    use xds::pb::envoy::config::core::v3::node::UserAgentVersionType;
    match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .as_ref()
            .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
            .unwrap_or_default(),
        None => String::new(),
    }
}

/// What proxies refuse at present: node id, type, resource and Envoy's words.
fn refusals(streams: &[StreamStatus]) -> Vec<(String, ResourceType, String, String)> {
    let mut refusals = Vec::new();
    for stream in streams {
        let Some(node) = &stream.stream.node else {
            continue;
        };
        for (ty, status) in &stream.types {
            for (name, (_, error)) in &status.refused {
                refusals.push((node.id.clone(), *ty, name.to_string(), error.clone()));
            }
        }
    }
    refusals
}

/// What is to be said of resources: what compilation left out, and what proxies refuse of what they compiled to.
fn statuses(
    compiler: &Compiler,
    refusals: &[(String, ResourceType, String, String)],
) -> Vec<ResourceStatus> {
    let mut by_key: BTreeMap<Key, ResourceStatus> = BTreeMap::new();
    let entry = |by_key: &mut BTreeMap<Key, ResourceStatus>,
                 key: &Key,
                 change: &dyn Fn(&mut ResourceStatus)| {
        change(by_key.entry(key.clone()).or_insert_with(|| ResourceStatus {
            kind: key.kind.name().to_owned(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            ..ResourceStatus::default()
        }));
    };
    for (key, warnings) in compiler.statuses() {
        entry(&mut by_key, &key, &|status| {
            status.warnings = warnings.iter().cloned().collect()
        });
    }
    for (proxy, ty, resource, error) in refusals {
        let refusal = Refusal {
            proxy: proxy.clone(),
            r#type: ty.short().to_owned(),
            resource: resource.clone(),
            error: error.clone(),
        };
        let Some(id) = compiler.find(proxy) else {
            continue;
        };
        // Of all that a large resource is made of, what was written last is what it was refused for.
        let mesh = compiler.mesh();
        let sources = compiler.source_of(id, *ty, resource);
        let newest = sources.first().and_then(|key| mesh.written(key));
        for key in sources
            .into_iter()
            .filter(|key| mesh.written(key) == newest)
        {
            entry(&mut by_key, &key, &|status| {
                status.refused_by += 1;
                if status.examples.len() < EXAMPLES {
                    status.examples.push(refusal.clone());
                }
            });
        }
    }
    by_key.into_values().collect()
}
